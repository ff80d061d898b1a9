"""A script: runs signatures of a SavedModel through TensorFlow's C API, without Python's TensorFlow.

It reads one JSON request from stdin and answers on stdout; `kbert.export.cpp_loader` starts it. tf-text's kernels are
loaded as plug-ins.
"""

from __future__ import annotations

import base64
import ctypes
import json
import sys
from typing import Any

import numpy as np

# enum TF_DataType of tensorflow/c/tf_datatype.h
_FLOAT, _INT32, _STRING, _INT64 = 1, 3, 7, 9
_NUMPY = {_FLOAT: np.float32, _INT32: np.int32, _INT64: np.int64}
_TSTRING_BYTES = 24  # sizeof(TF_TString)
LIBRARIES = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")
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


class _Output(ctypes.Structure):
    """TF_Output: an operation and the number of one of its results."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class _Library:
    """The few functions of TensorFlow's C API that running a signature takes."""

    def __init__(self, folder: str):
        for name in LIBRARIES:
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
