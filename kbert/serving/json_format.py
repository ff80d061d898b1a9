"""Tensors as JSON, the way TF Serving's REST API reads and writes them; numpy only, for server and client alike."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kbert.serving.calls import Code, ServingError, invalid

DTYPES: dict[str, np.dtype] = {
    "DT_STRING": np.dtype(object),
    "DT_FLOAT": np.dtype(np.float32),
    "DT_DOUBLE": np.dtype(np.float64),
    "DT_BOOL": np.dtype(np.bool_),
    "DT_INT8": np.dtype(np.int8),
    "DT_INT16": np.dtype(np.int16),
    "DT_INT32": np.dtype(np.int32),
    "DT_INT64": np.dtype(np.int64),
    "DT_UINT8": np.dtype(np.uint8),
    "DT_UINT32": np.dtype(np.uint32),
    "DT_UINT64": np.dtype(np.uint64),
}
"""The types that have a JSON form, by TensorFlow's name; strings are arrays of `bytes`."""
MAX_DIMENSIONS = 32
"""Of a tensor; numpy has no more than 64, and no model comes near."""


@dataclass(frozen=True)
class PredictRequest:
    """The body of a `:predict` request, read."""

    signature_name: str
    """As asked for; empty: the default."""
    inputs: dict[str, np.ndarray]
    """Input name -> values."""
    row_format: bool
    """Whether it said "instances", and so gets "predictions", not "outputs"."""


def read_request(body: bytes, input_types: Callable[[str], Mapping[str, str]]) -> PredictRequest:
    """Read the body of a `:predict` request.

    Args:
        body: JSON, UTF-8.
        input_types: from a signature name to the types ("DT_STRING", ...) of its inputs by name.

    Raises:
        ServingError: INVALID_ARGUMENT, naming what was expected.
    """
    try:
        request = parse_object(body)
        signature_name = signature_name_of(request)
        if ("instances" in request) == ("inputs" in request):
            raise invalid('the body must hold either "instances" or "inputs"')
        types = input_types(signature_name)
        row_format = "instances" in request
        columns = _columns(request["instances"], types) if row_format else _inputs(request["inputs"], types)
        arrays = {name: to_array(value, types[name], f"input {name!r}") for name, value in columns.items()}
    except RecursionError:
        raise invalid(_TOO_DEEP) from None
    return PredictRequest(signature_name, arrays, row_format)


def write_outputs(outputs: Mapping[str, np.ndarray], row_format: bool) -> bytes:
    """The answer to a `:predict` request; a single output goes without its name, as TF Serving has it.

    Strings that are not UTF-8 are written as they are, so the answer is then no valid JSON: TF Serving does the
    same, and offers base64 for outputs whose name ends in "_bytes".
    """
    plain = {name: to_plain(name, array) for name, array in outputs.items()}
    if not row_format:
        answer = {"outputs": plain if len(plain) > 1 else next(iter(plain.values()))}
    else:
        sizes = {name: array.shape[:1] for name, array in outputs.items()}
        if len(set(sizes.values())) > 1 or () in sizes.values():
            raise invalid(f'the outputs have no common batch size ({sizes}): ask with "inputs", not "instances"')
        if len(plain) > 1:
            answer = {"predictions": [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]}
        else:
            answer = {"predictions": next(iter(plain.values()))}
    return json.dumps(answer, ensure_ascii=False).encode("utf-8", "surrogateescape")


def to_array(value: Any, type_name: str, where: str) -> np.ndarray:
    """Turn a JSON value into an array of exactly that type, without losing anything.

    Args:
        value: a scalar or nested lists of equal lengths.
        type_name: a key of `DTYPES`.
        where: what the value is, for the error message.
    """
    if type_name not in DTYPES:
        raise ServingError(Code.UNIMPLEMENTED, f"{where} is {type_name}, which has no JSON form: use gRPC")
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        if len(shape) == MAX_DIMENSIONS:
            raise invalid(f"{where} has more than {MAX_DIMENSIONS} dimensions")
        shape.append(len(first))
        first = first[0] if first else None
    leaves: list[Any] = []
    _collect(value, shape, type_name, where, leaves)
    array = np.empty(len(leaves), DTYPES[type_name])
    array[:] = leaves
    return array.reshape(shape)


def to_plain(name: str, array: np.ndarray) -> Any:
    """Turn an array into nested lists of Python values that `json.dumps` takes.

    A float32 becomes the shortest decimal that reads back as the same float32 (0.2, not 0.20000000298). Strings
    become `str`, or {"b64": ...} where `name` ends in "_bytes".
    """
    if array.dtype == np.float32:
        return shortest(array).tolist()
    if array.dtype == object:
        return _strings(array.tolist(), name.endswith("_bytes"))
    if array.dtype not in DTYPES.values():
        raise invalid(f"output {name!r} is {array.dtype}, which has no JSON form: use gRPC")
    return array.tolist()


