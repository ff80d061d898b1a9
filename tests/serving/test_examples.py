"""Classify, Regress and MultiInference: tf.Examples in, by both protocols."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from kbert.serving.server import ModelServer

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
FEATURES = {
    "text": tf.io.FixedLenFeature([], tf.string),
    "weight": tf.io.FixedLenFeature([], tf.float32, 1.0),
    "extra": tf.io.VarLenFeature(tf.int64),
}
STRINGS = [tf.TensorSpec([None], tf.string)]


class Judge(tf.Module):
    """Three classes by the length of `text`, whose score is `weight`; and a value from all features."""

    @tf.function(input_signature=STRINGS)
    def classify(self, inputs):
        features = tf.io.parse_example(inputs, FEATURES)
        text, weight = features["text"], features["weight"]
        classes = tf.stack([text, tf.strings.upper(text), text + "!"], axis=1)
        return {"classes": classes, "scores": weight[:, None] * tf.constant([[0.5, 0.25, 0.2]])}

    @tf.function(input_signature=STRINGS)
    def scores(self, inputs):
        return {"scores": self.classify(inputs)["scores"]}

    @tf.function(input_signature=STRINGS)
    def regress(self, inputs):
        features = tf.io.parse_example(inputs, FEATURES)
        extra = tf.sparse.reduce_sum(features["extra"], axis=1)
        return {"outputs": features["weight"] + tf.cast(extra, tf.float32)}

    @tf.function(input_signature=STRINGS)
    def column(self, inputs):
        return {"outputs": self.regress(inputs)["outputs"][:, None]}

    @tf.function(input_signature=STRINGS)
    def wide(self, inputs):
        return {"outputs": tf.zeros([tf.size(inputs), 2])}

    @tf.function(input_signature=STRINGS)
    def flat(self, inputs):
        return {"classes": inputs}

    @tf.function(input_signature=STRINGS)
    def odd(self, inputs):
        return {"odd": inputs}

    @tf.function(input_signature=STRINGS)
    def other_input(self, text):
        return {"outputs": tf.zeros([tf.size(text)])}


METHODS = {
    "serving_default": ("classify", CLASSIFY),
    "scores": ("scores", CLASSIFY),
    "regress": ("regress", REGRESS),
    "column": ("column", REGRESS),
    "wide": ("wide", REGRESS),
    "flat": ("flat", CLASSIFY),
    "odd": ("odd", CLASSIFY),
    "odd_value": ("odd", REGRESS),
    "other_input": ("other_input", REGRESS),
    "plain": ("odd", "tensorflow/serving/predict"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models") / "judge" / "3"
    judge = Judge()
    signatures = {name: getattr(judge, function) for name, (function, _) in METHODS.items()}
    tf.saved_model.save(judge, str(folder), signatures=signatures)
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    definitions = saved.meta_graphs[0].signature_def
    for name, (_, method) in METHODS.items():
        definitions[name].method_name = method
    # As in a model that was written with one placeholder for both.
    definitions["regress"].inputs["inputs"].name = definitions["serving_default"].inputs["inputs"].name
    path.write_bytes(saved.SerializeToString())
    with ModelServer(folder.parents[1], 0, 0) as server:
        yield server


@pytest.fixture(scope="module")
def stub(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def ask(server):
    def ask(verb, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/judge:{verb}"
        try:
            with urllib.request.urlopen(url, data, timeout=10) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    return ask


def example(**features):
    message = example_pb2.Example()
    for name, value in features.items():
        kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}[type(value)]
        getattr(message.features.feature[name], kind).value.append(value)
    return message


TWO = input_pb2.Input(
    example_list=input_pb2.ExampleList(
        examples=[example(text=b"fine", weight=2.0), example(text="漢".encode(), weight=0.5, extra=7)]
    )
)
WITH_CONTEXT = input_pb2.Input(
    example_list_with_context=input_pb2.ExampleListWithContext(
        context=example(text=b"given", extra=4), examples=[example(weight=2.0), example(text=b"own")]
    )
)


def of(message, signature="", source=TWO):
    message.model_spec.name = "judge"
    message.model_spec.signature_name = signature
    message.input.CopyFrom(source)
    return message


def pairs(result):
    return [[(entry.label, entry.score) for entry in row.classes] for row in result.classifications]


def test_classify(stub):
    response = stub.Classify(of(classification_pb2.ClassificationRequest()))
    assert pairs(response.result) == [
        [("fine", 1.0), ("FINE", 0.5), ("fine!", np.float32(0.4))],
        [("漢", 0.25), ("漢", 0.125), ("漢!", np.float32(0.1))],
    ]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("judge", 3, "serving_default")
    response = stub.Classify(of(classification_pb2.ClassificationRequest(), "scores"))
    assert pairs(response.result)[0] == [("", 1.0), ("", 0.5), ("", np.float32(0.4))]


def test_regress(stub):
    for signature in ("regress", "column"):
        response = stub.Regress(of(regression_pb2.RegressionRequest(), signature))
        assert [row.value for row in response.result.regressions] == [2.0, 7.5]
        assert response.model_spec.signature_name == signature


def test_a_context_belongs_to_every_example(stub):
    response = stub.Classify(of(classification_pb2.ClassificationRequest(), source=WITH_CONTEXT))
    assert [row[0] for row in pairs(response.result)] == [("given", 1.0), ("own", 0.5)]
    response = stub.Regress(of(regression_pb2.RegressionRequest(), "regress", WITH_CONTEXT))
    assert [row.value for row in response.result.regressions] == [6.0, 5.0]


def multi(*tasks, source=TWO):
    request = inference_pb2.MultiInferenceRequest(input=source)
    for signature, method, *name in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = name[0] if name else "judge"
        task.model_spec.signature_name = signature
    return request


def test_multi_inference(stub):
    response = stub.MultiInference(multi(("regress", REGRESS), ("", CLASSIFY)))
    first, second = response.results
    assert [row.value for row in first.regression_result.regressions] == [2.0, 7.5]
    assert [row[0] for row in pairs(second.classification_result)] == [("fine", 1.0), ("漢", 0.25)]
    assert [result.model_spec.signature_name for result in response.results] == ["regress", "serving_default"]
    assert first.model_spec.version.value == 3


INVALID, PRECONDITION = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
EMPTY = input_pb2.Input()
NO_EXAMPLE = input_pb2.Input(example_list=input_pb2.ExampleList(examples=[example(weight=1.0)]))


@pytest.mark.parametrize(
    ("method", "request_", "code", "words"),
    [
        ("Classify", of(classification_pb2.ClassificationRequest(), "nope"), INVALID, "'nope'"),
        (
            "Classify",
            of(classification_pb2.ClassificationRequest(), "regress"),
            INVALID,
            "method_name must be .*/classify",
        ),
        ("Classify", of(classification_pb2.ClassificationRequest(), "plain"), INVALID, "tensorflow/serving/predict"),
        ("Classify", of(classification_pb2.ClassificationRequest(), "odd"), PRECONDITION, '"classes" or "scores"'),
        ("Classify", of(classification_pb2.ClassificationRequest(), "flat"), INVALID, r"\[B, C\]"),
        ("Classify", of(classification_pb2.ClassificationRequest(), "", EMPTY), INVALID, "empty"),
        ("Classify", of(classification_pb2.ClassificationRequest(), "", NO_EXAMPLE), INVALID, "text"),
        ("Regress", of(regression_pb2.RegressionRequest()), INVALID, "method_name must be .*/regress"),
        ("Regress", of(regression_pb2.RegressionRequest(), "odd_value"), PRECONDITION, '"outputs"'),
        ("Regress", of(regression_pb2.RegressionRequest(), "other_input"), PRECONDITION, '"inputs"'),
        ("Regress", of(regression_pb2.RegressionRequest(), "wide"), INVALID, r"\[B, 1\]"),
        ("MultiInference", multi(), INVALID, "must hold a task"),
        ("MultiInference", multi(("", CLASSIFY, "none")), grpc.StatusCode.NOT_FOUND, "'none'"),
        ("MultiInference", multi(("", CLASSIFY), ("regress", REGRESS, "none")), INVALID, "same model"),
        ("MultiInference", multi(("", CLASSIFY), ("", CLASSIFY)), INVALID, "several tasks"),
        ("MultiInference", multi(("", CLASSIFY), ("column", REGRESS)), INVALID, "same input tensor"),
        ("MultiInference", multi(("", REGRESS)), INVALID, "method_name must be"),
        ("MultiInference", multi(("", "tensorflow/serving/predict")), grpc.StatusCode.UNIMPLEMENTED, "predict"),
    ],
)
def test_wrong_requests(stub, method, request_, code, words):
    with pytest.raises(grpc.RpcError, match=words) as error:
        getattr(stub, method)(request_)
    assert error.value.code() == code


def test_rest(ask):
    examples = [{"text": "fine", "weight": 2.0}, {"text": {"b64": "5ryi"}, "weight": [0.5], "extra": [3, 4]}]
    assert ask("classify", {"examples": examples}) == (
        200,
        {"results": [[["fine", 1.0], ["FINE", 0.5], ["fine!", 0.4]], [["漢", 0.25], ["漢", 0.125], ["漢!", 0.1]]]},
    )
    body = {"signature_name": "regress", "examples": examples}
    assert ask("regress", body) == (200, {"results": [2.0, 7.5]})
    body = {"signature_name": "regress", "context": {"text": "x", "extra": 4}, "examples": [{"weight": 2.0}, {}]}
    assert ask("regress", body) == (200, {"results": [6.0, 5.0]})
    body = {
        "signature_name": "regress",
        "examples": [{"text": "x", "extra": [True, False, True]}, {"text": "", "extra": []}],
    }
    assert ask("regress", body) == (200, {"results": [3.0, 1.0]})


@pytest.mark.parametrize(
    ("verb", "body", "words"),
    [
        ("classify", b"{", "JSON"),
        ("classify", {}, '"examples"'),
        ("classify", {"examples": {}}, '"examples"'),
        ("classify", {"examples": []}, '"examples"'),
        ("classify", {"examples": ["fine"]}, "examples[0] must be an object"),
        ("classify", {"examples": [{"text": "a"}, {"text": None}]}, "examples[1]['text']"),
        ("classify", {"examples": [{"text": ["a", 1]}]}, "all of one kind"),
        ("classify", {"examples": [{"text": "a", "extra": 2**63}]}, "int64"),
        ("classify", {"examples": [{"text": "a", "weight": 1e39}]}, "['weight']"),
        ("classify", {"examples": [{"text": "a", "weight": [[1.0]]}]}, "['weight']"),
        ("classify", {"examples": [{"text": "\ud800"}]}, "UTF-8"),
        ("classify", {"examples": [{"\ud800": "a"}]}, "UTF-8"),
        ("classify", {"examples": [{"text": {"b64": "!"}}]}, "base64"),
        ("classify", {"examples": [{"text": "a"}], "context": 5}, '"context"'),
        ("classify", {"examples": [{"text": "a"}], "signature_name": 5}, '"signature_name"'),
        ("classify", b'{"examples": ' + b"[" * 100_000, "nested too deeply"),
        ("classify", {"examples": [{"weight": 1.0}]}, "text"),
        ("regress", {"examples": [{"text": "a"}]}, "method_name"),
    ],
)
def test_wrong_bodies(ask, verb, body, words):
    status, answer = ask(verb, body)
    assert (status, list(answer)) == (400, ["error"])
    assert words in answer["error"]
