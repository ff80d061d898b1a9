"""The layers of BERT's encoder (Devlin et al. 2018, section 3; Vaswani et al. 2017, section 3.2).

Every layer takes tokens in either layout of `token_layout.py`; `...` in a shape stands for `B, T` (padded) or `R`
(packed). See `kbert/config.py` for the legend of dimensions.
"""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from kbert.config import BertConfig
from kbert.modeling.token_layout import PaddedTokens

_ACTIVATIONS = {
    "gelu": lambda x: keras.activations.gelu(x, approximate=False),
    "gelu_approximate": lambda x: keras.activations.gelu(x, approximate=True),
    "relu": keras.activations.relu,
}


def initializer(config: BertConfig) -> keras.initializers.Initializer:
    """BERT's truncated normal; a fresh one for every weight, since a Keras initializer repeats its values."""
    return keras.initializers.TruncatedNormal(stddev=config.initializer_range)


def activation(config: BertConfig):
    """The config's activation as a function."""
    return _ACTIVATIONS[config.activation]


def dense(units: int, config: BertConfig, name: str, activation=None) -> keras.layers.Dense:
    """A dense layer as BERT initialises it."""
    return keras.layers.Dense(units, activation=activation, kernel_initializer=initializer(config), name=name)


class SinusoidalPositions(keras.layers.Layer):
    """Sines and cosines of each position (Vaswani et al. 2017, section 3.5): int32 [...] -> [..., E], without weights.

    They are scaled to the deviation that fresh embedding tables are drawn with, so that position and word begin alike.
    """

    def __init__(self, embedding_dim: int, config: BertConfig, **kwargs):
        super().__init__(**kwargs)
        self.embedding_dim = embedding_dim
        self.scale = math.sqrt(2) * config.initializer_range

    def call(self, positions):
        channel = np.arange(self.embedding_dim)
        frequency = 10000.0 ** (-(channel - channel % 2) / self.embedding_dim)
        # A cosine is a sine a quarter turn ahead.
        phase = channel % 2 * (np.pi / 2)
        angles = ops.cast(positions, "float32")[..., None] * ops.cast(frequency, "float32")
        return ops.cast(self.scale * ops.sin(angles + ops.cast(phase, "float32")), self.compute_dtype)


class Embeddings(keras.layers.Layer):
    """The sum of word, position and segment embeddings, normalised: int32 ids [...] -> [..., D]."""

    def __init__(self, config: BertConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.embedding_dim = config.embedding_dim or config.hidden_dim
        self.word = self._table(config.vocabulary_size, "word")
        self.position = self._positions()
        self.segment = self._table(config.num_segments, "segment")
        self.layer_norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_epsilon, name="layer_norm")
        self.projection = None
        if config.embedding_dim is not None:
            self.projection = dense(config.hidden_dim, config, "projection")
        self.dropout = keras.layers.Dropout(config.dropout_rate, name="dropout")

    def _table(self, rows: int, name: str) -> keras.layers.Embedding:
        return keras.layers.Embedding(
            rows, self.embedding_dim, embeddings_initializer=initializer(self.config), name=name
        )

    def _positions(self) -> keras.layers.Layer:
        if self.config.position_embedding == "sinusoidal":
            return SinusoidalPositions(self.embedding_dim, self.config, name="position")
        return self._table(self.config.max_sequence_length, "position")

    def build(self, input_shape=None):
        for table in (self.word, self.position, self.segment):
            table.build(None)
        self.layer_norm.build((None, self.embedding_dim))
        if self.projection is not None:
            self.projection.build((None, self.embedding_dim))

    def call(self, token_ids, segment_ids, positions):
        x = self.word(token_ids) + self.position(positions) + self.segment(segment_ids)
        x = self.layer_norm(x)
        if self.projection is not None:
            x = self.projection(x)
        return self.dropout(x)


def embed(embeddings: Embeddings, inputs, layout, training=None):
    """The embeddings of an encoder's inputs, int32 [B, T], at positions 0, 1, ...: [..., D]."""
    padding_mask = inputs["padding_mask"]
    positions = ops.arange(ops.shape(padding_mask)[1], dtype="int32")
    positions = ops.broadcast_to(positions, ops.shape(padding_mask))  # [B, T]
    ids = (layout.pack(inputs["token_ids"]), layout.pack(inputs["segment_ids"]), layout.pack(positions))
    return embeddings(*ids, training=training)


