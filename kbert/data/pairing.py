"""Documents of token ids to pairs of segments, for the second task of pretraining."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from kbert.config import PAIR_TASKS
from kbert.data.cutting import Ranges, Units

PAIRS = PAIR_TASKS[1:]
_SHORT_RATE = 0.1  # of the rows aim at a random length, as in google-research/bert's create_pretraining_data.py


class _Pair(NamedTuple):
    first: tuple[int, int]
    second: tuple[int, int]
    label: int


class _Chunk(NamedTuple):
    """Units `begin` to `end` of one document, to be cut into two segments."""

    begin: int
    end: int
    target: int
    """Tokens that the row aims at."""


def pair_up(units: Units, room: int, pairs: str, random: np.random.Generator) -> tuple[Ranges, np.ndarray]:
    """Rows of two segments.

    "nsp" (Devlin et al. 2018, section 3.1): the first segment is a random number of the sentences that fill a row; the
    second, half of the time, the rest of them (label 0), otherwise sentences from a random place in another document
    (label 1), and the rest begins the next row. A row of which there is one sentence only always gets the latter. A
    shard of a single document has no other, and gives a random place of the same.

    "sop" (Lan et al. 2019, section 3.1): the segments are in order (label 0) or, half of the time, swapped (label 1).

    Args:
        units: none longer than half of `room`.
        room: tokens of a row.
        pairs: "nsp" or "sop".
        random: where all choices come from.

    Returns:
        Two ranges a row, and the labels, int32 [n].
    """
    rows = list((_Nsp if pairs == "nsp" else _Sop)(units, room, _uniform(random)))
    ranges = np.array([(pair.first, pair.second) for pair in rows], np.int64).reshape(-1, 2)
    labels = np.array([pair.label for pair in rows], np.int32)
    return Ranges(ranges[:, 0], ranges[:, 1], np.full(len(rows), 2)), labels


def _uniform(random: np.random.Generator) -> Callable[[], float]:
    """A function of numbers in [0, 1)."""

    def drawn() -> Iterator[float]:
        while True:
            yield from random.random(4096).tolist()

    return drawn().__next__


class _Chunks:
    """Goes through the units of a shard and takes as many of a document as a row has room for."""

    def __init__(self, units: Units, room: int, draw: Callable[[], float]):
        self.starts, self.ends = units.starts.data, units.ends.data
        self.documents, self.document_ends = units.documents.data, units.document_ends.data
        self.room = room
        self.draw = draw

    def chunk(self, begin: int) -> _Chunk:
        """The units from `begin` on that fill a row, or a part of it that is drawn."""
        target = self.room
        if self.draw() < _SHORT_RATE:
            target = self.pick(2, self.room + 1)
        return _Chunk(begin, self.fitting(begin, target), target)

    def fitting(self, begin: int, target: int) -> int:
        """The unit behind the last that ends in `begin`'s document and within `target` tokens; `begin` always does."""
        last = self.document_ends[self.documents[begin]]
        return max(begin + 1, bisect.bisect_right(self.ends, self.starts[begin] + target, begin, last))

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The tokens of units `begin` to `end`."""
        return self.starts[begin], self.ends[end - 1]

    def pick(self, low: int, high: int) -> int:
        """A number in [low, high)."""
        return low + int(self.draw() * (high - low))


class _Nsp(_Chunks):
    def __iter__(self) -> Iterator[_Pair]:
        begin = 0
        while begin < len(self.starts):
            chunk = self.chunk(begin)
            alone = chunk.end - begin == 1
            middle = chunk.end if alone else self.pick(begin + 1, chunk.end)
            first = self.span(begin, middle)
            if alone or self.draw() < 0.5:
                yield _Pair(first, self._elsewhere(chunk, first), 1)
                begin = middle
            else:
                yield _Pair(first, self.span(middle, chunk.end), 0)
                begin = chunk.end

    def _elsewhere(self, chunk: _Chunk, first: tuple[int, int]) -> tuple[int, int]:
        """Sentences of another document that fill up the row."""
        document, others = self.documents[chunk.begin], len(self.document_ends) - 1
        other = self.pick(0, others) if others else document
        other += bool(others) and other >= document
        begin = self.pick(self.document_ends[other - 1] if other else 0, self.document_ends[other])
        length = first[1] - first[0]
        start, end = self.span(begin, self.fitting(begin, chunk.target - length))
        return start, min(end, start + self.room - length)


class _Sop(_Chunks):
    def __iter__(self) -> Iterator[_Pair]:
        begin = 0
        while begin < len(self.starts):
            chunk = self.chunk(begin)
            start, end = self.span(begin, chunk.end)
            middle = self.starts[self.pick(begin + 1, chunk.end)] if chunk.end - begin > 1 else (start + end) // 2
            swapped = self.draw() < 0.5
            if start < middle:  # a document that ends in a single token has no halves there
                first, second = (start, middle), (middle, end)
                yield _Pair(second, first, 1) if swapped else _Pair(first, second, 0)
            begin = chunk.end
