"""The client: texts in, arrays out, from TF Serving or from the local server, by gRPC or REST."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from kbert.errors import InputError
from kbert.serving.batches import cut, join
from kbert.serving.calls import ModelChoice
from kbert.serving.json_format import DTYPES, to_plain
from kbert.serving.retries import Deadline, Unavailable, retrying
from kbert.serving.tls import PemFile, Tls

if TYPE_CHECKING:
    from kbert.serving.grpc_client import GrpcTransport
    from kbert.serving.rest_client import RestTransport

READY_POLL_SECONDS = 0.5

T = TypeVar("T")


class Client:
    """Ask a server for predictions; threads may share one client, and all requests share its connections.

    By gRPC it imports TensorFlow on construction, because the protocol's Python stubs do; by REST it does not.

    Args:
        target: "HOST:PORT" for gRPC, "http://HOST:PORT" for REST; with TLS "grpcs://HOST:PORT" and
            "https://HOST:PORT".
        timeout: seconds for one call, its retries included.
        retries: attempts after the first one, when the server takes no request (gRPC's UNAVAILABLE; by REST 502, 503
            and connections refused or lost). Nothing else is tried again: a request that ran into its deadline would
            only burden a slow server once more.
        root_certificates: PEM file of the authorities to trust, for a server whose certificate the public ones have
            not signed. By gRPC it asks for TLS, whether or not `target` does.
        client_certificate: PEM file of a key (without a password) and its certificates, for a server that lets in
            only clients whom it knows. By gRPC it asks for TLS as well.

    Raises:
        InputError: from every method, if the server finds the request wrong; its own message is passed on.
        ConnectionError: from every method, if no answer comes.
    """

    def __init__(
        self,
        target: str = "localhost:8500",
        timeout: float = 10.0,
        *,
        retries: int = 3,
        root_certificates: PemFile = None,
        client_certificate: PemFile = None,
    ):
        self._timeout = timeout
        self._retries = retries
        self._transport = _transport(target, root_certificates, client_certificate)

    def predict(
        self,
        name: str,
        inputs: Mapping[str, Sequence[str] | np.ndarray],
        version: int | None = None,
        signature_name: str = "serving_default",
        label: str | None = None,
    ) -> dict[str, np.ndarray]:
        """Run a signature of a model.

        Args:
            name: the model.
            inputs: input name -> values; texts as a list of `str`, numbers as an array of the input's dtype.
            version: None means the one that the server serves by default.
            signature_name: which of the model's signatures.
            label: the version by what the server's configuration calls it, such as "stable", instead of its number.

        Returns:
            Output name -> array, sorted by name; strings are object arrays of `str`, or of `bytes` if the name ends
            in "_bytes".
        """
        arrays = {key: _to_array(key, value) for key, value in inputs.items()}
        return self._predict(_choice(name, version, label), signature_name, arrays)

    def predict_many(
        self,
        name: str,
        inputs: Mapping[str, Sequence[str] | np.ndarray],
        batch_size: int = 32,
        concurrency: int = 1,
        version: int | None = None,
        signature_name: str = "serving_default",
        label: str | None = None,
    ) -> dict[str, np.ndarray]:
        """Run a signature on a list of any length, in requests of `batch_size` rows.

        Outputs whose width differs from request to request (a tagger's entities) are padded to the widest, as
        exported models pad: "" for strings, -1 for integers, 0.0 for floats. The first request that fails ends the
        whole call with its error; those in flight are waited for.

        Args:
            name: the model.
            inputs: input name -> values, equally many of each.
            batch_size: rows of one request; each has the client's `timeout` to itself.
            concurrency: requests under way at the same time.
            version: None means the one that the server serves by default; a new version may then take over between
                two requests.
            signature_name: which of the model's signatures; its outputs must have a batch dimension.
            label: the version by its label, instead of its number.

        Returns:
            As `predict`, rows in the order of the inputs.
        """
        for setting, value in (("batch_size", batch_size), ("concurrency", concurrency)):
            if value < 1:
                raise InputError(f"predict_many: `{setting}` must be at least 1. Received: {value}")
        model = _choice(name, version, label)
        requests = list(cut({key: _to_array(key, value) for key, value in inputs.items()}, batch_size))
        with ThreadPoolExecutor(min(concurrency, len(requests)), thread_name_prefix="kbert-client") as pool:
            futures = [pool.submit(self._predict, model, signature_name, request) for request in requests]
            try:
                return join([future.result() for future in futures])
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def status(self, name: str) -> dict[int, str]:
        """The state of each version of a model, "AVAILABLE" if it can be asked."""
        answer = self._retrying(lambda deadline: self._transport.status(ModelChoice(name), deadline))
        return {int(item["version"]): item["state"] for item in answer["model_version_status"]}

    def metadata(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
        """The signatures of a model.

        Returns:
            Signature name -> "inputs" and "outputs" -> tensor name -> {"dtype": "string", "shape": [None]}; a size
            that may differ is None, and so is the shape of a tensor of any rank.
        """
        model = _choice(name, version, label)
        signatures = self._retrying(lambda deadline: self._transport.metadata(model, deadline))["signature_def"]
        return {
            key: {side: {alias: _describe(info) for alias, info in signature[side].items()} for side in _SIDES}
            for key, signature in signatures.items()
            if key != "__saved_model_init_op"
        }

    def wait_until_ready(
        self, name: str, version: int | None = None, label: str | None = None, timeout: float = 60.0
    ) -> None:
        """Return as soon as a model can be asked: the server is there, and has loaded the version.

        It asks for the model's metadata, which TF Serving has for available versions only; `status` also answers for
        those that are loading or have failed.

        Args:
            name: the model.
            version: None means any.
            label: the version by its label, instead of its number.
            timeout: seconds to wait at most.

        Raises:
            ConnectionError: it took longer; with the last thing that was wrong.
        """
        model, deadline, reason = _choice(name, version, label), Deadline(timeout), "no answer yet"
        while True:
            try:
                self._transport.metadata(model, Deadline(min(self._timeout, deadline.remaining())))
                return
            except (InputError, Unavailable) as error:
                reason = str(error)
            except (ConnectionError, RuntimeError) as error:
                # The last attempt has little time: that it ran out says less than what came before.
                reason = reason if deadline.remaining() <= READY_POLL_SECONDS else str(error)
            if deadline.remaining() <= READY_POLL_SECONDS:
                raise ConnectionError(f"model {name!r} is not ready after {timeout} s: {reason}")
            time.sleep(READY_POLL_SECONDS)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _predict(
        self, model: ModelChoice, signature_name: str, arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        outputs = self._retrying(lambda deadline: self._transport.predict(model, signature_name, arrays, deadline))
        # Sorted, because a protocol buffer's map comes in another order each time.
        return {key: _decode(key, outputs[key]) for key in sorted(outputs)}

    def _retrying(self, attempt: Callable[[Deadline], T]) -> T:
        deadline = Deadline(self._timeout)
        return retrying(lambda: attempt(deadline), self._retries, deadline)


def _transport(target: str, root_certificates: PemFile, client_certificate: PemFile) -> GrpcTransport | RestTransport:
    scheme, separator, address = target.rpartition("://")
    tls = None
    if scheme in ("https", "grpcs") or root_certificates is not None or client_certificate is not None:
        tls = Tls(root_certificates, client_certificate)
    if scheme == "http" and tls is not None:
        raise InputError(f"certificates are for TLS: begin the target with https://. Received: {target!r}")
    if scheme in ("http", "https"):
        from kbert.serving.rest_client import RestTransport

        return RestTransport(target, tls)
    if scheme not in ("", "grpcs") or (separator and not scheme) or not address.rpartition(":")[2].isdecimal():
        raise InputError(
            'Client: `target` must be "HOST:PORT" or "http://HOST:PORT", or with TLS "grpcs://HOST:PORT" or '
            f'"https://HOST:PORT". Received: {target!r}'
        )
    from kbert.serving.grpc_client import GrpcTransport

    return GrpcTransport(address, tls)


def _choice(name: str, version: int | None, label: str | None) -> ModelChoice:
    if version is not None and label is not None:
        raise InputError(f"name a model's `version` or its `label`, not both. Received: {version} and {label!r}")
    return ModelChoice(name, version, label)


_SIDES = ("inputs", "outputs")


def rows(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Turn what `Client.predict` returns into one dict per row, of values that `json.dumps` takes.

    Args:
        outputs: output name -> array [B, ...].

    Raises:
        InputError: the outputs do not share their first dimension.
    """
    shapes = {name: array.shape for name, array in outputs.items()}
    if any(not shape for shape in shapes.values()) or len({shape[0] for shape in shapes.values()}) > 1:
        raise InputError(f"rows: the outputs must share their first dimension. Received: {shapes}")
    plain = [to_plain(name, array) for name, array in outputs.items()]
    return [dict(zip(outputs, row, strict=True)) for row in zip(*plain, strict=True)]


def _to_array(name: str, value: Sequence[str] | np.ndarray) -> np.ndarray:
    """Strings as an object array of UTF-8 bytes, numbers as they are."""
    if isinstance(value, str | bytes):
        raise InputError(f"predict: inputs[{name!r}] must be a list of texts. Received a single one: {value!r}")
    try:
        # Through objects, because numpy's own string type drops NUL characters at the end of a text.
        array = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
        if array.dtype.kind not in "OUS":
            return array
        leaves = array.ravel().tolist()
        if leaves and all(isinstance(leaf, int | float | np.number | np.bool_) for leaf in leaves):
            return np.array(leaves).reshape(array.shape)
        encoded = np.empty(array.size, dtype=object)
        encoded[:] = [leaf if isinstance(leaf, bytes) else leaf.encode("utf-8") for leaf in leaves]
        return encoded.reshape(array.shape)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"predict: inputs[{name!r}] must be a list of texts (str that has a UTF-8 form, or bytes) or an array of "
            f"numbers; {error}"
        ) from error


def _decode(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype != object or name.endswith("_bytes"):
        return array
    decoded = np.empty(array.size, dtype=object)
    decoded[:] = [leaf.decode("utf-8", "replace") for leaf in array.ravel().tolist()]
    return decoded.reshape(array.shape)


def _describe(info: Mapping[str, Any]) -> dict[str, Any]:
    """A TensorInfo, shortened."""
    dtype, shape = info["dtype"], info["tensor_shape"]
    sizes = [int(dim["size"]) for dim in shape["dim"]]
    name = DTYPES[dtype].name if dtype in DTYPES else dtype.removeprefix("DT_").lower()
    return {
        "dtype": "string" if dtype == "DT_STRING" else name,
        "shape": None if shape["unknown_rank"] else [None if size < 0 else size for size in sizes],
    }
