"""The light encoder: embeddings, one self-attention layer, a BiLSTM."""

from __future__ import annotations

from typing import Any

import keras

from kbert.config import BertConfig
from kbert.errors import InputError
from kbert.modeling.bilstm import BiLSTM
from kbert.modeling.layers import Embeddings, SelfAttention, dense, embed
from kbert.modeling.pooling import mean_pooling
from kbert.modeling.token_layout import PackedTokens, PaddedTokens, attention_bias


@keras.saving.register_keras_serializable("kbert")
class BiLSTMEncoder(keras.Model):
    """A small encoder to be trained from scratch, with the interface of `BertEncoder`.

    BERT's embeddings and one of its self-attention layers, then a BiLSTM of `hidden_dim` in each direction.

    Args:
        config: the architecture, of `encoder_type` "bilstm".
        skip_padding: as in `BertEncoder`; the BiLSTM itself walks along padded rows.

    Call arguments:
        inputs: as in `BertEncoder`.
        first_token_only: leave `sequence_output` out; `pooled_output` looks at every token all the same.
        training: whether dropout acts.

    Returns:
        dict of `sequence_output` float [B, T, 2 D], zeros at padding, and `pooled_output` float [B, 2 D], tanh of a
        dense layer on the mean of the real tokens: the first token alone says little here, where no pretraining has
        taught it to stand for the text.
    """

    def __init__(self, config: BertConfig, *, skip_padding: bool | None = None, name="encoder", **kwargs):
        super().__init__(name=name, **kwargs)
        if config.encoder_type != "bilstm":
            raise InputError(f"BiLSTMEncoder is no {config.encoder_type!r}: call make_encoder, which tells them apart")
        self.config = config
        self.skip_padding = keras.backend.backend() == "tensorflow" if skip_padding is None else skip_padding
        # === Layers ===
        self.embeddings = Embeddings(config, name="embeddings")
        self.attention = SelfAttention(config, name="attention")
        self.bilstm = BiLSTM(config.hidden_dim, name="bilstm")
        self.pooler = dense(config.output_dim, config, "pooler", activation="tanh")
        self.build()

    def build(self, input_shape=None):
        self.embeddings.build()
        self.attention.build()
        self.bilstm.build((None, None, self.config.hidden_dim))
        self.pooler.build((None, self.config.output_dim))

    def stack(self) -> list[keras.layers.Layer]:
        """The layers from the bottom up."""
        return [self.embeddings, self.attention, self.bilstm]

    @property
    def output_dim(self) -> int:
        """Width of the vectors that `call` gives."""
        return self.config.output_dim

    def call(self, inputs, first_token_only=False, training=None):
        padding_mask = inputs["padding_mask"]
        layout = PackedTokens(padding_mask) if self.skip_padding else PaddedTokens()
        bias = attention_bias(padding_mask, self.compute_dtype)  # [B, 1, 1, T]
        x = embed(self.embeddings, inputs, layout, training)
        x = self.attention(x, attention_bias=bias, layout=layout, training=training)
        sequence_output = self.bilstm(layout.unpack(x), padding_mask)
        pooled_output = self.pooler(mean_pooling(sequence_output, padding_mask))
        if first_token_only:
            return {"pooled_output": pooled_output}
        return {"sequence_output": sequence_output, "pooled_output": pooled_output}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict(), "skip_padding": self.skip_padding}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "config": BertConfig.from_dict(config["config"])})
