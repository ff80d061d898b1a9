"""Run a SavedModel as TF Serving does: TensorFlow's C++ loader, in a fresh process, without Python's TensorFlow.

`tf.saved_model.load` proves nothing about TF Serving, since Python rebuilds objects that the C++ loader does not know.
So cpp_session.py, run as a script, imports no TensorFlow: it opens the wheel's own library and calls the C API.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kbert.errors import InputError
from kbert.export import cpp_session


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
    if not list(folder.glob(cpp_session.LIBRARIES[-1])):
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
    """What cpp_session.py writes to stdout on a request."""
    try:
        process = subprocess.run(
            [sys.executable, cpp_session.__file__],
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
