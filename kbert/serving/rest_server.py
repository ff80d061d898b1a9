"""The REST side of the local server: TF Serving's `/v1/models/...` paths, its page of metrics, and `/readyz`."""

from __future__ import annotations

import json
import re
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from google.protobuf.json_format import MessageToDict
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2, regression_pb2

from kbert.errors import InputError
from kbert.serving import apis, metrics
from kbert.serving.batching import Patience
from kbert.serving.calls import Code, ServingError, invalid
from kbert.serving.examples import number_of_examples, read_examples, write_classes, write_values
from kbert.serving.http_server import HttpHandler, HttpServer, error_body
from kbert.serving.json_format import read_request, write_outputs
from kbert.serving.models import DEFAULT_SIGNATURE
from kbert.serving.options import ServerOptions
from kbert.serving.requests import Call, observed
from kbert.serving.store import ModelStore
from kbert.serving.versions import LoadedModel

PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d{1,19}))?(?P<verb>/metadata|:predict|:classify|:regress)?",
    re.ASCII,
)
READY_PATH = "/readyz"


def bind(
    store: ModelStore, host: str, port: int, options: ServerOptions, server_metrics: metrics.Metrics
) -> RestServer:
    """A server that holds its port and is yet to be started.

    Raises:
        InputError: the port cannot be had.
    """
    try:
        return RestServer(store, host, port, options, server_metrics)
    except OSError as error:
        raise InputError(
            f"REST cannot listen on {host}:{port} ({error.strerror}): "
            "stop the server that holds the port, or choose another rest port"
        ) from error


class RestServer(HttpServer):
    """What `_Handler` answers from."""

    def __init__(
        self, store: ModelStore, host: str, port: int, options: ServerOptions, server_metrics: metrics.Metrics
    ):
        self.store = store
        self.metrics = server_metrics
        super().__init__((host, port), _Handler, options)


class _Handler(HttpHandler):
    server: RestServer

    def answer(self) -> None:
        path = _path_of(self.path)
        pages = {metrics.PATH: self._send_metrics, READY_PATH: self._send_readiness}
        if self.command == "GET" and path in pages:
            pages[path]()
            return
        call = Call("REST", "", f"{self.command} {self.path!r}")
        try:
            with observed(call, self.server.metrics):
                answer = self._route(unquote(path), self.read_body(), call)
        except ServingError as error:
            self.send(error.http_status, error_body(str(error)))
        else:
            self.send(HTTPStatus.OK, answer)

    def _send_metrics(self) -> None:
        self.send(HTTPStatus.OK, self.server.metrics.page().encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _send_readiness(self) -> None:
        """For load balancers; TF Serving, which has no such path, is asked for a model's status instead."""
        is_ready = self.server.store.is_ready() and not self.server.is_stopping
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        self.send(status, json.dumps({"ready": is_ready}).encode())

    def _route(self, path: str, body: bytes, call: Call) -> bytes:
        match = PATH.fullmatch(path)
        if match is None:
            raise ServingError(
                Code.NOT_FOUND,
                "no such path; there are /v1/models/NAME[/versions/N][:predict|:classify|:regress|/metadata]",
            )
        name, version = match["name"], int(match["version"]) if match["version"] else None
        method, answer = _METHODS.get((self.command, match["verb"]), ("", None))
        if (self.command, match["verb"]) == ("GET", None):
            call.method = "GetModelStatus"
            return _to_json(self.server.store.status(name, version))
        if answer is None:
            raise invalid(
                "there are POST NAME:predict, :classify and :regress, GET NAME and GET NAME/metadata. "
                f"Received: {self.command} NAME{match['verb'] or ''}"
            )
        call.method = method
        patience = Patience(time.monotonic() + self.server.options.request_timeout)
        with self.server.store.lease(name, version) as loaded:
            call.model, call.version = loaded.model.name, loaded.model.version
            return answer(loaded, body, call, patience)


def _predict(loaded: LoadedModel, body: bytes, call: Call, patience: Patience) -> bytes:
    def input_types(signature_name: str) -> dict[str, str]:
        inputs = loaded.model.signature(signature_name or DEFAULT_SIGNATURE).inputs
        return {key: types_pb2.DataType.Name(info.dtype) for key, info in inputs.items()}

    request = read_request(body, input_types)
    call.rows = max((len(array) for array in request.inputs.values() if array.ndim), default=None)
    outputs = loaded.run(patience)(request.signature_name or DEFAULT_SIGNATURE, request.inputs)
    return write_outputs(outputs, request.row_format)


def _classify(loaded: LoadedModel, body: bytes, call: Call, patience: Patience) -> bytes:
    request = classification_pb2.ClassificationRequest()
    read_examples(body, request)
    call.rows = number_of_examples(request.input)
    return write_classes(apis.classify(loaded.model, request, loaded.run(patience)))


def _regress(loaded: LoadedModel, body: bytes, call: Call, patience: Patience) -> bytes:
    request = regression_pb2.RegressionRequest()
    read_examples(body, request)
    call.rows = number_of_examples(request.input)
    return write_values(apis.regress(loaded.model, request, loaded.run(patience)))


def _metadata(loaded: LoadedModel, body: bytes, call: Call, patience: Patience) -> bytes:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    response = apis.metadata(loaded.model, request, loaded.run(patience))
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    spec = {"name": response.model_spec.name, "signature_name": "", "version": str(response.model_spec.version.value)}
    return json.dumps({"model_spec": spec, "metadata": {"signature_def": json.loads(_to_json(signatures))}}).encode()


_METHODS = {
    ("POST", ":predict"): ("Predict", _predict),
    ("POST", ":classify"): ("Classify", _classify),
    ("POST", ":regress"): ("Regress", _regress),
    ("GET", "/metadata"): ("GetModelMetadata", _metadata),
}


def _path_of(target: str) -> str:
    try:
        return urlsplit(target).path
    except ValueError:  # brackets that are no address
        return ""


def _to_json(message: Any) -> bytes:
    fields = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return json.dumps(fields).encode()