def parse_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object in UTF-8.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    try:
        request = json.loads(body.decode("utf-8"))
    except RecursionError:
        raise invalid(_TOO_DEEP) from None
    except ValueError as error:
        raise invalid(f"the body is not JSON in UTF-8 ({error})") from error
    if not isinstance(request, dict):
        raise invalid(f"the body must be a JSON object. Received: {excerpt(request)}")
    return request


def signature_name_of(request: Mapping[str, Any]) -> str:
    """What a request calls its signature; empty: the default."""
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f'"signature_name" must be a string. Received: {excerpt(name)}')
    to_bytes(name, '"signature_name"')
    return name


def _columns(instances: Any, types: Mapping[str, str]) -> dict[str, list]:
    """Rows of the "instances" form -> one list per input."""
    if not isinstance(instances, list) or not instances:
        raise invalid(f'"instances" must be a list with at least one element. Received: {excerpt(instances)}')
    if not any(map(_is_object, instances)):
        return {_only(types, "instances"): instances}
    for i, row in enumerate(instances):
        if not _is_object(row) or row.keys() != types.keys():
            raise invalid(f"instances[{i}] must be an object with the keys {sorted(types)}. Received: {excerpt(row)}")
    return {name: [row[name] for row in instances] for name in types}


def _inputs(inputs: Any, types: Mapping[str, str]) -> dict[str, Any]:
    """The "inputs" form: already one value per input, or a bare value for the only one."""
    if not _is_object(inputs):
        return {_only(types, "inputs"): inputs}
    if inputs.keys() != types.keys():
        raise invalid(f'"inputs" must be an object with the keys {sorted(types)}. Received keys: {sorted(inputs)}')
    return inputs


def _only(types: Mapping[str, str], key: str) -> str:
    if len(types) != 1:
        raise invalid(f'"{key}" holds bare values, but the signature has several inputs: {sorted(types)}')
    return next(iter(types))


def _collect(value: Any, shape: list[int], type_name: str, where: str, leaves: list[Any]) -> None:
    """Append the leaves of nested lists, checking that the nesting has the shape that its first elements have."""
    if not shape:
        leaves.append(_leaf(value, type_name, where))
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise invalid(f"{where} must be a list of {shape[0]}, as the ones before it. Received: {excerpt(value)}")
    for i, element in enumerate(value):
        _collect(element, shape[1:], type_name, f"{where}[{i}]", leaves)


def _leaf(value: Any, type_name: str, where: str) -> Any:
    """One value of a tensor, checked against its type."""
    dtype = DTYPES[type_name]
    if dtype.kind == "O":
        if isinstance(value, str) or (isinstance(value, dict) and value.keys() == {"b64"}):
            return to_bytes(value, where)
    elif dtype.kind == "b":
        if isinstance(value, bool):
            return value
    elif dtype.kind == "f":
        if isinstance(value, float | int) and not isinstance(value, bool) and fits_float(value, dtype):
            return value
    elif isinstance(value, int) and not isinstance(value, bool):
        limits = np.iinfo(dtype)
        if limits.min <= value <= limits.max:
            return value
    raise invalid(f"{where} must be {type_name}. Received: {excerpt(value)}")


def fits_float(value: float | int, dtype: np.dtype) -> bool:
    """Whether a number survives: whole numbers up to the mantissa, others up to the largest finite value."""
    limits = np.finfo(dtype)
    if isinstance(value, int):
        return abs(value) < 2 ** (limits.nmant + 1)
    return not np.isfinite(value) or abs(value) <= float(limits.max)


def _strings(value: Any, as_base64: bool) -> Any:
    if isinstance(value, list):
        return [_strings(element, as_base64) for element in value]
    if as_base64:
        return {"b64": base64.b64encode(value).decode("ascii")}
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def is_base64(value: Any) -> bool:
    """Whether a JSON value is a string in the form {"b64": …}."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def to_bytes(value: Any, where: str) -> bytes:
    """A JSON string, or {"b64": …}, as bytes; JSON can escape half of a surrogate pair, which has no UTF-8 form."""
    try:
        return value.encode("utf-8") if isinstance(value, str) else base64.b64decode(value["b64"], validate=True)
    except UnicodeEncodeError:
        raise invalid(f"{where} must be DT_STRING, of which UTF-8 has a form. Received: {excerpt(value)}") from None
    except (binascii.Error, ValueError, TypeError):
        raise invalid(f"{where} is not valid base64. Received: {excerpt(value)}") from None


def shortest(array: np.ndarray) -> np.ndarray:
    """float32 as the float64 of the shortest decimal that reads back as the same float32."""
    return array.astype(str).astype(np.float64)


def excerpt(value: Any) -> str:
    """The beginning of a JSON value, for a message."""
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:79] + "…"


_TOO_DEEP = "the JSON is nested too deeply"
