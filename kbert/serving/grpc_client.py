"""The client's gRPC transport; its stubs are those of tensorflow-serving-api, which import TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from kbert.errors import InputError
from kbert.serving.calls import one_line

WRONG_REQUEST = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,  # TF Serving's answer to a signature that the model does not have
)


class GrpcTransport:
    """Requests over one gRPC channel.

    Args:
        target: "HOST:PORT".
        timeout: seconds for one request.
    """

    def __init__(self, target: str, timeout: float):
        self._target = target
        self._timeout = timeout
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        if target.rpartition(":")[0] in ("localhost", "127.0.0.1"):
            options.append(("grpc.enable_http_proxy", 0))  # no proxy leads to this machine itself
        self._channel = grpc.insecure_channel(target, options=options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self, name: str, version: int | None, signature_name: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Predict; strings are arrays of `bytes` both ways."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = signature_name
        if version is not None:
            request.model_spec.version.value = version
        for key, array in inputs.items():
            dtype = tf.string if array.dtype == object else None
            request.inputs[key].CopyFrom(tf.make_tensor_proto(array, dtype))
        response = self._call(self._predictions.Predict, request)
        return {key: tf.make_ndarray(proto) for key, proto in response.outputs.items()}

    def status(self, name: str) -> dict[str, Any]:
        """GetModelStatusResponse, in its JSON form."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        return _to_dict(self._call(self._models.GetModelStatus, request))

    def metadata(self, name: str) -> dict[str, Any]:
        """SignatureDefMap, in its JSON form."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = name
        signatures = get_model_metadata_pb2.SignatureDefMap()
        self._call(self._predictions.GetModelMetadata, request).metadata["signature_def"].Unpack(signatures)
        return _to_dict(signatures)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            code, details = error.code(), one_line(error.details())
        if code in WRONG_REQUEST:
            raise InputError(f"{self._target}: {details}")
        if code == grpc.StatusCode.UNAVAILABLE:
            raise ConnectionError(
                f"no gRPC server answers at {self._target}: start one with `kbert serve`, or name another target "
                f"({details})"
            )
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise ConnectionError(
                f"{self._target} gave no answer within {self._timeout} s: send fewer texts at once, or allow more time"
            )
        raise RuntimeError(f"{self._target} answered {code.name}: {details}")


def _to_dict(message: Any) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
