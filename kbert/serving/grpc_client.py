"""The client's gRPC transport; its stubs are those of tensorflow-serving-api, which import TensorFlow."""

from __future__ import annotations

import json
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
from kbert.serving.calls import ModelChoice, one_line
from kbert.serving.retries import Deadline, Unavailable
from kbert.serving.tls import Tls

WRONG_REQUEST = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,  # TF Serving's answer to a signature that the model does not have
)

OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A name that stands for several servers (a headless Service of Kubernetes) gets its requests spread over them.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # Keepalive makes gRPC give up a connection whose data stay unacknowledged for this timeout (its proposal A18), so
    # that a machine that vanished is noticed. Servers drop clients that ping more often than every five minutes.
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Between attempts the channel must have tried the server again, or the next one fails on the old news.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_retries", 0),  # the client's own are the same for both protocols
)


class GrpcTransport:
    """Requests over one gRPC channel, which threads may share.

    Args:
        address: "HOST:PORT".
        tls: None: without; gRPC brings its own list of public authorities.
    """

    def __init__(self, address: str, tls: Tls | None):
        self._address = address
        options = list(OPTIONS)
        if address.rpartition(":")[0] in ("localhost", "127.0.0.1"):
            options.append(("grpc.enable_http_proxy", 0))  # no proxy leads to this machine itself
        if tls is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            # gRPC finds the key and the certificates in the one file.
            identity = (tls.client_certificate, tls.client_certificate)
            credentials = grpc.ssl_channel_credentials(tls.root_certificates, *identity)
            self._channel = grpc.secure_channel(address, credentials, options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self, model: ModelChoice, signature_name: str, inputs: Mapping[str, np.ndarray], deadline: Deadline
    ) -> dict[str, np.ndarray]:
        """Predict; strings are arrays of `bytes` both ways."""
        request = predict_pb2.PredictRequest()
        _choose(request.model_spec, model)
        request.model_spec.signature_name = signature_name
        for key, array in inputs.items():
            dtype = tf.string if array.dtype == object else None
            request.inputs[key].CopyFrom(tf.make_tensor_proto(array, dtype))
        response = self._call(self._predictions.Predict, request, deadline)
        return {key: tf.make_ndarray(proto) for key, proto in response.outputs.items()}

    def status(self, model: ModelChoice, deadline: Deadline) -> dict[str, Any]:
        """GetModelStatusResponse, in its JSON form."""
        request = get_model_status_pb2.GetModelStatusRequest()
        _choose(request.model_spec, model)
        return _to_dict(self._call(self._models.GetModelStatus, request, deadline))

    def metadata(self, model: ModelChoice, deadline: Deadline) -> dict[str, Any]:
        """SignatureDefMap, in its JSON form."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        _choose(request.model_spec, model)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response = self._call(self._predictions.GetModelMetadata, request, deadline)
        response.metadata["signature_def"].Unpack(signatures)
        return _to_dict(signatures)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _call(self, method: Any, request: Any, deadline: Deadline) -> Any:
        try:
            return method(request, timeout=deadline.remaining())
        except grpc.RpcError as error:
            code, details = error.code(), one_line(error.details())
        if code in WRONG_REQUEST:
            raise InputError(f"{self._address}: {details}")
        if code == grpc.StatusCode.UNAVAILABLE:
            raise Unavailable(
                f"no gRPC server answers at {self._address}: start one with `kbert serve`, or name another target "
                f"({details})"
            )
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise ConnectionError(
                f"{self._address} gave no answer within {deadline.seconds} s: send fewer texts at once, or allow more "
                "time"
            )
        raise RuntimeError(f"{self._address} answered {code.name}: {details}")


def _choose(spec: Any, model: ModelChoice) -> None:
    spec.name = model.name
    if model.version is not None:
        spec.version.value = model.version
    elif model.label is not None:
        spec.version_label = model.label


def _to_dict(message: Any) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
