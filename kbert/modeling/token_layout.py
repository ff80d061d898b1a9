"""Where the encoder keeps its tokens: padded rows, or the real tokens alone.

Every dense layer, norm and activation of BERT looks at one token at a time; only attention needs to know which tokens
share a row. So the blocks compute on whatever `pack` returns, and only queries, keys, values and what attention makes
of them have rows, by `split_heads` and `join_heads`. With `PackedTokens` the padding of a batch costs nothing outside
attention; with `PaddedTokens` all shapes stay static, as XLA, LiteRT and JAX need.
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

    def first(self, x):
        """The first token of each row, [B, T, D] -> [B, D]."""
        return x[:, 0]

    def split_heads(self, x, parts, num_heads):
        """[B, T, parts * D] -> `parts` tensors [B, N, T, H]."""
        B, T = ops.shape(x)[:2]
        x = ops.reshape(x, (B, T, parts, num_heads, x.shape[-1] // (parts * num_heads)))
        return ops.unstack(ops.transpose(x, (2, 0, 3, 1, 4)), parts)

    def join_heads(self, x):
        """[B, N, T, H] -> [B, T, D]."""
        B, N, T, H = ops.shape(x)
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (B, T, N * H))


class PackedTokens:
    """The real tokens of a batch one after another, [R, ...].

    Every way into this layout and out of it gathers rows, and its gradient is the way back, which is said explicitly
    because the automatic gradient of a gather is a slower sparse sum. Padding comes out as zeros.
    """

    def __init__(self, padding_mask):
        self.rows, self.length = ops.shape(padding_mask)
        mask = ops.reshape(ops.cast(padding_mask, "bool"), (-1,))  # [B * T]
        self.index = ops.cast(ops.nonzero(mask)[0], "int32")  # [R], where each real token stands in the padded batch
        # [B, T], the way back; padding gets R, the row that `_with_zeros` adds.
        number = ops.where(mask, ops.cumsum(ops.cast(mask, "int32")) - 1, ops.shape(self.index)[0])
        self.number = ops.reshape(number, (self.rows, self.length))
        self.pack_floats = _with_gradient(self._pack, self._unpack)
        self.unpack = _with_gradient(self._unpack, self._pack)
        self.first = _with_gradient(self._first, self._at_first)

    def pack(self, x):
        """[B, T, ...] -> [R, ...]."""
        return self.pack_floats(x) if "float" in keras.backend.standardize_dtype(x.dtype) else self._pack(x)

    def split_heads(self, x, parts, num_heads):
        """[R, parts * D] -> `parts` tensors [B, N, T, H]."""
        split, join = self._splitting(parts, num_heads, x.shape[-1] // (parts * num_heads))
        return ops.unstack(_with_gradient(split, join)(x), parts)

    def join_heads(self, x):
        """[B, N, T, H] -> [R, D]."""
        split, join = self._splitting(1, x.shape[1], x.shape[3])
        return _with_gradient(join, split)(ops.expand_dims(x, 0))

    def _pack(self, x):
        return ops.take(ops.reshape(x, (-1, *x.shape[2:])), self.index, axis=0)

    def _unpack(self, x):
        return ops.take(_with_zeros(x), self.number, axis=0)

    def _first(self, x):
        return ops.take(_with_zeros(x), self.number[:, 0], axis=0)

    def _at_first(self, x):
        is_first = ops.expand_dims(self.index % self.length == 0, -1)
        return ops.where(is_first, ops.take(x, self.index // self.length, axis=0), 0)

    def _splitting(self, parts, num_heads, head_dim):
        """Two functions, [R, parts * D] -> [parts, B, N, T, H] and back: both gather the H numbers of a head."""
        part = ops.arange(parts, dtype="int32")[:, None, None, None]
        head = ops.arange(num_heads, dtype="int32")[:, None]
        split_from = (self.number[:, None] * parts + part) * num_heads + head  # [parts, B, N, T]
        row, column = self.index // self.length, self.index % self.length  # [R]
        part, head = part[..., 0, 0], head[:, 0]
        join_from = (part * self.rows + row[:, None, None]) * num_heads + head  # [R, parts, N]
        join_from = join_from * self.length + column[:, None, None]

        def split(x):
            return ops.take(ops.reshape(_with_zeros(x), (-1, head_dim)), split_from, axis=0)

        def join(x):
            found = ops.take(ops.reshape(x, (-1, head_dim)), join_from, axis=0)
            return ops.reshape(found, (-1, parts * num_heads * head_dim))

        return split, join


def _with_zeros(x):
    """[R, ...] -> [R + 1, ...]."""
    return ops.pad(x, [(0, 1), *[(0, 0)] * (len(x.shape) - 1)])


def _with_gradient(forward, backward):
    """A linear function with its transpose given as its gradient."""

    @ops.custom_gradient
    def function(x):
        def gradient(*args, upstream=None):
            return backward(args[0] if upstream is None else upstream)

        return forward(x), gradient

    return function
