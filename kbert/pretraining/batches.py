"""A prepared corpus to batches of masked sequences, each of which follows from the seed and the step alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from kbert.data.batching import Shares, distributed
from kbert.data.sequences import Sequences, token_batches
from kbert.errors import InputError
from kbert.pretraining.stages import Stage

_AHEAD = 4  # batches read and masked while the model computes


class Position(NamedTuple):
    """Where in the corpus a run is after a step."""

    epoch: int
    """Passes over the corpus before this one."""
    length: int
    """The longest that a sequence can be."""
    tokens: int
    """Tokens that all steps so far have learnt from, padding not counted."""


class Epoch(NamedTuple):
    """Every sequence of the corpus once, in batches."""

    number: int
    length: int
    sequences: Sequences
    batches: list[np.ndarray]


class Masks(Protocol):
    """Hides tokens of sequences; runs in a graph."""

    signature: Mapping[str, tf.TensorSpec]
    """What `Sequences.load` gives, and the numbers of the sequences and of the epoch."""

    def __call__(self, features: Mapping[str, tf.Tensor], sequence: tf.Tensor, epoch: tf.Tensor) -> Any:
        """What a model trains on, of `features`, of the numbers of the sequences int64 [B] and of the epoch int64."""


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

    def epochs(self) -> Iterator[Epoch]:
        """All epochs of the run; a stage begins a new one, and its last one may be cut short."""
        number = 0
        for stage in self.stages:
            left = stage.steps
            while left > 0:
                sequences = self.cut(stage.length, number)
                order = token_batches(sequences.lengths(), self.batch_tokens, self.seed, number)
                if not order:
                    raise InputError("the corpus holds no sequence to train on: give more text")
                yield Epoch(number, stage.length, sequences, order[:left])
                left -= len(order)
                number += 1

    def dataset(self, strategy: tf.distribute.Strategy, initial_step: int = 0) -> Any:
        """The batches from a step on, to the end of the run: each replica's rows of each batch."""
        return distributed(strategy, lambda shares: _dataset(shares, lambda: self._batches(initial_step), self.masks))

    def position(self, step: int) -> Position:
        """Where the run is after a step that `dataset` has given a batch for; to be asked once."""
        return self._positions.pop(step)

    def _batches(self, initial_step: int) -> Iterator[dict[str, np.ndarray]]:
        step = tokens = 0
        for epoch in self.epochs():
            lengths = epoch.sequences.lengths()
            if step + len(epoch.batches) <= initial_step:
                step += len(epoch.batches)
                tokens += int(lengths[np.concatenate(epoch.batches)].sum())
                continue
            for batch in epoch.batches:
                step += 1
                tokens += int(lengths[batch].sum())
                if step > initial_step:
                    self._positions[step] = Position(epoch.number, epoch.length, tokens)
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
            raise InputError(
                "the held-out part of the corpus is empty: give more documents (a blank line ends one), or a larger "
                "--held-out"
            )

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

    dataset = tf.data.Dataset.from_generator(rows, output_signature=masks.signature)
    return dataset.map(masked, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(_AHEAD)
