"""Writes kbert/export/op_sets/: the ops of each TF Serving that `kbert export` checks its graphs against.

    python tests/export/write_op_sets.py FOLDER

FOLDER takes the wheels (2 GB). TF Serving 2.19.1 has TensorFlow 2.19.1 and tf-text 2.12.1 linked, 2.20.0 has 2.20.0 of
both. A process for each TensorFlow opens its C library, loads tf-text's kernels, and lists what has registered; the
kernels of tf-text 2.12.1 load in TensorFlow 2.12.1 alone, whose own ops are taken off again.
"""

from __future__ import annotations

import ctypes
import gzip
import re
import subprocess
import sys
from pathlib import Path

from wheels import kernels, libraries

TARGET = Path(__file__).parents[2] / "kbert/export/op_sets"
SETS = {
    "tf-serving-2.19": ("tensorflow-cpu==2.19.1", "tensorflow-cpu==2.12.1", "tensorflow-text==2.12.1"),
    "tf-serving-2.20": ("tensorflow-cpu==2.20.0", "tensorflow-cpu==2.20.0", "tensorflow-text==2.20.0"),
}
Ops = dict[str, list[str]]


class _Buffer(ctypes.Structure):
    """TF_Buffer."""

    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p))


def _list(folder: str, what: str, *plug_ins: str) -> None:
    """In a process of its own: write the OpList or the KernelList of a TensorFlow with plug-ins to stdout."""
    for name in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"):
        c = ctypes.CDLL(f"{folder}/{name}", ctypes.RTLD_GLOBAL)
    c.TF_NewStatus.restype = ctypes.c_void_p
    c.TF_Message.restype = ctypes.c_char_p
    status = ctypes.c_void_p(c.TF_NewStatus())
    for path in plug_ins:
        c.TF_LoadLibrary(path.encode(), status)
        if c.TF_GetCode(status):
            raise SystemExit(c.TF_Message(status).decode())
    listing = getattr(c, what)
    listing.restype = ctypes.POINTER(_Buffer)
    buffer = (listing() if what == "TF_GetAllOpList" else listing(status)).contents
    sys.stdout.buffer.write(ctypes.string_at(buffer.data, buffer.length))


def registered(tensorflow: Path, plug_ins: list[Path]) -> Ops:
    """Op -> its attributes, for those that a CPU can run: some are known and have their kernels in Python alone."""
    # Not in the process of another TensorFlow.
    from tensorflow.core.framework import kernel_def_pb2, op_def_pb2

    def listed(what: str) -> bytes:
        command = [sys.executable, __file__, "list", tensorflow, what, *plug_ins]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout

    ops = op_def_pb2.OpList.FromString(listed("TF_GetAllOpList")).op
    kernels = kernel_def_pb2.KernelList.FromString(listed("TF_GetAllRegisteredKernels")).kernel
    runnable = {kernel.op for kernel in kernels if kernel.device_type in ("CPU", "DEFAULT")}
    return {op.name: [attr.name for attr in op.attr] for op in ops if op.name in runnable}


def graph_version(tensorflow: Path) -> int:
    """The newest GraphDef that a TensorFlow reads."""
    header = (tensorflow / "include/tensorflow/core/public/version.h").read_text()
    (version,) = re.findall(r"#define TF_GRAPH_DEF_VERSION (\d+)", header)
    return int(version)


def write(folder: Path) -> None:
    TARGET.mkdir(exist_ok=True)
    for name, (core, host, text) in SETS.items():
        with_text = registered(libraries(host, folder), kernels(text, folder))
        text_ops = {op: with_text[op] for op in with_text.keys() - registered(libraries(host, folder), []).keys()}
        ops = registered(libraries(core, folder), []) | text_ops
        # Names that begin with "_" are of ops that TensorFlow makes as it runs a graph.
        lines = [" ".join([op, *attributes]) for op, attributes in sorted(ops.items()) if op[0] != "_"]
        head = f"graph_version {graph_version(libraries(core, folder))}"
        content = "\n".join([head, *lines, ""]).encode("ascii")
        (TARGET / f"{name}.txt.gz").write_bytes(gzip.compress(content, mtime=0))
        print(f"{name}: {len(lines)} ops, of which {len(text_ops)} of {text}")


if __name__ == "__main__":
    if sys.argv[1] == "list":
        _list(*sys.argv[2:])
    else:
        write(Path(sys.argv[1]))
