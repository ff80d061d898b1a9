"""The gRPC side of the local server: TF Serving's PredictionService and ModelService."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

from kbert.errors import InputError
from kbert.serving import apis
from kbert.serving.batching import Patience, Run
from kbert.serving.calls import Code, ServingError, invalid
from kbert.serving.examples import number_of_examples
from kbert.serving.metrics import Metrics
from kbert.serving.models import Model
from kbert.serving.options import ServerOptions
from kbert.serving.requests import Call, observed
from kbert.serving.store import ModelStore

HANDSHAKE_MS = 10_000
_SERVICES = (
    prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"],
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
)


def bind(store: ModelStore, host: str, port: int, options: ServerOptions, metrics: Metrics) -> tuple[grpc.Server, int]:
    """A server that holds its port and is yet to be started, and that port.

    Raises:
        InputError: the port cannot be had.
    """
    settings = [
        # Without this, two servers share a port without an error, and each gets some of the requests.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", options.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
    ]
    at_once = options.requests_per_model * max(len(store.names()), 1)
    # As many threads as requests are let in: each blocks until its batch is computed, and a request that waited for a
    # thread would neither join a batch nor be refused.
    server = grpc.server(
        ThreadPoolExecutor(at_once, thread_name_prefix="kbert-grpc"),
        options=settings,
        maximum_concurrent_rpcs=at_once,
    )
    service = _Services(store, options, metrics)
    server.add_generic_rpc_handlers(tuple(_handlers(service, descriptor) for descriptor in _SERVICES))
    try:
        return server, server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise InputError(
            f"gRPC cannot listen on {host}:{port}: stop the server that holds the port, or choose another grpc port"
        ) from error


class _Services:
    """Both services, whose method names do not meet; each method gets a request and returns the response."""

    def __init__(self, store: ModelStore, options: ServerOptions, metrics: Metrics):
        self._store = store
        self._metrics = metrics
        self._max_bytes = options.max_body_bytes

    def Predict(self, request, call, context):
        call.rows = _rows_of_tensors(request.inputs)
        predict = partial(apis.predict, max_bytes=self._max_bytes)
        return self._ask(predict, request.model_spec, request, call, context)

    def Classify(self, request, call, context):
        call.rows = number_of_examples(request.input)
        return self._ask(apis.classify, request.model_spec, request, call, context)

    def Regress(self, request, call, context):
        call.rows = number_of_examples(request.input)
        return self._ask(apis.regress, request.model_spec, request, call, context)

    def MultiInference(self, request, call, context):
        call.rows = number_of_examples(request.input)
        if not request.tasks:
            raise invalid("a MultiInferenceRequest must hold a task")
        return self._ask(apis.multi_inference, request.tasks[0].model_spec, request, call, context)

    def GetModelMetadata(self, request, call, context):
        return self._ask(apis.metadata, request.model_spec, request, call, context)

    def GetModelStatus(self, request, call, context):
        spec = request.model_spec
        call.asked = repr(spec.name)
        return self._store.status(spec.name, _version(spec))

    def HandleReloadConfigRequest(self, request, call, context):
        raise ServingError(
            Code.UNIMPLEMENTED, "this server takes its models from its folder: add them there, or remove them"
        )

    def _ask(
        self,
        api: Callable[[Model, Any, Run], Any],
        spec: Any,
        request: Any,
        call: Call,
        context: grpc.ServicerContext,
    ) -> Any:
        """What an API makes of a request, with the model that `spec` names."""
        call.asked = repr(spec.name)
        with self._store.lease(spec.name, _version(spec)) as loaded:
            call.model, call.version = loaded.model.name, loaded.model.version
            return api(loaded.model, request, loaded.run(_patience(context)))

    def answer(self, method: Any, message: bytes, context: grpc.ServicerContext) -> Any:
        """The response to a message, or the gRPC status of what is raised on the way.

        Args:
            method: descriptor of the method.
            message: the request's bytes; read here, because gRPC writes a traceback into the log for wrong ones.
            context: of the call.
        """
        call = Call("GRPC", method.name)
        try:
            with observed(call, self._metrics):
                try:
                    request = GetMessageClass(method.input_type).FromString(message)
                except DecodeError as error:
                    raise ServingError(Code.INTERNAL, f"the message is no {method.input_type.name}: {error}") from error
                return getattr(self, method.name)(request, call, context)
        except ServingError as error:
            return context.abort(grpc.StatusCode[error.code.name], str(error))


def _handlers(services: _Services, descriptor: Any) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        descriptor.full_name,
        {
            method.name: grpc.unary_unary_rpc_method_handler(
                partial(services.answer, method),
                response_serializer=GetMessageClass(method.output_type).SerializeToString,
            )
            for method in descriptor.methods
        },
    )


def _patience(context: grpc.ServicerContext) -> Patience:
    remaining = context.time_remaining()

    def tell_to_cancel(cancel: Callable[[], object]) -> None:
        if not context.add_callback(cancel):  # the caller has gone already
            cancel()

    if remaining is None:
        return Patience(tell_to_cancel=tell_to_cancel)
    return Patience(time.monotonic() + remaining, tell_to_cancel)


def _version(spec: Any) -> int | None:
    if spec.version_label:
        raise ServingError(Code.UNIMPLEMENTED, "this server knows no version labels: ask for a version by its number")
    return spec.version.value if spec.HasField("version") else None


def _rows_of_tensors(inputs: Any) -> int | None:
    """For the log: what the request says, true or not."""
    sizes = [proto.tensor_shape.dim[0].size for proto in inputs.values() if proto.tensor_shape.dim]
    return max(sizes, default=None)
