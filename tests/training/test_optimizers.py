"""Schedule and optimizer against the formulas written out."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.training.optimizers import AdamW, CosineWarmupDecay, LinearWarmupDecay, adamw


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.0), (5, 0.1), (10, 0.2), (55, 0.1), (99, 0.2 / 90), (100, 0.0), (120, 0.0)]
)
def test_schedule(step, expected):
    assert float(LinearWarmupDecay(0.2, total_steps=100, warmup_steps=10)(step)) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("step", "expected"), [(5, 0.1), (10, 0.2), (40, 0.15), (55, 0.1), (100, 0.0), (120, 0.0)])
def test_cosine_schedule(step, expected):
    assert float(CosineWarmupDecay(0.2, total_steps=100, warmup_steps=10)(step)) == pytest.approx(expected, abs=1e-7)


def test_schedule_without_warmup_starts_at_the_peak():
    assert float(LinearWarmupDecay(0.2, total_steps=4, warmup_steps=0)(0)) == pytest.approx(0.2)


def test_a_schedule_starts_again():
    schedule = LinearWarmupDecay(0.2, total_steps=4, warmup_steps=0)
    rate = tf.function(schedule, input_signature=[tf.TensorSpec([], tf.int64)])
    assert float(rate(1)) == pytest.approx(0.15)
    schedule.start(total_steps=20, warmup_steps=10)
    assert [float(rate(step)) for step in (1, 10, 15)] == pytest.approx([0.02, 0.2, 0.1])
    again = LinearWarmupDecay.from_config(schedule.get_config())
    assert float(again(15)) == pytest.approx(0.1)


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_adamw_follows_the_formula(factor):
    """Two steps by hand: clipping over all gradients together, decay on the kernel alone, at its own rate."""
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    kernel, bias = np.full((3, 2), 0.5, "float64"), np.full(2, -0.25)
    layer.set_weights([kernel, bias])
    factors = {layer.kernel.path: factor}
    optimizer = adamw(layer.trainable_variables, 0.1, weight_decay=0.3, clip_norm=1.0, rate_factors=factors)
    random = np.random.default_rng(0)
    moments = [np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(2), np.zeros(2)]
    for t in (1, 2):
        gradients = [random.normal(size=(3, 2)) * 3, random.normal(size=2) * 3]
        optimizer.apply([keras.ops.convert_to_tensor(g, "float32") for g in gradients])
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        assert norm > 1
        kernel *= 1 - 0.1 * factor * 0.3
        for i, (value, gradient) in enumerate(zip((kernel, bias), gradients, strict=True)):
            gradient = gradient / norm
            m, v = moments[2 * i], moments[2 * i + 1]
            m += 0.1 * (gradient - m)
            v += 0.001 * (gradient**2 - v)
            rate = 0.1 * factor if i == 0 else 0.1
            value -= rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(layer.kernel.numpy(), kernel, rtol=1e-5)
    np.testing.assert_allclose(layer.bias.numpy(), bias, rtol=1e-5)


def test_adamw_equals_that_of_keras():
    """Also with the options that `adamw` leaves alone."""
    random = np.random.default_rng(0)
    for options in ({"weight_decay": 0.2}, {"weight_decay": 0.0}, {"amsgrad": True, "clipnorm": 0.5}):
        found = []
        gradients = [keras.ops.convert_to_tensor(random.normal(size=(3, 2)), "float32") for _ in range(3)]
        for make in (AdamW, keras.optimizers.AdamW):
            variable = keras.Variable(np.full((3, 2), 0.5), dtype="float32")
            optimizer = make(0.1, **options)
            for gradient in gradients:
                optimizer.apply([gradient], [variable])
            found.append(variable.numpy())
        np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_config_keeps_the_factors():
    optimizer = AdamW(0.1, rate_factors={"encoder/kernel": 0.5})
    again = AdamW.from_config(optimizer.get_config())
    assert again.rate_factors == {"encoder/kernel": 0.5}
