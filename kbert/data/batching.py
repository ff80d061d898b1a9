"""Tokenized texts to batches of like length, in an order that a seed fixes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
        return self.tokenizer.pack(tf.gather(self.ids, index), pair_ids, max_length=self.max_length)


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


def batches(texts: TokenizedTexts, order: list[np.ndarray], labels: np.ndarray | None = None) -> tf.data.Dataset:
    """A tf.data of one element per entry of `order`: the features, and the labels if there are any."""
    values = tf.constant(np.concatenate(order))
    splits = tf.constant(np.cumsum([0, *map(len, order)]))
    targets = None if labels is None else tf.constant(labels)

    @tf.autograph.experimental.do_not_convert
    def batch(i):
        index = values[splits[i] : splits[i + 1]]
        features = texts.features(index)
        return features if targets is None else (features, tf.gather(targets, index))

    dataset = tf.data.Dataset.range(len(order)).map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(tf.data.AUTOTUNE)
