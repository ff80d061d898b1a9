"""The light encoder against a forward pass written by hand in numpy, in both layouts."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from numpy_bert import light_forward

from kbert.checkpoints.checkpoint import tensor_shapes
from kbert.config import BertConfig
from kbert.errors import InputError
from kbert.modeling.bilstm_encoder import BiLSTMEncoder
from kbert.modeling.encoder import BertEncoder, load_tensors, make_encoder, named_weights

T = 7
LENGTHS = np.array([7, 1, 3, 5, 2])
MASK = (np.arange(T) < LENGTHS[:, None]).astype("int32")


@pytest.fixture(scope="module")
def light_config(tiny_config):
    return dataclasses.replace(tiny_config, encoder_type="bilstm", num_layers=1)


@pytest.fixture(scope="module")
def inputs(tiny_config):
    random = np.random.default_rng(1)
    return {
        "token_ids": random.integers(0, tiny_config.vocabulary_size, MASK.shape).astype("int32") * MASK,
        "segment_ids": (np.arange(T) >= LENGTHS[:, None] // 2).astype("int32") * MASK,
        "padding_mask": MASK,
    }


def loaded(config, skip_padding=None):
    """An encoder with random weights, and these."""
    random = np.random.default_rng(3)
    tensors = {name: random.normal(size=shape).astype("float32") for name, shape in tensor_shapes(config).items()}
    encoder = make_encoder(config, skip_padding)
    assert load_tensors(encoder, tensors) == []
    assert named_weights(encoder).keys() == tensors.keys()
    return encoder, tensors


@pytest.mark.parametrize("skip_padding", [True, False])
@pytest.mark.parametrize("changes", [{}, {"embedding_dim": 5}, {"position_embedding": "sinusoidal"}])
def test_equals_a_forward_pass_by_hand(light_config, inputs, skip_padding, changes):
    config = dataclasses.replace(light_config, **changes)
    encoder, tensors = loaded(config, skip_padding)
    outputs = encoder(inputs)
    assert outputs["sequence_output"].shape == (5, T, encoder.output_dim) == (5, T, 2 * config.hidden_dim)
    for row, length in enumerate(LENGTHS):
        ids, segments = inputs["token_ids"][row, :length], inputs["segment_ids"][row, :length]
        sequence, pooled = light_forward(config, tensors, ids, segments)
        np.testing.assert_allclose(outputs["sequence_output"][row, :length], sequence, atol=2e-5)
        np.testing.assert_array_equal(outputs["sequence_output"][row, length:], 0)
        np.testing.assert_allclose(outputs["pooled_output"][row], pooled, atol=2e-5)


def test_the_pooled_output_alone_is_the_same(light_config, inputs):
    encoder, _ = loaded(light_config)
    alone = encoder(inputs, first_token_only=True)
    assert list(alone) == ["pooled_output"]
    np.testing.assert_array_equal(alone["pooled_output"], encoder(inputs)["pooled_output"])


def test_a_row_of_padding_alone_is_finite_and_changes_no_other_row(light_config, inputs):
    encoder, _ = loaded(light_config)
    emptied = {name: value.copy() for name, value in inputs.items()}
    emptied["padding_mask"][3] = 0
    before, after = (encoder(x)["pooled_output"].numpy() for x in (inputs, emptied))
    assert np.isfinite(after).all()
    np.testing.assert_allclose(np.delete(before, 3, 0), np.delete(after, 3, 0), atol=1e-5)


def test_every_weight_has_a_gradient(light_config, inputs):
    encoder, _ = loaded(light_config)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(encoder(inputs, first_token_only=True)["pooled_output"])
    weights = named_weights(encoder)
    for name, gradient in zip(weights, tape.gradient(value, [v.value for v in weights.values()]), strict=True):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, name


def test_the_right_class_for_a_config(tiny_config, light_config):
    assert isinstance(make_encoder(tiny_config), BertEncoder)
    assert isinstance(make_encoder(light_config), BiLSTMEncoder)
    assert (make_encoder(tiny_config).output_dim, make_encoder(light_config).output_dim) == (12, 24)
    with pytest.raises(InputError, match="BertEncoder is no 'bilstm': call make_encoder"):
        BertEncoder(light_config)
    with pytest.raises(InputError, match="BiLSTMEncoder is no 'transformer': call make_encoder"):
        BiLSTMEncoder(tiny_config)


def test_the_encoder_round_trips_through_its_keras_config(light_config):
    again = BiLSTMEncoder.from_config(make_encoder(light_config, skip_padding=False).get_config())
    assert (again.config, again.skip_padding) == (light_config, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_type": "lstm"}, r"`encoder_type` must be one of \('transformer', 'bilstm'\). Received: 'lstm'"),
        ({"position_embedding": "none"}, r"`position_embedding` must be one of \('learned', 'sinusoidal'\)"),
        ({"encoder_type": "bilstm"}, "`num_layers` must be 1 where `encoder_type` is 'bilstm'. Received: 2"),
    ],
)
def test_configs_that_make_no_sense(tiny_config, changes, message):
    with pytest.raises(InputError, match=message):
        BertConfig(**{**tiny_config.to_dict(), **changes})


def test_runs_on_the_jax_backend(light_config, inputs, tmp_path):
    pytest.importorskip("jax", reason="the JAX backend needs jax: pip install jax")
    encoder, tensors = loaded(light_config)
    np.savez(tmp_path / "weights.npz", **tensors)
    np.savez(tmp_path / "inputs.npz", **inputs)
    program = f"""
import numpy as np, jax
from kbert.config import BertConfig
from kbert.modeling.encoder import load_tensors, make_encoder
encoder = make_encoder(BertConfig.from_dict({light_config.to_dict()}))
load_tensors(encoder, dict(np.load("weights.npz")))
trainable = [v.value for v in encoder.trainable_variables]
rest = [v.value for v in encoder.non_trainable_variables]
inputs = dict(np.load("inputs.npz"))
np.save("outputs.npy", jax.jit(lambda x: encoder.stateless_call(trainable, rest, x)[0]["pooled_output"])(inputs))
"""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), encoder(inputs)["pooled_output"], atol=2e-5)
