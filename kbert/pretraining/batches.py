"""A prepared corpus to batches of masked sequences, each of which follows from the seed and the step alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kbert.data.batching import Shares, distributed, few_lengths, mapped_ahead
from kbert.data.sequences import Sequences, token_batches
from kbert.errors import InputError
from kbert.pretraining.stages import Stage

_MOST_ROWS = 2**20


class Position(NamedTuple):
    """Where in the corpus a run is after a step."""

    epoch: int = 0
    """Passes over the corpus before this one."""
    first_step: int = 0
    """Steps before this pass."""
    length: int = 0
    """The longest that a sequence can be."""
    tokens: int = 0
    """Tokens that all steps so far have learnt from, padding not counted."""
    tokens_before: int = 0
    """Those of them before this pass."""


class Epoch(NamedTuple):
    """Every sequence of the corpus once, in batches."""

    number: int
    first_step: int
    length: int
    sequences: Sequences
    batches: list[np.ndarray]


class Batch(NamedTuple):
    """Some sequences of an epoch, by their numbers int64 [B]."""

    sequences: Sequences
    rows: np.ndarray
    epoch: int


Mask = Callable[[Mapping[str, tf.Tensor], tf.Tensor, tf.Tensor], Any]
"""Of what `Sequences.load` gives, the numbers of the rows int64 [B] and that of the epoch int64: inputs and labels,
with tokens hidden."""


class Feed:
    """Batches to what a model trains on: read from disk, shared out among replicas, and masked in the graph.

    Args:
        mask: hides tokens; runs in a graph.
        pad_id: what fills short rows.
        length: pad all rows to this many tokens, and batches to one of few numbers of rows, as XLA wants; None: pad to
            the longest row of a batch.
    """

    def __init__(self, mask: Mask, pad_id: int, length: int | None = None):
        self.mask, self.pad_id, self.length = mask, pad_id, length

    def dataset(self, shares: Shares, batches: Callable[[], Iterator[Batch]]) -> tf.data.Dataset:
        """The shares of batches, one after another."""
        shapes = {0: [], 1: [None], 2: [None, self.length]}

        def rows():
            for batch in batches():
                arrays = self._load(batch)
                for replica in shares.replicas:
                    yield {name: array[replica :: shares.of] if array.ndim else array for name, array in arrays.items()}

        @tf.autograph.experimental.do_not_convert
        def masked(features):
            features = dict(features)
            batch = self.mask(features, features.pop("row"), features.pop("epoch"))
            for tensor in tf.nest.flatten(batch):  # what the mask broadcasts has lost its length
                tensor.set_shape(shapes[len(tensor.shape)])
            return batch

        first = self._load(next(batches()))
        signature = {name: tf.TensorSpec(shapes[array.ndim], array.dtype) for name, array in first.items()}
        return mapped_ahead(tf.data.Dataset.from_generator(rows, output_signature=signature), masked)

    def _load(self, batch: Batch) -> dict[str, np.ndarray]:
        arrays = {**batch.sequences.load(batch.rows), "row": np.asarray(batch.rows, np.int64)}
        if self.length is not None:
            arrays = {name: self._padded(name, array, self.length) for name, array in arrays.items()}
        return arrays | {"epoch": np.asarray(batch.epoch, np.int64)}

    def _padded(self, name: str, array: np.ndarray, length: int) -> np.ndarray:
        rows = next(number for number in few_lengths(_MOST_ROWS) if number >= len(array))
        widths = [(0, rows - len(array)), *[(0, length - array.shape[-1])] * (array.ndim - 1)]
        # No pair has the label -1: it does not count.
        return np.pad(array, widths, constant_values={"token_ids": self.pad_id, "pair_label": -1}.get(name, 0))


class PretrainingData:
    """The batches of a run.

    Args:
        cut: gives the sequences of an epoch, of the longest length and of the epoch's number.
        stages: how long sequences are.
        batch_tokens: tokens of a batch.
        seed: fixes the order of the sequences.
        feed: makes inputs and targets.
    """

    def __init__(
        self,
        cut: Callable[[int, int], Sequences],
        stages: Sequence[Stage],
        batch_tokens: int,
        seed: int,
        feed: Feed,
    ):
        self.cut, self.stages, self.batch_tokens, self.seed, self.feed = cut, stages, batch_tokens, seed, feed
        self._positions: dict[int, Position] = {}

    def epochs(self, begin: Position = Position()) -> Iterator[Epoch]:
        """The epochs from that of a position on; each stage begins a new one, and may cut its last one short."""
        number, step, end = begin.epoch, begin.first_step, 0
        for stage in self.stages:
            end += stage.steps
            while step < end:
                sequences = self.cut(stage.length, number)
                batches = token_batches(sequences.lengths(), self.batch_tokens, self.seed, number)[: end - step]
                if not batches:
                    raise InputError("the corpus holds no text to train on: give more, or hold less out")
                yield Epoch(number, step, stage.length, sequences, batches)
                step += len(batches)
                number += 1

    def dataset(self, strategy: tf.distribute.Strategy, initial_step: int, begin: Position) -> Any:
        """The batches after a step, to the end of the run: each replica's rows of each batch.

        Args:
            strategy: what the model is made under.
            initial_step: steps done.
            begin: the position after the last of them.
        """

        def batches() -> Iterator[Batch]:
            return self._batches(initial_step, begin)

        return distributed(strategy, lambda shares: self.feed.dataset(shares, batches))

    def position(self, step: int) -> Position:
        """Where the run is after a step that `dataset` has given a batch for; to be asked once."""
        return self._positions.pop(step)

    def _batches(self, initial_step: int, begin: Position) -> Iterator[Batch]:
        tokens = begin.tokens_before
        for epoch in self.epochs(begin):
            lengths, tokens_before = epoch.sequences.lengths(), tokens
            for step, batch in enumerate(epoch.batches, epoch.first_step + 1):
                tokens += int(lengths[batch].sum())
                if step > initial_step:
                    self._positions[step] = Position(
                        epoch.number, epoch.first_step, epoch.length, tokens, tokens_before
                    )
                    yield Batch(epoch.sequences, batch, epoch.number)


class HeldOut:
    """The batches to evaluate on: the same sequences with the same tokens hidden, each time.

    Args:
        sequences: what is not trained on.
        batch_tokens: tokens of a batch.
        feed: makes inputs and targets.
    """

    def __init__(self, sequences: Sequences, batch_tokens: int, feed: Feed):
        self.sequences, self.feed = sequences, feed
        self.batches = token_batches(sequences.lengths(), batch_tokens, 0, 0)
        if not self.batches:
            raise InputError("the held-out part of the corpus is empty: give more documents, or a larger --held-out")

    def __len__(self) -> int:
        return len(self.batches)

    def dataset(self, strategy: tf.distribute.Strategy) -> Any:
        """All batches, again and again: each replica's rows of each batch."""

        def batches() -> Iterator[Batch]:
            return (Batch(self.sequences, batch, 0) for batch in itertools.cycle(self.batches))

        return distributed(strategy, lambda shares: self.feed.dataset(shares, batches))
