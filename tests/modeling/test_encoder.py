"""The encoder against a forward pass written by hand in numpy, in both layouts."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy_bert import forward

from kbert.checkpoints.checkpoint import tensor_shapes
from kbert.errors import InputError
from kbert.modeling.encoder import BertEncoder, load_tensors, named_weights

B, T = 13, 7


@pytest.fixture(scope="module")
def inputs(tiny_config):
    random = np.random.default_rng(1)
    lengths = np.array([7, 1, 3, 5, 2, 7, 4, 6, 1, 2, 3, 7, 5])
    mask = (np.arange(T) < lengths[:, None]).astype("int32")
    return {
        "token_ids": random.integers(0, tiny_config.vocabulary_size, (B, T)).astype("int32") * mask,
        "segment_ids": (np.arange(T) >= lengths[:, None] // 2).astype("int32") * mask,
        "padding_mask": mask,
    }


def random_tensors(config, seed=3):
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype("float32") for name, shape in tensor_shapes(config).items()}


@pytest.mark.parametrize("skip_padding", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": "gelu_approximate"},
        {"activation": "relu"},
        {"embedding_dim": 5},
        {"position_embedding": "sinusoidal"},
        {"position_embedding": "sinusoidal", "embedding_dim": 5},
    ],
)
def test_equals_a_forward_pass_forward(tiny_config, inputs, skip_padding, changes):
    config = dataclasses.replace(tiny_config, **changes)
    tensors = random_tensors(config)
    encoder = BertEncoder(config, skip_padding=skip_padding)
    assert load_tensors(encoder, tensors) == []
    outputs = encoder(inputs)
    assert outputs["sequence_output"].shape == (B, T, config.hidden_dim)
    assert outputs["pooled_output"].shape == (B, config.hidden_dim)
    for row in range(B):
        length = inputs["padding_mask"][row].sum()
        sequence, pooled = forward(
            config, tensors, inputs["token_ids"][row, :length], inputs["segment_ids"][row, :length]
        )
        np.testing.assert_allclose(outputs["sequence_output"][row, :length], sequence, atol=2e-5)
        np.testing.assert_allclose(outputs["pooled_output"][row], pooled, atol=2e-5)


def test_both_layouts_give_the_same_gradients(tiny_config, inputs):
    # The target looks at real tokens only, as every loss does.
    real = inputs["padding_mask"][:, :, None].astype("float32")
    direction = np.random.default_rng(2).normal(size=(B, T, tiny_config.hidden_dim)).astype("float32") * real
    gradients = {}
    for skip_padding in (True, False):
        encoder = BertEncoder(tiny_config, skip_padding=skip_padding)
        load_tensors(encoder, random_tensors(tiny_config))
        with tf.GradientTape() as tape:
            outputs = encoder(inputs)
            value = tf.reduce_sum(outputs["sequence_output"] * direction) + tf.reduce_sum(outputs["pooled_output"])
        names = named_weights(encoder)
        gradients[skip_padding] = dict(zip(names, tape.gradient(value, [v.value for v in names.values()]), strict=True))
    for name, packed in gradients[True].items():
        padded = tf.convert_to_tensor(gradients[False][name]).numpy()
        error = np.linalg.norm(tf.convert_to_tensor(packed).numpy() - padded)
        # The key's bias moves all scores of a row alike, so part of the joined bias has no gradient but rounding.
        assert error <= 1e-4 * np.linalg.norm(padded), name


@pytest.mark.parametrize("skip_padding", [True, False])
def test_the_last_block_for_first_tokens_alone(tiny_config, inputs, skip_padding):
    encoder = BertEncoder(tiny_config, skip_padding=skip_padding)
    load_tensors(encoder, random_tensors(tiny_config))
    direction = np.random.default_rng(2).normal(size=(B, tiny_config.hidden_dim)).astype("float32")
    values, gradients = [], []
    for first_token_only in (False, True):
        with tf.GradientTape() as tape:
            outputs = encoder(inputs, first_token_only=first_token_only)
            value = tf.reduce_sum(outputs["pooled_output"] * direction)
        weights = [variable.value for variable in named_weights(encoder).values()]
        values.append(outputs["pooled_output"].numpy())
        gradients.append([tf.convert_to_tensor(g).numpy() for g in tape.gradient(value, weights)])
        assert ("sequence_output" in outputs) is not first_token_only
    np.testing.assert_allclose(*values, atol=1e-5)
    for name, whole, first in zip(named_weights(encoder), *gradients, strict=True):
        assert np.linalg.norm(whole - first) <= 1e-4 * np.linalg.norm(whole), name


def test_a_row_of_padding_alone_is_finite_and_changes_no_other_row(tiny_config, inputs):
    emptied = {name: value.copy() for name, value in inputs.items()}
    emptied["padding_mask"][4] = 0
    for skip_padding in (True, False):
        encoder = BertEncoder(tiny_config, skip_padding=skip_padding)
        load_tensors(encoder, random_tensors(tiny_config))
        before, after = (encoder(x)["pooled_output"].numpy() for x in (inputs, emptied))
        assert np.isfinite(after).all()
        np.testing.assert_allclose(np.delete(before, 4, 0), np.delete(after, 4, 0), atol=1e-5)


def test_padding_changes_nothing(tiny_config, inputs):
    wider = {name: np.pad(value, ((0, 0), (0, 4))) for name, value in inputs.items()}
    for skip_padding in (True, False):
        encoder = BertEncoder(tiny_config, skip_padding=skip_padding)
        load_tensors(encoder, random_tensors(tiny_config))
        narrow, wide = encoder(inputs)["pooled_output"], encoder(wider)["pooled_output"]
        np.testing.assert_allclose(narrow, wide, atol=1e-5)


def test_dropout_acts_in_training_only(tiny_config, inputs):
    encoder = BertEncoder(tiny_config)
    still = [encoder(inputs, training=False)["pooled_output"].numpy() for _ in range(2)]
    moving = [encoder(inputs, training=True)["pooled_output"].numpy() for _ in range(2)]
    np.testing.assert_array_equal(*still)
    assert np.abs(moving[0] - moving[1]).max() > 1e-3


def test_fresh_weights_follow_the_initialiser(tiny_config):
    config = dataclasses.replace(tiny_config, hidden_dim=300, num_heads=5, initializer_range=0.02)
    weights = named_weights(BertEncoder(config))
    kernels = [weights[f"layer_{i}/attention/output/kernel"].numpy() for i in range(2)]
    # A normal of deviation 0.02, cut at twice that, has deviation 0.0176.
    for kernel in kernels:
        assert abs(kernel.std() - 0.0176) < 5e-4
        assert np.abs(kernel).max() <= 0.04
    assert not np.array_equal(*kernels)


def test_the_encoder_round_trips_through_its_keras_config(tiny_config):
    encoder = BertEncoder(tiny_config, skip_padding=False)
    again = BertEncoder.from_config(encoder.get_config())
    assert (again.config, again.skip_padding) == (tiny_config, False)


def test_weights_of_another_shape_are_refused(tiny_config):
    tensors = random_tensors(dataclasses.replace(tiny_config, vocabulary_size=50))
    with pytest.raises(InputError, match=r"embeddings/word/embeddings: the model has shape \(98, 12\)"):
        load_tensors(BertEncoder(tiny_config), tensors)


def test_mixed_precision_stays_close(tiny_config, inputs):
    tensors = random_tensors(dataclasses.replace(tiny_config, initializer_range=0.02))
    outputs = {}
    for policy in ("float32", "mixed_bfloat16"):
        encoder = BertEncoder(tiny_config, dtype=keras.dtype_policies.DTypePolicy(policy))
        load_tensors(encoder, tensors)
        outputs[policy] = keras.ops.convert_to_numpy(keras.ops.cast(encoder(inputs)["pooled_output"], "float32"))
    assert np.abs(outputs["float32"] - outputs["mixed_bfloat16"]).mean() < 0.1


def test_runs_on_the_jax_backend(tiny_config, inputs, tmp_path):
    pytest.importorskip("jax", reason="the JAX backend needs jax: pip install jax")
    encoder = BertEncoder(tiny_config)
    tensors = random_tensors(tiny_config)
    load_tensors(encoder, tensors)
    np.savez(tmp_path / "weights.npz", **tensors)
    kernel = np.random.default_rng(0).normal(size=(tiny_config.hidden_dim, 5)).astype("float32")
    np.savez(tmp_path / "inputs.npz", head=kernel, **inputs)
    program = f"""
import numpy as np, jax
from kbert.config import BertConfig
from kbert.modeling.encoder import BertEncoder, load_tensors
from kbert.modeling.heads import ClassificationHead
config = BertConfig.from_dict({tiny_config.to_dict()})
encoder, head = BertEncoder(config), ClassificationHead(config, 5)
head.build()
head.dense.kernel.assign(np.load("inputs.npz")["head"])
load_tensors(encoder, dict(np.load("weights.npz")))
inputs = {{name: value for name, value in np.load("inputs.npz").items() if name != "head"}}
trainable = [v.value for v in encoder.trainable_variables]
rest = [v.value for v in encoder.non_trainable_variables]
outputs = jax.jit(lambda x: encoder.stateless_call(trainable, rest, x)[0]["pooled_output"])(inputs)
np.save("outputs.npy", head(outputs))
"""
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    logits = encoder(inputs)["pooled_output"].numpy() @ kernel
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), logits, atol=2e-5)
