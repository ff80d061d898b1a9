"""The ops of TF Serving: which there are, and what a graph is refused for."""

from __future__ import annotations

import dataclasses

import pytest
import tensorflow as tf
import tensorflow_text as tf_text
from export.cases import CASES

from kbert.errors import InputError
from kbert.export import ops
from kbert.export.ops import RUNTIMES, all_nodes, check_graph, op_set
from kbert.export.saved_model import export_saved_model


def graph_def(function, *specs, **options):
    return tf.function(function, input_signature=specs, **options).get_concrete_function().graph.as_graph_def()


def trimmed(text):
    return tf_text.RoundRobinTrimmer(3).trim([tf.strings.split(text)])


STRINGS = tf.TensorSpec([None], tf.string, "text")


def test_the_lists_tell_the_versions_apart():
    older, newer = (op_set(runtime) for runtime in RUNTIMES)
    assert older.ops.keys() <= newer.ops.keys()
    assert newer.ops.keys() - older.ops.keys() >= {"TFText>RoundRobinTrim", "TFText>Utf8Binarize", "DecodeWebP"}
    assert "FastWordpieceTokenizeWithOffsets" in older.ops
    assert older.ops["MatMul"] == {"transpose_a", "transpose_b", "T", "grad_a", "grad_b"}
    assert (older.graph_version, newer.graph_version) == (2129, 2288)


def test_an_op_that_one_version_lacks():
    graph = graph_def(trimmed, STRINGS)
    check_graph(graph, ["tf-serving==2.20"])
    with pytest.raises(InputError, match=r"tf-serving==2.19 has no op 'TFText>RoundRobinTrim', which node '\S+'"):
        check_graph(graph)


def test_an_op_that_none_has_in_a_function():
    @tf.function
    def inner(x):
        with tf.name_scope("layer_7"):
            return tf.py_function(lambda y: y, [x], tf.float32)

    graph = graph_def(lambda x: inner(x), tf.TensorSpec([2], tf.float32))
    with pytest.raises(
        InputError, match=r"no op 'EagerPyFunc', which node 'layer_7/EagerPyFunc' of function '\S*inner"
    ):
        check_graph(graph)


def test_xla_and_newer_graphs_and_attributes():
    compiled = graph_def(tf.function(lambda x: x * 2, jit_compile=True), tf.TensorSpec([2], tf.float32))
    with pytest.raises(InputError, match="compiled by XLA"):
        check_graph(compiled)
    graph = graph_def(lambda x: tf.matmul(x, x, name="product"), tf.TensorSpec([2, 2], tf.float32))
    check_graph(graph)
    (node,) = (node for _, node in all_nodes(graph) if node.op == "MatMul")
    node.attr["_hint"].b = True
    check_graph(graph)
    node.attr["novelty"].b = True
    with pytest.raises(InputError, match="does not know the attribute 'novelty' of op 'MatMul', which node 'product'"):
        check_graph(graph)
    graph.versions.min_consumer = 2200
    with pytest.raises(InputError, match="reads graphs up to version 2129"):
        check_graph(graph, RUNTIMES[:1])


def test_an_unknown_target():
    with pytest.raises(InputError, match="a target must be one of"):
        check_graph(tf.compat.v1.GraphDef(), ["tf-serving==1.0"])


def test_an_export_is_refused_before_it_appears(tiny_folder, tmp_path, monkeypatch):
    """The complaint names the layer."""
    whole = op_set("tf-serving==2.19")
    fewer = dataclasses.replace(whole, ops={op: a for op, a in whole.ops.items() if op != "Erfc"})
    monkeypatch.setattr(ops, "op_set", lambda runtime: fewer)
    model = CASES["classify"][0](str(tiny_folder))
    with pytest.raises(InputError, match=r"no op 'Erfc', which node '\S*layer_0\S*/\S*Erfc' of function"):
        export_saved_model(model, tmp_path / "mood", verify=False)
    assert list((tmp_path / "mood").iterdir()) == []
