"""Rows for the model are Hugging Face's, padding and truncation included."""

from __future__ import annotations

import random

import numpy as np
import pytest
import tensorflow as tf
from tokenizers.processors import TemplateProcessing

from kbert.errors import InputError
from kbert.tokenization.tokenizer import BertTokenizer

from .reference import reference_tokenizer

# The special tokens' ids are no small numbers that a bug could hit by chance.
VOCABULARY = ["a", "b", "c", "d", "e", "[SEP]", "[UNK]", "[PAD]", "[MASK]", "[CLS]"]


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(VOCABULARY)


@pytest.fixture(scope="module")
def reference(tokenizer):
    hf = reference_tokenizer(VOCABULARY, tokenizer.config)
    hf.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 9), ("[SEP]", 5)]
    )
    hf.enable_padding(pad_id=7, pad_token="[PAD]")
    return hf


def sentences(rng: random.Random, count: int, longest: int) -> list[str]:
    return [" ".join(rng.choices("abcde", k=rng.randint(0, longest))) for _ in range(count)]


def assert_same(features, encodings):
    expected = {
        "token_ids": [encoding.ids for encoding in encodings],
        "segment_ids": [encoding.type_ids for encoding in encodings],
        "padding_mask": [encoding.attention_mask for encoding in encodings],
    }
    assert {name: tensor.dtype for name, tensor in features.items()} == dict.fromkeys(expected, tf.int32)
    for name, rows in expected.items():
        np.testing.assert_array_equal(features[name], rows, err_msg=name)


@pytest.mark.parametrize("max_length", [2, 7])
def test_single_texts(tokenizer, reference, max_length):
    texts = sentences(random.Random(max_length), 23, 11)
    reference.enable_truncation(max_length)
    assert_same(tokenizer(texts, max_length=max_length), reference.encode_batch(texts))


@pytest.mark.parametrize("max_length", [3, 4, 8, 13, 60])
def test_pairs_lose_tokens_of_the_longer_text_first(tokenizer, reference, max_length):
    rng = random.Random(max_length)
    first, second = sentences(rng, 61, 12), sentences(rng, 61, 9)
    reference.enable_truncation(max_length, strategy="longest_first")
    expected = reference.encode_batch(list(zip(first, second, strict=True)))
    assert_same(tokenizer(first, second, max_length), expected)
    packed = tokenizer.pack(tokenizer.tokenize(first), tokenizer.tokenize(second), max_length)
    assert_same(packed, expected)


def test_pack_takes_lists_and_int64_tensors(tokenizer):
    rows = [[1, 2, 3], [], [4]]
    expected = [[9, 1, 2, 3, 5], [9, 5, 7, 7, 7], [9, 4, 5, 7, 7]]
    np.testing.assert_array_equal(tokenizer.pack(rows)["token_ids"], expected)
    np.testing.assert_array_equal(tokenizer.pack(tf.ragged.constant(rows, tf.int64))["token_ids"], expected)


def test_the_longest_row_is_the_tokenizers_own_by_default():
    tokenizer = BertTokenizer(VOCABULARY, max_length=6)
    np.testing.assert_array_equal(tokenizer("a b c d e")["token_ids"], [[9, 0, 1, 2, 3, 5]])
    np.testing.assert_array_equal(tokenizer.pack([[0, 1, 2, 3, 4]])["token_ids"], [[9, 0, 1, 2, 3, 5]])


def test_no_texts_at_all(tokenizer):
    assert tokenizer(tf.zeros([0], tf.string))["token_ids"].shape == (0, 0)


def test_a_length_without_room_for_the_special_tokens(tokenizer):
    with pytest.raises(InputError, match="at least 2"):
        tokenizer(["a"], max_length=1)
    with pytest.raises(InputError, match="at least 3"):
        tokenizer.pack([[1]], [[2]], max_length=2)


def test_batches_of_two_sizes(tokenizer):
    with pytest.raises(InputError, match="Received: 1 and 3"):
        tokenizer(["a"], ["a", "b", "c"])


def test_inside_a_graph_the_batch_dimension_stays_known(tokenizer):
    data = tf.data.Dataset.from_tensor_slices((["a b", "c", "d", "e d c"], ["b", "a b", "c c c", "d"]))
    data = data.batch(2, drop_remainder=True).map(lambda first, second: tokenizer(first, second, 9))
    assert data.element_spec["token_ids"].shape.as_list() == [2, None]
    rows = [batch["token_ids"].numpy().tolist() for batch in data]
    assert rows == [[[9, 0, 1, 5, 1, 5], [9, 2, 5, 0, 1, 5]], [[9, 3, 5, 2, 2, 2, 5], [9, 4, 3, 2, 5, 3, 5]]]
