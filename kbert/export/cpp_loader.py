"""Run a SavedModel as TF Serving does: TensorFlow's C++ loader, in a fresh process, without Python's TensorFlow.

`tf.saved_model.load` proves nothing about TF Serving, since Python rebuilds objects that the C++ loader does not know.
So the child process here imports no TensorFlow: it opens the wheel's own library with ctypes, loads tf-text's kernels
as a plug-in, and calls the C API. Run as a script it reads one JSON request from stdin and answers on stdout.
"""

from __future__ import annotations

import base64
import ctypes
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kbert.errors import InputError

# enum TF_DataType of tensorflow/c/tf_datatype.h
_FLOAT, _INT32, _STRING, _INT64 = 1, 3, 7, 9
_NUMPY = {_FLOAT: np.float32, _INT32: np.int32, _INT64: np.int64}
_TSTRING_BYTES = 24  # sizeof(TF_TString)
_LIBRARIES = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")
_RETURN_POINTERS = (
    "TF_NewStatus",
    "TF_NewGraph",
    "TF_NewSessionOptions",
    "TF_LoadSessionFromSavedModel",
    "TF_LoadLibrary",
    "TF_AllocateTensor",
    "TF_TensorData",
    "TF_GraphOperationByName",
    "TF_StringGetDataPointer",
)


@dataclass(frozen=True)
class Libraries:
    """A TensorFlow to load a SavedModel in."""

    tensorflow: Path
    """The folder of its shared libraries."""
    kernels: tuple[Path, ...]
    """The plug-ins with tf-text's kernels."""


def installed_libraries() -> Libraries:
    """TensorFlow and tf-text as they are installed here; InputError where there is no C library among them."""
    import tensorflow as tf
    import tensorflow_text

    folder = Path(tf.__file__).parent
    if not list(folder.glob(_LIBRARIES[-1])):
        raise InputError("this platform's TensorFlow has no C library to check the export with: add --no-verify")
    return Libraries(folder, tuple(sorted(Path(tensorflow_text.__file__).parent.glob("python/ops/_*.so"))))


Inputs = Mapping[str, Sequence[str | bytes]]
"""Input name to strings [B]."""


def run_in_cpp_loader(
    folder: str | Path, inputs: Inputs, signature: str = "serving_default", timeout: float = 300
) -> dict[str, np.ndarray]:
    """Load a SavedModel in a fresh process through TensorFlow's C API and run one signature.

    Args:
        folder: a version folder, with saved_model.pb.
        inputs: input name to strings [B].
        signature: the signature to run.
        timeout: seconds.

    Returns:
        Output name to array; strings as Python str.

    Raises:
        InputError: the folder does not load or does not run there; the message is the loader's own.
    """
    return run_all_in_cpp_loader(folder, [(signature, inputs)], timeout)[0]


def run_all_in_cpp_loader(
    folder: str | Path,
    calls: Sequence[tuple[str, Inputs]],
    timeout: float = 300,
    libraries: Libraries | None = None,
) -> list[dict[str, np.ndarray]]:
    """Load a SavedModel once and run several signatures, as `run_in_cpp_loader` does.

    Args:
        folder: a version folder, with saved_model.pb.
        calls: signature and inputs of each run.
        timeout: seconds, for all of them.
        libraries: the TensorFlow to load it in; None: the one installed.
    """
    libraries = libraries or installed_libraries()
    definitions = signature_defs(Path(folder))
    request = {
        "folder": str(folder),
        "libraries": str(libraries.tensorflow),
        "kernels": [str(path) for path in libraries.kernels],
        "calls": [_call(definitions[signature], inputs) for signature, inputs in calls],
    }
    answers = json.loads(_child(request, timeout).strip().splitlines()[-1])
    return [{name: _array(value) for name, value in answer.items()} for answer in answers]


def _child(request: dict[str, Any], timeout: float) -> str:
    """What this file, run as a script on a request, writes to stdout."""
    try:
        process = subprocess.run(
            [sys.executable, __file__],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{request['folder']} gave no answer in TensorFlow's C++ loader within {timeout:.0f} s"
        ) from None
    if process.returncode:
        reason = process.stderr.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise InputError(f"{request['folder']} does not run in TensorFlow's C++ loader: {reason[0]}")
    return process.stdout


def signature_defs(folder: Path) -> dict[str, Any]:
    """The SignatureDefs of a version folder that can be called, by their names."""
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    definitions = proto.meta_graphs[0].signature_def
    return {name: definition for name, definition in definitions.items() if definition.method_name}


def _call(definition: Any, inputs: Inputs) -> dict[str, Any]:
    """The graph's names of a signature's inputs and outputs, with the values of the inputs."""
    return {
        "inputs": {definition.inputs[name].name: [_to_base64(v) for v in values] for name, values in inputs.items()},
        "outputs": {name: [info.name, info.dtype] for name, info in definition.outputs.items()},
    }


