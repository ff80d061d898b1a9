"""Entities in characters to classes of units: the runs of word pieces that a tagger labels.

A unit is a piece that does not begin with "##" and the pieces behind it that do: a word, a Chinese character, a
punctuation mark, an [UNK]. Its first piece carries its class, the others none.

Legend: P pieces and U units of all rows together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from kbert.data.schemes import Span
from kbert.data.tag_scheme import TagScheme
from kbert.errors import InputError

IGNORED = -1
_EXAMPLES = 3


class Units(NamedTuple):
    """The units of rows of pieces, one row after another."""

    starts: np.ndarray
    """int [U]: where each begins in its text, in characters."""
    ends: np.ndarray
    """int [U], exclusive."""
    row_splits: np.ndarray
    """int [rows + 1]: row i has the units from the ith number to the next."""
    heads: np.ndarray
    """int [U]: the first piece of each."""
    num_pieces: int
    """P."""

    def piece_classes(self, classes: np.ndarray) -> np.ndarray:
        """Classes int [U] of units as int [P] of pieces: that of the unit at its first piece, `IGNORED` elsewhere."""
        pieces = np.full(self.num_pieces, IGNORED, classes.dtype)
        pieces[self.heads] = classes
        return pieces


@dataclass(frozen=True)
class Alignment:
    """What units carry, and which entities they cannot."""

    classes: np.ndarray
    """int32 [U]: the class of each unit; `IGNORED` outside of entities where the scheme has no "O"."""
    spans: int
    """Entities of all rows."""
    lost: int
    """Entities that no unit carries: the tokenizer drops their characters, or another has the unit that they share."""
    inexact: int
    """Entities that the classes give back with other edges, such as one that ends within a unit."""
    lost_examples: tuple[tuple[int, Span], ...]
    """Row and entity of the first few."""
    inexact_examples: tuple[tuple[int, Span], ...]


def units(starts: np.ndarray, ends: np.ndarray, row_splits: np.ndarray, is_continuation: np.ndarray) -> Units:
    """Join pieces to units.

    Args:
        starts: int [P], where each piece begins in its text, in characters.
        ends: int [P], exclusive.
        row_splits: int [rows + 1]; the first piece of a row begins a unit, whatever it is.
        is_continuation: bool [P], whether a piece begins with "##".
    """
    is_head = ~np.asarray(is_continuation, bool)
    is_head[row_splits[:-1][np.diff(row_splits) > 0]] = True
    heads = np.flatnonzero(is_head)
    last = np.append(heads, len(is_head))[1:] - 1
    before = np.concatenate([[0], np.cumsum(is_head)])
    return Units(starts[heads], ends[last], before[row_splits], heads, len(is_head))


def align(spans: Sequence[Sequence[Span]], units: Units, scheme: TagScheme) -> Alignment:
    """Give each unit the class of the entity that it shares a character with, the first of them if there are several.

    Args:
        spans: The entities of each row, which do not overlap.
        units: The units of the same rows.
        scheme: The classes of the tagger.

    Raises:
        InputError: An entity is of a type that the tagger has no class for.
    """
    flat = list(chain.from_iterable(map(sorted, spans)))
    table = _table(spans, flat, scheme)
    row_of = np.repeat(np.arange(len(spans)), np.diff(units.row_splits))
    owner = _owners(table, units, row_of)
    classes = _classes(owner, row_of, table.types, scheme)
    carried, exact = np.zeros((2, len(flat) + 1), bool)
    carried[owner] = True
    begins = scheme.entity_starts(classes, np.diff(row_of, prepend=-1) != 0)
    first = np.flatnonzero(begins)
    last = np.flatnonzero((owner >= 0) & np.append(begins[1:] | (owner[1:] < 0), True))
    same = owner[first] == owner[last]
    same &= (units.starts[first] == table.starts[owner[first]]) & (units.ends[last] == table.ends[owner[first]])
    exact[owner[first[same]]] = True
    lost, inexact = np.flatnonzero(~carried[:-1]), np.flatnonzero((carried & ~exact)[:-1])
    examples = [tuple((int(table.rows[i]), flat[i]) for i in found[:_EXAMPLES]) for found in (lost, inexact)]
    return Alignment(classes, len(flat), len(lost), len(inexact), *examples)


class _Table(NamedTuple):
    """The entities of all rows, in order, and one behind them that no unit can share."""

    rows: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    types: np.ndarray


def _table(spans: Sequence[Sequence[Span]], flat: list[Span], scheme: TagScheme) -> _Table:
    rows = np.append(np.repeat(np.arange(len(spans)), [len(row) for row in spans]), len(spans))
    starts = np.array([*(span.start for span in flat), 0])
    ends = np.array([*(span.end for span in flat), 1])
    index = {type: i for i, type in enumerate(scheme.types)}
    types = np.array([*(index.get(span.label, -1) for span in flat), 0])
    if (types < 0).any():
        i = int(types.argmin())
        raise InputError(f"align: row {rows[i]} has an entity {flat[i].label!r}; the tagger knows {scheme.types}")
    return _Table(rows, starts, ends, types)


def _owners(table: _Table, units: Units, row_of: np.ndarray) -> np.ndarray:
    """int [U]: the entity that each unit shares a character with; -1: none."""
    width = 1 + max(table.ends.max(), units.ends.max(initial=0))
    # Of the entities in order, the first that ends behind the beginning of the unit.
    owner = np.searchsorted(table.rows * width + table.ends, row_of * width + units.starts, side="right")
    shares = (table.rows[owner] == row_of) & (table.starts[owner] < units.ends)
    return np.where(shares, owner, -1)


def _classes(owner: np.ndarray, row_of: np.ndarray, types: np.ndarray, scheme: TagScheme) -> np.ndarray:
    """int32 [U]."""
    is_first = np.diff(owner, prepend=-1) != 0
    is_last = np.append(is_first[1:], True)
    place = np.where(is_first, np.where(is_last, 0, 1), np.where(is_last, 3, 2))
    before = np.roll(owner, 1)
    touches = is_first & (before >= 0) & (types[before] == types[owner]) & (np.diff(row_of, prepend=-1) == 0)
    classes = scheme.label_ids[types[owner], touches.astype(int), place] if scheme.types else owner
    return np.where(owner >= 0, classes, scheme.outside).astype(np.int32)
