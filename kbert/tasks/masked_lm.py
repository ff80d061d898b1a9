"""Words for the masks in a text."""

from __future__ import annotations

from typing import Any, Self

import tensorflow as tf

from kbert.checkpoints import presets
from kbert.config import FillMaskConfig
from kbert.errors import InputError
from kbert.modeling.encoder import BertEncoder
from kbert.modeling.heads import MaskedLMHead
from kbert.tasks.task import Task
from kbert.tokenization.tokenizer import BertTokenizer


class BertMaskedLM(Task):
    """BERT with a score for each token of the vocabulary (Devlin et al. 2018, section 3.1, "Masked LM").

    Args:
        encoder: gives `sequence_output` [B, T, D].
        tokenizer: makes the encoder's inputs; it reads `[MASK]` in a text as the mask.
        task: how many candidates to give, and the longest input.

    Call arguments:
        inputs: the encoder's dict, int32 [B, T]. (`predict` takes raw strings.)

    Returns:
        Logits, float32 [B, T, V].

    Example:
        ```python
        model = kbert.BertMaskedLM.from_preset("hf://google-bert/bert-base-uncased")
        model.predict(["Paris is the [MASK] of France."])["token"]
        ```
    """

    task: FillMaskConfig

    def __init__(self, encoder: BertEncoder, tokenizer: BertTokenizer, task: FillMaskConfig, **kwargs: Any):
        super().__init__(encoder, tokenizer, task, **kwargs)
        if tokenizer.mask_id is None:
            raise InputError(f"the vocabulary has no {tokenizer.config.mask_token}, which a masked LM fills")
        if task.top_k > len(tokenizer.vocabulary):
            raise InputError(f"top_k must be at most {len(tokenizer.vocabulary)}, the tokens there are")
        # === Layers ===
        self.head = MaskedLMHead(encoder.config, name="head")
        self.build()

    def build(self, input_shape=None):
        self.head.build()

    def call(self, inputs):
        return self._logits(self.encoder(inputs)["sequence_output"])

    def _logits(self, vectors):
        return self.head(vectors, self.encoder.embeddings.word.embeddings)

    def default_loss(self):
        return None

    def examples(self, columns, y):
        raise InputError("BertMaskedLM answers, and is not trained by `fit`: `kbert pretrain` trains it, on a corpus")

    # === Answers ===

    def infer(self, features):
        """Candidates for each mask: ids plus 1, int32 [B, M, K], 0 for none; and probabilities float32 [B, M, K]."""
        K = self.task.top_k
        places = tf.where(features["token_ids"] == self.tokenizer.mask_id)  # [masks, 2]
        vectors = tf.gather_nd(self.encoder(features, training=False)["sequence_output"], places)
        logits = self._logits(vectors)[:, : len(self.tokenizer.vocabulary)]  # a table may have spare rows
        found = tf.math.top_k(tf.nn.softmax(logits), K)
        B = tf.shape(features["token_ids"], tf.int64)[0]

        def rows(values):
            ragged = tf.RaggedTensor.from_value_rowids(values, places[:, 0], B, validate=False)
            return ragged.to_tensor(shape=[None, None, K])

        return rows(found.indices + 1), rows(found.values)

    def answers(self, outputs, features, text):
        """`token` string and `score` float32 [B, M, K], best first; rows with fewer masks have "" and 0.0."""
        ids, scores = outputs
        return {"token": tf.gather(tf.constant(["", *self.tokenizer.vocabulary]), ids), "score": scores}

    def answer_rows(self, answers):
        for row in super().answer_rows(answers):
            masks = [i for i, tokens in enumerate(row["token"]) if tokens[0]]
            yield {name: [values[i] for i in masks] for name, values in row.items()}

    # === Folders ===

    @classmethod
    def from_preset(
        cls,
        preset: str,
        *,
        top_k: int | None = None,
        max_length: int | None = None,
        skip_padding: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a masked LM.

        Args:
            preset: as in `BertEncoder.from_preset`; it must hold the head.
            top_k: candidates for a mask. None: as the preset says, else 5.
            max_length: longest input in tokens. None: as the preset says, else 128 (or the encoder's own limit).
            skip_padding: as in `BertEncoder`.

        Raises:
            InputError: the preset does not exist, is damaged, or has no masked-LM head.
        """
        checkpoint = presets.load(preset)
        saved = checkpoint.task
        if not isinstance(saved, FillMaskConfig):
            raise InputError(
                f"{preset} has no masked-LM head, which alone can fill masks: choose a checkpoint with one"
            )
        length = min(saved.max_length, checkpoint.config.max_sequence_length) if max_length is None else max_length
        task = FillMaskConfig(top_k=saved.top_k if top_k is None else top_k, max_length=length)
        return cls._from_checkpoint(checkpoint, task, skip_padding, **kwargs)

    @classmethod
    def make_tokenizer(cls, checkpoint):
        return BertTokenizer(
            checkpoint.vocabulary, checkpoint.tokenizer, parse_special_tokens=[checkpoint.tokenizer.mask_token]
        )
