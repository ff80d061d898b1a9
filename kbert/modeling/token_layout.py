"""Where the encoder keeps its tokens: padded rows, or the real tokens alone.

Every dense layer, norm and activation of BERT looks at one token at a time; only attention needs to know which tokens
share a row. So the blocks compute on whatever `pack` returns and call `unpack` around the attention weights. With
`PackedTokens` the padding of a batch costs nothing outside attention; with `PaddedTokens` both calls do nothing and
all shapes stay static, as XLA, LiteRT and JAX need.
"""

from __future__ import annotations

import keras
from keras import ops

# Added to the attention scores of padding: far below any score, yet finite, so that a row of padding alone gives
# uniform weights and no NaN.
_MASKED = -1e9


def attention_bias(padding_mask, dtype):
    """Scores to add so that no token attends to padding: [B, 1, 1, T], 0 or a large negative number."""
    bias = (1 - ops.cast(padding_mask, "float32")) * _MASKED
    if dtype == "float16":
        bias = ops.maximum(bias, -6e4)
    return ops.cast(ops.expand_dims(bias, (1, 2)), dtype)


class PaddedTokens:
    """Tokens in rows of equal length, [B, T, ...]: padding is computed along."""

    def pack(self, x):
        """[B, T, ...] -> [B, T, ...], as it is."""
        return x

    def unpack(self, x):
        """[B, T, ...] -> [B, T, ...], as it is."""
        return x


class PackedTokens:
    """The real tokens of a batch one after another, [R, ...].

    Packing gathers rows of the flattened batch and unpacking scatters them back over zeros; each is the other's
    gradient, which is said explicitly because the automatic one of a gather is a slower sparse sum.
    """

    def __init__(self, padding_mask):
        mask = ops.reshape(padding_mask, (-1,))  # [B * T]
        self.index = ops.cast(ops.nonzero(mask)[0], "int32")  # [R]
        self.rows, self.length = ops.shape(padding_mask)
        self.pack_floats = _with_gradient(self._gather, self._scatter)
        self.unpack = _with_gradient(self._scatter, self._gather)

    def pack(self, x):
        """[B, T, ...] -> [R, ...]."""
        return self.pack_floats(x) if "float" in keras.backend.standardize_dtype(x.dtype) else self._gather(x)

    def _gather(self, x):
        trailing = tuple(x.shape[2:])
        return ops.take(ops.reshape(x, (-1, *trailing)), self.index, axis=0)

    def _scatter(self, x):
        trailing = tuple(x.shape[1:])
        flat = ops.scatter(self.index[:, None], x, (self.rows * self.length, *trailing))
        return ops.reshape(flat, (self.rows, self.length, *trailing))


def _with_gradient(forward, backward):
    """A linear function with its transpose given as its gradient."""

    @ops.custom_gradient
    def function(x):
        def gradient(*args, upstream=None):
            return backward(args[0] if upstream is None else upstream)

        return forward(x), gradient

    return function
