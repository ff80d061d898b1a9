"""The two layouts of tokens hold the same vectors, and pass the same gradients on."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from kbert.modeling.token_layout import PackedTokens, PaddedTokens

B, T, N, H, PARTS = 4, 5, 2, 3, 7
MASKS = {
    "mixed": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 1, 1]],
    "padding alone": np.zeros((B, T), int).tolist(),
    "no padding": np.ones((B, T), int).tolist(),
}


@pytest.fixture(params=MASKS, ids=list(MASKS))
def mask(request) -> np.ndarray:
    return np.array(MASKS[request.param], np.int32)


def numbers(*shape: int) -> tf.Tensor:
    """All different, so that a swapped axis shows."""
    return tf.reshape(tf.range(1, 1 + np.prod(shape), dtype=tf.float32), shape)


def real(x: tf.Tensor, mask: np.ndarray) -> np.ndarray:
    """The rows of real tokens: [B, T, ...] -> [R, ...]."""
    return x.numpy()[mask.astype(bool)]


def with_gradient(function, x):
    """Outputs, and the gradient of a sum that weighs each of their numbers differently."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = tf.nest.flatten(function(x))
        total = tf.add_n([tf.reduce_sum(y * (i + 1) * numbers(*y.shape)) for i, y in enumerate(outputs)])
    return outputs, tape.gradient(total, x)


def test_unpack_puts_zeros_at_padding(mask):
    x = numbers(B, T, PARTS)
    packed = PackedTokens(mask)
    outputs, gradient = with_gradient(packed.unpack, packed.pack(x))
    np.testing.assert_array_equal(outputs[0], x * mask[..., None])
    np.testing.assert_array_equal(gradient, real(numbers(B, T, PARTS), mask))


def test_heads_are_split_as_in_padded_rows(mask):
    x = numbers(B, T, PARTS * N * H)
    packed = PackedTokens(mask)
    expected, padded_gradient = with_gradient(lambda x: PaddedTokens().split_heads(x, PARTS, N), x)
    found, gradient = with_gradient(lambda x: packed.split_heads(x, PARTS, N), packed.pack(x))
    assert len(found) == PARTS
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other * mask[:, None, :, None])
    np.testing.assert_array_equal(gradient, real(padded_gradient, mask))


def test_heads_are_joined_as_in_padded_rows(mask):
    x = numbers(B, N, T, H)
    packed = PackedTokens(mask)
    expected = PaddedTokens().join_heads(x)
    np.testing.assert_array_equal(packed.join_heads(x), real(expected, mask))
    weights = numbers(B, T, N * H)

    def total(joined, weights):
        return tf.reduce_sum(joined * weights)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        of_packed = total(packed.join_heads(x), packed.pack(weights))
        of_padded = total(PaddedTokens().join_heads(x), weights * mask[..., None])
    np.testing.assert_array_equal(tape.gradient(of_packed, x), tape.gradient(of_padded, x))


def test_the_first_token_of_padding_is_zero(mask):
    x = numbers(B, T, PARTS)
    packed = PackedTokens(mask)
    outputs, gradient = with_gradient(packed.first, packed.pack(x))
    np.testing.assert_array_equal(outputs[0], PaddedTokens().first(x) * mask[:, :1])
    expected = np.zeros((B, T, PARTS), np.float32)
    expected[:, 0] = numbers(B, PARTS)
    np.testing.assert_array_equal(gradient, expected[mask.astype(bool)])
