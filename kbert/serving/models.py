"""One SavedModel, loaded: what the local server answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers its kernels, which TF Serving has linked in
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import ops
from tensorflow_serving.apis import get_model_metadata_pb2

from kbert.errors import InputError
from kbert.serving.batching import Joining
from kbert.serving.calls import Code, ServingError, invalid, one_line

DEFAULT_SIGNATURE = "serving_default"
COUNT_SUFFIX = "_count"


@dataclass(frozen=True)
class Model:
    """One loaded version of a model."""

    name: str
    version: int
    functions: Mapping[str, Callable[..., Mapping[str, tf.Tensor]]]
    """Signature name -> function."""
    signature_defs: Mapping[str, Any]
    """Signature name -> SignatureDef, as the file has it."""

    def signature(self, name: str) -> Any:
        """The SignatureDef of a callable signature.

        Raises:
            ServingError: FAILED_PRECONDITION, as TF Serving has it, naming the signatures there are.
        """
        if name not in self.functions:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"model {self.name!r} has no signature {name!r}; it has {sorted(self.functions)}",
            )
        return self.signature_defs[name]

    def check(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> None:
        """Compare arrays with what a signature takes, so that no wrong request gets as far as the queue.

        Raises:
            ServingError: INVALID_ARGUMENT, naming the input.
        """
        _check_inputs(self.signature(signature_name).inputs, inputs)

    def predict(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a signature.

        Args:
            signature_name: one of `functions`.
            inputs: one array per input of the signature, of its dtype and a shape it allows; strings as `bytes`.

        Returns:
            Output name -> array; strings as `bytes`.

        Raises:
            ServingError: INVALID_ARGUMENT for wrong inputs, here or inside the graph; INTERNAL if the graph fails.
        """
        self.check(signature_name, inputs)
        try:
            tensors = {name: tf.constant(array) for name, array in inputs.items()}
            outputs = self.functions[signature_name](**tensors)
        except tf.errors.InvalidArgumentError as error:
            raise invalid(_graph_message(error)) from error
        except tf.errors.OpError as error:
            raise ServingError(Code.INTERNAL, _graph_message(error)) from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def joining(self, signature_name: str) -> Joining | None:
        """How requests of a signature are joined along the first dimension, if its answers can be told apart again."""
        signature = self.signature(signature_name)
        if not all(_is_batch(info) for info in (*signature.inputs.values(), *signature.outputs.values())):
            return None
        counts = {}
        for name, info in signature.outputs.items():
            free = [i for i, dim in enumerate(info.tensor_shape.dim) if dim.size < 0]
            if free == [0]:
                continue
            count = _count_of(name, signature.outputs)
            if count is None or free != [0, 1]:
                return None
            counts[name] = count
        return Joining(counts)

    def signature_def_map(self) -> get_model_metadata_pb2.SignatureDefMap:
        """All signatures, the one that initialises the graph included, as TF Serving lists them."""
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in self.signature_defs.items():
            signatures.signature_def[name].CopyFrom(signature)
        return signatures


def load_model(name: str, version: int, folder: Path) -> Model:
    """Load one SavedModel.

    Raises:
        InputError: it does not load, for whatever reason.
    """
    try:
        with _gradients_forgotten():
            loaded = tf.saved_model.load(str(folder))
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    except Exception as error:  # a damaged folder raises whatever its first damaged part leads to
        raise InputError(f"{folder} does not load as a SavedModel; export it again ({one_line(error)})") from error
    return Model(name, version, dict(loaded.signatures), dict(saved.meta_graphs[0].signature_def))


@contextmanager
def _gradients_forgotten() -> Iterator[None]:
    """Drop the gradients that are registered inside the block.

    TensorFlow registers a SavedModel's custom gradients for the whole life of the process, and with them all that they
    reach, the weights among it: each version would stay in memory. A server differentiates nothing.
    """
    known = set(ops.gradient_registry.list())
    try:
        yield
    finally:
        for name in set(ops.gradient_registry.list()) - known:
            del ops.gradient_registry._registry[name]


def _is_batch(info: Any) -> bool:
    shape = info.tensor_shape
    return not shape.unknown_rank and len(shape.dim) > 0 and shape.dim[0].size < 0


def _count_of(name: str, outputs: Mapping[str, Any]) -> str | None:
    """The output that counts what is no padding in the rows of another: `entity_count` for `entity_text`."""
    count = name.partition("_")[0] + COUNT_SUFFIX
    if count not in outputs or len(outputs[count].tensor_shape.dim) != 1:
        return None
    return count if tf.as_dtype(outputs[count].dtype).is_integer else None


def _check_inputs(expected: Mapping[str, Any], inputs: Mapping[str, np.ndarray]) -> None:
    """Compare arrays with the TensorInfo of a signature's inputs."""
    if inputs.keys() != set(expected):
        raise invalid(f"expected the inputs {sorted(expected)}. Received: {sorted(inputs)}")
    for name, info in expected.items():
        dtype, shape = tf.as_dtype(info.dtype), tf.TensorShape(info.tensor_shape)
        received = tf.as_dtype(inputs[name].dtype)
        if received != dtype:
            raise invalid(f"input {name!r} must be {dtype.name}. Received: {received.name}")
        if not shape.is_compatible_with(inputs[name].shape):
            raise invalid(f"input {name!r} must have the shape {shape}. Received: {inputs[name].shape}")


def _graph_message(error: tf.errors.OpError) -> str:
    """What an op said, without TensorFlow's preamble about stack traces."""
    return error.message.rpartition("<stack traces unavailable>")[2]
