"""The client's REST transport: the standard library and numpy, no TensorFlow."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from kbert.errors import InputError
from kbert.serving.calls import Code, one_line
from kbert.serving.json_format import to_array

WRONG_REQUEST = (Code.INVALID_ARGUMENT.http_status, Code.NOT_FOUND.http_status)


class RestTransport:
    """Requests over one HTTP connection, opened anew when the server has closed it.

    Args:
        target: "http://HOST:PORT", with or without a path before `/v1`.
        timeout: seconds for one request.
    """

    def __init__(self, target: str, timeout: float):
        try:
            parts = urlsplit(target)
            host, port = parts.hostname, parts.port or 8501
        except ValueError:
            host = None
        if not host:
            raise InputError(f'Client: `target` must be "http://HOST:PORT". Received: {target!r}')
        self._target = target
        self._timeout = timeout
        self._path = parts.path.rstrip("/")
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout)
        self._lock = threading.Lock()

    def predict(
        self, name: str, version: int | None, signature_name: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Predict; strings are arrays of `bytes` both ways.

        JSON has no dtypes, and a single output comes without its name: the model's metadata supplies both.
        """
        model = _model_path(name, version)
        body = {"signature_name": signature_name, "inputs": {key: _to_json(array) for key, array in inputs.items()}}
        signatures = self._signatures(model)["signature_def"]
        values = self._call("POST", f"{model}:predict", json.dumps(body).encode())["outputs"]
        types = signatures[signature_name]["outputs"]
        if len(types) == 1:
            values = {next(iter(types)): values}
        return {key: to_array(value, types[key]["dtype"], f"output {key!r}") for key, value in values.items()}

    def status(self, name: str) -> dict[str, Any]:
        """GetModelStatusResponse, in its JSON form."""
        return self._call("GET", _model_path(name, None))

    def metadata(self, name: str) -> dict[str, Any]:
        """SignatureDefMap, in its JSON form."""
        return self._signatures(_model_path(name, None))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _signatures(self, model: str) -> dict[str, Any]:
        return self._call("GET", f"{model}/metadata")["metadata"]["signature_def"]

    def _call(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        try:
            with self._lock:
                status, answer = self._exchange(method, path, body)
            content = json.loads(answer.decode("utf-8", "replace"))
            if not isinstance(content, dict) or (status != http.HTTPStatus.OK and "error" not in content):
                raise ValueError("not an answer of TF Serving")
        except TimeoutError as error:
            raise ConnectionError(
                f"{self._target} gave no answer within {self._timeout} s: send fewer texts at once, or allow more time"
            ) from error
        except OSError as error:
            raise ConnectionError(
                f"no REST server answers at {self._target}: start one with `kbert serve`, or name another target "
                f"({one_line(error)})"
            ) from error
        except (http.client.HTTPException, ValueError) as error:
            raise ConnectionError(
                f"{self._target} does not speak TF Serving's REST: name its REST port (8501 by default), or leave out "
                f"http:// to speak gRPC"
            ) from error
        if status in WRONG_REQUEST:
            raise InputError(f"{self._target}: {one_line(content['error'])}")
        if status != http.HTTPStatus.OK:
            raise RuntimeError(f"{self._target} answered {status}: {one_line(content['error'])}")
        return content

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """One request; a kept connection may have been closed by the server meanwhile, so that one is tried again."""
        kept = self._connection.sock is not None
        try:
            self._connection.request(method, self._path + path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            return response.status, response.read()
        except (ConnectionError, http.client.BadStatusLine):
            self._connection.close()
            if not kept:
                raise
            return self._exchange(method, path, body)
        except BaseException:
            self._connection.close()
            raise


def _model_path(name: str, version: int | None) -> str:
    return f"/v1/models/{quote(name, safe='')}" + ("" if version is None else f"/versions/{version}")


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
