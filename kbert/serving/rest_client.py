"""The client's REST transport: the standard library and numpy, no TensorFlow."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from kbert.errors import InputError
from kbert.serving.calls import Code, ModelChoice, one_line
from kbert.serving.json_format import to_array
from kbert.serving.retries import Deadline, Unavailable
from kbert.serving.tls import Tls

WRONG_REQUEST = (Code.INVALID_ARGUMENT.http_status, Code.NOT_FOUND.http_status)
UNAVAILABLE = (http.HTTPStatus.BAD_GATEWAY, http.HTTPStatus.SERVICE_UNAVAILABLE)
"""TF Serving's own is the second; the first is a proxy's, when the server behind it takes no connection."""


class RestTransport:
    """Requests over HTTP connections that are kept, one for each thread that asks at the same time.

    Args:
        target: "http://HOST:PORT" or "https://HOST:PORT", with or without a path before `/v1`.
        tls: for https.
    """

    def __init__(self, target: str, tls: Tls | None):
        try:
            parts = urlsplit(target)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host:
            raise InputError(f'Client: `target` must be "http://HOST:PORT" or https. Received: {target!r}')
        self._target = target
        self._host = host
        self._port = port or (443 if parts.scheme == "https" else 8501)
        self._path = parts.path.rstrip("/")
        self._tls = tls
        self._idle: deque[http.client.HTTPConnection] = deque()

    def predict(
        self, model: ModelChoice, signature_name: str, inputs: Mapping[str, np.ndarray], deadline: Deadline
    ) -> dict[str, np.ndarray]:
        """Predict; strings are arrays of `bytes` both ways.

        JSON has no dtypes, and a single output comes without its name: the model's metadata supplies both.
        """
        path = _model_path(model)
        body = {"signature_name": signature_name, "inputs": {key: _to_json(array) for key, array in inputs.items()}}
        signatures = self.metadata(model, deadline)["signature_def"]
        values = self._call("POST", f"{path}:predict", deadline, json.dumps(body).encode())["outputs"]
        types = signatures[signature_name]["outputs"]
        if len(types) == 1:
            values = {next(iter(types)): values}
        return {key: to_array(value, types[key]["dtype"], f"output {key!r}") for key, value in values.items()}

    def status(self, model: ModelChoice, deadline: Deadline) -> dict[str, Any]:
        """GetModelStatusResponse, in its JSON form."""
        return self._call("GET", _model_path(model), deadline)

    def metadata(self, model: ModelChoice, deadline: Deadline) -> dict[str, Any]:
        """SignatureDefMap, in its JSON form."""
        return self._call("GET", f"{_model_path(model)}/metadata", deadline)["metadata"]["signature_def"]

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()

    def _call(self, method: str, path: str, deadline: Deadline, body: bytes | None = None) -> dict[str, Any]:
        try:
            status, answer = self._exchange(method, path, body, deadline)
            if status in UNAVAILABLE:
                raise Unavailable(f"{self._target} is not available: it answered {status}")
            content = json.loads(answer.decode("utf-8", "replace"))
            if not isinstance(content, dict) or (status != http.HTTPStatus.OK and "error" not in content):
                raise ValueError("not an answer of TF Serving")
            if status == http.HTTPStatus.GATEWAY_TIMEOUT:
                raise TimeoutError(content["error"])
        except Unavailable:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._no_answer(error, deadline) from error
        if status in WRONG_REQUEST:
            raise InputError(f"{self._target}: {one_line(content['error'])}")
        if status != http.HTTPStatus.OK:
            raise RuntimeError(f"{self._target} answered {status}: {one_line(content['error'])}")
        return content

    def _no_answer(self, error: Exception, deadline: Deadline) -> ConnectionError:
        """What kept an answer from coming, in the caller's words."""
        if isinstance(error, TimeoutError):
            return ConnectionError(
                f"{self._target} gave no answer within {deadline.seconds} s: send fewer texts at once, or allow more "
                "time"
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            return ConnectionError(
                f"the certificate of {self._target} is not trusted: name the file of its authority as "
                f"`root_certificates` (--tls-ca) ({one_line(error)})"
            )
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            kind = Unavailable if isinstance(error, ConnectionError) else ConnectionError
            return kind(
                f"no REST server answers at {self._target}: start one with `kbert serve`, or name another target "
                f"({one_line(error)})"
            )
        return ConnectionError(
            f"{self._target} does not speak TF Serving's REST: name its REST port (8501 by default), or leave out "
            f"{urlsplit(self._target).scheme}:// to speak gRPC"
        )

    def _exchange(self, method: str, path: str, body: bytes | None, deadline: Deadline) -> tuple[int, bytes]:
        """One request; a kept connection may have been closed by the server meanwhile, so the next one is tried."""
        while True:
            try:
                connection, kept = self._idle.pop(), True
            except IndexError:
                connection, kept = self._connect(), False
            try:
                answer = _ask(connection, method, self._path + path, body, deadline)
            except BaseException as error:
                connection.close()
                if kept and isinstance(error, ConnectionError | http.client.BadStatusLine):
                    continue
                raise
            if connection.sock is not None:
                self._idle.append(connection)
            return answer

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port)
        return http.client.HTTPSConnection(self._host, self._port, context=self._tls.context)


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, deadline: Deadline
) -> tuple[int, bytes]:
    """Status and body of the answer; each step waits for what is left until the deadline."""
    if connection.sock is None:
        connection.timeout = deadline.remaining()
        connection.connect()
    connection.sock.settimeout(deadline.remaining())
    connection.request(method, path, body, {"Content-Type": "application/json"})
    connection.sock.settimeout(deadline.remaining())
    response = connection.getresponse()
    return response.status, response.read()


def _model_path(model: ModelChoice) -> str:
    path = f"/v1/models/{quote(model.name, safe='')}"
    if model.version is not None:
        return f"{path}/versions/{model.version}"
    return path if model.label is None else f"{path}/labels/{quote(model.label, safe='')}"


def _to_json(array: np.ndarray) -> Any:
    """Nested lists; bytes that are not UTF-8 as base64."""
    return _bytes_to_json(array.tolist()) if array.dtype == object else array.tolist()


def _bytes_to_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_bytes_to_json(element) for element in value]
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode("ascii")}
