"""`tf.Example` in, what TF Serving's Classify and Regress ask for out."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from export.cases import examples

import kbert
from kbert.errors import InputError
from kbert.export.cpp_loader import run_in_cpp_loader, signature_defs
from kbert.export.saved_model import export_saved_model

TEXTS = ["good film", "", "我不爱电影"]


def exported(tiny_folder, tmp_path, **task):
    model = kbert.BertTextClassifier.from_preset(str(tiny_folder), max_length=16, **task)
    return model, export_saved_model(model, tmp_path / "model")


def form(folder, name):
    """A signature's method name, and its tensors with their types and ranks."""
    definition = signature_defs(folder)[name]
    outputs = {key: (info.dtype, len(info.tensor_shape.dim)) for key, info in definition.outputs.items()}
    inputs = {key: (info.dtype, len(info.tensor_shape.dim)) for key, info in definition.inputs.items()}
    return definition.method_name, inputs, outputs


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_classify(tiny_folder, tmp_path, problem):
    model, folder = exported(tiny_folder, tmp_path, labels=["bad", "good", "不知道"], problem=problem)
    string = (tf.string.as_datatype_enum, 1)
    assert form(folder, "classify") == (
        "tensorflow/serving/classify",
        {"inputs": string},
        {"classes": (tf.string.as_datatype_enum, 2), "scores": (tf.float32.as_datatype_enum, 2)},
    )
    assert form(folder, "serving_default")[0] == "tensorflow/serving/predict"
    answers = run_in_cpp_loader(folder, examples(text=TEXTS), "classify")
    assert answers["classes"].tolist() == [["bad", "good", "不知道"]] * 3
    np.testing.assert_allclose(answers["scores"], model.predict(TEXTS)["probabilities"], atol=1e-5)


def test_regress_pairs(tiny_folder, tmp_path):
    model, folder = exported(tiny_folder, tmp_path, problem="regression", pair=True)
    assert form(folder, "regress") == (
        "tensorflow/serving/regress",
        {"inputs": (tf.string.as_datatype_enum, 1)},
        {"outputs": (tf.float32.as_datatype_enum, 1)},
    )
    answers = run_in_cpp_loader(folder, examples(text=TEXTS, text_pair=TEXTS[::-1]), "regress")
    np.testing.assert_allclose(answers["outputs"], model.predict((TEXTS, TEXTS[::-1]))["value"], atol=1e-5)
    with pytest.raises(InputError, match="text_pair"):
        run_in_cpp_loader(folder, examples(text=TEXTS), "regress")


def test_others_have_none(tiny_folder, tmp_path):
    model = kbert.BertTextEmbedder.from_preset(str(tiny_folder), max_length=16)
    assert signature_defs(export_saved_model(model, tmp_path / "model", verify=False)).keys() == {"serving_default"}