def _to_base64(value: str | bytes) -> str:
    return base64.b64encode(value if isinstance(value, bytes) else value.encode("utf8")).decode("ascii")


def _array(value: dict[str, Any]) -> np.ndarray:
    dtype = object if value["dtype"] == "str" else value["dtype"]
    return np.array(value["values"], dtype=dtype).reshape(value["shape"])


class _Output(ctypes.Structure):
    """TF_Output: an operation and the number of one of its results."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class _Library:
    """The few functions of TensorFlow's C API that running a signature takes."""

    def __init__(self, folder: str):
        for name in _LIBRARIES:
            self.c = ctypes.CDLL(f"{folder}/{name}", ctypes.RTLD_GLOBAL)
        for name in _RETURN_POINTERS:
            getattr(self.c, name).restype = ctypes.c_void_p
        self.c.TF_Message.restype = ctypes.c_char_p
        for name in ("TF_StringGetSize", "TF_TensorByteSize"):
            getattr(self.c, name).restype = ctypes.c_size_t
        self.c.TF_Dim.restype = ctypes.c_int64
        self.status = ctypes.c_void_p(self.c.TF_NewStatus())

    def check(self) -> None:
        if self.c.TF_GetCode(self.status):
            # The first line is the reason; the rest lists nodes.
            raise SystemExit(self.c.TF_Message(self.status).decode().splitlines()[0])

    def load(self, folder: str) -> None:
        self.graph = ctypes.c_void_p(self.c.TF_NewGraph())
        options = ctypes.c_void_p(self.c.TF_NewSessionOptions())
        tags = (ctypes.c_char_p * 1)(b"serve")
        session = self.c.TF_LoadSessionFromSavedModel(
            options, None, folder.encode(), tags, 1, self.graph, None, self.status
        )
        self.check()
        self.session = ctypes.c_void_p(session)

    def output(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        found = self.c.TF_GraphOperationByName(self.graph, operation.encode())
        return _Output(found, int(index or 0))

    def string_tensor(self, values: list[bytes]) -> int:
        shape = (ctypes.c_int64 * 1)(len(values))
        tensor = self.c.TF_AllocateTensor(_STRING, shape, 1, ctypes.c_size_t(_TSTRING_BYTES * len(values)))
        data = self.c.TF_TensorData(ctypes.c_void_p(tensor))
        for i, value in enumerate(values):
            cell = ctypes.c_void_p(data + i * _TSTRING_BYTES)
            self.c.TF_StringInit(cell)
            self.c.TF_StringCopy(cell, value, ctypes.c_size_t(len(value)))
        return tensor

    def to_json(self, tensor: int, dtype: int) -> dict[str, Any]:
        pointer = ctypes.c_void_p(tensor)
        shape = [self.c.TF_Dim(pointer, i) for i in range(self.c.TF_NumDims(pointer))]
        data = self.c.TF_TensorData(pointer)
        if dtype == _STRING:
            cells = [ctypes.c_void_p(data + i * _TSTRING_BYTES) for i in range(int(np.prod(shape)))]
            strings = [
                ctypes.string_at(self.c.TF_StringGetDataPointer(cell), self.c.TF_StringGetSize(cell)) for cell in cells
            ]
            return {"dtype": "str", "shape": shape, "values": [string.decode("utf8") for string in strings]}
        content = ctypes.string_at(data, self.c.TF_TensorByteSize(pointer))
        array = np.frombuffer(content, dtype=_NUMPY[dtype])
        return {"dtype": array.dtype.name, "shape": shape, "values": array.tolist()}

    def run(self, feeds: list[tuple[_Output, int]], fetches: list[_Output]) -> list[int]:
        results = (ctypes.c_void_p * len(fetches))()
        self.c.TF_SessionRun(
            self.session,
            None,
            (_Output * len(feeds))(*[output for output, _ in feeds]),
            (ctypes.c_void_p * len(feeds))(*[tensor for _, tensor in feeds]),
            len(feeds),
            (_Output * len(fetches))(*fetches),
            results,
            len(fetches),
            None,
            0,
            None,
            self.status,
        )
        self.check()
        return list(results)


def _main() -> None:
    request = json.load(sys.stdin)
    library = _Library(request["libraries"])
    for path in request["kernels"]:
        library.c.TF_LoadLibrary(path.encode(), library.status)
        library.check()
    library.load(request["folder"])
    print(json.dumps([_answer(library, call) for call in request["calls"]]))


def _answer(library: _Library, call: dict[str, Any]) -> dict[str, Any]:
    feeds = [
        (library.output(tensor), library.string_tensor([base64.b64decode(value) for value in values]))
        for tensor, values in call["inputs"].items()
    ]
    outputs = call["outputs"]
    results = library.run(feeds, [library.output(tensor) for tensor, _ in outputs.values()])
    return {
        name: library.to_json(result, dtype)
        for (name, (_, dtype)), result in zip(outputs.items(), results, strict=True)
    }


if __name__ == "__main__":
    _main()
