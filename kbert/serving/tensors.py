"""Tensors as TensorFlow's protocol buffers and as numpy arrays, the way TF Serving reads and writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.serving.calls import invalid

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


def to_arrays(protos: Mapping[str, Any], max_bytes: float = math.inf) -> dict[str, np.ndarray]:
    """Read TensorProtos; strings become `bytes`.

    Args:
        protos: input name -> TensorProto.
        max_bytes: the largest tensor to make: a few bytes of a request can ask for any number of equal values.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the input.
    """
    return {name: _to_array(name, proto, max_bytes) for name, proto in protos.items()}


def fill(target: Any, outputs: Mapping[str, np.ndarray]) -> None:
    """Write arrays into a map of TensorProtos."""
    for name, array in outputs.items():
        value_field = VALUE_FIELDS.get(array.dtype)
        if value_field is None:
            target[name].CopyFrom(tf.make_tensor_proto(array))
            continue
        proto = target[name]
        proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
        proto.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
        getattr(proto, value_field).extend(array.ravel().tolist())


def _to_array(name: str, proto: Any, max_bytes: float) -> np.ndarray:
    try:
        sizes = [dim.size for dim in proto.tensor_shape.dim]
        if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
            raise ValueError("its shape is not known")
        if math.prod(sizes) * tf.as_dtype(proto.dtype).size > max_bytes:
            raise ValueError(f"it has the shape {sizes}, and at most {max_bytes} bytes are taken")
        array = tf.make_ndarray(proto)
        tf.as_dtype(array.dtype)
        return array
    except (TypeError, ValueError, KeyError) as error:  # KeyError: a dtype without values, such as a resource
        raise invalid(f"input {name!r} is no valid TensorProto: {error}") from error
