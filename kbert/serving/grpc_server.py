"""The gRPC side of the local server: TF Serving's PredictionService and ModelService."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from kbert.errors import InputError
from kbert.serving.calls import Code, ServingError, call
from kbert.serving.models import DEFAULT_SIGNATURE, Model, ModelStore

WORKERS = 8
"""Requests answered at the same time; TensorFlow has threads of its own inside each."""

VALUE_FIELDS = {
    np.dtype(np.float32): "float_val",
    np.dtype(np.float64): "double_val",
    np.dtype(np.int8): "int_val",
    np.dtype(np.int16): "int_val",
    np.dtype(np.int32): "int_val",
    np.dtype(np.int64): "int64_val",
    np.dtype(np.uint8): "int_val",
    np.dtype(np.uint32): "uint32_val",
    np.dtype(np.uint64): "uint64_val",
    np.dtype(np.bool_): "bool_val",
    np.dtype(object): "string_val",
}
"""Where TF Serving puts the values of a TensorProto; clients read these fields directly."""


def bind(store: ModelStore, host: str, port: int) -> tuple[grpc.Server, int]:
    """A server that holds its port and is yet to be started, and that port.

    Raises:
        InputError: the port cannot be had.
    """
    options = [
        # Without this, two servers share a port without an error, and each gets some of the requests.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    server = grpc.server(ThreadPoolExecutor(WORKERS, thread_name_prefix="kbert-grpc"), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(store), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(store), server)
    try:
        return server, server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise InputError(
            f"gRPC cannot listen on {host}:{port}: stop the server that holds the port, or choose another grpc port"
        ) from error


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, store: ModelStore):
        self._store = store

    def Predict(self, request, context):
        return _answer("Predict", request, context, lambda: _predict(self._store, request))

    def GetModelMetadata(self, request, context):
        return _answer("GetModelMetadata", request, context, lambda: _metadata(self._store, request))

    def Classify(self, request, context):
        return _answer("Classify", request, context, _unimplemented)

    def Regress(self, request, context):
        return _answer("Regress", request, context, _unimplemented)

    def MultiInference(self, request, context):
        return _answer("MultiInference", None, context, _unimplemented)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, store: ModelStore):
        self._store = store

    def GetModelStatus(self, request, context):
        return _answer("GetModelStatus", request, context, lambda: _status(self._store, request))

    def HandleReloadConfigRequest(self, request, context):
        return _answer("HandleReloadConfigRequest", None, context, _unimplemented)


def _answer(method: str, request: Any, context: grpc.ServicerContext, make: Callable[[], Any]) -> Any:
    """The response that `make` returns, or the gRPC status of what it raises."""
    label = f"gRPC {method}" + (f" {request.model_spec.name!r}" if request is not None else "")
    try:
        with call(label):
            return make()
    except ServingError as error:
        return context.abort(grpc.StatusCode[error.code.name], str(error))


def _predict(store: ModelStore, request: Any) -> Any:
    model = store.get(request.model_spec.name, _version(request.model_spec))
    inputs = {name: _to_tensor(name, proto) for name, proto in request.inputs.items()}
    outputs = model.predict(request.model_spec.signature_name, inputs, list(request.output_filter))
    response = predict_pb2.PredictResponse()
    _fill_spec(response.model_spec, model)
    response.model_spec.signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    _fill_tensors(response.outputs, outputs)
    return response


def _metadata(store: ModelStore, request: Any) -> Any:
    if list(request.metadata_field) != ["signature_def"]:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f'metadata_field must be ["signature_def"]. Received: {list(request.metadata_field)}',
        )
    model = store.get(request.model_spec.name, _version(request.model_spec))
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    _fill_spec(response.model_spec, model)
    response.metadata["signature_def"].Pack(model.signature_def_map())
    return response


def _status(store: ModelStore, request: Any) -> Any:
    return store.status(request.model_spec.name, _version(request.model_spec))


def _version(spec: Any) -> int | None:
    if spec.version_label:
        raise ServingError(Code.UNIMPLEMENTED, "this server knows no version labels: ask for a version by its number")
    return spec.version.value if spec.HasField("version") else None


def _fill_spec(spec: Any, model: Model) -> None:
    spec.name = model.name
    spec.version.value = model.version


def _to_tensor(name: str, proto: Any) -> tf.Tensor:
    try:
        return tf.constant(tf.make_ndarray(proto))
    except (TypeError, ValueError) as error:
        raise ServingError(Code.INVALID_ARGUMENT, f"input {name!r} is no valid TensorProto: {error}") from error


def _fill_tensors(target: Any, outputs: Mapping[str, np.ndarray]) -> None:
    for name, array in outputs.items():
        field = VALUE_FIELDS.get(array.dtype)
        if field is None:
            target[name].CopyFrom(tf.make_tensor_proto(array))
            continue
        proto = target[name]
        proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
        proto.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
        getattr(proto, field).extend(array.ravel().tolist())


def _unimplemented() -> NoReturn:
    raise ServingError(Code.UNIMPLEMENTED, "this development server answers Predict, GetModelMetadata, GetModelStatus")
