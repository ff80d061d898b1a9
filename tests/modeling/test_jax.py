"""The encoder and its heads train on Keras' JAX backend, without TensorFlow, as they do on TensorFlow."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kbert.checkpoints.checkpoint import tensor_shapes
from kbert.modeling.bilstm_encoder import BiLSTMEncoder
from kbert.modeling.encoder import BertEncoder, load_tensors
from kbert.modeling.heads import ClassificationHead, MaskedLMHead, TokenHead

B, T, M, C, RATE, STEPS = 13, 7, 2, 5, 0.3, 15

PROGRAM = """
import json, sys
import numpy as np
import jax, keras
from keras import ops
from kbert.config import BertConfig
from kbert.modeling.encoder import BertEncoder, load_tensors
from kbert.modeling.heads import MaskedLMHead, TokenHead

config, rate, steps = BertConfig.from_dict(json.loads(sys.argv[1])), float(sys.argv[2]), int(sys.argv[3])
arrays = dict(np.load("arrays.npz"))
batch = {name: arrays.pop(name) for name in ("token_ids", "segment_ids", "padding_mask", "places", "words", "classes")}

class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.encoder, self.head, self.tagger = BertEncoder(config), MaskedLMHead(config), TokenHead(config, 5)  # C
        self.head.build()
        self.tagger.build()
        self.built = True

    def call(self, batch, training=None):
        sequence = self.encoder(batch, training=training)["sequence_output"]
        vectors = ops.take_along_axis(sequence, batch["places"][:, :, None], axis=1)
        return (self.head(vectors, self.encoder.embeddings.word.embeddings),
                self.tagger(sequence, batch["padding_mask"], training=training))

def loss_of(trainable, rest, training):
    (words, classes), rest = model.stateless_call(trainable, rest, batch, training=training)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return cross_entropy(batch["words"], words) + cross_entropy(batch["classes"], classes, batch["padding_mask"]), rest

model = Model()
load_tensors(model.encoder, arrays)
for layer in (model.head, model.tagger):
    layer.dense.kernel.assign(arrays[layer.dense.name])
optimizer = keras.optimizers.SGD(rate)
optimizer.build(model.trainable_variables)
trainable = [v.value for v in model.trainable_variables]
rest = [v.value for v in model.non_trainable_variables]
state = [v.value for v in optimizer.variables]
step = jax.jit(jax.value_and_grad(loss_of, has_aux=True), static_argnums=2)
found = {"losses": [], "moving": [], "tensorflow": "tensorflow" in sys.modules}
for training in (True, True, False, False):
    (loss, rest), _ = step(trainable, rest, training)
    found["moving"].append(float(loss))
for _ in range(steps):
    (loss, _), gradients = step(trainable, rest, False)
    trainable, state = optimizer.stateless_apply(state, gradients, trainable)
    found["losses"].append(float(loss))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def arrays(tiny_config):
    """Inputs, targets and weights."""
    random = np.random.default_rng(1)
    mask = (np.arange(T) < random.integers(M, T + 1, (B, 1))).astype("int32")
    tensors = {
        name: (random.normal(size=shape) * 0.4 + name.endswith("gamma")).astype("float32")
        for name, shape in tensor_shapes(tiny_config).items()
    }
    return tensors | {
        "token_ids": random.integers(0, tiny_config.vocabulary_size, (B, T)).astype("int32") * mask,
        "segment_ids": random.integers(0, 2, (B, T)).astype("int32") * mask,
        "padding_mask": mask,
        "places": np.stack([random.permutation(M) for _ in range(B)]).astype("int32"),
        "words": random.integers(0, tiny_config.vocabulary_size, (B, M)).astype("int32"),
        "classes": random.integers(0, C, (B, T)).astype("int32"),
        "masked_lm_dense": random.normal(size=(12, 12)).astype("float32"),
        "classifier": random.normal(size=(12, C)).astype("float32"),
    }


def losses_on_tensorflow(config, arrays):
    """Gradient descent on the same weights, with the loss written out."""
    encoder, head, tagger = BertEncoder(config), MaskedLMHead(config), TokenHead(config, C)
    load_tensors(encoder, {name: array for name, array in arrays.items() if name in tensor_shapes(config)})
    for layer in (head, tagger):
        layer.build()
        layer.dense.kernel.assign(arrays[layer.dense.name])
    variables = [v.value for layer in (encoder, head, tagger) for v in layer.trainable_variables]
    losses = []
    for _ in range(STEPS):
        with tf.GradientTape() as tape:
            sequence = encoder(arrays)["sequence_output"]
            vectors = tf.gather(sequence, arrays["places"], batch_dims=1)
            words = tf.nn.log_softmax(head(vectors, encoder.embeddings.word.embeddings))
            classes = tf.nn.log_softmax(tagger(sequence, arrays["padding_mask"]))
            loss = -tf.reduce_mean(tf.gather(words, arrays["words"], batch_dims=2))
            loss -= tf.reduce_mean(tf.gather(classes, arrays["classes"], batch_dims=2) * arrays["padding_mask"])
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            if gradient is not None:
                variable.assign_sub(RATE * tf.convert_to_tensor(gradient))
        losses.append(float(loss))
    return losses


def test_it_trains_as_on_tensorflow(tiny_config, arrays, tmp_path):
    pytest.importorskip("jax", reason="the JAX backend needs jax: pip install jax")
    config = dataclasses.replace(tiny_config, dropout_rate=0.3)
    np.savez(tmp_path / "arrays.npz", **arrays)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(config.to_dict()), str(RATE), str(STEPS)],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tensorflow"] is False
    *moving, still, again = found["moving"]
    assert still == again == found["losses"][0]
    assert len({still, *moving}) == 3, "dropout acts in training, anew in each step"
    expected = losses_on_tensorflow(config, arrays)
    assert expected[-1] < 0.8 * expected[0]
    np.testing.assert_allclose(found["losses"], expected, rtol=1e-4)


def without_state(layer, *inputs, training):
    """A layer called as Keras' JAX trainer calls a model, which leaves the layer no context to look for `training`."""
    groups = (layer.trainable_variables, layer.non_trainable_variables)
    outputs, _ = layer.stateless_call(*([v.value for v in group] for group in groups), *inputs, training=training)
    return np.array(outputs["pooled_output"] if isinstance(outputs, dict) else outputs)


def test_dropout_acts_without_state(tiny_config, arrays):
    config = dataclasses.replace(tiny_config, dropout_rate=0.3)
    light = dataclasses.replace(config, encoder_type="bilstm", num_layers=1)
    vectors = np.random.default_rng(0).normal(size=(B, T, 12)).astype("float32")
    cases = [
        (BertEncoder(config), arrays),
        (BiLSTMEncoder(light), arrays),
        (ClassificationHead(config, C), vectors[:, 0]),
        (TokenHead(config, C), vectors, arrays["padding_mask"]),
    ]
    for layer, *inputs in cases:
        if not layer.built:
            layer.build()
        still, again = (without_state(layer, *inputs, training=False) for _ in range(2))
        np.testing.assert_array_equal(still, again)
        assert np.abs(still - without_state(layer, *inputs, training=True)).max() > 1e-3
