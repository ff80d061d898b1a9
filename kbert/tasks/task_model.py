"""What a task model is made of, and what each task says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.config import TaskConfig
from kbert.data.batching import PairedRows, Rows
from kbert.errors import InputError
from kbert.modeling.encoder import BertEncoder
from kbert.tokenization.tokenizer import BertTokenizer


@dataclass(frozen=True)
class Examples:
    """Rows to train or to be evaluated on.

    Args:
        rows: the inputs.
        targets: a value for each row, or ragged a value for each token, -1 for one to be ignored.
        texts: int [rows], the text that each row is a part of.
    """

    rows: Rows | PairedRows
    targets: np.ndarray | tf.RaggedTensor
    texts: np.ndarray


class TaskModel(keras.Model):
    """An encoder and a tokenizer, and what the training of a task needs to know; a subclass says it."""

    optimizer: Any  # set by Keras' `compile`
    loss: Any

    def __init__(self, encoder: BertEncoder, tokenizer: BertTokenizer, task: TaskConfig, **kwargs):
        super().__init__(**kwargs)
        if task.max_length > encoder.config.max_sequence_length:
            raise InputError(
                f"max_length must be at most {encoder.config.max_sequence_length}, the rows of the encoder's position "
                f"table. Received: {task.max_length}"
            )
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.task = task
        self.total_steps = 0  # of the run that `fit` has last been asked for, those before `initial_step` included
        self._recipe: dict[str, Any] | None = None
        self._parts = 1
        self._frozen = 0

    # === What the task is ===

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs of the served signature, strings [B]."""
        return ("text",)

    @property
    def training_names(self) -> tuple[str, ...]:
        """What `fit` and `evaluate` read, where it is more than the served signature does."""
        return self.input_names

    def features(self, *texts: Any) -> dict[str, tf.Tensor]:
        """String tensors [B], one for each of `input_names`, to the model's inputs, int32 [rows, T]; runs in a graph.

        Beside the inputs of `call` there may be what `answers` needs to put rows together.
        """
        text, text_pair = texts if len(texts) > 1 else (texts[0], None)
        return self.tokenizer(text, text_pair, max_length=self.task.max_length)

    def examples(self, columns: Sequence[list[str]], y: Any) -> Examples:
        """Texts, a list for each of `training_names`, and labels as rows and targets.

        Raises:
            InputError: labels that do not fit the texts or the model.
        """
        raise NotImplementedError

    def training_examples(self, columns: Sequence[list[str]], y: Any) -> Examples:
        """The same for `fit`, where a task evaluates on more than it can learn from."""
        return self.examples(columns, y)

    def dataset_targets(self, y: tf.Tensor) -> tf.Tensor:
        """The labels of a batch of a user's tf.data as targets; runs in a graph."""
        raise InputError(f"{type(self).__name__} trains on texts and labels in memory, not on a tf.data")

    def weights_of_classes(self, class_weight: Mapping[Any, float] | None) -> np.ndarray | None:
        """What a row counts by its target, float32 [C]; None where all count one."""
        if class_weight is not None:
            raise InputError("class_weight is for texts of one class each; give sample_weight")
        return None

    def default_loss(self) -> keras.losses.Loss:
        """The loss of the task on the outputs of `call`."""
        raise NotImplementedError

    takes_metrics = False
    """Whether Keras' metrics can measure the outputs of `call` against the targets."""

    @property
    def has_softmax(self) -> bool:
        """Whether the outputs of `call` are logits of classes, of which each item has one."""
        return False

    def head_rates(self) -> dict[str, float]:
        """By the path of a weight above the encoder, what the learning rate is multiplied by; 1 for others."""
        return {}

    def default_metrics(self) -> list[keras.metrics.Metric]:
        """The metrics that `fit` shows of each batch."""
        return []

    def item_weights(self, y: Any, sample_weight: tf.Tensor | None) -> tf.Tensor:
        """What each item counts in the loss, float32; 0 for one to be ignored.

        Items are the rows here, [B]; where they are tokens, weights and losses are [B, T]. `sample_weight` is float32
        [B] or None.
        """
        return tf.ones(tf.shape(y)[:1]) if sample_weight is None else sample_weight

    def item_losses(self, y: Any, y_pred: Any) -> tf.Tensor:
        """The loss of each item, float32, in the shape of `item_weights`; those of weight 0 must be finite."""
        return self.loss.call(y, y_pred) if isinstance(self.loss, keras.losses.Loss) else self.loss(y, y_pred)

    def score(self, answers: Mapping[str, np.ndarray], y: Any) -> dict[str, float]:
        """Metrics of what `predict` answers, against labels as `fit` takes them."""
        raise NotImplementedError

    def judgements(self, answers: Mapping[str, np.ndarray], y: Any) -> tuple[dict[str, Any] | None, list[dict]]:
        """What a report shows: metrics per class, if there are classes; and of each text `expected`, `answer`, `score`.

        `score` is high where the model was sure, or far off.
        """
        raise NotImplementedError
