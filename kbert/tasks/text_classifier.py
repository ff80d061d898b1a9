"""One label for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kbert.checkpoints import presets
from kbert.config import TaskConfig
from kbert.errors import InputError
from kbert.modeling.encoder import BertEncoder, load_tensors
from kbert.modeling.layers import dense
from kbert.tasks.task import Task
from kbert.tokenization.tokenizer import BertTokenizer


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
        self.dropout = keras.layers.Dropout(encoder.config.dropout_rate, name="dropout")
        self.classifier = dense(len(task.labels), encoder.config, "classifier")
        self.build()

    def build(self, input_shape=None):
        self.classifier.build((None, self.encoder.config.hidden_dim))

    def call(self, inputs):
        pooled = self.encoder(inputs)["pooled_output"]  # [B, D]
        # Mixed precision ends here: loss and probabilities want float32.
        return ops.cast(self.classifier(self.dropout(pooled)), "float32")

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
        return {"classifier/kernel": self.classifier.kernel, "classifier/bias": self.classifier.bias}

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
            labels: class names. None takes those of the preset; other labels than the preset's give a fresh head.
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
        load_tensors(encoder, checkpoint.tensors)
        task = TaskConfig(
            "classify",
            tuple(labels),
            pair=pair if pair is not None else bool(saved and saved.pair),
            max_length=max_length or (saved.max_length if saved else min(128, checkpoint.config.max_sequence_length)),
        )
        model = cls(encoder, BertTokenizer(checkpoint.vocabulary, checkpoint.tokenizer), task, **kwargs)
        if saved and saved.labels == task.labels:
            for name, variable in model.head_weights().items():
                if name in checkpoint.tensors:
                    variable.assign(checkpoint.tensors[name])
        return model
