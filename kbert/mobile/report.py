"""How good and how quick a file for phones is, beside the model it was made of."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.mobile.characters import phone_tokenizer
from kbert.mobile.forms import form_of
from kbert.mobile.inputs import INPUTS_OF_KIND
from kbert.mobile.litert import interpreter_class
from kbert.tasks.inputs import text_columns, to_numpy
from kbert.tasks.task import Task

_TIMED_TEXTS = 100
Row = Mapping[str, np.ndarray]


class MobileFile:
    """A file in LiteRT's Python runtime.

    Args:
        content: The file.
        model: What it was made of, with rows as long as the file's.
        inputs: The file's kind of input.
        threads: Threads to compute on.

    Raises:
        InputError: The package ai-edge-litert is missing.
    """

    def __init__(self, content: bytes, model: Task, inputs: str = "ids", threads: int = 1):
        interpreter = interpreter_class("running a .tflite file")
        self._model = model
        self._form = form_of(model)
        self._inputs = INPUTS_OF_KIND[inputs](model, self._form)
        self._run: Any = interpreter(model_content=content, num_threads=threads).get_signature_runner()
        self.rows = self._inputs.rows
        self.predict = self._by_rows if inputs == "ids" else self._by_texts
        """Answers as the model's own `predict` gives them, computed by the file."""

    def __call__(self, row: Row) -> dict[str, np.ndarray]:
        """The inputs of one row to its outputs, each [1, ...]."""
        return self._run(**row)

    def _by_rows(self, x: Any, batch_size: int = 32) -> dict[str, np.ndarray]:
        def engine(features: dict[str, tf.Tensor]) -> np.ndarray:
            raw = self._raw(self._inputs.of_features(features))
            T = features["token_ids"].shape[1]
            return raw[:, :T] if raw.ndim > 2 else raw  # scores of tokens

        return self._model.predict(x, batch_size=batch_size, engine=engine)

    def _by_texts(self, x: Any, batch_size: int = 32) -> dict[str, np.ndarray]:
        columns = text_columns(x, self._model.input_names)
        texts = [tf.constant(column) for column in columns]
        answers = self._model.answers(tf.constant(self._raw(self.rows(columns))), {}, *texts)
        return {name: to_numpy(value) for name, value in answers.items()}

    def _raw(self, rows: Sequence[Row]) -> np.ndarray:
        return np.concatenate([self._form.raw(self(row)) for row in rows])


def report(model: Task, x: Any, y: Any, inputs: str, content: bytes, float_content: bytes) -> dict[str, Any]:
    """Metrics of a file, how far its answers are from the model's, and its time at batch 1 on one thread.

    Args:
        model: What the file was made of.
        x: Texts, as `evaluate` takes them.
        y: Their labels.
        inputs: The file's kind of input, of `kbert.mobile.choices.INPUT_KINDS`.
        content: The file.
        float_content: The same in float32; may be the same file.

    Returns:
        `examples`; `metrics` and `model_metrics`; `same_answers`, the examples for which both give the same labels or
        texts (absent where there are none); `largest_difference` of any score or number; `misread_texts`, those
        that the tokenizer of MediaPipe reads otherwise (absent where it runs no such file); `latency_ms`, the median of
        up to 100 texts; and `latency_ratio`, the median of ratios to the float32 file, run in turns.
    """
    file = MobileFile(content, model, inputs)
    expected, found = model.answers_to_score(x), model.answers_to_score(x, predict=file.predict)
    result: dict[str, Any] = {"examples": len(next(iter(expected.values())))}
    result["metrics"] = {name: float(value) for name, value in sorted(model.score(found, y).items())}
    result["model_metrics"] = {name: float(value) for name, value in sorted(model.score(expected, y).items())}
    result |= _agreement(expected, found) | _misread(model, x, inputs)
    baseline = MobileFile(float_content, model, inputs)
    columns = text_columns(x, model.training_names)[: len(model.input_names)]
    step = -(-len(columns[0]) // _TIMED_TEXTS)
    return result | _latency(file, baseline, file.rows(tuple(column[::step] for column in columns)))


def _agreement(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    exact = [name for name, value in expected.items() if value.dtype == object]
    numbers = [name for name, value in expected.items() if value.dtype.kind == "f"]
    result: dict[str, Any] = {}
    if exact:
        same = [[a == b for a, b in zip(_lists(expected[n]), _lists(found[n]), strict=True)] for n in exact]
        result["same_answers"] = int(np.all(same, axis=0).sum())
    apart = [_difference(expected[name], found[name]) for name in numbers]
    return result | {"largest_difference": max(apart, default=0.0)}


def _misread(model: Task, x: Any, inputs: str) -> dict[str, int]:
    if inputs != "ids" or len(model.input_names) > 1 or not form_of(model).apps():
        return {}
    read = phone_tokenizer(model.tokenizer.vocabulary)
    texts = [text for column in text_columns(x, model.training_names) for text in column]
    pairs = zip(read(texts).to_list(), model.tokenizer.tokenize(texts).to_list(), strict=True)
    return {"misread_texts": sum(theirs != ours for theirs, ours in pairs)}


def _lists(rows: np.ndarray) -> list[Any]:
    """Each row without the "" that fills it."""
    return [[text for text in np.atleast_1d(row).tolist() if text] for row in rows]


def _difference(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest difference of rows that may be filled to different widths."""
    width = min(expected.shape[1:], found.shape[1:])
    place = (slice(None), *map(slice, width))
    return float(np.abs(expected[place] - found[place]).max())


def _latency(file: MobileFile, baseline: MobileFile, rows: Sequence[Row]) -> dict[str, float]:
    for each in (file, baseline):
        each(rows[0])
    times = np.array([[_seconds(each, row) for each in (file, baseline)] for row in rows])
    return {
        "latency_ms": round(float(np.median(times[:, 0])) * 1e3, 3),
        "latency_ratio": round(float(np.median(times[:, 0] / times[:, 1])), 3),
    }


def _seconds(file: MobileFile, row: Row) -> float:
    start = time.perf_counter()
    file(row)
    return time.perf_counter() - start