class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention, softmax(Q K^T / sqrt(H)) V, with residual sum and layer norm: [..., D] -> [..., D].

    Query, key and value share one kernel [D, 3 D]: one matrix product instead of three. With `first_token_only` all
    tokens are attended to, but only the first of each row attends: [..., D] -> [B, D].
    """

    def __init__(self, config: BertConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.query_key_value = dense(3 * config.hidden_dim, config, "query_key_value")
        self.attention_dropout = keras.layers.Dropout(config.attention_dropout_rate, name="attention_dropout")
        self.output_dense = dense(config.hidden_dim, config, "output")
        self.dropout = keras.layers.Dropout(config.dropout_rate, name="dropout")
        self.layer_norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_epsilon, name="layer_norm")

    def build(self, input_shape=None):
        for layer in (self.query_key_value, self.output_dense, self.layer_norm):
            layer.build((None, self.config.hidden_dim))

    def call(self, x, attention_bias=None, layout=PaddedTokens(), first_token_only=False):
        if first_token_only:
            x, query, key, value = self._project_first(x, layout)
            context = self._attend(query, key, value, attention_bias)  # [B, N, 1, H]
            context = ops.reshape(context, (-1, self.config.hidden_dim))
        else:
            query, key, value = layout.split_heads(self.query_key_value(x), 3, self.config.num_heads)
            context = layout.join_heads(self._attend(query, key, value, attention_bias))
        return self.layer_norm(x + self.dropout(self.output_dense(context)))

    def _project_first(self, x, layout):
        """The first token of each row [B, D], its query [B, N, 1, H], and all tokens' keys and values [B, N, T, H]."""
        D, N = self.config.hidden_dim, self.config.num_heads
        kernels = ops.split(self.query_key_value.kernel, [D], axis=1)
        biases = ops.split(self.query_key_value.bias, [D])
        first = layout.first(x)
        query = ops.reshape(ops.matmul(first, kernels[0]) + biases[0], (-1, N, 1, D // N))
        return first, query, *layout.split_heads(ops.matmul(x, kernels[1]) + biases[1], 2, N)

    def _attend(self, query, key, value, attention_bias):
        """[B, N, Tq, H], twice [B, N, T, H] -> [B, N, Tq, H]."""
        scores = ops.matmul(query * self.config.head_dim**-0.5, ops.transpose(key, (0, 1, 3, 2)))  # [B, N, Tq, T]
        weights = ops.softmax(scores if attention_bias is None else scores + attention_bias)
        return ops.matmul(self.attention_dropout(weights), value)


class FeedForward(keras.layers.Layer):
    """Two dense layers with an activation between, with residual sum and layer norm: [..., D] -> [..., D]."""

    def __init__(self, config: BertConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.intermediate = dense(config.intermediate_dim, config, "intermediate", activation(config))
        self.output_dense = dense(config.hidden_dim, config, "output")
        self.dropout = keras.layers.Dropout(config.dropout_rate, name="dropout")
        self.layer_norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_epsilon, name="layer_norm")

    def build(self, input_shape=None):
        self.intermediate.build((None, self.config.hidden_dim))
        self.output_dense.build((None, self.config.intermediate_dim))
        self.layer_norm.build((None, self.config.hidden_dim))

    def call(self, x):
        return self.layer_norm(x + self.dropout(self.output_dense(self.intermediate(x))))


class TransformerBlock(keras.layers.Layer):
    """One block of the encoder: self-attention, then feed-forward, each with its norm after the residual sum.

    [..., D] -> [..., D]; with `first_token_only` [B, D].
    """

    def __init__(self, config: BertConfig, **kwargs):
        super().__init__(**kwargs)
        self.attention = SelfAttention(config, name="attention")
        self.feedforward = FeedForward(config, name="feedforward")

    def build(self, input_shape=None):
        self.attention.build()
        self.feedforward.build()

    def call(self, x, attention_bias=None, layout=PaddedTokens(), first_token_only=False):
        return self.feedforward(
            self.attention(x, attention_bias=attention_bias, layout=layout, first_token_only=first_token_only)
        )
