"""The tokens of a vocabulary as a trie in one array, which a graph walks at all places of a text at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

DEAD, FIRST, SUFFIXES = range(3)  # slots: no state at all, the root of words, the root of what goes on with a word


class Trie(NamedTuple):
    """A double-array trie (Aoe 1989, https://doi.org/10.1109/32.31365) of two roots."""

    slots: np.ndarray
    """int32 [S, 3], of each state: the state before it (-1: the slot is free), its base, and the id of the token that
    ends there (-1: none). The state behind a letter is `base + letter`, if that slot names the state as the one before.
    """
    depth: int
    """Letters of the longest token."""


def build_trie(tokens: Mapping[tuple[int, tuple[int, ...]], int]) -> Trie:
    """The trie of tokens.

    Args:
        tokens: a root and letters, from 1, to the token's id.
    """
    children: list[dict[int, int]] = [{}, {}, {}]  # node -> letter -> node; nodes 0 to 2 are the slots of those names
    ids = [-1, -1, -1]
    for (root, letters), token_id in tokens.items():
        node = root
        for letter in letters:
            node = children[node].setdefault(letter, len(children))
            if node == len(children):
                children.append({})
                ids.append(-1)
        ids[node] = token_id
    largest = max((max(edges) for edges in children if edges), default=0)
    slot_of, base = _place(children, largest)
    slots = np.full((max(slot_of + base) + largest + 1, 3), (-1, 0, -1), np.int32)
    for node, edges in enumerate(children):
        slots[slot_of[node], 1:] = base[node], ids[node]
        slots[[slot_of[child] for child in edges.values()], 0] = slot_of[node]
    return Trie(slots, max((len(letters) for _, letters in tokens), default=0))


def _place(children: list[dict[int, int]], largest: int) -> tuple[list[int], list[int]]:
    """The slot and the base of each node: those with many children first, each where its children fit."""
    slot_of, base = [0] * len(children), [0] * len(children)
    slot_of[: SUFFIXES + 1] = range(SUFFIXES + 1)
    taken = bytearray(largest + 2 * len(children) + 3)
    taken[: SUFFIXES + 1] = b"\1" * (SUFFIXES + 1)
    first: dict[int, int] = {}  # by the number of children: where to go on looking, as what was full stays full
    for node in sorted(range(len(children)), key=lambda node: -len(children[node])):
        letters = sorted(children[node])
        if not letters:
            break
        slot = taken.find(0, max(first.get(len(letters), 0), letters[0]))
        while any(slot + letter - letters[0] < len(taken) and taken[slot + letter - letters[0]] for letter in letters):
            slot = taken.find(0, slot + 1)
        first[len(letters)] = slot
        base[node] = slot - letters[0]
        taken.extend(bytes(max(0, base[node] + 2 * largest + 2 - len(taken))))
        for letter in letters:
            slot_of[children[node][letter]] = base[node] + letter
            taken[base[node] + letter] = 1
    return slot_of, base
