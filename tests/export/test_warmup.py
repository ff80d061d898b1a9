"""Warm-up requests: TF Serving's format, known lengths, and each runs."""

from __future__ import annotations

import pytest
import tensorflow as tf
from export.cases import CASES
from tensorflow_serving.apis import prediction_log_pb2

import kbert
from kbert.export.cpp_loader import run_all_in_cpp_loader
from kbert.export.saved_model import export_saved_model
from kbert.export.warmup import BATCH_SIZES, FILE, row_of


def logs_of(folder):
    records = tf.data.TFRecordDataset(str(folder / "assets.extra" / FILE))
    return [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]


def call_of(log):
    """The signature and inputs that TF Serving runs for a record."""
    request = getattr(log, log.WhichOneof("log_type")).request
    assert request.model_spec.name == "model"
    if log.HasField("predict_log"):
        inputs = {name: tf.make_ndarray(tensor).tolist() for name, tensor in request.inputs.items()}
    else:
        inputs = {"inputs": [example.SerializeToString() for example in request.input.example_list.examples]}
    return request.model_spec.signature_name, inputs


@pytest.mark.parametrize("case", ["classify", "regression", "tag", "answer", "embed", "fill-mask"])
def test_every_record_runs_in_the_cpp_loader(tiny_folder, tmp_path, case):
    model = CASES[case][0](str(tiny_folder))
    folder = export_saved_model(model, tmp_path / "model", verify=False)
    calls = [call_of(log) for log in logs_of(folder)]
    signatures = ["serving_default", *([model.example_api] if model.example_api else [])]
    shapes = [(name, len(next(iter(inputs.values())))) for name, inputs in calls]
    assert shapes == [(name, size) for name in signatures for _ in range(2) for size in BATCH_SIZES]
    for (_, inputs), answers in zip(calls, run_all_in_cpp_loader(folder, calls), strict=True):
        assert {len(array) for array in answers.values()} == {len(next(iter(inputs.values())))}


def test_the_log_types_are_those_of_the_apis(tiny_folder, tmp_path):
    folder = export_saved_model(CASES["regression"][0](str(tiny_folder)), tmp_path / "model", verify=False)
    assert {log.WhichOneof("log_type") for log in logs_of(folder)} == {"predict_log", "regress_log"}


@pytest.mark.parametrize("case", CASES)
def test_rows_have_the_length_asked_for(tiny_folder, case):
    model = CASES[case][0](str(tiny_folder))
    for length in (4, 8, 16):
        features = model.features(*(tf.constant([text]) for text in row_of(model, length)))
        assert features["padding_mask"].numpy().sum(1).tolist() == [length]


def test_a_masked_lm_warms_up_on_masks(tiny_folder):
    model = CASES["fill-mask"][0](str(tiny_folder))
    assert "[MASK]" in row_of(model, 8)[0]
    assert "[MASK]" not in row_of(CASES["embed"][0](str(tiny_folder)), 8)[0]


def test_pairs_and_none_at_all(tiny_folder, tmp_path):
    model = kbert.BertTextClassifier.from_preset(str(tiny_folder), ["a", "b"], pair=True, max_length=29)
    features = model.features(*(tf.constant([text]) for text in row_of(model, 29)))
    assert features["padding_mask"].numpy().sum() == 29
    folder = export_saved_model(model, tmp_path / "model", verify=False, warmup=False)
    assert not (folder / "assets.extra" / FILE).exists()
