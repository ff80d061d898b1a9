"""Rows of tokens to batches of like length, in an order that a seed fixes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

_GROUP = 50  # batches among which texts are sorted by length: long enough to save padding, short enough to shuffle
_AHEAD = 4  # batches made while the model computes


@dataclass(frozen=True)
class Rows:
    """A model's inputs without their padding.

    Args:
        token_ids: int32 [rows, (tokens)], special tokens included.
        segment_ids: int32 [rows, (tokens)].
        pad_id: what fills short rows of `token_ids`.
    """

    token_ids: tf.RaggedTensor
    segment_ids: tf.RaggedTensor
    pad_id: int

    @classmethod
    def from_features(cls, features: Iterable[Mapping[str, tf.Tensor]], pad_id: int) -> Rows:
        """Rows of padded batches, each a dict of `token_ids`, `segment_ids` and `padding_mask`, int32 [B, T]."""

        def ragged(name: str) -> tf.RaggedTensor:
            return tf.concat([without_padding(batch[name], batch["padding_mask"]) for batch in padded], axis=0)

        padded = list(features)
        return cls(ragged("token_ids"), ragged("segment_ids"), pad_id)

    def lengths(self) -> np.ndarray:
        """Tokens per row, int64 [rows]."""
        return self.token_ids.row_lengths().numpy()

    def features(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """The model's inputs for the rows at `index` int [B], padded to the longest of them: int32 [B, T]."""
        token_ids = tf.gather(self.token_ids, index)
        lengths = token_ids.row_lengths()
        # No rows have no longest one; the model still looks at the first token of each.
        length = tf.maximum(tf.reduce_max(lengths), 1)
        shape = tf.stack([tf.shape(index, tf.int64)[0], length])
        return {
            "token_ids": token_ids.to_tensor(self.pad_id, shape=shape),
            "segment_ids": tf.gather(self.segment_ids, index).to_tensor(0, shape=shape),
            "padding_mask": tf.sequence_mask(lengths, length, tf.int32),
        }


