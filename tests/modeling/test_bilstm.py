"""The BiLSTM against the LSTM's formulas written out in numpy, and its graph."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from numpy_bert import bilstm

from kbert.modeling.bilstm import BiLSTM

B, T, D, UNITS = 5, 7, 4, 3
LENGTHS = np.array([7, 1, 4, 0, 6])
MASK = (np.arange(T) < LENGTHS[:, None]).astype("int32")


@pytest.fixture(scope="module")
def layer():
    layer = BiLSTM(UNITS, name="bilstm")
    layer.build((None, None, D))
    random = np.random.default_rng(3)
    for weight in layer.weights:
        weight.assign(random.normal(size=weight.shape))
    return layer


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(4).normal(size=(B, T, D)).astype("float32")


def test_equals_the_formulas_in_both_directions(layer, x):
    weights = {weight.path: weight.numpy().astype("float64") for weight in layer.weights}
    got = layer(x, MASK).numpy()
    assert got.shape == (B, T, 2 * UNITS)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(got[row, :length], bilstm(weights, x[row, :length], "bilstm"), atol=1e-6)
        np.testing.assert_array_equal(got[row, length:], 0)


def test_padding_changes_nothing(layer, x):
    wider = np.pad(x, ((0, 0), (0, 2), (0, 0)), constant_values=9)
    wider[MASK.sum(1) == 4, 4:] = -9
    got = layer(wider, np.pad(MASK, ((0, 0), (0, 2)))).numpy()
    np.testing.assert_allclose(got[:, :T], layer(x, MASK), atol=1e-6)
    np.testing.assert_array_equal(got[:, T:], 0)


def test_the_graph_takes_any_length_and_holds_no_cudnn(layer, x):
    signature = [tf.TensorSpec([None, None, D]), tf.TensorSpec([None, None], tf.int32)]
    function = tf.function(layer, input_signature=signature, autograph=False).get_concrete_function()
    np.testing.assert_allclose(function(tf.constant(x), tf.constant(MASK)), layer(x, MASK), atol=1e-6)
    np.testing.assert_allclose(
        function(tf.constant(x[:2, :3]), tf.constant(MASK[:2, :3])), layer(x[:2, :3], MASK[:2, :3]), atol=1e-6
    )
    definition = function.graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    names = {node.op for node in nodes}
    assert not {name for name in names if ">" in name or name.startswith(("PyFunc", "EagerPyFunc", "Xla", "Cudnn"))}
    assert "If" not in names  # no branch by device either
