"""The model that is pretrained: it guesses hidden tokens, and, where rows are pairs, how their segments belong."""

from __future__ import annotations

import logging
from typing import Any, Self

import keras
import tensorflow as tf
from keras import ops

from kbert.checkpoints.checkpoint import Checkpoint
from kbert.config import PAIR_TASKS, FillMaskConfig
from kbert.errors import InputError
from kbert.modeling.bilstm_encoder import BiLSTMEncoder
from kbert.modeling.encoder import BertEncoder, load_tensors, make_encoder, named_weights
from kbert.modeling.guesses import AllGuesses, FixedGuesses
from kbert.modeling.heads import MaskedLMHead, NextSentenceHead
from kbert.tokenization.tokenizer import BertTokenizer
from kbert.training import replicas, steps

_log = logging.getLogger(__name__)

TOKENS, PAIR = "tokens", "pair_label"
"""The kinds of items, by the names of their labels."""


class PretrainingModel(keras.Model):
    """BERT as it is pretrained (Devlin et al. 2018, section 3.1): a masked LM, and perhaps a classifier of pairs.

    An item of the loss is a token to be guessed, or a pair; the loss of a batch is the mean over the former plus the
    mean over the latter, on all replicas together, as in transformers' `BertForPreTraining`. Tokens that are not to be
    guessed get no scores.

    Args:
        encoder: gives `sequence_output` and `pooled_output`.
        tokenizer: whose vocabulary the model guesses from.
        has_pairs: whether rows are pairs.
        task: what the model answers once it is trained. None: five candidates for each mask.
        mask_rate: the share of tokens to be guessed; told only where the encoder computes padded rows, as XLA needs,
            which have room for so many.

    Call arguments:
        inputs: of `kbert.data.masking.MaskTokens`: the encoder's dict, and `guessed`, int32 [B, T].

    Returns:
        dict of `tokens`, logits float32 [G, V] of the tokens to be guessed, row by row (or of padded rows [B, M, V]);
        for pairs `pair_label`, logits float32 [B, 2].
    """

    def __init__(
        self,
        encoder: BertEncoder | BiLSTMEncoder,
        tokenizer: BertTokenizer,
        has_pairs: bool = False,
        task: FillMaskConfig | None = None,
        mask_rate: float = 0.15,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.encoder, self.tokenizer = encoder, tokenizer
        config = encoder.config
        self.task = task or FillMaskConfig(max_length=min(FillMaskConfig.max_length, config.max_sequence_length))
        skips = getattr(encoder, "skip_padding", False)
        self.guesses: AllGuesses | FixedGuesses = AllGuesses() if skips else FixedGuesses(mask_rate)
        # === Layers ===
        self.head = MaskedLMHead(config, name="head")
        self.pair_head = NextSentenceHead(config, name="pair_head") if has_pairs else None
        # === Metrics ===
        self.loss_metric = PretrainingLoss((TOKENS, PAIR) if has_pairs else (TOKENS,))
        self.token_accuracy = keras.metrics.Mean("masked_lm_accuracy")
        self.pair_accuracy = keras.metrics.Mean("pair_accuracy") if has_pairs else None
        self._parts = 1
        self.build()

    def build(self, input_shape=None):
        self.head.build()
        if self.pair_head is not None:
            self.pair_head.build()

    def call(self, inputs, training=None):
        outputs = self.encoder(inputs, training=training)
        vectors = self.guesses.take(outputs["sequence_output"], inputs["guessed"])
        logits = {TOKENS: self.head(vectors, self.encoder.embeddings.word.embeddings)}
        if self.pair_head is not None:
            logits[PAIR] = self.pair_head(outputs["pooled_output"])
        return logits

    # === Training ===

    def compile(self, optimizer: Any, gradient_accumulation_steps: int = 1, **options: Any) -> None:  # type: ignore[override]
        """Configure training.

        Args:
            optimizer: as `kbert.training.optimizers.adamw` makes it.
            gradient_accumulation_steps: parts that each batch is computed in, one after another, in the memory of one.
            **options: what `keras.Model.compile` takes beside losses and metrics, which the model has itself.

        Raises:
            InputError: settings that cannot be kept on several devices, or by XLA.
        """
        several = self.distribute_strategy.num_replicas_in_sync > 1
        if isinstance(self.guesses, AllGuesses) or several:
            options.setdefault("jit_compile", False)
        super().compile(optimizer=optimizer, **options)
        if self.jit_compile and isinstance(self.guesses, AllGuesses):
            raise InputError("XLA needs rows of one length: make the model with skip_padding=False")
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        if several:
            replicas.check_compiled(self)
        self._parts = gradient_accumulation_steps

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One optimizer step on a batch, or on a replica's share of it."""
        return steps.train_step(self, data, self._parts)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Loss and metrics of a batch, or of a replica's share of it."""
        return steps.test_step(self, data)

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: Keras would build the model from the mean of the replicas' first shares; it is built already."""

    def _labels(self, y: Any) -> dict[str, tf.Tensor]:
        """The label of each item, -1 for one that does not count."""
        labels = {TOKENS: self.guesses.take(y[TOKENS], y[TOKENS] >= 0)}
        return labels if self.pair_head is None else labels | {PAIR: y[PAIR]}

    def item_weights(self, y: Any, sample_weight: Any) -> dict[str, tf.Tensor]:
        """1 for each token to be guessed and each pair; 0 where a padded row has room for more."""
        return {kind: tf.cast(labels >= 0, tf.float32) for kind, labels in self._labels(y).items()}

    def item_losses(self, y: Any, y_pred: Any) -> dict[str, tf.Tensor]:
        """The cross-entropy of each item."""
        return {
            kind: ops.sparse_categorical_crossentropy(tf.maximum(labels, 0), y_pred[kind], from_logits=True)
            for kind, labels in self._labels(y).items()
        }

    # === Metrics ===

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What is measured, all of it sums that replicas add up; Keras' own loss would take all items for one kind."""
        return [metric for metric in (self.loss_metric, self.token_accuracy, self.pair_accuracy) if metric is not None]

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, tf.Tensor]:
        """Count a batch in the accuracies."""
        labels = self._labels(y)
        for metric, kind in ((self.token_accuracy, TOKENS), (self.pair_accuracy, PAIR)):
            if metric is not None:
                right = tf.argmax(y_pred[kind], axis=-1, output_type=tf.int32) == labels[kind]
                metric.update_state(tf.reshape(tf.cast(right, tf.float32), [-1]), sample_weight[kind])
        return self.get_metrics_result()

    # === Folders ===

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        pairs: str = "none",
        *,
        skip_padding: bool | None = None,
        mask_rate: float = 0.15,
        **kwargs: Any,
    ) -> Self:
        """A model with a checkpoint's weights, as far as it has them; fresh ones where it has none.

        Args:
            checkpoint: without tensors for a model from scratch.
            pairs: "none"; "nsp", next-sentence prediction; or "sop", sentence-order prediction.
            skip_padding: as in `BertEncoder`.
            mask_rate: as in `PretrainingModel`.
            **kwargs: of `PretrainingModel`.

        Raises:
            InputError: weights of other shapes than the config's.
        """
        if pairs not in PAIR_TASKS:
            raise InputError(f"`pairs` must be one of {', '.join(PAIR_TASKS)}. Received: {pairs!r}")
        encoder = make_encoder(checkpoint.config, skip_padding)
        tokenizer = BertTokenizer(checkpoint.vocabulary, checkpoint.tokenizer)
        task = checkpoint.task if isinstance(checkpoint.task, FillMaskConfig) else None
        model = cls(encoder, tokenizer, pairs != "none", task, mask_rate, **kwargs)
        if checkpoint.tensors:
            model._load(checkpoint)
        return model

    def _load(self, checkpoint: Checkpoint) -> None:
        fresh = load_tensors(self.encoder, checkpoint.tensors)
        for layer in self._heads():
            fresh += load_tensors(layer, checkpoint.tensors)
        if self.pair_head is None:
            fresh = [name for name in fresh if not name.startswith("pooler/")]
        if fresh:
            _log.info("the checkpoint has no %s: they start from random values", ", ".join(fresh))

    def _heads(self) -> list[keras.layers.Layer]:
        return [head for head in (self.head, self.pair_head) if head is not None]

    def named_variables(self) -> dict[str, keras.Variable]:
        """The weights by their names in a checkpoint."""
        return {name: v for layer in (self.encoder, *self._heads()) for name, v in named_weights(layer).items()}

    def checkpoint(self) -> Checkpoint:
        """The model as plain configs and arrays: a `BertForMaskedLM`, or for pairs a `BertForPreTraining`."""
        return Checkpoint(
            config=self.encoder.config,
            tokenizer=self.tokenizer.config,
            vocabulary=tuple(self.tokenizer.vocabulary),
            tensors={name: variable.value.numpy() for name, variable in self.named_variables().items()},
            task=self.task,
        )


