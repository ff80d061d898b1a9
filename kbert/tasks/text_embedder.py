"""A vector for a text: texts of like meaning point in like directions."""

from __future__ import annotations

from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kbert.checkpoints import presets
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.config import EmbedConfig
from kbert.data.batching import PairedRows
from kbert.errors import InputError
from kbert.metrics.correlation import correlation_metrics
from kbert.modeling.encoder import BertEncoder
from kbert.modeling.pooling import cls_pooling, mean_pooling
from kbert.tasks.inputs import text_columns
from kbert.tasks.problems import differences
from kbert.tasks.task import Task
from kbert.tasks.task_model import Examples
from kbert.tokenization.tokenizer import BertTokenizer

_SCALE = 20.0  # of cosines as logits, as Sentence-BERT's library has it


class BertTextEmbedder(Task):
    """BERT's vectors of tokens pooled to one of length 1 (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084).

    It learns from pairs of texts: with scores, the cosine of a pair is to be its score (mean squared error); without,
    the second text of a pair is to be found among those of the batch (cross-entropy on cosines times 20: Henderson et
    al. 2017, https://arxiv.org/abs/1705.00652).

    Args:
        encoder: gives `sequence_output` [B, T, D].
        tokenizer: makes the encoder's inputs.
        task: pooling and longest input.

    Call arguments:
        inputs: the encoder's dict, int32 [B, T], or [B, 2, T] for pairs. (`fit` and `predict` take raw strings.)

    Returns:
        Vectors of length 1, float32 [B, D], or [B, 2, D].

    Example:
        ```python
        model = kbert.BertTextEmbedder.from_preset("minilm-l6-en")
        model.fit((["A cat sits."], ["A cat is sitting."]), [0.9])
        kbert.similarity(model.predict(["A dog."])["embedding"], model.predict(["A cat."])["embedding"])
        ```
    """

    task: EmbedConfig

    def __init__(self, encoder: BertEncoder, tokenizer: BertTokenizer, task: EmbedConfig, **kwargs: Any):
        super().__init__(encoder, tokenizer, task, **kwargs)
        self._pool = {"mean": mean_pooling, "cls": cls_pooling}[task.pooling]
        self.built = True

    def call(self, inputs):
        length = ops.shape(inputs["token_ids"])[-1]
        rows = {name: ops.reshape(value, (-1, length)) for name, value in inputs.items()}
        tokens = self.encoder(rows)["sequence_output"]
        vectors = self._pool(tokens, rows["padding_mask"])
        vectors = ops.normalize(vectors, axis=-1)
        return ops.reshape(vectors, (*ops.shape(inputs["token_ids"])[:-1], vectors.shape[-1]))

    # === Training ===

    @property
    def training_names(self):
        return ("text", "text_pair")

    def examples(self, columns, y):
        """`y` holds the score of each pair; None: all pairs are alike, texts of others not."""
        first, second = columns
        if y is None and (self.distribute_strategy.num_replicas_in_sync > 1 or self._parts > 1):
            raise InputError(
                "pairs without scores need one device and gradient_accumulation_steps=1: each text is told from all "
                "others of the batch"
            )
        rows = PairedRows(self._rows([first]), self._rows([second]))
        return Examples(rows, self._cosines(y, len(first)), np.arange(len(first)))

    def training_examples(self, columns, y):
        """A score beyond `score_scale` can be ranked, but no cosine can be learnt from it."""
        examples = self.examples(columns, y)
        outside = examples.targets[np.abs(examples.targets) > 1] * self.task.score_scale
        if len(outside):
            scale = f"{self.task.score_scale:g}"
            raise InputError(f"scores go from -{scale} to {scale}, which is `score_scale`. Received: {outside[0]:g}")
        return examples

    def _cosines(self, y: Any, pairs: int) -> np.ndarray:
        """What the cosines of pairs are to be, float32 [pairs, 1]; int32 where there are no scores."""
        if y is None:
            return np.zeros((pairs, 1), np.int32)
        try:
            scores = np.asarray(y, np.float32)
        except (TypeError, ValueError):
            scores = np.array([np.nan])
        if not np.isfinite(scores).all():
            raise InputError("`y` must hold a finite number for each pair of texts")
        if scores.shape != (pairs,):
            raise InputError(f"`x` and `y` must be equally many. Received: {pairs} and {len(scores)}")
        return scores[:, None] / np.float32(self.task.score_scale)

    def default_loss(self):
        return keras.losses.MeanSquaredError()

    def item_losses(self, y, y_pred):
        first, second = y_pred[:, 0], y_pred[:, 1]
        if y.dtype == tf.float32:  # a step is traced for each of the two anew
            return super().item_losses(y, tf.reduce_sum(first * second, axis=-1, keepdims=True))
        cosines = tf.matmul(first, second, transpose_b=True) * _SCALE  # [B, B]
        return keras.losses.sparse_categorical_crossentropy(tf.range(tf.shape(y)[0]), cosines, from_logits=True)

    # === Answers ===

    def answers(self, outputs, features, text):
        """`embedding` float32 [B, D], of length 1."""
        return {"embedding": outputs}

    def _answer_metrics(self, x, y, batch_size):
        return {} if y is None else self.score(self.answers_to_score(x, batch_size), y)

    def answers_to_score(self, x, batch_size=32, predict=None):
        predict, columns = predict or self.predict, text_columns(x, self.training_names)
        first, second = (predict(texts, batch_size=batch_size)["embedding"] for texts in columns)
        return {"cosine": (first * second).sum(-1)}

    def score(self, answers, y):
        """Pearson's and Spearman's correlation of the `cosine` of pairs with their scores."""
        return correlation_metrics(y, answers["cosine"])

    def judgements(self, answers, y):
        return None, differences(np.asarray(y) / self.task.score_scale, answers["cosine"])

    # === Folders ===

    def head_weights(self):
        return {}

    @classmethod
    def from_preset(
        cls,
        preset: str | Checkpoint,
        *,
        pooling: str | None = None,
        score_scale: float | None = None,
        max_length: int | None = None,
        skip_padding: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load an embedder, or an encoder to use or to fine-tune as one.

        Args:
            preset: as in `BertEncoder.from_preset`; or a checkpoint, whose weights may be yet to be drawn.
            pooling: "mean" or "cls". None: as the preset says, else "mean".
            score_scale: the score of a pair in `fit` that means a cosine of 1. None: as the preset says, else 1.
            max_length: longest input in tokens. None: as the preset says, else 128 (or the encoder's own limit).
            skip_padding: as in `BertEncoder`.

        Raises:
            InputError: the preset does not exist or is damaged.
        """
        checkpoint = presets.load(preset)
        saved = checkpoint.task if isinstance(checkpoint.task, EmbedConfig) else EmbedConfig()
        length = min(saved.max_length, checkpoint.config.max_sequence_length) if max_length is None else max_length
        task = EmbedConfig(
            pooling=pooling or saved.pooling, score_scale=score_scale or saved.score_scale, max_length=length
        )
        return cls._from_checkpoint(checkpoint, task, skip_padding, **kwargs)


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cosine of each vector [A, D] with each other [B, D]: float32 [A, B]. A vector of zeros is like none."""

    def unit(vectors: np.ndarray) -> np.ndarray:
        vectors = np.atleast_2d(np.asarray(vectors, np.float32))
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(np.float32).tiny)

    return unit(first) @ unit(second).T
