"""How quick training and prediction of a classifier are, beside other libraries; text in, labels out."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from kbert.bench.timing import Contender, Measurement, compare
from kbert.bench.worker import start

_PEERS = "kbert.bench.peers:"
_TORCH = ("torch", "transformers")


@dataclass(frozen=True)
class _Entry:
    """A contender, if what it needs is installed."""

    name: str
    function: str
    settings: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    note: str = ""


_PREDICTORS = (
    _Entry("transformers", f"{_PEERS}transformers_predict", {"sort": False}, _TORCH, "padded to the batch"),
    _Entry("transformers, sorted", f"{_PEERS}transformers_predict", {"sort": True}, _TORCH, "sorted by length"),
    _Entry(
        "ONNX Runtime",
        f"{_PEERS}onnxruntime_predict",
        {"int8": False},
        (*_TORCH, "onnx", "onnxruntime"),
        "sorted by length",
    ),
    _Entry(
        "ONNX Runtime int8",
        f"{_PEERS}onnxruntime_predict",
        {"int8": True},
        (*_TORCH, "onnx", "onnxruntime"),
        "dynamic quantization, sorted by length",
    ),
    _Entry("keras-hub", f"{_PEERS}keras_hub_predict", {}, ("keras_hub",), "padded to 128 tokens"),
    _Entry("kbert", "kbert.bench.classifying:kbert_predict", {"engine": None}, (), "TensorFlow"),
    _Entry("kbert LiteRT", "kbert.bench.classifying:kbert_predict", {"engine": "none"}, ("ai_edge_litert",), "float32"),
    _Entry(
        "kbert LiteRT int8", "kbert.bench.classifying:kbert_predict", {"engine": "int8"}, ("ai_edge_litert",), "int8"
    ),
)
_TRAINERS = (
    _Entry(
        "transformers",
        f"{_PEERS}transformers_train",
        {"group_by_length": False},
        (*_TORCH, "accelerate"),
        "as it comes",
    ),
    _Entry(
        "transformers, by length",
        f"{_PEERS}transformers_train",
        {"group_by_length": True},
        (*_TORCH, "accelerate"),
        "group_by_length",
    ),
    _Entry("keras-hub", f"{_PEERS}keras_hub_train", {}, ("keras_hub",), "padded to 128 tokens"),
    _Entry("kbert", "kbert.bench.classifying:kbert_train"),
)


def compare_predictors(
    texts: Sequence[str], preset: str, batch_size: int, rounds: int, threads: int
) -> list[Measurement]:
    """Time what turns texts into class probabilities: kbert, and those peers that are installed.

    Args:
        texts: In the order in which they are asked about.
        preset: The encoder; its head is drawn afresh, the same for all.
        batch_size: Texts computed at once.
        rounds: Timed runs of each.
        threads: That each may use.
    """
    return _compare(_PREDICTORS, preset, 2, {"texts": list(texts), "batch_size": batch_size}, rounds, threads)


def compare_trainers(
    texts: Sequence[str], labels: Sequence[int], preset: str, batch_size: int, rounds: int, threads: int
) -> list[Measurement]:
    """Time an epoch of fine-tuning: kbert, and those peers that are installed.

    Args:
        texts: The examples.
        labels: Their class numbers, from 0.
        preset: The encoder.
        batch_size: Examples per optimizer step.
        rounds: Timed epochs of each.
        threads: That each may use.
    """
    arguments = {"texts": list(texts), "labels": list(labels), "batch_size": batch_size}
    return _compare(_TRAINERS, preset, max(labels) + 1, arguments, rounds, threads)


def _compare(
    entries: Sequence[_Entry], preset: str, num_classes: int, arguments: dict[str, Any], rounds: int, threads: int
) -> list[Measurement]:
    with _classifier_folder(preset, num_classes) as folder, ExitStack() as stack:
        contenders = []
        for entry in entries:
            if all(importlib.util.find_spec(name) for name in entry.needs):
                worker = start(stack, entry.function, {"folder": folder, **arguments, **entry.settings}, threads)
                contenders.append(Contender(entry.name, worker.run, entry.note))
        return compare(contenders, len(arguments["texts"]), "texts/s", rounds, "timing")


@contextmanager
def _classifier_folder(preset: str, num_classes: int) -> Iterator[str]:
    """A folder that all contenders open: the preset with a head drawn afresh."""
    import kbert

    with tempfile.TemporaryDirectory() as folder:
        labels = [str(i) for i in range(num_classes)]
        kbert.BertTextClassifier.from_preset(preset, labels=labels).save_to_preset(folder)
        yield folder


# === In a worker ===


def kbert_predict(
    folder: str, texts: Sequence[str], batch_size: int, engine: str | None, threads: int
) -> Callable[[], Any]:
    """kbert's classifier in TensorFlow (None), or in LiteRT with this quantization."""
    import kbert

    model = kbert.BertTextClassifier.from_preset(folder)
    litert = None if engine is None else kbert.LiteRTEngine(model, engine, threads)
    return lambda: model.predict(texts, batch_size=batch_size, engine=litert)


def kbert_train(
    folder: str, texts: Sequence[str], labels: Sequence[int], batch_size: int, threads: int
) -> Callable[[], Any]:
    """kbert's `fit`, as it comes."""
    import kbert

    model = kbert.BertTextClassifier.from_preset(folder)
    return lambda: model.fit(texts, labels, batch_size=batch_size, verbose=0)
