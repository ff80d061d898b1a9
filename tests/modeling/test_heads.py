"""The heads against numpy, and their weights' names."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from numpy_bert import activate, bilstm, dense, norm

from kbert.modeling.encoder import named_weights
from kbert.modeling.heads import ClassificationHead, MaskedLMHead, SpanHead, TokenHead
from kbert.modeling.pooling import cls_pooling, mean_pooling

B, T, C = 5, 7, 3
MASK = (np.arange(T) < np.array([7, 1, 4, 0, 6])[:, None]).astype("int32")


@pytest.fixture(scope="module")
def vectors(tiny_config):
    return np.random.default_rng(1).normal(size=(B, T, tiny_config.hidden_dim)).astype("float32")


def filled(head):
    """The head with random weights, and these."""
    head.build()
    random = np.random.default_rng(2)
    weights = named_weights(head)
    for weight in weights.values():
        weight.assign(random.normal(size=weight.shape))
    return head, {name: weight.numpy().astype("float64") for name, weight in weights.items()}


def test_classification(tiny_config, vectors):
    head, weights = filled(ClassificationHead(tiny_config, C, name="classifier"))
    expected = dense(weights, vectors[:, 0], "classifier")
    np.testing.assert_allclose(head(vectors[:, 0]), expected, atol=1e-5)


def test_tokens(tiny_config, vectors):
    head, weights = filled(TokenHead(tiny_config, C))
    assert list(weights) == ["classifier/kernel", "classifier/bias"]
    expected = dense(weights, vectors, "classifier")
    np.testing.assert_allclose(head(vectors, MASK), expected, atol=1e-5)
    assert not np.allclose(head(vectors, MASK, training=True), expected, atol=1e-3)  # dropout


def test_tokens_through_a_bilstm(tiny_config, vectors):
    head, weights = filled(TokenHead(tiny_config, C, bilstm_units=4))
    assert weights["tagger_bilstm/backward/lstm_cell/recurrent_kernel"].shape == (4, 16)
    got = head(vectors, MASK).numpy()
    for row, length in enumerate(MASK.sum(1)):
        expected = dense(weights, bilstm(weights, vectors[row, :length], "tagger_bilstm"), "classifier")
        np.testing.assert_allclose(got[row, :length], expected, atol=1e-5)


def test_spans(tiny_config, vectors):
    head, weights = filled(SpanHead(tiny_config))
    got = head(vectors, MASK, training=True).numpy()
    expected = dense(weights, vectors, "span")
    np.testing.assert_allclose(got[MASK == 1], expected[MASK == 1], atol=1e-5)
    assert (got[MASK == 0] < -1e6).all()
    assert np.isfinite(got).all()


@pytest.mark.parametrize("embedding_dim", [None, 5])
def test_masked_words(tiny_config, vectors, embedding_dim):
    config = dataclasses.replace(tiny_config, embedding_dim=embedding_dim)
    head, weights = filled(MaskedLMHead(config, name="masked_lm"))
    table = np.random.default_rng(3).normal(size=(98, embedding_dim or 12)).astype("float32")
    x = norm(config, weights, activate(config, dense(weights, vectors, "masked_lm_dense")), "masked_lm_layer_norm")
    expected = x @ table.T + weights["masked_lm_bias"]
    np.testing.assert_allclose(head(vectors, table), expected, atol=2e-4)
    np.testing.assert_allclose(head(vectors[:, 2], keras.Variable(table)), expected[:, 2], atol=2e-4)


def test_mixed_precision_ends_in_float32(tiny_config, vectors):
    table = keras.Variable(np.zeros((98, 12), "float32"))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        heads = [TokenHead(tiny_config, C, bilstm_units=4), SpanHead(tiny_config), MaskedLMHead(tiny_config)]
    finally:
        keras.config.set_dtype_policy("float32")
    for head, second in zip(heads, (MASK, MASK, table), strict=True):
        head.build()
        assert head(vectors, second).dtype == "float32"


def test_mean_pooling(vectors):
    padded = np.where(MASK[:, :, None], vectors, np.nan)
    got = mean_pooling(padded, MASK).numpy()
    for row, length in enumerate(MASK.sum(1)):
        np.testing.assert_allclose(got[row], vectors[row, :length].mean(0) if length else 0, atol=1e-6)


def test_cls_pooling(vectors):
    np.testing.assert_array_equal(cls_pooling(vectors, MASK), vectors[:, 0])
