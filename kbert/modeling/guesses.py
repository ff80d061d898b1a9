"""Which tokens a masked LM scores: those to be guessed alone, since a word's scores cost as much as a layer or two.

`guessed` is int [B, T], 1 where a token is to be guessed; M stands for how many of a row are scored, G of the batch.
"""

from __future__ import annotations

import math

from keras import ops

from kbert.modeling.token_layout import PackedTokens


class AllGuesses:
    """Every token to be guessed, however many they are: shapes that depend on the data."""

    def take(self, values, guessed):
        """[B, T, ...] -> [G, ...], row by row."""
        return PackedTokens(guessed).pack(values)


class FixedGuesses:
    """Equally many tokens of each row, as XLA and JAX need: the first ones to be guessed, then some that are not.

    A row has room for four standard deviations more than `rate` of its tokens, words of two tokens assumed; what is
    beyond stays hidden and is not guessed.

    Args:
        rate: the share of tokens to be guessed.
    """

    def __init__(self, rate: float):
        self.rate = rate

    def room(self, length: int) -> int:
        """Tokens of a row of this length that are scored, M."""
        spread = math.sqrt(2 * self.rate * (1 - self.rate) * length)
        return min(length, math.ceil(self.rate * length + 4 * spread))

    def take(self, values, guessed):
        """[B, T, ...] -> [B, M, ...]."""
        T = guessed.shape[1]
        firsts = ops.cast(guessed, "int32") * ops.arange(T, 0, -1, dtype="int32")
        index = ops.top_k(firsts, self.room(T))[1]
        return ops.take_along_axis(
            values, ops.reshape(index, (-1, *index.shape[1:], *(1,) * (values.ndim - 2))), axis=1
        )
