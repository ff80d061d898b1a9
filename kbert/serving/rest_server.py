"""The REST side of the local server: TF Serving's `/v1/models/...` paths."""

from __future__ import annotations

import json
import re
import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.framework import types_pb2

from kbert.errors import InputError
from kbert.serving.calls import Code, ServingError, call, logger
from kbert.serving.json_format import read_request, write_outputs
from kbert.serving.models import ModelStore

PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d{1,19}))?(?P<verb>/metadata|:predict|:classify|:regress)?"
)
MAX_BODY_BYTES = 64 * 2**20
IDLE_SECONDS = 60


def bind(store: ModelStore, host: str, port: int) -> RestServer:
    """A server that holds its port and is yet to be started.

    Raises:
        InputError: the port cannot be had.
    """
    try:
        return RestServer(store, host, port)
    except OSError as error:
        raise InputError(
            f"REST cannot listen on {host}:{port} ({error.strerror}): "
            "stop the server that holds the port, or choose another rest port"
        ) from error


class RestServer(ThreadingHTTPServer):
    """One thread per connection; connections are kept alive between requests."""

    daemon_threads = False  # so that server_close waits for the requests in flight
    allow_reuse_port = False  # two servers would share a port without an error

    def __init__(self, store: ModelStore, host: str, port: int):
        self.store = store
        self.connections: set[socket.socket] = set()
        super().__init__((host, port), _Handler)

    def stop(self) -> None:
        """Take no more connections, answer the requests in flight, close the port."""
        self.shutdown()
        for connection in list(self.connections):
            try:
                # Ends the wait for a next request; an answer can still be sent.
                connection.shutdown(socket.SHUT_RD)
            except OSError:
                logger.debug("a client closed its connection while the server stopped")
        self.server_close()

    def process_request(self, request, client_address) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:
        """Log what escaped a handler (mostly a client that left), where the base class prints a traceback."""
        logger.warning("REST connection from %s ended: %s", client_address, sys.exc_info()[1])


class _Handler(BaseHTTPRequestHandler):
    server: RestServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: the second would wait for an acknowledgement
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        try:
            with call(f"REST {self.command} {self.path!r}"):
                body = self._read_body()
                answer = self._route(body)
        except ServingError as error:
            self._send(error.code.value, _error_body(str(error)))
        else:
            self._send(HTTPStatus.OK, answer)

    def _route(self, body: bytes) -> bytes:
        match = PATH.fullmatch(unquote(urlsplit(self.path).path))
        if match is None:
            raise ServingError(
                Code.NOT_FOUND, "no such path; there are /v1/models/NAME[/versions/N][:predict|/metadata]"
            )
        name, version = match["name"], int(match["version"]) if match["version"] else None
        store = self.server.store
        answers = {
            ("POST", ":predict"): lambda: _predict(store, name, version, body),
            ("GET", None): lambda: _to_json(store.status(name, version)),
            ("GET", "/metadata"): lambda: _metadata(store, name, version),
        }
        if (self.command, match["verb"]) not in answers:
            code = Code.UNIMPLEMENTED if match["verb"] in (":classify", ":regress") else Code.INVALID_ARGUMENT
            raise ServingError(
                code,
                "this development server answers POST NAME:predict, GET NAME and GET NAME/metadata. "
                f"Received: {self.command} NAME{match['verb'] or ''}",
            )
        return answers[self.command, match["verb"]]()

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0" if self.command == "GET" else "")
        if not re.fullmatch("[0-9]{1,15}", length) or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise ServingError(Code.INVALID_ARGUMENT, "the request needs a Content-Length, in bytes")
        if int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            raise ServingError(
                Code.RESOURCE_EXHAUSTED, f"the body has {length} bytes; at most {MAX_BODY_BYTES} are read"
            )
        return self.rfile.read(int(length))

    def _send(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class answers to a broken request line or an unknown method, as JSON."""
        self.close_connection = True
        self._send(code, _error_body(message or HTTPStatus(code).phrase))

    def log_message(self, format: str, *args: Any) -> None:
        """The base class's own notes: a connection that timed out, a request line it could not read."""
        logger.debug(format, *args)


def _predict(store: ModelStore, name: str, version: int | None, body: bytes) -> bytes:
    model = store.get(name, version)

    def input_types(signature_name: str) -> dict[str, str]:
        inputs = model.signature(signature_name).inputs
        return {key: types_pb2.DataType.Name(info.dtype) for key, info in inputs.items()}

    request = read_request(body, input_types)
    inputs = {key: tf.constant(array) for key, array in request.inputs.items()}
    return write_outputs(model.predict(request.signature_name, inputs), request.row_format)


def _metadata(store: ModelStore, name: str, version: int | None) -> bytes:
    model = store.get(name, version)
    spec = {"name": model.name, "signature_name": "", "version": str(model.version)}
    return json.dumps(
        {"model_spec": spec, "metadata": {"signature_def": json.loads(_to_json(model.signature_def_map()))}}
    ).encode()


def _to_json(message: Any) -> bytes:
    fields = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return json.dumps(fields).encode()


def _error_body(message: str) -> bytes:
    return json.dumps({"error": message}).encode()
