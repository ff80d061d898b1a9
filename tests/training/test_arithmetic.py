"""Which numbers a run computes in, and that it learns in each of them what it learns in float32."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from training import train_half, train_on

from kbert.data.batching import in_few_shapes
from kbert.errors import InputError
from kbert.training.arithmetic import Arithmetic, arithmetic_for
from kbert.training.strategies import strategy_for

# === What suits which devices ===


@pytest.fixture
def gpus(monkeypatch):
    """Pretends to GPUs of the compute capabilities given."""

    def pretend(*capabilities):
        found = {f"GPU:{i}": {"compute_capability": capability} for i, capability in enumerate(capabilities)}
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: list(found))
        monkeypatch.setattr(tf.config.experimental, "get_device_details", found.__getitem__)

    return pretend


@pytest.mark.parametrize(
    ("capabilities", "policy"),
    [
        ([], "float32"),
        ([(6, 1)], "float32"),
        ([(7, 0)], "mixed_float16"),
        ([(7, 5), (9, 0)], "mixed_float16"),
        ([(8, 6)], "mixed_bfloat16"),
        ([(9, 0), (10, 0)], "mixed_bfloat16"),
    ],
)
def test_the_devices_decide_what_nobody_says(gpus, capabilities, policy):
    gpus(*capabilities)
    strategy = strategy_for("cpu")
    assert arithmetic_for(strategy) == Arithmetic(policy, jit_compile=False)
    assert arithmetic_for(strategy, padded=True) == Arithmetic(policy, jit_compile=bool(capabilities))
    assert arithmetic_for(strategy, "float32", "off", padded=True) == Arithmetic("float32", jit_compile=False)
    assert arithmetic_for(strategy, "mixed_float16", "on") == Arithmetic("mixed_float16", jit_compile=True)


def test_a_gpu_that_says_nothing_of_itself(gpus, monkeypatch):
    gpus((9, 0))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {})
    assert arithmetic_for(strategy_for("cpu")).policy == "float32"


def test_names_that_are_none():
    strategy = strategy_for("cpu")
    with pytest.raises(InputError, match="--precision must be one of auto, float32, .*. Received: 'bf16'"):
        arithmetic_for(strategy, "bf16")
    with pytest.raises(InputError, match="--xla must be one of auto, on, off. Received: 'yes'"):
        arithmetic_for(strategy, xla="yes")


def test_the_scope_ends():
    def fail():
        with Arithmetic("mixed_float16", False).scope():
            assert keras.layers.Dense(2).compute_dtype == "float16"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert keras.layers.Dense(2).compute_dtype == "float32"


# === Training ===


def classifier(precision="float32", **changes):
    strategy = strategy_for("cpu")
    with arithmetic_for(strategy, precision).scope():
        return train_on.classifier(strategy, **changes)


@pytest.fixture(scope="module")
def gradients():
    """What one step of gradient descent at rate 1 subtracts, by precision and weight."""
    texts, classes, _ = train_on.examples()
    found = {}
    for precision in ("float32", "mixed_bfloat16", "mixed_float16"):
        model = classifier(precision)
        assert {v.dtype for v in model.weights if v.trainable} == {"float32"}
        before = [v.numpy() for v in model.trainable_variables]
        model.compile(keras.optimizers.SGD(1.0))
        model.fit(texts, classes, batch_size=49, verbose=0)
        after = [v.numpy() for v in model.trainable_variables]
        names = [v.path.split("/", 1)[1] for v in model.trainable_variables]
        found[precision] = {name: b - a for name, b, a in zip(names, before, after, strict=True)}
    return found


@pytest.mark.parametrize(("precision", "error"), [("mixed_bfloat16", 0.05), ("mixed_float16", 0.005)])
def test_gradients_are_those_of_float32(gradients, precision, error):
    """The errors are some multiples of half a unit in the last place: 2^-9 and 2^-12."""
    for name, expected in gradients["float32"].items():
        assert np.linalg.norm(gradients[precision][name] - expected) < error * np.linalg.norm(expected), name


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_it_learns_as_in_float32(precision):
    texts, classes, _ = train_on.examples()
    losses = {}
    for name in ("float32", precision):
        model = classifier(name)
        model.compile(learning_rate=0.01)
        losses[name] = model.fit(texts, classes, batch_size=12, epochs=12, seed=1, verbose=0).history["loss"]
    assert losses["float32"][-1] < 0.7 * losses["float32"][0]
    np.testing.assert_allclose(losses[precision], losses["float32"], atol=0.05)


def test_a_step_that_overflows_is_left_out():
    texts, classes, _ = train_on.examples()
    model = classifier("mixed_float16")
    model.compile()
    model.optimizer.dynamic_scale.assign(2.0**100)
    before = model.get_weights()
    history = model.fit(texts, classes, batch_size=49, epochs=3, verbose=0).history
    for left, right in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(left, right)
    assert model.optimizer.iterations.numpy() == 0
    assert model.optimizer.dynamic_scale.numpy() == 2.0**97
    assert np.isfinite(history["loss"]).all()


def test_two_devices_scale_the_loss_together(tmp_path):
    """The first steps overflow on one device or on both, and both leave them out."""
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "error", "-m", "training.train_half", str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "half.json").read_text())
    one, two = found["1"], found["2"]
    assert 0 < one["updates"] == two["updates"] < 30
    assert one["scale"] == two["scale"] == train_half.SCALE / 2 ** (30 - one["updates"])
    np.testing.assert_allclose(two["losses"], one["losses"], atol=0.02)
    left, right = (dict(np.load(tmp_path / f"half-{devices}.npz")) for devices in (1, 2))
    # Adam makes large steps of the smallest gradients, which 16 bits round; so the weights as a whole.
    difference = np.concatenate([(left[name] - right[name]).ravel() for name in left])
    assert np.median(abs(difference)) < 1e-3


# === XLA ===


def test_xla_trains_the_same_model_on_batches_of_few_shapes(monkeypatch):
    texts, classes, _ = train_on.examples()
    weights, lengths = [], []

    def keep(dataset, max_length, pad_id):
        padded = in_few_shapes(dataset, max_length, pad_id)
        lengths.append([features["token_ids"].shape[1] for features, _ in padded])
        return padded

    monkeypatch.setattr("kbert.tasks.trainable.in_few_shapes", keep)
    for jit_compile in (False, True):
        model = classifier()
        model.encoder.skip_padding = not jit_compile
        model.compile(keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        model.fit(texts[:20], classes[:20], batch_size=10, epochs=2, verbose=0)
        weights.append(model.get_weights())
        assert model.jit_compile is jit_compile
    assert [sorted(of_fit) for of_fit in lengths] == [[12, 12, 16, 16]]
    for left, right in zip(*weights, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)


def test_xla_and_parts_of_a_batch():
    model = classifier()
    model.compile(jit_compile=True)
    with pytest.raises(InputError, match="gradient_accumulation_steps must be 1 where XLA compiles the step"):
        model.fit(["good", "bad"], ["x", "y"], batch_size=1, gradient_accumulation_steps=2, verbose=0)


def test_xla_on_several_devices():
    class Two:
        num_replicas_in_sync = 2

    with pytest.raises(InputError, match="--xla on compiles for one device, and this run has 2: say off"):
        arithmetic_for(Two(), xla="on")
