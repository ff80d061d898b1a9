"""How quick training and prediction of a classifier are, beside other libraries; text in, labels out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from kbert.bench.entries import Entry, chosen
from kbert.bench.timing import Contender, Measurement, compare
from kbert.bench.worker import start

_PEERS = "kbert.bench.peers:"
_TORCH = ("torch", "transformers")


_PREDICTORS = (
    Entry("transformers", f"{_PEERS}transformers_predict", {"sort": False}, _TORCH, "padded to the batch"),
    Entry("transformers sorted", f"{_PEERS}transformers_predict", {"sort": True}, _TORCH, "sorted by length"),
    Entry(
        "ONNX Runtime",
        f"{_PEERS}onnxruntime_predict",
        {"int8": False},
        (*_TORCH, "onnx", "onnxruntime"),
        "sorted by length",
    ),
    Entry(
        "ONNX Runtime int8",
        f"{_PEERS}onnxruntime_predict",
        {"int8": True},
        (*_TORCH, "onnx", "onnxruntime"),
        "dynamic quantization, sorted by length",
    ),
    Entry("keras-hub", f"{_PEERS}keras_hub_predict", {}, ("keras_hub",), "padded to 128 tokens"),
    Entry("kbert", "kbert.bench.classifying:kbert_predict", {"engine": None}, (), "TensorFlow"),
    Entry("kbert LiteRT", "kbert.bench.classifying:kbert_predict", {"engine": "none"}, ("ai_edge_litert",), "float32"),
    Entry(
        "kbert LiteRT int8", "kbert.bench.classifying:kbert_predict", {"engine": "int8"}, ("ai_edge_litert",), "int8"
    ),
)
_TRAINERS = (
    Entry(
        "transformers",
        f"{_PEERS}transformers_train",
        {"group_by_length": False},
        (*_TORCH, "accelerate"),
        "as it comes",
    ),
    Entry(
        "transformers by length",
        f"{_PEERS}transformers_train",
        {"group_by_length": True},
        (*_TORCH, "accelerate"),
        "group_by_length",
    ),
    Entry("keras-hub", f"{_PEERS}keras_hub_train", {}, ("keras_hub",), "padded to 128 tokens"),
    Entry("kbert", "kbert.bench.classifying:kbert_train"),
)


def compare_predictors(
    texts: Sequence[str], folder: str, batch_size: int, rounds: int, threads: int, only: Sequence[str] = ()
) -> list[Measurement]:
    """Time what turns texts into class probabilities: kbert, and those peers that are installed.

    Args:
        texts: In the order in which they are asked about.
        folder: The classifier that all of them open.
        batch_size: Texts computed at once.
        rounds: Timed runs of each.
        threads: That each may use.
        only: Names of contenders; none takes all.
    """
    arguments = {"folder": folder, "texts": list(texts), "batch_size": batch_size}
    return _compare(chosen(_PREDICTORS, only), arguments, rounds, threads)


def compare_trainers(
    texts: Sequence[str],
    labels: Sequence[int],
    folder: str,
    batch_size: int,
    rounds: int,
    threads: int,
    only: Sequence[str] = (),
) -> list[Measurement]:
    """Time an epoch of fine-tuning: kbert, and those peers that are installed.

    Args:
        texts: The examples.
        labels: Their class numbers, from 0.
        folder: The classifier that all of them start from.
        batch_size: Examples per optimizer step.
        rounds: Timed epochs of each.
        threads: That each may use.
        only: Names of contenders; none takes all.
    """
    arguments = {"folder": folder, "texts": list(texts), "labels": list(labels), "batch_size": batch_size}
    return _compare(chosen(_TRAINERS, only), arguments, rounds, threads)


def _compare(entries: Sequence[Entry], arguments: dict[str, Any], rounds: int, threads: int) -> list[Measurement]:
    with ExitStack() as stack:
        contenders = []
        for entry in entries:
            worker = start(stack, entry.function, {**arguments, **entry.settings}, threads)
            contenders.append(Contender(entry.name, worker.run, entry.note))
        return compare(contenders, len(arguments["texts"]), "texts/s", rounds, "timing")


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