@dataclass(frozen=True)
class PairedRows:
    """Two rows an example, equally many of both."""

    first: Rows
    second: Rows

    def lengths(self) -> np.ndarray:
        """Tokens of the longer row of each pair, int64 [pairs]."""
        return np.maximum(self.first.lengths(), self.second.lengths())

    def features(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """As those of `Rows`, int32 [B, 2, T]."""
        first, second = self.first.features(index), self.second.features(index)
        length = tf.maximum(tf.shape(first["token_ids"])[1], tf.shape(second["token_ids"])[1])

        def stacked(name: str, filling: int) -> tf.Tensor:
            rows = (first[name], second[name])
            padded = [tf.pad(x, [[0, 0], [0, length - tf.shape(x)[1]]], constant_values=filling) for x in rows]
            return tf.stack(padded, axis=1)

        fillings = {"token_ids": self.first.pad_id, "segment_ids": 0, "padding_mask": 0}
        return {name: stacked(name, filling) for name, filling in fillings.items()}


def without_padding(values: tf.Tensor, padding_mask: tf.Tensor) -> tf.RaggedTensor:
    """[B, T] to [B, (tokens)]: the values of real tokens."""
    return tf.RaggedTensor.from_tensor(values, lengths=tf.reduce_sum(padding_mask, axis=1))


def training_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch: every example once, shuffled, with texts of like length together.

    The examples are shuffled, cut into groups of `_GROUP` batches, sorted by length inside each, and the batches
    shuffled. The same seed and epoch give the same order.

    Returns:
        A list of int64 arrays of at most `batch_size` example numbers; only one may be shorter.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    group_size = batch_size * _GROUP
    groups = [order[i : i + group_size] for i in range(0, len(order), group_size)]
    groups = [group[np.argsort(lengths[group], kind="stable")] for group in groups]
    batches = [group[i : i + batch_size] for group in groups for i in range(0, len(group), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def sorted_order(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Every example once, longest first, for prediction: `np.concatenate` of it undoes the order of the outputs."""
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def batches(
    rows: Rows | PairedRows, order: list[np.ndarray], *targets: np.ndarray | tf.RaggedTensor
) -> tf.data.Dataset:
    """A tf.data of one element per entry of `order`: the features, or a tuple of them and of each of `targets`.

    Args:
        rows: the inputs.
        order: row numbers of each batch.
        *targets: an array with a value per row, or a ragged one with a value per token, which is padded with -1.
    """
    values = tf.constant(np.concatenate(order))
    splits = tf.constant(np.cumsum([0, *map(len, order)]))
    columns = [column if isinstance(column, tf.RaggedTensor) else tf.constant(column) for column in targets]

    @tf.autograph.experimental.do_not_convert
    def batch(i):
        index = values[splits[i] : splits[i + 1]]
        features = rows.features(index)

        def gathered(column):
            chosen = tf.gather(column, index)
            if isinstance(chosen, tf.RaggedTensor):
                return chosen.to_tensor(-1, shape=tf.shape(features["token_ids"], tf.int64))
            return chosen

        return (features, *map(gathered, columns)) if columns else features

    return mapped_ahead(tf.data.Dataset.range(len(order)), batch)


def mapped_ahead(dataset: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
    """The elements made by a function, in order, some of them before they are asked for.

    How many is fixed. Where tf.data tunes that itself, the end of an epoch waits for the tuner to wake up, which it
    does 5, 10, 20, 41 … seconds after the beginning: often a `fit` of 5.5 seconds takes 10.3 (TensorFlow 2.21).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    mapped = dataset.map(function, num_parallel_calls=_AHEAD, deterministic=True)
    return mapped.prefetch(_AHEAD).with_options(options)


@dataclass(frozen=True)
class Shares:
    """Which replicas of a strategy one process feeds: replica r of n has the rows r, r + n, r + 2n … of every batch."""

    replicas: range
    of: int

    def rows(self, order: list[np.ndarray]) -> list[np.ndarray]:
        """The example numbers of every share of every batch, in the order in which the replicas are fed."""
        return [batch[replica :: self.of] for batch in order for replica in self.replicas]

    def split(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same for a tf.data of batches, tuples of tensors with the same number of rows."""

        @tf.autograph.experimental.do_not_convert
        def shares(*batch):
            def share(replica):
                return tf.nest.map_structure(lambda rows: rows[replica :: self.of], batch)

            first, last = self.replicas.start, self.replicas.stop
            return tf.data.Dataset.range(first, last).map(tf.autograph.experimental.do_not_convert(share))

        steps = dataset.cardinality()
        parts = dataset.flat_map(shares).prefetch(_AHEAD)
        return parts if steps < 0 else parts.apply(tf.data.experimental.assert_cardinality(steps * len(self.replicas)))


def distributed(
    strategy: tf.distribute.Strategy, make: Callable[[Shares], tf.data.Dataset]
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """A dataset that gives every replica its share of each batch.

    Args:
        strategy: what the model is made under.
        make: gives the shares of some replicas, one element after another: those of the first batch, of the second…
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return make(Shares(range(1), 1))

    def of_one_process(context):
        number = replicas // context.num_input_pipelines
        first = number * context.input_pipeline_id
        return make(Shares(range(first, first + number), replicas))

    return strategy.distribute_datasets_from_function(of_one_process)


def in_few_shapes(dataset: tf.data.Dataset, max_length: int, pad_id: int) -> tf.data.Dataset:
    """Pad batches further, to one of a few lengths: XLA compiles a step anew for every shape.

    The lengths are 8, 12, 16, 24, 32, 48 and so on to `max_length`. Ten epochs of SST-2 in batches of 32 have 11 shapes
    instead of 67, and 1.27 times their real tokens instead of 1.05.

    Args:
        dataset: gives features, int32 [B, T], or a tuple of them and of targets. A target whose last axis is as long as
            the batch happens to be has a value for each token, and gets -1 for those that are added.
        max_length: the longest that a row can be.
        pad_id: what fills `token_ids`.
    """
    lengths = tf.constant(few_lengths(max_length))

    @tf.autograph.experimental.do_not_convert
    def pad(features, *targets):
        length = tf.shape(features["token_ids"])[-1]
        missing = lengths[tf.searchsorted(lengths, [length])[0]] - length

        def padded(values, filling):
            widths = [[0, 0]] * (len(values.shape) - 1) + [[0, missing]]
            return tf.pad(values, widths, constant_values=filling)

        features = {name: padded(ids, pad_id if name == "token_ids" else 0) for name, ids in features.items()}
        return features, *(padded(y, -1) if len(y.shape) > 1 and y.shape[-1] is None else y for y in targets)

    return dataset.map(pad if isinstance(dataset.element_spec, tuple) else lambda features: pad(features)[0])


def few_lengths(max_length: int) -> list[int]:
    """8, 12, 16, 24, 32, 48 and so on, each at most half as long again as the one before, and `max_length` at last."""
    steps = [length for power in range(3, 32) for length in (2**power, 3 * 2 ** (power - 1))]
    return [*(length for length in steps if length < max_length), max_length]
