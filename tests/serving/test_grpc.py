"""The local server by gRPC, asked by TF Serving's own stubs."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def predictions(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def make_request(inputs, signature="", name="toy", version=None, output_filter=()):
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


TWO = {"text": ["naïve", "漢字"], "weight": np.float32([0.5, -3])}


def test_predict(predictions):
    response = predictions.Predict(make_request(TWO))
    assert set(response.outputs) == {"upper", "product", "pieces"}
    # The value fields themselves, which many clients read without going through TensorFlow.
    assert list(response.outputs["upper"].string_val) == ["NAÏVE".encode(), "漢字".encode()]
    assert list(response.outputs["product"].float_val) == [5.0, -30.0]
    expected = [[b"na\xc3\xafve", b"5", b"na\xc3\xafve!"], ["漢字".encode(), b"2", "漢字!".encode()]]
    assert tf.make_ndarray(response.outputs["pieces"]).tolist() == expected
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("toy", 10, "serving_default")


def test_predict_a_version_and_a_signature(predictions):
    response = predictions.Predict(make_request(TWO, version=10))
    assert list(response.outputs["product"].float_val) == [5.0, -30.0]
    assert response.model_spec.version.value == 10
    response = predictions.Predict(make_request({"text": ["abcd", "", "é"]}, "one_output"))
    assert list(response.outputs["length"].int_val) == [4, 0, 2]
    assert response.model_spec.signature_name == "one_output"


def test_predict_with_a_lookup_table(predictions):
    outputs = predictions.Predict(make_request({"text": ["film", "dull", "fine"]}, "look_up")).outputs
    assert list(outputs["id"].int64_val) == [2, -1, 1]


def test_predict_every_type(predictions):
    outputs = predictions.Predict(make_request({"values": np.float32([[2, 0, -1.5], [4, 8, 1]])}, "types")).outputs
    assert list(outputs["whole"].int64_val) == [2, 0, -1, 4, 8, 1]
    assert list(outputs["positive"].bool_val) == [True, False, False, True, True, True]
    assert list(outputs["inverse"].float_val) == [0.5, np.inf, np.float32(1 / -1.5), 0.25, 0.125, 1]
    assert list(outputs["double"].double_val) == [2, 0, -1.5, 4, 8, 1]
    assert [dim.size for dim in outputs["double"].tensor_shape.dim] == [2, 3]
    half = predictions.Predict(make_request({"value": np.float32([1.5, 3])}, "half")).outputs["half"]
    assert tf.make_ndarray(half).tolist() == [1.5, 3.0]
    assert half.dtype == tf.float16.as_datatype_enum


def test_output_filter(predictions):
    assert set(predictions.Predict(make_request(TWO, output_filter=["product"])).outputs) == {"product"}


def with_bytes_that_are_no_tensor():
    request = make_request(TWO)
    request.inputs["weight"].tensor_content = b"123"
    return request


def with_version_label():
    request = make_request(TWO)
    request.model_spec.version_label = "stable"
    return request


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (
            make_request(TWO, "nope"),
            grpc.StatusCode.FAILED_PRECONDITION,
            ["'nope'", "'serving_default'", "'one_output'"],
        ),
        (make_request({"text": ["a"]}), INVALID, ["['text', 'weight']", "['text']"]),
        (make_request({**TWO, "extra": 1}), INVALID, ["['text', 'weight']", "'extra'"]),
        (make_request({**TWO, "weight": np.float64([1, 2])}), INVALID, ["'weight'", "float32", "float64"]),
        (make_request({**TWO, "text": np.int32([1, 2])}), INVALID, ["'text'", "string", "int32"]),
        (make_request({**TWO, "text": [["a", "b"]]}), INVALID, ["'text'", "(None,)", "(1, 2)"]),
        (make_request({"values": np.float32([[1, 2]])}, "types"), INVALID, ["'values'", "(None, 3)", "(1, 2)"]),
        (make_request(TWO, output_filter=["lower"]), INVALID, ["'product'", "'lower'"]),
        (make_request({"number": np.int32([3, -1])}, "check"), INVALID, ["numbers must be positive"]),
        (with_bytes_that_are_no_tensor(), INVALID, ["'weight'", "TensorProto"]),
        (make_request(TWO, name="none"), grpc.StatusCode.NOT_FOUND, ["'none'", "'toy'", "'sentiment'"]),
        (make_request(TWO, name="../toy"), grpc.StatusCode.NOT_FOUND, ["'../toy'"]),
        (make_request(TWO, version=11), grpc.StatusCode.NOT_FOUND, ["11", "10: 'AVAILABLE'"]),
        (make_request(TWO, version=2), grpc.StatusCode.NOT_FOUND, ["version 2", "10: 'AVAILABLE'"]),
        (make_request({"path": ["/no/such/file"]}, "read"), grpc.StatusCode.INTERNAL, ["/no/such/file"]),
        (with_version_label(), grpc.StatusCode.UNIMPLEMENTED, ["version labels"]),
    ],
)
def test_errors(predictions, request_, code, words):
    with pytest.raises(grpc.RpcError) as error:
        predictions.Predict(request_)
    assert error.value.code() == code
    for word in words:
        assert word in error.value.details()
    assert "stack traces" not in error.value.details()


def test_a_long_message_is_cut(predictions):
    """gRPC sends messages in a header: one of 20,000 characters would arrive as another error."""
    with pytest.raises(grpc.RpcError) as error:
        predictions.Predict(make_request(TWO, "x" * 20_000))
    assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert error.value.details().startswith("model 'toy' has no signature 'xxx")
    assert len(error.value.details()) == 1000


def test_metadata(predictions):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "sentiment"
    response = predictions.GetModelMetadata(request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("sentiment", 1)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert signature.inputs["text"].dtype == tf.string.as_datatype_enum
    assert [dim.size for dim in signature.outputs["probabilities"].tensor_shape.dim] == [-1, 2]
    assert signature.method_name == "tensorflow/serving/predict"
    request.metadata_field[:] = ["labels"]
    with pytest.raises(grpc.RpcError, match="signature_def") as error:
        predictions.GetModelMetadata(request)
    assert error.value.code() == INVALID


def test_status(models):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "toy"
    statuses = models.GetModelStatus(request).model_version_status
    assert [(status.version, status.state, status.status.error_code) for status in statuses] == [(10, 30, 0)]
    request.model_spec.version.value = 10
    assert [status.version for status in models.GetModelStatus(request).model_version_status] == [10]
    request.model_spec.version.value = 3
    with pytest.raises(grpc.RpcError) as error:
        models.GetModelStatus(request)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_what_is_not_implemented_says_so(models):
    with pytest.raises(grpc.RpcError, match="from its folder") as error:
        models.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest())
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
