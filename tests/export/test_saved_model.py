"""Exports: the C++ loader, as TF Serving uses it, gives the answers of `predict`."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
from export.cases import graph_of
from tensorflow.python.saved_model import fingerprinting_utils

import kbert
from kbert.errors import InputError
from kbert.export.cpp_loader import run_in_cpp_loader
from kbert.export.ops import all_nodes
from kbert.export.saved_model import export_saved_model, next_version

TEXTS = ["good film!", "", "我不爱电影", "the plot was " * 40, "☃ ｆｉｎｅ Café \x00 [SEP]"]


@pytest.fixture(scope="module")
def model(tiny_folder):
    return kbert.BertTextClassifier.from_preset(str(tiny_folder), ["bad", "good", "不知道"], max_length=16)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export_saved_model(model, tmp_path_factory.mktemp("saved_models") / "mood", verify=False)


def test_the_cpp_loader_answers_as_predict_does(model, exported):
    answers = run_in_cpp_loader(exported, {"text": TEXTS})
    expected = model.predict(TEXTS)
    assert answers.keys() == expected.keys() == {"label", "score", "probabilities"}
    assert answers["label"].tolist() == expected["label"].tolist()
    np.testing.assert_allclose(answers["score"], expected["score"], atol=1e-5)
    np.testing.assert_allclose(answers["probabilities"], expected["probabilities"], atol=1e-5)


def test_pairs_in_the_cpp_loader(tiny_folder, tmp_path):
    model = kbert.BertTextClassifier.from_preset(str(tiny_folder), ["a", "b"], pair=True, max_length=16)
    folder = export_saved_model(model, tmp_path / "pairs", verify=False)
    second = TEXTS[::-1]
    answers = run_in_cpp_loader(folder, {"text": TEXTS, "text_pair": second})
    expected = model.predict((TEXTS, second))
    np.testing.assert_allclose(answers["probabilities"], expected["probabilities"], atol=1e-5)


def test_the_signature_is_the_documented_one(exported):
    signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
    assert {n: (s.dtype, s.shape.as_list()) for n, s in signature.structured_input_signature[1].items()} == {
        "text": (tf.string, [None])
    }
    outputs = {name: (spec.dtype, spec.shape.rank) for name, spec in signature.structured_outputs.items()}
    assert outputs == {"label": (tf.string, 1), "score": (tf.float32, 1), "probabilities": (tf.float32, 2)}


def test_every_weight_is_stored_once(model, exported):
    reader = tf.train.load_checkpoint(str(exported / "variables" / "variables"))
    stored = reader.get_variable_to_shape_map()
    weights = sorted(tuple(shape) for name, shape in stored.items() if name.startswith("vars/"))
    assert weights == sorted(tuple(v.shape) for v in model.weights)
    assert {name for name in stored if not name.startswith("vars/")} <= {"_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter"}
    # The file holds these bytes and a description of the objects, nothing else.
    described = len(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    (file,) = (exported / "variables").glob("variables.data-*")
    weights_bytes = sum(v.value.numpy().nbytes for v in model.weights)
    assert 0 <= file.stat().st_size - weights_bytes - described < 64


def test_the_graph_holds_nothing_of_python_or_xla(exported):
    assert not {node.op for _, node in all_nodes(graph_of(exported))} & {"PyFunc", "EagerPyFunc", "XlaLaunch"}


def test_the_fingerprint_is_that_of_the_files(exported, tmp_path):
    """The signatures' method names are written after TensorFlow's saver has taken it."""
    shutil.copytree(exported, tmp_path / "1")
    fingerprinting_utils.write_fingerprint(str(tmp_path / "1"))
    here, again = (tf.saved_model.experimental.read_fingerprint(str(f)) for f in (exported, tmp_path / "1"))
    assert here.signature_def_hash == again.signature_def_hash


def test_verifying_runs_the_loader_before_the_version_appears(model, tmp_path, monkeypatch):
    import kbert.export.cpp_loader as loader

    seen = []

    def refuse(folder, calls):
        seen.append((folder.parent, sorted(folder.parent.iterdir()), calls))
        raise InputError("does not run")

    monkeypatch.setattr(loader, "run_all_in_cpp_loader", refuse)
    with pytest.raises(InputError, match="does not run"):
        export_saved_model(model, tmp_path / "mood")
    ((parent, content, calls),) = seen
    assert parent == tmp_path / "mood"
    assert [path.name.startswith(".") for path in content] == [True]  # TF Serving looks for numbers only
    assert [name for name, _ in calls] == ["serving_default", "classify"]
    assert calls[0][1] == {"text": ["", "An example, with 例子 in it. [MASK]"]}
    assert list((tmp_path / "mood").iterdir()) == []


def test_versions(model, exported):
    assert next_version(exported.parent) == 2
    assert next_version(exported.parent / "nothing") == 1
    with pytest.raises(InputError, match=r"holds version 1 already: add --version 2"):
        export_saved_model(model, exported.parent, verify=False)


def test_a_folder_of_models_is_no_model(model, exported):
    with pytest.raises(InputError, match=r"holds models \(mood\): name a folder in it"):
        export_saved_model(model, exported.parent.parent, verify=False)


def test_answers_that_differ_are_refused(model, tmp_path, monkeypatch):
    import kbert.export.cpp_loader as loader

    run = loader.run_all_in_cpp_loader

    def differently(*args):
        return [{n: v if v.dtype == object else v + 0.01 for n, v in answers.items()} for answers in run(*args)]

    monkeypatch.setattr(loader, "run_all_in_cpp_loader", differently)
    with pytest.raises(InputError, match=r"C\+\+ loader answers"):
        export_saved_model(model, tmp_path / "mood")
    assert not (tmp_path / "mood" / "1").exists()


def test_targets_that_cannot_be(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        export_saved_model(model, tmp_path / "file")
    with pytest.raises(InputError, match="letters, digits"):
        export_saved_model(model, tmp_path / "my model")
    with pytest.raises(InputError, match="version must be 1 or more"):
        export_saved_model(model, tmp_path / "mood", version=0)


def test_the_loader_passes_on_its_reason(exported, tmp_path):
    damaged = tmp_path / "1"
    damaged.mkdir()
    (damaged / "saved_model.pb").write_bytes((exported / "saved_model.pb").read_bytes())
    with pytest.raises(InputError, match=r"does not run in TensorFlow's C\+\+ loader: .*\w{4}"):
        run_in_cpp_loader(damaged, {"text": ["a"]})


def test_mixed_precision_exports_floats(tiny_folder, tmp_path):
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = kbert.BertTextClassifier.from_preset(str(tiny_folder), ["a", "b"])
        folder = export_saved_model(model, tmp_path / "mixed", verify=False)
    finally:
        keras.config.set_dtype_policy("float32")
    answers = run_in_cpp_loader(folder, {"text": ["good"]})
    assert answers["probabilities"].dtype == np.float32
