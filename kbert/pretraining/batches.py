"""A prepared corpus to batches of masked sequences, each of which follows from the seed and the step alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kbert.data.batching import Shares, distributed
from kbert.data.sequences import Sequences, token_batches
from kbert.errors import InputError
from kbert.pretraining.stages import Stage

_AHEAD = 4  # batches read and masked while the model computes

Masks = Callable[[Mapping[str, tf.Tensor], tf.Tensor, tf.Tensor], Any]
"""Of what `Sequences.load` gives, the numbers of the sequences int64 [B] and that of the epoch int64: what a model
trains on, with tokens hidden; runs in a graph."""


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


class PretrainingData:
    """The batches of a run.

    Args:
        cut: gives the sequences of an epoch, of the longest length and of the epoch's number.
        stages: how long sequences are.
        batch_tokens: tokens of a batch.
        seed: fixes the order of the sequences.
        masks: makes inputs and targets.
    """

    def __init__(
        self,
        cut: Callable[[int, int], Sequences],
        stages: Sequence[Stage],
        batch_tokens: int,
        seed: int,
        masks: Masks,
    ):
        self.cut, self.stages, self.batch_tokens, self.seed, self.masks = cut, stages, batch_tokens, seed, masks
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
        return distributed(
            strategy, lambda shares: _dataset(shares, lambda: self._batches(initial_step, begin), self.masks)
        )

    def position(self, step: int) -> Position:
        """Where the run is after a step that `dataset` has given a batch for; to be asked once."""
        return self._positions.pop(step)

    def _batches(self, initial_step: int, begin: Position) -> Iterator[dict[str, np.ndarray]]:
        tokens = begin.tokens_before
        for epoch in self.epochs(begin):
            lengths, tokens_before = epoch.sequences.lengths(), tokens
            for step, batch in enumerate(epoch.batches, epoch.first_step + 1):
                tokens += int(lengths[batch].sum())
                if step > initial_step:
                    self._positions[step] = Position(
                        epoch.number, epoch.first_step, epoch.length, tokens, tokens_before
                    )
                    yield _loaded(epoch.sequences, batch, epoch.number)


class HeldOut:
    """The batches to evaluate on: the same sequences with the same tokens hidden, each time.

    Args:
        sequences: what is not trained on.
        batch_tokens: tokens of a batch.
        masks: makes inputs and targets; of another seed than in training.
    """

    def __init__(self, sequences: Sequences, batch_tokens: int, masks: Masks):
        self.sequences, self.masks = sequences, masks
        self.batches = token_batches(sequences.lengths(), batch_tokens, 0, 0)
        if not self.batches:
            raise InputError("the held-out part of the corpus is empty: give more documents, or a larger --held-out")

    def __len__(self) -> int:
        return len(self.batches)

    def dataset(self, strategy: tf.distribute.Strategy) -> Any:
        """All batches, again and again: each replica's rows of each batch."""

        def batches() -> Iterator[dict[str, np.ndarray]]:
            while True:
                for batch in self.batches:
                    yield _loaded(self.sequences, batch, 0)

        return distributed(strategy, lambda shares: _dataset(shares, batches, self.masks))


def _loaded(sequences: Sequences, batch: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
    return {**sequences.load(batch), "sequence": batch.astype(np.int64), "epoch": np.int64(epoch)}


def _dataset(shares: Shares, batches: Callable[[], Iterator[dict[str, np.ndarray]]], masks: Masks) -> tf.data.Dataset:
    """The shares of batches, masked."""

    def rows():
        for batch in batches():
            for replica in shares.replicas:
                yield {name: array[replica :: shares.of] if array.ndim else array for name, array in batch.items()}

    @tf.autograph.experimental.do_not_convert
    def masked(features):
        features = dict(features)
        return masks(features, features.pop("sequence"), features.pop("epoch"))

    first = next(batches())
    signature = {name: tf.TensorSpec([None] * array.ndim, array.dtype) for name, array in first.items()}
    dataset = tf.data.Dataset.from_generator(rows, output_signature=signature)
    return dataset.map(masked, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(_AHEAD)
