"""What a file says of itself, read back by others' code."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from kbert.mobile.metadata import ModelInfo, TensorInfo, with_metadata

INFO = ModelInfo(
    "mood",
    "What a text feels like.",
    "3",
    "ada",
    "Apache-2.0",
    [TensorInfo("ids", "Of tokens."), TensorInfo("mask", "1 for a token.")],
    [TensorInfo("much", "A number."), TensorInfo("probability", "Of each.", "labels.txt", (0.0, 1.0))],
    "vocab.txt",
)
FILES = {"labels.txt": "schön\n爱\n".encode(), "vocab.txt": b"[PAD]\n[UNK]\n"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> bytes:
    """A LiteRT model of two inputs and two outputs, with weights."""
    weights = tf.Variable(np.arange(3 * 7, dtype=np.float32).reshape(3, 7))
    module = tf.Module()
    module.weights_of_model = weights

    @tf.function(input_signature=[tf.TensorSpec([1, 3], tf.int32, "mask"), tf.TensorSpec([1, 3], tf.int32, "ids")])
    def compute(mask, ids):
        row = tf.cast(mask * ids, tf.float32)
        return {"probability": tf.matmul(row, weights), "much": tf.reduce_sum(row, axis=1)}

    module.compute = compute
    folder = str(tmp_path_factory.mktemp("model"))
    tf.saved_model.save(module, folder, signatures=compute)
    return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


@pytest.fixture(scope="module")
def content(plain) -> bytes:
    return with_metadata(plain, INFO, FILES)


def run(content: bytes) -> dict[str, np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content).get_signature_runner()
    return runner(ids=np.array([[5, 6, 7]], np.int32), mask=np.array([[1, 0, 1]], np.int32))


def test_the_model_computes_as_before(plain, content):
    before, after = run(plain), run(content)
    assert before["much"].tolist() == [12]
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_files_are_a_zip_behind_the_model(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


def test_equal_models_are_equal_files(plain, content):
    assert with_metadata(plain, INFO, FILES) == content


def test_weights_stand_where_the_schema_asks(content):
    weights = np.arange(3 * 7, dtype=np.float32)
    places = [content.find(order.tobytes()) for order in (weights, weights.reshape(3, 7).T.copy())]
    assert any(place > 0 and place % 16 == 0 for place in places)


def test_metadata_follows_the_order_of_the_graph(content):
    schema = pytest.importorskip(
        "mediapipe.tasks.metadata.metadata_schema_py_generated", reason="needs the extra `mobile`"
    )
    from tensorflow.lite.python import schema_py_generated as model_schema

    graph = model_schema.ModelT.InitFromPackedBuf(content)
    entries = {entry.name: graph.buffers[entry.buffer].data for entry in graph.metadata}
    assert b"min_runtime_version" in entries
    buffer = bytes(entries[b"TFLITE_METADATA"])
    assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(buffer, 0)
    found = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAs(buffer))
    texts = [found.name, found.description, found.version, found.author, found.license, found.minParserVersion]
    assert texts == [b"mood", b"What a text feels like.", b"3", b"ada", b"Apache-2.0", b"1.1.0"]
    (subgraph,) = found.subgraphMetadata
    signature, main = graph.signatureDefs[0], graph.subgraphs[0]
    for tensors, pairs, order in (
        (subgraph.inputTensorMetadata, signature.inputs, main.inputs),
        (subgraph.outputTensorMetadata, signature.outputs, main.outputs),
    ):
        names = {pair.tensorIndex: pair.name for pair in pairs}
        assert [tensor.name for tensor in tensors] == [names[index] for index in order]
    (unit,) = subgraph.inputProcessUnits
    assert unit.optionsType == schema.ProcessUnitOptions.BertTokenizerOptions
    (vocabulary,) = unit.options.vocabFile
    assert (vocabulary.name, vocabulary.type) == (b"vocab.txt", schema.AssociatedFileType.VOCABULARY)
    outputs = {tensor.name: tensor for tensor in subgraph.outputTensorMetadata}
    (labels,) = outputs[b"probability"].associatedFiles
    assert (labels.name, labels.type) == (b"labels.txt", schema.AssociatedFileType.TENSOR_AXIS_LABELS)
    assert outputs[b"probability"].stats.max.tolist() == [1.0]
    assert outputs[b"probability"].stats.min.tolist() == [0.0]
    assert outputs[b"much"].associatedFiles is None
    assert outputs[b"much"].content.contentPropertiesType == schema.ContentProperties.FeatureProperties
