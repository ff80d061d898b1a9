"""Tokenized texts to batches of like length, in an order that a seed fixes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kbert.tokenization.tokenizer import BertTokenizer

_CHUNK = 4096  # texts tokenized at once: enough to use all cores, little memory
_GROUP = 50  # batches among which texts are sorted by length: long enough to save padding, short enough to shuffle


@dataclass(frozen=True)
class TokenizedTexts:
    """Texts as ragged token ids [examples, tokens], without special tokens; `pair_ids` for text pairs."""

    tokenizer: BertTokenizer
    max_length: int
    ids: tf.RaggedTensor
    pair_ids: tf.RaggedTensor | None

    @classmethod
    def from_texts(
        cls,
        tokenizer: BertTokenizer,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        max_length: int,
    ) -> TokenizedTexts:
        """Tokenize every text once, with a bar on stderr where that takes longer than two seconds."""
        # A text alone can use no more than max_length tokens, so the rest need not be kept; how a pair is truncated
        # depends on the full length of both.
        keep = max_length if pairs is None else None
        ids = _tokenize(tokenizer, texts, keep)
        pair_ids = None if pairs is None else _tokenize(tokenizer, pairs, keep)
        return cls(tokenizer, max_length, ids, pair_ids)

    def lengths(self) -> np.ndarray:
        """Tokens per example as the model sees it, int64 [examples]."""
        lengths = self.ids.row_lengths().numpy() + 2
        if self.pair_ids is not None:
            lengths += self.pair_ids.row_lengths().numpy() + 1
        return np.minimum(lengths, self.max_length)

    def features(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """The model's inputs for the examples at `index` int [B], padded to the longest of them."""
        pair_ids = None if self.pair_ids is None else tf.gather(self.pair_ids, index)
        features = self.tokenizer.pack(tf.gather(self.ids, index), pair_ids, max_length=self.max_length)
        # No examples have no longest one; the model still looks at the first token of each.
        missing = tf.cast(tf.shape(index)[0] == 0, tf.int32)
        return {name: tf.pad(ids, [[0, 0], [0, missing]]) for name, ids in features.items()}


def _tokenize(tokenizer: BertTokenizer, texts: Sequence[str], keep: int | None) -> tf.RaggedTensor:
    chunks = [tf.constant(texts[i : i + _CHUNK], tf.string) for i in range(0, len(texts), _CHUNK)]
    bar = tqdm(chunks, desc="tokenizing", unit="chunk", file=sys.stderr, delay=2, leave=False)
    return tf.concat([tokenizer.tokenize(chunk)[:, :keep] for chunk in bar], axis=0)


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


def batches(texts: TokenizedTexts, order: list[np.ndarray], *targets: np.ndarray) -> tf.data.Dataset:
    """A tf.data of one element per entry of `order`: the features, or a tuple of them and of each of `targets`."""
    values = tf.constant(np.concatenate(order))
    splits = tf.constant(np.cumsum([0, *map(len, order)]))
    columns = [tf.constant(target) for target in targets]

    @tf.autograph.experimental.do_not_convert
    def batch(i):
        index = values[splits[i] : splits[i + 1]]
        features = texts.features(index)
        return (features, *(tf.gather(column, index) for column in columns)) if columns else features

    dataset = tf.data.Dataset.range(len(order)).map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(tf.data.AUTOTUNE)


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
        parts = dataset.flat_map(shares).prefetch(tf.data.AUTOTUNE)
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
