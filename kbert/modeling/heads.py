"""What stands on the encoder: vectors to logits, float32 whatever the compute dtype.

The names of a head's weights below it (`kbert.modeling.encoder.named_weights`) are those of a checkpoint.
"""

from __future__ import annotations

import keras
from keras import ops

from kbert.config import BertConfig
from kbert.modeling.bilstm import BiLSTM
from kbert.modeling.layers import activation, dense

_PADDING_LOGIT = -1e9


class ClassificationHead(keras.layers.Layer):
    """Dropout and a dense layer on the pooled output: [B, D] -> logits float32 [B, C]."""

    def __init__(self, config: BertConfig, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        self.output_dim = config.output_dim
        self.dropout = keras.layers.Dropout(config.dropout_rate, name="dropout")
        self.dense = dense(num_classes, config, "classifier")

    def build(self, input_shape=None):
        self.dense.build((None, self.output_dim))

    def call(self, pooled_output, training=None):
        # Mixed precision ends here: loss and probabilities want float32.
        return ops.cast(self.dense(self.dropout(pooled_output, training=training)), "float32")


class TokenHead(keras.layers.Layer):
    """Dropout and a dense layer on every token: [B, T, D] -> logits float32 [B, T, C].

    Args:
        config: the encoder's.
        num_labels: C.
        bilstm_units: put a BiLSTM of this width a direction between the two; None: none.
    """

    def __init__(self, config: BertConfig, num_labels: int, bilstm_units: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.output_dim = config.output_dim
        self.dropout = keras.layers.Dropout(config.dropout_rate, name="dropout")
        self.bilstm = None if bilstm_units is None else BiLSTM(bilstm_units, name="tagger_bilstm")
        self.dense = dense(num_labels, config, "classifier")

    def build(self, input_shape=None):
        width = self.output_dim
        if self.bilstm is not None:
            self.bilstm.build((None, None, width))
            width = self.bilstm.output_dim
        self.dense.build((None, None, width))

    def call(self, sequence_output, padding_mask, training=None):
        x = self.dropout(sequence_output, training=training)
        if self.bilstm is not None:
            x = self.bilstm(x, padding_mask)
        return ops.cast(self.dense(x), "float32")


class SpanHead(keras.layers.Layer):
    """A dense layer that scores every token as the start and as the end of an answer: [B, T, D] -> float32 [B, T, 2].

    Padding scores a finite number far below any real token's.
    """

    def __init__(self, config: BertConfig, **kwargs):
        super().__init__(**kwargs)
        self.output_dim = config.output_dim
        self.dense = dense(2, config, "span")

    def build(self, input_shape=None):
        self.dense.build((None, None, self.output_dim))

    def call(self, sequence_output, padding_mask):
        logits = ops.cast(self.dense(sequence_output), "float32")
        return ops.where(ops.expand_dims(ops.cast(padding_mask, "bool"), -1), logits, _PADDING_LOGIT)


class MaskedLMHead(keras.layers.Layer):
    """Scores every word of the vocabulary: a dense layer, layer norm, and the word embeddings as output weights.

    Call arguments:
        vectors: float [..., D], the encoder's for the tokens to be guessed.
        word_embeddings: [V, E], the encoder's own table; E is D unless the embedding is factorised.

    Returns:
        logits float32 [..., V].
    """

    def __init__(self, config: BertConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.embedding_dim = config.embedding_dim or config.hidden_dim
        self.dense = dense(self.embedding_dim, config, "masked_lm_dense", activation(config))
        self.layer_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_epsilon, name="masked_lm_layer_norm"
        )

    def build(self, input_shape=None):
        self.dense.build((None, self.config.output_dim))
        self.layer_norm.build((None, self.embedding_dim))
        self.bias = self.add_weight(
            shape=(self.config.vocabulary_size,), initializer="zeros", name="masked_lm_bias", autocast=False
        )

    def call(self, vectors, word_embeddings):
        x = self.layer_norm(self.dense(vectors))
        logits = ops.matmul(x, ops.transpose(ops.cast(word_embeddings, x.dtype)))
        return ops.cast(logits, "float32") + ops.cast(self.bias, "float32")
