"""Runs exports of every task in the C++ loaders of other TensorFlows, and compares the answers with this one's.

    PYTHONPATH=.:tests python tests/export/other_runtimes.py FOLDER

FOLDER takes the wheels, unpacked (1.6 GB), and is used again. No TF Serving is run here: what comes closest to it are
the libraries of its TensorFlow. tf-text 2.12.1, which TF Serving up to 2.19.1 has linked, does not load in TensorFlow
2.19.1; the nearest tf-text does its work there, without the kernels that 2.12.1 lacks. What the kernel itself of 2.12.1
answers, tests/tokenization/runtimes.py compares.

One JSON object a task and runtime; the exit code is the number of those whose strings and integers differ, or whose
floats lie more than 1e-5 apart.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from conftest import write_tiny_encoder
from export.cases import CASES, examples, graph_of, inputs_of, text_ops
from export.wheels import RUNTIMES, Wheels, kernels, libraries

from kbert.export.cpp_loader import Libraries, run_all_in_cpp_loader
from kbert.export.ops import check_graph
from kbert.export.saved_model import export_saved_model
from kbert.tasks.task import Task

_TOLERANCE = 1e-5


def compare(case: str, model: Task, folder: Path, runtimes: dict[Wheels, Libraries]) -> int:
    """Print what each runtime answers; the number of those that differ."""
    version = export_saved_model(model, folder / "model", verify=False)
    inputs = inputs_of(case)
    calls = [("serving_default", inputs), *([(api, examples(**inputs))] if (api := model.example_api) else [])]
    here = flat(run_all_in_cpp_loader(version, calls))
    differing = 0
    for wheels, there in runtimes.items():
        answers = flat(run_all_in_cpp_loader(version, calls, libraries=there))
        exact = [name for name, value in here.items() if value.dtype.kind != "f"]
        same = all(answers[name].tolist() == here[name].tolist() for name in exact)
        furthest = max((np.abs(answers[n] - v).max() for n, v in here.items() if n not in exact and v.size), default=0)
        row = {
            "task": case,
            "tf_serving": wheels.serving,
            "tensorflow": wheels.tensorflow,
            "tensorflow_text": wheels.text,
            "strings_and_integers": "same" if same else "differ",
            "floats_apart": float(furthest),
            "text_ops": checked_text_ops(version, wheels),
        }
        print(json.dumps(row), flush=True)
        differing += not (same and furthest <= _TOLERANCE)
    return differing


def flat(answers: list[dict[str, np.ndarray]]) -> dict[tuple[int, str], np.ndarray]:
    """The outputs of all calls."""
    return {(i, name): value for i, outputs in enumerate(answers) for name, value in outputs.items()}


def checked_text_ops(version: Path, wheels: Wheels) -> list[str]:
    """The ops of a graph that are not TensorFlow's own, after a check that TF Serving has linked all of them."""
    graph = graph_of(version)
    check_graph(graph, [f"tf-serving=={wheels.serving}"])
    return sorted(text_ops(graph))


def main(folder: Path) -> int:
    runtimes = {
        wheels: Libraries(libraries(wheels.tensorflow, folder), tuple(kernels(wheels.text, folder, wheels.left_out)))
        for wheels in RUNTIMES
    }
    differing = 0
    with tempfile.TemporaryDirectory() as work:
        encoder = write_tiny_encoder(Path(work, "encoder"))
        for i, (case, (make, _)) in enumerate(CASES.items()):
            keras.utils.set_random_seed(2)
            differing += compare(case, make(str(encoder)), Path(work, str(i)), runtimes)
    return differing


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
