"""What a classifier's logits mean: one class a text, any number of them, or a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from kbert.config import ClassifyConfig
from kbert.errors import InputError
from kbert.metrics.classification import class_report, classification_metrics, multi_label_metrics, multi_label_report
from kbert.metrics.correlation import correlation_metrics
from kbert.tasks.inputs import label_numbers

Judgements = tuple[dict[str, Any] | None, list[dict[str, Any]]]


class Problem(Protocol):
    """How labels become targets, and logits float32 [B, C] answers."""

    example_api: str
    """As `Task.example_api`."""

    def loss(self) -> keras.losses.Loss:
        """The loss of a text, averaged over the last axis."""

    def metrics(self) -> list[keras.metrics.Metric]:
        """What `fit` shows of each batch."""

    def targets(self, y: Any) -> np.ndarray:
        """Labels as numbers, first axis the texts; InputError for those that the model does not know."""

    def graph_targets(self, y: tf.Tensor) -> tf.Tensor:
        """The same for a batch of a tf.data."""

    def answers(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """The outputs of the served signature; runs in a graph."""

    def example_answers(self, answers: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """As `Task.example_answers`."""

    def score(self, answers: Mapping[str, np.ndarray], targets: np.ndarray) -> dict[str, float]:
        """Metrics of answers."""

    def judgements(self, answers: Mapping[str, np.ndarray], targets: np.ndarray) -> Judgements:
        """As `Trainable.judgements`."""


class SingleLabel:
    """One class a text: softmax and cross-entropy."""

    example_api = "classify"

    def __init__(self, labels: Sequence[str]):
        self.labels = tuple(labels)

    def loss(self):
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def targets(self, y):
        return label_numbers(y, self.labels)

    def graph_targets(self, y):
        if y.dtype != tf.string:
            return y
        matches = y[:, None] == tf.constant(self.labels)[None, :]  # [B, C]
        check = tf.debugging.assert_equal(tf.reduce_any(matches, 1), True, "a label that the model lacks")
        with tf.control_dependencies([check]):
            return tf.argmax(matches, axis=1, output_type=tf.int32)

    def answers(self, logits):
        probabilities = tf.nn.softmax(logits)
        return {
            "label": tf.gather(tf.constant(self.labels), tf.argmax(logits, axis=-1)),
            "score": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
        }

    def example_answers(self, answers):
        return _classes(answers["probabilities"], self.labels)

    def score(self, answers, targets):
        return classification_metrics(*self._decided(answers, targets), self.labels)

    def judgements(self, answers, targets):
        expected, found = self._decided(answers, targets)
        scores = answers["score"].tolist()
        rows = [{"expected": e, "answer": f, "score": s} for e, f, s in zip(expected, found, scores, strict=True)]
        return class_report(expected, found, self.labels), rows

    def _decided(self, answers: Mapping[str, np.ndarray], targets: np.ndarray) -> tuple[list[str], list[str]]:
        """The right and the found label of each text."""
        return [self.labels[i] for i in targets], [self.labels[i] for i in answers["probabilities"].argmax(-1)]


class MultiLabel:
    """Any number of classes a text: a sigmoid and binary cross-entropy for each class; chosen where it is over 0.5."""

    example_api = "classify"

    def __init__(self, labels: Sequence[str]):
        self.labels = tuple(labels)

    def loss(self):
        return keras.losses.BinaryCrossentropy(from_logits=True)

    def metrics(self):
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]

    def targets(self, y):
        if isinstance(y, np.ndarray) and y.ndim == 2:
            return self._checked(y)
        columns = {label: i for i, label in enumerate(self.labels)}
        targets = np.zeros((len(y), len(self.labels)), np.float32)
        for row, names in zip(targets, y, strict=True):
            for name in [names] if isinstance(names, str) else names:
                if name not in columns:
                    raise InputError(f"`y` holds label {name!r}; the model knows {', '.join(self.labels)}")
                row[columns[name]] = 1
        return targets

    def _checked(self, y: np.ndarray) -> np.ndarray:
        if y.shape[1] != len(self.labels) or not np.isin(y, (0, 1)).all():
            raise InputError(
                f"`y` must hold lists of labels, or 0 and 1 in shape [texts, {len(self.labels)}]. Received: {y.shape}"
            )
        return y.astype(np.float32)

    def graph_targets(self, y):
        return tf.cast(y, tf.float32)

    def answers(self, logits):
        chosen = tf.ragged.boolean_mask(
            tf.broadcast_to(tf.constant(self.labels), tf.shape(logits)), logits > 0
        ).to_tensor("", shape=[None, len(self.labels)])
        return {"labels": chosen, "probabilities": tf.sigmoid(logits)}

    def example_answers(self, answers):
        return _classes(answers["probabilities"], self.labels)

    def score(self, answers, targets):
        return multi_label_metrics(*self._decided(answers, targets), self.labels)

    def judgements(self, answers, targets):
        expected, found = self._decided(answers, targets)
        furthest = np.abs(answers["probabilities"] - targets).max(-1).tolist()
        rows = [{"expected": e, "answer": f, "score": s} for e, f, s in zip(expected, found, furthest, strict=True)]
        return multi_label_report(expected, found, self.labels), rows

    def _decided(self, answers: Mapping[str, np.ndarray], targets: np.ndarray) -> tuple[list[Any], list[Any]]:
        """The right and the found labels of each text."""
        right, found = (
            [[self.labels[i] for i in np.flatnonzero(row > 0.5)] for row in rows]
            for rows in (targets, answers["probabilities"])
        )
        return right, found


class Regression:
    """A number: mean squared error."""

    example_api = "regress"

    def loss(self):
        return keras.losses.MeanSquaredError()

    def metrics(self):
        return [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]

    def targets(self, y):
        try:
            values = np.asarray(y, np.float32)
        except (TypeError, ValueError):
            raise InputError("`y` must hold a number for each text") from None
        if values.ndim != 1 or not np.isfinite(values).all():
            raise InputError(f"`y` must hold a finite number for each text. Received shape: {values.shape}")
        return values[:, None]

    def graph_targets(self, y):
        return tf.reshape(tf.cast(y, tf.float32), [-1, 1])

    def answers(self, logits):
        return {"value": logits[:, 0]}

    def example_answers(self, answers):
        return {"outputs": answers["value"]}

    def score(self, answers, targets):
        return correlation_metrics(targets[:, 0], answers["value"])

    def judgements(self, answers, targets):
        return None, differences(targets[:, 0], answers["value"])


def _classes(scores: tf.Tensor, labels: Sequence[str]) -> dict[str, tf.Tensor]:
    """All labels with their scores [B, C]."""
    return {"classes": tf.broadcast_to(tf.constant(labels), tf.shape(scores)), "scores": scores}


def differences(expected: np.ndarray, found: np.ndarray) -> list[dict[str, Any]]:
    """Numbers that were to be found and those that were; the score is how far they lie apart."""
    pairs = zip(np.asarray(expected, np.float64).tolist(), np.asarray(found, np.float64).tolist(), strict=True)
    return [{"expected": e, "answer": f, "score": abs(e - f)} for e, f in pairs]


def problem_of(task: ClassifyConfig) -> Problem:
    """The problem that a task's configuration names."""
    if task.problem == "regression":
        return Regression()
    return SingleLabel(task.labels) if task.problem == "single_label" else MultiLabel(task.labels)
