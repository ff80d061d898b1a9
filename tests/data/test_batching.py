"""The order of examples, and batches that hold what the order says."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from kbert.config import TokenizerConfig
from kbert.data.batching import Rows, batches, few_lengths, in_few_shapes, sorted_order, training_order
from kbert.tokenization.tokenizer import BertTokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_vocabulary):
    return BertTokenizer(tiny_vocabulary, TokenizerConfig())


def test_an_epoch_holds_every_example_once():
    lengths = np.random.default_rng(0).integers(3, 60, 1003)
    order = training_order(lengths, 8, seed=5, epoch=2)
    assert sorted(np.concatenate(order)) == list(range(1003))
    assert sorted(map(len, order)) == [3] + [8] * 125


def test_the_order_follows_from_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(3, 60, 300)
    orders = [np.concatenate(training_order(lengths, 7, *key)).tolist() for key in ((1, 0), (1, 0), (1, 1), (2, 0))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_batches_hold_texts_of_like_length():
    lengths = np.random.default_rng(0).integers(3, 60, 4000)
    grouped = sum(lengths[batch].max() * len(batch) for batch in training_order(lengths, 16, 0, 0))
    shuffled = sum(batch.max() * 16 for batch in lengths.reshape(-1, 16))
    assert grouped < 1.1 * lengths.sum() < 0.7 * shuffled


def test_the_longest_come_first_for_prediction():
    lengths = np.array([4, 9, 2, 9, 5])
    assert [batch.tolist() for batch in sorted_order(lengths, 2)] == [[1, 3], [4, 0], [2]]


def test_a_batch_is_what_the_tokenizer_gives(tokenizer):
    texts = ["good film", "the plot was not very dull , fine", "我爱电影", "", "un"]
    rows = Rows.from_features(
        [tokenizer(texts[:2], max_length=6), tokenizer(texts[2:], max_length=6)], tokenizer.pad_id
    )
    assert rows.lengths().tolist() == [4, 6, 6, 2, 3]
    order = [np.array([3, 0]), np.array([2, 1, 4])]
    for batch, (features, labels) in zip(order, batches(rows, order, np.arange(5)), strict=True):
        expected = tokenizer([texts[i] for i in batch], max_length=6)
        assert labels.numpy().tolist() == batch.tolist()
        assert features.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(features[name], expected[name])


def test_targets_of_tokens_are_padded_like_the_tokens(tokenizer):
    rows = Rows.from_features([tokenizer(["good film", "the plot was not very dull , fine", ""])], tokenizer.pad_id)
    numbers = tf.ragged.range([4, 10, 2])
    (_, labels), (features, none) = batches(rows, [np.array([2, 0]), np.array([], int)], numbers)
    assert labels.numpy().tolist() == [[0, 1, -1, -1], [0, 1, 2, 3]]
    assert none.shape == features["token_ids"].shape == (0, 1)


def test_few_lengths():
    assert few_lengths(100) == [8, 12, 16, 24, 32, 48, 64, 96, 100]
    assert few_lengths(64) == [8, 12, 16, 24, 32, 48, 64]
    assert few_lengths(5) == [5]


def test_batches_in_few_shapes_hold_the_same():
    """Beside features: a class per row, a class per token, and two numbers per row."""
    lengths = [3, 8, 9, 13, 25, 29]

    def element(length):
        ids = tf.ones([2, length], tf.int32)
        features = {"token_ids": ids * 7, "segment_ids": ids, "padding_mask": ids}
        return features, tf.constant([1, 2]), ids * 5, tf.ones([2, 2], tf.int32)

    dataset = tf.data.Dataset.from_tensor_slices(lengths).map(element)
    for length, batch in zip(lengths, in_few_shapes(dataset, max_length=29, pad_id=4), strict=True):
        features, classes, tags, pairs = batch
        shape = (2, {3: 8, 8: 8, 9: 12, 13: 16, 25: 29, 29: 29}[length])
        for values, real, filling in (
            (features["token_ids"], 7, 4),
            (features["segment_ids"], 1, 0),
            (features["padding_mask"], 1, 0),
            (tags, 5, -1),
        ):
            expected = np.full(shape, filling)
            expected[:, :length] = real
            np.testing.assert_array_equal(values, expected)
        assert (classes.shape, pairs.shape) == ((2,), (2, 2))
    (alone,) = in_few_shapes(dataset.take(1).map(lambda *parts: parts[0]), 29, 4)
    assert alone["token_ids"].shape == (2, 8)
