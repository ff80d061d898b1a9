"""Losses against Keras' own and against the formula."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kbert.errors import InputError
from kbert.training.losses import SmoothedCrossentropy

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("shape", [(7,), (5, 3)])
def test_it_equals_that_of_keras_on_one_hot_labels(shape, smoothing):
    logits = (RANDOM.normal(size=(*shape, 4)) * 5).astype("float32")
    classes = RANDOM.integers(0, 4, shape)
    keras_loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing, reduction="none")
    expected = keras_loss(keras.ops.one_hot(classes, 4), logits)
    loss = SmoothedCrossentropy(smoothing, reduction="none")
    np.testing.assert_allclose(loss(classes, logits), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(loss.call(classes, logits), loss(classes, logits))


def test_by_hand():
    """Two classes with probabilities 3/4 and 1/4; a target of 0.9 and 0.1."""
    loss = SmoothedCrossentropy(0.2)(np.array([0]), np.log([[3.0, 1.0]]))
    assert float(loss) == pytest.approx(-0.9 * np.log(3 / 4) - 0.1 * np.log(1 / 4))


def test_large_logits_stay_finite():
    loss = SmoothedCrossentropy(0.1)(np.array([1]), np.array([[1e4, -1e4]], "float32"))
    assert float(loss) == pytest.approx(0.95 * 2e4)


def test_a_config_keeps_the_smoothing():
    loss = keras.losses.deserialize(keras.losses.serialize(SmoothedCrossentropy(0.3)))
    assert loss.label_smoothing == 0.3


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_a_smoothing_that_is_none(smoothing):
    with pytest.raises(InputError, match="label_smoothing must be in"):
        SmoothedCrossentropy(smoothing)
