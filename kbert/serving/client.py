"""The client: texts in, arrays out, from TF Serving or from the local server, by gRPC or REST."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kbert.errors import InputError
from kbert.serving.json_format import DTYPES, to_plain

if TYPE_CHECKING:
    from kbert.serving.grpc_client import GrpcTransport
    from kbert.serving.rest_client import RestTransport


class Client:
    """Ask a server for predictions; one connection is used for all requests.

    By gRPC it imports TensorFlow on construction, because the protocol's Python stubs do; by REST it does not.

    Args:
        target: "HOST:PORT" for gRPC, "http://HOST:PORT" for REST.
        timeout: seconds for one request.

    Raises:
        InputError: from every method, if the server finds the request wrong; its own message is passed on.
        ConnectionError: from every method, if no answer comes.
    """

    def __init__(self, target: str = "localhost:8500", timeout: float = 10.0):
        self._transport: GrpcTransport | RestTransport
        if target.startswith("http://"):
            from kbert.serving.rest_client import RestTransport

            self._transport = RestTransport(target, timeout)
        elif "://" in target or not target.rpartition(":")[2].isdecimal():
            raise InputError(f'Client: `target` must be "HOST:PORT" or "http://HOST:PORT". Received: {target!r}')
        else:
            from kbert.serving.grpc_client import GrpcTransport

            self._transport = GrpcTransport(target, timeout)

    def predict(
        self,
        name: str,
        inputs: Mapping[str, Sequence[str] | np.ndarray],
        version: int | None = None,
        signature_name: str = "serving_default",
    ) -> dict[str, np.ndarray]:
        """Run a signature of a model.

        Args:
            name: the model.
            inputs: input name -> values; texts as a list of `str`, numbers as an array of the input's dtype.
            version: None means the one that the server serves by default.
            signature_name: which of the model's signatures.

        Returns:
            Output name -> array, sorted by name; strings are object arrays of `str`, or of `bytes` if the name ends
            in "_bytes".
        """
        arrays = {key: _to_array(key, value) for key, value in inputs.items()}
        outputs = self._transport.predict(name, version, signature_name, arrays)
        # Sorted, because a protocol buffer's map comes in another order each time.
        return {key: _decode(key, outputs[key]) for key in sorted(outputs)}

    def status(self, name: str) -> dict[int, str]:
        """The state of each version of a model, "AVAILABLE" if it can be asked."""
        return {int(item["version"]): item["state"] for item in self._transport.status(name)["model_version_status"]}

    def metadata(self, name: str) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
        """The signatures of a model.

        Returns:
            Signature name -> "inputs" and "outputs" -> tensor name -> {"dtype": "string", "shape": [None]}; a size
            that may differ is None, and so is the shape of a tensor of any rank.
        """
        signatures = self._transport.metadata(name)["signature_def"]
        return {
            key: {side: {alias: _describe(info) for alias, info in signature[side].items()} for side in _SIDES}
            for key, signature in signatures.items()
            if key != "__saved_model_init_op"
        }

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


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
