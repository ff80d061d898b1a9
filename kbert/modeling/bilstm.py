"""A bidirectional LSTM (Hochreiter and Schmidhuber 1997; Graves and Schmidhuber 2005)."""

from __future__ import annotations

import keras
from keras import ops


class BiLSTM(keras.layers.Layer):
    """One LSTM from the left and one from the right, joined: [B, T, D] -> [B, T, 2 * units].

    Padding ends a row and changes no real token's vector, in either direction; its own vectors are zeros.

    Args:
        units: width of one direction's vectors.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.output_dim = 2 * units
        # CuDNN's kernel would tie an exported graph to a GPU.
        options = {"return_sequences": True, "use_cudnn": False}
        self.forward = keras.layers.LSTM(units, name="forward", **options)
        self.backward = keras.layers.LSTM(units, name="backward", go_backwards=True, **options)

    def build(self, input_shape):
        self.forward.build((None, None, input_shape[-1]))
        self.backward.build((None, None, input_shape[-1]))

    def call(self, x, padding_mask):
        mask = ops.cast(padding_mask, "bool")
        # A masked step leaves the state as it is: from the right, zero until the last real token.
        both = [self.forward(x, mask=mask), ops.flip(self.backward(x, mask=mask), axis=1)]
        return ops.concatenate(both, axis=-1) * ops.cast(padding_mask, x.dtype)[:, :, None]
