"""A folder of SavedModels as loaded, callable versions: what the local server answers with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers its kernels, which TF Serving has linked in
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from kbert.errors import InputError
from kbert.serving.calls import Code, ServingError, one_line

DEFAULT_SIGNATURE = "serving_default"


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
        """The SignatureDef of a callable signature; an empty name means the default.

        Raises:
            ServingError: INVALID_ARGUMENT, naming the signatures there are.
        """
        name = name or DEFAULT_SIGNATURE
        if name not in self.functions:
            raise _invalid(f"model {self.name!r} has no signature {name!r}; it has {sorted(self.functions)}")
        return self.signature_defs[name]

    def predict(
        self, signature_name: str, inputs: Mapping[str, tf.Tensor], output_filter: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Run a signature.

        Args:
            signature_name: empty means "serving_default".
            inputs: one tensor per input of the signature, of its dtype and a shape it allows.
            output_filter: the outputs wanted; empty: all.

        Returns:
            Output name -> array; strings as `bytes`.

        Raises:
            ServingError: INVALID_ARGUMENT for wrong inputs, here or inside the graph; INTERNAL if the graph fails.
        """
        signature = self.signature(signature_name)
        _check_inputs(signature.inputs, inputs)
        if not set(output_filter) <= set(signature.outputs):
            raise _invalid(f"output_filter must name outputs: {sorted(signature.outputs)}. Received: {output_filter}")
        try:
            outputs = self.functions[signature_name or DEFAULT_SIGNATURE](**inputs)
        except tf.errors.InvalidArgumentError as error:
            raise _invalid(_graph_message(error)) from error
        except tf.errors.OpError as error:
            raise ServingError(Code.INTERNAL, _graph_message(error)) from error
        return {name: outputs[name].numpy() for name in output_filter or outputs}

    def signature_def_map(self) -> get_model_metadata_pb2.SignatureDefMap:
        """All signatures, the one that initialises the graph included, as TF Serving lists them."""
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in self.signature_defs.items():
            signatures.signature_def[name].CopyFrom(signature)
        return signatures


class ModelStore:
    """The models below one folder, loaded when first asked for.

    Args:
        root: holds `NAME/VERSION/saved_model.pb`; or is one model's folder, which holds `VERSION/saved_model.pb`.

    Raises:
        InputError: there is no model below `root`.
    """

    def __init__(self, root: Path):
        # Resolved, because the last part of "." or ".." names no model.
        self._root = Path(root).resolve()
        self._is_model = bool(_versions(self._root))
        self._loaded: dict[tuple[str, int], Model] = {}
        self._lock = threading.Lock()
        if not self._folders():
            mend = "export a model there first"
            if (self._root / "saved_model.pb").is_file():
                mend = (
                    f"this is one version of a model; give its parent folder {self._root.parent}, and name it a number"
                )
            raise InputError(f"no model to serve: {root} holds no NAME/VERSION/saved_model.pb; {mend}")

    def load_latest(self) -> list[Model]:
        """Load the highest version of every model.

        Raises:
            InputError: one of them does not load.
        """
        return [self._load(name, max(versions), versions) for name, versions in self._folders().items()]

    def get(self, name: str, version: int | None = None) -> Model:
        """One version of a model, by default the highest that stands in its folder now.

        Raises:
            ServingError: NOT_FOUND, naming what there is; INTERNAL, if its files do not load.
        """
        versions = self._find(name, version)
        try:
            return self._load(name, max(versions) if version is None else version, versions)
        except InputError as error:
            raise ServingError(Code.INTERNAL, str(error)) from error

    def status(self, name: str, version: int | None = None) -> get_model_status_pb2.GetModelStatusResponse:
        """The versions of a model, highest first: all are available, since each is loaded when first asked for.

        Raises:
            ServingError: NOT_FOUND, naming what there is.
        """
        versions = self._find(name, version)
        response = get_model_status_pb2.GetModelStatusResponse()
        for number in sorted(versions, reverse=True) if version is None else [version]:
            status = response.model_version_status.add(version=number)
            status.state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
            status.status.SetInParent()  # OK, which a client sees only if the field is there
        return response

    def _find(self, name: str, version: int | None) -> dict[int, Path]:
        """Version -> folder; a version that was asked for is among them."""
        folders = self._folders()
        if name not in folders:
            raise ServingError(Code.NOT_FOUND, f"there is no model {name!r}; there are {sorted(folders)}")
        versions = folders[name]
        if version is not None and version not in versions:
            raise ServingError(Code.NOT_FOUND, f"model {name!r} has no version {version}; it has {sorted(versions)}")
        return versions

    def _folders(self) -> dict[str, dict[int, Path]]:
        """Model name -> version -> folder, as they are on disk now: an export during the run counts at once."""
        candidates = [self._root]
        if not self._is_model:
            candidates = sorted(self._root.iterdir()) if self._root.is_dir() else []
        found = {folder.name: _versions(folder) for folder in candidates}
        return {name: versions for name, versions in found.items() if versions}

    def _load(self, name: str, version: int, versions: Mapping[int, Path]) -> Model:
        if model := self._loaded.get((name, version)):
            return model
        with self._lock:
            if (name, version) not in self._loaded:
                model = load_model(name, version, versions[version])
                if version == max(versions):
                    # A new highest version replaces the others: a long run would otherwise keep every export.
                    self._loaded = {key: old for key, old in self._loaded.items() if key[0] != name}
                self._loaded[name, version] = model
            return self._loaded[name, version]


def load_model(name: str, version: int, folder: Path) -> Model:
    """Load one SavedModel.

    Raises:
        InputError: it does not load, for whatever reason.
    """
    try:
        loaded = tf.saved_model.load(str(folder))
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    except Exception as error:  # a damaged folder raises whatever its first damaged part leads to
        raise InputError(f"{folder} does not load as a SavedModel; export it again ({one_line(error)})") from error
    return Model(name, version, dict(loaded.signatures), dict(saved.meta_graphs[0].signature_def))


def _versions(folder: Path) -> dict[int, Path]:
    """Version -> folder, for the folders named by a number that hold a SavedModel."""
    if not folder.is_dir():
        return {}
    numbered = [child for child in folder.iterdir() if child.name.isascii() and child.name.isdecimal()]
    return {int(child.name): child for child in numbered if (child / "saved_model.pb").is_file()}


def _check_inputs(expected: Mapping[str, Any], inputs: Mapping[str, tf.Tensor]) -> None:
    """Compare tensors with the TensorInfo of a signature's inputs."""
    if inputs.keys() != set(expected):
        raise _invalid(f"expected the inputs {sorted(expected)}. Received: {sorted(inputs)}")
    for name, info in expected.items():
        dtype, shape = tf.as_dtype(info.dtype), tf.TensorShape(info.tensor_shape)
        if inputs[name].dtype != dtype:
            raise _invalid(f"input {name!r} must be {dtype.name}. Received: {inputs[name].dtype.name}")
        if not shape.is_compatible_with(inputs[name].shape):
            raise _invalid(f"input {name!r} must have the shape {shape}. Received: {inputs[name].shape}")


def _graph_message(error: tf.errors.OpError) -> str:
    """What an op said, without TensorFlow's preamble about stack traces."""
    return error.message.rpartition("<stack traces unavailable>")[2]


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
