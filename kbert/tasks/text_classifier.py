"""One label for a text or a pair of texts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from kbert.checkpoints import presets
from kbert.config import TaskConfig
from kbert.errors import InputError
from kbert.modeling.encoder import BertEncoder, load_tensors
from kbert.modeling.heads import ClassificationHead
from kbert.tasks.task import Task
from kbert.tokenization.tokenizer import BertTokenizer

_log = logging.getLogger(__name__)


class BertTextClassifier(Task):
    """BERT with a softmax over labels on its pooled output (Devlin et al. 2018, section 4.1).

    Args:
        encoder: gives `pooled_output` [B, D].
        tokenizer: makes the encoder's inputs.
        task: labels and longest input.

    Call arguments:
        inputs: the encoder's dict, int32 [B, T]. (`fit`, `evaluate` and `predict` take raw strings.)

    Returns:
        Logits, float [B, C].

    Example:
        ```python
        model = kbert.BertTextClassifier.from_preset("minilm-l6-en", labels=["negative", "positive"])
        model.fit(texts, labels, epochs=3)
        model.predict(["What a film!"])["label"]
        ```
    """

    def __init__(self, encoder: BertEncoder, tokenizer: BertTokenizer, task: TaskConfig, **kwargs: Any):
        super().__init__(encoder, tokenizer, task, **kwargs)
        if len(task.labels) < 2:
            raise InputError(f"a classifier needs two labels or more. Received: {list(task.labels)}")
        # === Layers ===
        self.head = ClassificationHead(encoder.config, len(task.labels), name="classifier")
        self.build()

    def build(self, input_shape=None):
        self.head.build()

    def call(self, inputs):
        return self.head(self.encoder(inputs, first_token_only=True)["pooled_output"])

    def default_loss(self):
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def default_metrics(self):
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def answers(self, logits):
        """`label` string [B], `score` float32 [B] (its probability) and `probabilities` float32 [B, C]."""
        probabilities = tf.nn.softmax(logits)
        return {
            "label": tf.gather(tf.constant(self.task.labels), tf.argmax(logits, axis=-1)),
            "score": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
        }

    def head_weights(self):
        return {"classifier/kernel": self.head.dense.kernel, "classifier/bias": self.head.dense.bias}

    @classmethod
    def from_preset(
        cls,
        preset: str,
        labels: Sequence[str] | None = None,
        *,
        pair: bool | None = None,
        max_length: int | None = None,
        skip_padding: bool | None = None,
        **kwargs: Any,
    ) -> BertTextClassifier:
        """Load a classifier, or an encoder to fine-tune into one.

        Args:
            preset: as in `BertEncoder.from_preset`.
            labels: class names. None takes those of the preset. The preset's own in another order keep its trained
                head; any others give a fresh one.
            pair: whether the model reads pairs of texts. None: as the preset says, else False.
            max_length: longest input in tokens. None: as the preset says, else 128 (or the encoder's own limit).
            skip_padding: as in `BertEncoder`.

        Raises:
            InputError: the preset does not exist or is damaged, or no labels are known.
        """
        checkpoint = presets.load(preset)
        saved = checkpoint.task
        if labels is None:
            if saved is None:
                raise InputError(f"{preset} has no classification head: pass labels=[…], the names of the classes")
            labels = saved.labels
        encoder = BertEncoder(checkpoint.config, skip_padding=skip_padding)
        if fresh := load_tensors(encoder, checkpoint.tensors):
            _log.warning("%s has no %s: they start from random values", preset, ", ".join(fresh))
        task = TaskConfig(
            "classify",
            tuple(labels),
            pair=pair if pair is not None else bool(saved and saved.pair),
            max_length=max_length
            if max_length is not None
            else min(saved.max_length if saved else 128, checkpoint.config.max_sequence_length),
        )
        model = cls(encoder, BertTokenizer(checkpoint.vocabulary, checkpoint.tokenizer), task, **kwargs)
        if saved and set(saved.labels) == set(task.labels):
            columns = [saved.labels.index(label) for label in task.labels]
            for name, variable in model.head_weights().items():
                variable.assign(checkpoint.tensors[name][..., columns])
        return model