class PretrainingLoss(keras.metrics.Metric):
    """The loss over many batches: of each kind of items the mean, and their sum.

    Its result is a dict of `loss`; `perplexity`, e to the mean loss of a guessed token; and, where there are pairs,
    `masked_lm_loss` and `pair_loss`.

    Args:
        kinds: the kinds of items, tokens first.
    """

    def __init__(self, kinds: tuple[str, ...], name: str = "loss"):
        super().__init__(name=name)
        self.kinds = kinds
        self.totals = self.add_variable((len(kinds),), "zeros", name="totals")
        self.counts = self.add_variable((len(kinds),), "zeros", name="counts")

    def update_state(self, losses: Any, sample_weight: Any) -> None:
        """Count the losses and the weights of items, float32 [items] of each kind."""
        self.totals.assign_add(ops.stack([ops.sum(losses[kind] * sample_weight[kind]) for kind in self.kinds]))
        self.counts.assign_add(ops.stack([ops.sum(sample_weight[kind]) for kind in self.kinds]))

    def result(self) -> dict[str, Any]:
        means = ops.divide_no_nan(self.totals, self.counts)
        results = {"loss": ops.sum(means), "perplexity": ops.exp(means[0])}
        if len(self.kinds) > 1:
            results |= {"masked_lm_loss": means[0], "pair_loss": means[1]}
        return results
