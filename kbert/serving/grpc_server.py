"""The gRPC side of the local server: TF Serving's PredictionService and ModelService."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NoReturn

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from kbert.errors import InputError
from kbert.serving import apis
from kbert.serving.batching import Patience, Run
from kbert.serving.calls import Call, Code, ServingError, observed
from kbert.serving.metrics import Metrics
from kbert.serving.models import Model
from kbert.serving.options import ServerOptions
from kbert.serving.store import ModelStore

HANDSHAKE_MS = 10_000


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
    # As many threads as requests are let in: each blocks until its batch is computed, and a request that waited for a
    # thread would neither join a batch nor be refused.
    server = grpc.server(
        ThreadPoolExecutor(options.max_connections, thread_name_prefix="kbert-grpc"),
        options=settings,
        maximum_concurrent_rpcs=options.max_connections,
    )
    service = _Services(store, options, metrics)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, server)
    try:
        return server, server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise InputError(
            f"gRPC cannot listen on {host}:{port}: stop the server that holds the port, or choose another grpc port"
        ) from error


class _Services(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """Both services, whose method names do not meet."""

    def __init__(self, store: ModelStore, options: ServerOptions, metrics: Metrics):
        self._store = store
        self._metrics = metrics
        self._predict = partial(apis.predict, max_bytes=options.max_body_bytes)

    def Predict(self, request, context):
        rows = _rows_of_tensors(request.inputs)
        return self._answer("Predict", request.model_spec, rows, request, context, self._predict)

    def Classify(self, request, context):
        rows = _rows_of_examples(request.input)
        return self._answer("Classify", request.model_spec, rows, request, context, apis.classify)

    def Regress(self, request, context):
        rows = _rows_of_examples(request.input)
        return self._answer("Regress", request.model_spec, rows, request, context, apis.regress)

    def MultiInference(self, request, context):
        rows = _rows_of_examples(request.input)
        spec = request.tasks[0].model_spec if request.tasks else None
        return self._answer("MultiInference", spec, rows, request, context, apis.multi_inference)

    def GetModelMetadata(self, request, context):
        def metadata(model: Model, request: Any, run: Run) -> Any:
            return apis.metadata(model, request)

        return self._answer("GetModelMetadata", request.model_spec, None, request, context, metadata)

    def GetModelStatus(self, request, context):
        spec = request.model_spec
        call = Call("GRPC", "GetModelStatus", repr(spec.name), rows=None)
        return self._observed(call, context, lambda: self._store.status(spec.name, _version(spec)))

    def HandleReloadConfigRequest(self, request, context):
        return self._observed(Call("GRPC", "HandleReloadConfigRequest"), context, _unimplemented)

    def _answer(
        self,
        method: str,
        spec: Any,
        rows: int | None,
        request: Any,
        context: grpc.ServicerContext,
        api: Callable[[Model, Any, Run], Any],
    ) -> Any:
        """What an API makes of a request, with the model that the request names."""
        call = Call("GRPC", method, repr(spec.name) if spec else "", rows=rows)

        def make() -> Any:
            if spec is None:
                raise ServingError(Code.INVALID_ARGUMENT, "a MultiInferenceRequest must hold a task")
            with self._store.lease(spec.name, _version(spec)) as loaded:
                call.model, call.version = loaded.model.name, loaded.model.version
                return api(loaded.model, request, loaded.run(_patience(context)))

        return self._observed(call, context, make)

    def _observed(self, call: Call, context: grpc.ServicerContext, make: Callable[[], Any]) -> Any:
        """The response that `make` returns, or the gRPC status of what it raises."""
        try:
            with observed(call, self._metrics):
                return make()
        except ServingError as error:
            return context.abort(grpc.StatusCode[error.code.name], str(error))


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


def _rows_of_examples(source: Any) -> int:
    return len(source.example_list.examples) or len(source.example_list_with_context.examples)


def _unimplemented() -> NoReturn:
    raise ServingError(
        Code.UNIMPLEMENTED, "this server takes its models from its folder: add them there, or remove them"
    )
