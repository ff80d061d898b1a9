"""A prepared corpus to the rows that a model is pretrained on, and to an epoch's batches of them."""

from __future__ import annotations

from typing import Literal

import numpy as np

from kbert.data.cutting import Ranges, fill, units_of
from kbert.data.pairing import PAIRS, pair_up
from kbert.data.shards import CorpusPart
from kbert.errors import InputError

_GROUP = 100  # batches among which rows are sorted by length: long enough to save padding, short enough to shuffle


class Sequences:
    """Rows of tokens, each a few ranges of a corpus between special tokens: `[CLS] range [SEP] range [SEP]`.

    Memory holds the ranges alone; the tokens are read when a batch is loaded.

    Args:
        part: the corpus.
        starts: int64 [ranges], places in the corpus's stream of tokens.
        ends: int64 [ranges], exclusive.
        splits: int64 [n + 1]: row i has the ranges `splits[i]` to `splits[i + 1]`.
        pair_labels: int32 [n], or None where rows are no pairs.
    """

    def __init__(
        self,
        part: CorpusPart,
        starts: np.ndarray,
        ends: np.ndarray,
        splits: np.ndarray,
        pair_labels: np.ndarray | None = None,
    ):
        self.part = part
        self._starts = starts
        self._ends = ends
        self._splits = splits
        self._pair_labels = pair_labels
        tokens = np.append(0, np.cumsum(ends - starts + 1))  # a [SEP] ends each range
        self._lengths = 1 + np.diff(tokens[splits])

    @classmethod
    def cut(
        cls,
        part: CorpusPart,
        max_length: int,
        *,
        across_documents: bool = False,
        pairs: Literal["nsp", "sop"] | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> Sequences:
        """Fill rows with whole sentences, in order; every token of the corpus is in one row.

        A sentence that is too long for a row is cut. A row holds one document, and ends with it; or, with
        `across_documents`, goes on with the next, a [SEP] between them (Liu et al. 2019, section 4.2, FULL-SENTENCES).

        Args:
            part: the training documents of a corpus, or those held out.
            max_length: longest row in tokens, special tokens included.
            across_documents: whether rows go on with the next document; not for pairs.
            pairs: "nsp" or "sop": rows of two segments with a label, as `pairing.pair_up` makes them. With "nsp" the
                tokens of random second segments are in several rows. With "sop" a lone token at a document's end is in
                none.
            seed: with `epoch`, what the choices of pairs follow from; without pairs nothing is left to choice.
            epoch: so that pairs differ in each epoch.

        Raises:
            InputError: `max_length` leaves no room, or the arguments contradict each other.
        """
        specials = 3 if pairs else 2
        if pairs is not None and pairs not in PAIRS:
            raise InputError(f"Sequences: `pairs` must be None or one of {', '.join(PAIRS)}. Received: {pairs!r}")
        if pairs and across_documents:
            raise InputError("Sequences: pairs are of one document each: leave out `across_documents` or `pairs`")
        if max_length < 2 * specials - 1:
            raise InputError(f"Sequences: `max_length` must be at least {2 * specials - 1}. Received: {max_length}")
        room = max_length - specials
        cuts: list[Ranges] = []
        labels: list[np.ndarray] = []
        for number, shard in enumerate(part.shards):
            if pairs:
                random = np.random.default_rng((seed, epoch, number))
                ranges, pair_labels = pair_up(units_of(shard, room // 2), room, pairs, random)
                labels.append(pair_labels)
            else:
                ranges = fill(units_of(shard, room), room, across_documents)
            begin = part.offsets[number]
            cuts.append(ranges._replace(starts=ranges.starts + begin, ends=ranges.ends + begin))
        starts, ends, counts = (_joined([ranges[i] for ranges in cuts], np.int64) for i in range(3))
        splits = np.append(0, np.cumsum(counts))
        return cls(part, starts, ends, splits, _joined(labels, np.int32) if pairs else None)

    def __len__(self) -> int:
        return len(self._lengths)

    def lengths(self) -> np.ndarray:
        """Tokens of each row, special ones included: int64 [n]."""
        return self._lengths

    @property
    def tokens(self) -> int:
        """Tokens of all rows together, special ones included."""
        return int(self._lengths.sum())

    def load(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """A batch of rows.

        Args:
            index: int64 [B], numbers of rows.

        Returns:
            `token_ids`, `segment_ids` and `padding_mask`, int32 [B, T], T being the longest row; `word_starts`, bool
            [B, T]: whether a word begins with a token, false for special tokens and padding, true where a range
            begins. For pairs also `pair_label`, int32 [B].
        """
        index = np.asarray(index, np.int64)
        lengths = self._lengths[index]
        width = max(int(lengths.max(initial=0)), 1)
        ids = self.part.special_ids
        shape = (len(index), width)
        token_ids = np.full(shape, ids["pad"], np.int32)
        token_ids[lengths > 0, 0] = ids["cls"]
        segment_ids, word_starts = np.zeros(shape, np.int32), np.zeros(shape, np.bool_)

        rows, nth, ranges = self._ranges(index)
        range_lengths = self._ends[ranges] - self._starts[ranges]
        targets = rows * width + _places_in_rows(rows, range_lengths + 1)  # where each range begins in the batch
        within = _counting(range_lengths)
        places = np.repeat(targets, range_lengths) + within
        sources = np.repeat(self._starts[ranges], range_lengths) + within
        seps = targets + range_lengths
        token_ids.flat[places] = self.part.token_ids(sources)
        token_ids.flat[seps] = ids["sep"]
        word_starts.flat[places] = self.part.word_starts(sources)
        word_starts.flat[targets] = True
        batch = {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "padding_mask": (np.arange(width) < lengths[:, None]).astype(np.int32),
            "word_starts": word_starts,
        }
        if self._pair_labels is not None:
            segment_ids.flat[places] = np.repeat(nth, range_lengths)
            segment_ids.flat[seps] = nth
            batch["pair_label"] = self._pair_labels[index]
        return batch

    def _ranges(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The ranges of rows: of each its row in the batch, its place among the row's, and its number."""
        counts = self._splits[index + 1] - self._splits[index]
        rows, nth = np.repeat(np.arange(len(index)), counts), _counting(counts)
        return rows, nth, self._splits[index][rows] + nth


def token_batches(
    lengths: np.ndarray, tokens_per_batch: int, seed: int, epoch: int, max_rows: int | None = None
) -> list[np.ndarray]:
    """The batches of one epoch: every row once, shuffled, with rows of like length together.

    The rows are shuffled, cut into groups of `_GROUP` batches, sorted by length inside each, cut where a batch is
    full, and the batches shuffled. The same seed and epoch give the same order.

    Args:
        lengths: int64 [n], tokens of each row.
        tokens_per_batch: real tokens that a batch holds, give or take a row; only one batch may hold less.
        seed: what, with `epoch`, the order follows from.
        epoch: the number of the epoch.
        max_rows: most rows of a batch; batches of very short rows then hold less tokens.

    Returns:
        A list of int64 arrays of row numbers.
    """
    if tokens_per_batch < 1 or (max_rows is not None and max_rows < 1):
        raise InputError(
            "token_batches: `tokens_per_batch` and `max_rows` must be at least 1. "
            f"Received: {tokens_per_batch} and {max_rows}"
        )
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    shares = np.maximum(lengths, -(-tokens_per_batch // max_rows)) if max_rows else lengths
    groups = (np.cumsum(shares[order]) - 1) // (tokens_per_batch * _GROUP)
    # Up in one group and down in the next, so that the batch at the border has rows of like length too.
    order = order[np.lexsort((np.where(groups % 2, -lengths[order], lengths[order]), groups))]
    batch_numbers = (np.cumsum(shares[order]) - 1) // tokens_per_batch
    batches = np.split(order, np.flatnonzero(np.diff(batch_numbers)) + 1) if len(order) else []
    return [batches[i] for i in random.permutation(len(batches))]


def _counting(counts: np.ndarray) -> np.ndarray:
    """0, 1, … up to each count, one after another."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _places_in_rows(rows: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Where each of some neighbours in rows begins, given the row of each, in order; the first in place 1."""
    before = np.cumsum(widths) - widths
    return 1 + before - before[np.searchsorted(rows, rows)]


def _joined(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype)
