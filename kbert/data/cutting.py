"""Documents of token ids to the ranges that fill rows with whole sentences.

Legend: U units of a shard (sentences, and pieces of those that are too long), n rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kbert.data.shards import Shard

_PIECES = 8  # of the longest unit, at least, that a longer sentence is cut into: small ones fill rows well


class Units(NamedTuple):
    """What is never cut any more, in the order of the tokens; each ends where the next begins."""

    starts: np.ndarray
    """int64 [U]."""
    ends: np.ndarray
    """int64 [U]."""
    documents: np.ndarray
    """int64 [U]: the number of the document in the shard."""
    document_ends: np.ndarray
    """int64 [documents]: the number of the unit behind each document's last."""


class Ranges(NamedTuple):
    """Rows as ranges of a shard's tokens."""

    starts: np.ndarray
    """int64 [ranges]."""
    ends: np.ndarray
    """int64 [ranges]."""
    counts: np.ndarray
    """int64 [n]: the ranges of each row."""


def units_of(shard: Shard, longest: int) -> Units:
    """The sentences of a shard; those of more than `longest` tokens in pieces, cut between words if possible."""
    starts = np.asarray(shard.sentence_starts())
    ends = np.append(starts[1:], len(shard.token_ids))
    lengths = ends - starts
    step = max(1, longest // _PIECES)
    pieces = np.where(lengths > longest, -(-lengths // step), 1)
    if len(pieces) != pieces.sum():
        nth = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        starts = np.repeat(starts, pieces) + np.repeat(lengths, pieces) * nth // np.repeat(pieces, pieces)
        starts[nth > 0] = _before_words(starts[nth > 0], shard.word_starts, (step - 1) // 2)
        ends = np.append(starts[1:], len(shard.token_ids))
    document_starts = np.asarray(shard.document_starts())
    documents = np.searchsorted(document_starts, starts, side="right") - 1
    document_ends = np.searchsorted(starts, np.append(document_starts[1:], len(shard.token_ids)))
    return Units(starts, ends, documents, document_ends)


def fill(units: Units, room: int, across_documents: bool) -> Ranges:
    """Rows of as many whole units as there is room for, in order.

    Args:
        units: none longer than `room`.
        room: tokens of a row. Between two documents a row needs one more, for the token that separates them.
        across_documents: whether a row goes on with the next document, in a range of its own.
    """
    starts, ends = units.starts, units.ends
    if across_documents:
        starts, ends = starts + units.documents, ends + units.documents
    following = np.searchsorted(ends, starts + room, side="right")
    if not across_documents:
        following = np.minimum(following, units.document_ends[units.documents])
    firsts = _chain(following)
    row_starts = units.starts[firsts]
    if not across_documents:
        return Ranges(row_starts, units.ends[following[firsts] - 1], np.ones_like(row_starts))
    total = units.ends[-1:]
    document_starts = units.starts[np.append(0, units.document_ends[:-1])]
    range_starts = np.union1d(row_starts, document_starts)
    borders = np.searchsorted(range_starts, np.append(row_starts, total))
    return Ranges(range_starts, np.append(range_starts[1:], total), np.diff(borders))


def _chain(following: np.ndarray) -> np.ndarray:
    """0, what follows it, what follows that, and so on: int64."""
    jump, chain, unit = following.data, [], 0
    while unit < len(following):
        chain.append(unit)
        unit = jump[unit]
    return np.array(chain, np.int64)


def _before_words(cuts: np.ndarray, word_starts: np.ndarray, furthest: int) -> np.ndarray:
    """Each cut moved back to where a word begins, if one does at most `furthest` tokens before it."""
    moved = cuts.copy()
    for _ in range(furthest):
        moved -= ~word_starts[moved]
    return np.where(word_starts[moved], moved, cuts)
