"""What the file of each task gives on a phone, and which apps can use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.config import AnswerConfig, ClassifyConfig, EmbedConfig, TagConfig
from kbert.errors import InputError
from kbert.mobile.metadata import TensorInfo
from kbert.tasks.task import Task

LABELS_FILE = "labels.txt"
LITERT = "LiteRT"
_TASK_LIBRARY_ROW = 384  # tokens; BertQuestionAnswerer knows no other length
_TINY = 1e-30


class MobileForm:
    """The outputs of a file; a subclass for each task.

    Args:
        model: Computes them.
    """

    reads_text = True
    """Whether there is a file that reads text: where the answer is a part of the text, the app must know the tokens."""
    labels: Sequence[str] = ()
    """The names of the scores along the last axis of the first output."""
    outputs: Sequence[TensorInfo] = ()
    per_tensor = False
    """Whether weights of 8 bits have one scale a matrix, for Task Library's sake."""

    def __init__(self, model: Any):
        self.model = model

    def compute(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The encoder's inputs, int32 [1, T], to the outputs by name; runs in a graph."""
        raise NotImplementedError

    def raw(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """What the model's `infer` returns where the file gives these outputs."""
        raise NotImplementedError

    def apps(self, in_8_bits: bool = False) -> list[str]:
        """The libraries that run the file of token ids without further work, plain LiteRT aside."""
        return []


class _Classes(MobileForm):
    """One of several classes."""

    description = "The probability of each class."

    def __init__(self, model):
        super().__init__(model)
        self.labels = model.task.labels
        if broken := [label for label in self.labels if label != "".join(label.splitlines())]:
            raise InputError(
                f"label {broken[0]!r} holds an end of line, which the list of labels in a file for phones cannot: "
                "train with another name for it, or export a SavedModel"
            )
        self.outputs = [TensorInfo("probability", self.description, LABELS_FILE, (0.0, 1.0))]

    def compute(self, features):
        return {"probability": tf.nn.softmax(self.model(features, training=False))}

    def raw(self, outputs):
        return np.log(np.maximum(outputs["probability"], _TINY))

    def apps(self, in_8_bits=False):
        if self.model.task.pair:  # neither library gives two texts to a classifier
            return []
        # A scale for each output of a dense layer is more exact, and too new for Task Library.
        return ["MediaPipe TextClassifier", *([] if in_8_bits else ["Task Library BertNLClassifier"])]


class _ManyClasses(_Classes):
    """Any number of classes."""

    description = "The probability of each class by itself; those over 0.5 are chosen."

    def compute(self, features):
        return {"probability": tf.sigmoid(self.model(features, training=False))}

    def raw(self, outputs):
        probability = np.clip(outputs["probability"].astype(np.float64), _TINY, 1 - 1e-16)
        return (np.log(probability) - np.log1p(-probability)).astype(np.float32)


class _Number(MobileForm):
    """A number."""

    outputs = (TensorInfo("value", "The number that the model answers."),)

    def compute(self, features):
        return {"value": self.model(features, training=False)}

    def raw(self, outputs):
        return outputs["value"]


class _Embedding(MobileForm):
    """A vector."""

    outputs = (TensorInfo("embedding", "A vector of length 1.", range=(-1.0, 1.0)),)

    def compute(self, features):
        return {"embedding": self.model(features, training=False)}

    def raw(self, outputs):
        return outputs["embedding"]

    def apps(self, in_8_bits=False):
        return ["MediaPipe TextEmbedder"]


class _Answer(MobileForm):
    """Where an answer begins and ends; a context longer than a row is the app's to cut."""

    reads_text = False
    per_tensor = True
    outputs = (
        TensorInfo("end_logits", "How much each token looks like the last of the answer."),
        TensorInfo("start_logits", "How much each token looks like the first of the answer."),
    )

    def compute(self, features):
        start, end = tf.unstack(self.model(features, training=False), axis=-1)
        return {"start_logits": start, "end_logits": end}

    def raw(self, outputs):
        return np.stack([outputs["start_logits"], outputs["end_logits"]], axis=-1)

    def apps(self, in_8_bits=False):
        return ["Task Library BertQuestionAnswerer"] if self.model.task.max_length == _TASK_LIBRARY_ROW else []


class _Tags(_Classes):
    """One of several tags for each token."""

    reads_text = False
    description = "The probability of each tag of each token."

    def apps(self, in_8_bits=False):
        return []


def form_of(model: Task) -> MobileForm:
    """The form of a model on a phone.

    Raises:
        InputError: It has none.
    """
    task = model.task
    if model.encoder.config.encoder_type == "bilstm" or (isinstance(task, TagConfig) and "bilstm" in task.head):
        raise InputError("a BiLSTM has no form in LiteRT: export a SavedModel, or train without one")
    if isinstance(task, TagConfig):
        if task.has_crf:
            raise InputError(
                "a CRF's tags are decoded over whole texts, which no LiteRT app can do: export a SavedModel, or train "
                "with --head dense"
            )
        return _Tags(model)
    if isinstance(task, ClassifyConfig):
        forms = {"single_label": _Classes, "multi_label": _ManyClasses, "regression": _Number}
        return forms[task.problem](model)
    if isinstance(task, EmbedConfig):
        return _Embedding(model)
    if isinstance(task, AnswerConfig):
        return _Answer(model)
    raise InputError(f"{task.task} has no form for phones, as it computes at masks alone: export a SavedModel")
