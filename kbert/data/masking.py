"""Which tokens a model is to guess, and what stands in their places: drawn anew for each epoch, inside the graph.

Whether a token is hidden follows from the seed, the epoch, the number of its row and its place in the row; not from
the other rows of the batch, the padding, the number of replicas or the machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.config import MASK_UNITS
from kbert.data.random_bits import RANGE, random_bits, random_keys
from kbert.errors import InputError
from kbert.tokenization.tokenizer import BertTokenizer

IGNORED = -1
"""The label of a token that is not to be guessed."""

_HIDE, _REPLACE, _WORD = range(3)  # what a random number is for


@dataclass(frozen=True)
class Masking:
    """How much is hidden, and how.

    Raises:
        InputError: rates or lengths that are none.
    """

    rate: float = 0.15
    """The expected share of ordinary tokens that are to be guessed."""
    unit: str = "word"
    """What is hidden as a whole: "token"; "word" (whole-word masking); "span", runs of words as in MacBERT (Cui et al.
    2020, https://arxiv.org/abs/2004.13922, section 3.2), where they call it N-gram masking."""
    mask_fraction: float = 0.8
    """Of the tokens to be guessed, those that become the mask."""
    random_fraction: float = 0.1
    """Those that become a random word; the rest stay as they are."""
    span_lengths: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    """The shares of spans of 1, 2, … words."""

    def __post_init__(self):
        if not 0 < self.rate < 1:
            raise InputError(f"Masking: `rate` must be in (0, 1). Received: {self.rate}")
        if self.unit not in MASK_UNITS:
            raise InputError(f"Masking: `unit` must be one of {', '.join(MASK_UNITS)}. Received: {self.unit!r}")
        fractions = (self.mask_fraction, self.random_fraction)
        if min(fractions) < 0 or sum(fractions) > 1 + 1e-9:
            raise InputError(
                "Masking: `mask_fraction` and `random_fraction` must be 0 or more, and 1 together at most. "
                f"Received: {fractions[0]} and {fractions[1]}"
            )
        if not self.span_lengths or min(self.span_lengths) < 0 or abs(sum(self.span_lengths) - 1) > 1e-6:
            raise InputError(f"Masking: `span_lengths` must be shares that add up to 1. Received: {self.span_lengths}")

    def reach(self) -> np.ndarray:
        """The probabilities that what begins at a unit covers it, the next one, and so on: float64 [longest].

        A span begins at each word with the same probability, which is such that a word is covered by any of the spans
        that may reach it with probability `rate`. Where two meet they make one.
        """
        lengths = self.span_lengths if self.unit == "span" else (1.0,)
        reach = np.cumsum(lengths[::-1])[::-1]  # of a span that has begun
        low, high = 0.0, 1.0
        for _ in range(60):
            start = (low + high) / 2
            low, high = (start, high) if 1 - np.prod(1 - start * reach) < self.rate else (low, start)
        return high * reach


class MaskTokens:
    """Hides tokens of a batch of rows.

    Special tokens, [UNK] among them, and padding are neither hidden nor drawn as random words; nor are [unused…] drawn.
    Each unit is drawn for itself, so that the number of tokens to be guessed varies; a row in which none was drawn has
    none, and counts nothing in the loss. As in google-research/bert's create_pretraining_data.py, it is drawn for each
    token of a unit, not for the unit, whether it becomes the mask, a random word, or stays.

    Args:
        options: how much is hidden, and how.
        tokenizer: says which tokens are special; it must have a mask token.
        seed: of the run.

    Call arguments:
        features: `token_ids`, `segment_ids` and `padding_mask`, int32 [B, T]; `word_starts`, bool [B, T], whether a
            word begins at a token; for pairs `pair_label`, int32 [B]. A word ends at the next start or special token.
        rows: the numbers of the rows, int64 [B].
        epoch: int64 [].

    Returns:
        Inputs and labels of a `kbert.pretraining.model.PretrainingModel`. Inputs: the model's, with `token_ids`
        changed, and `guessed`, int32 [B, T], 1 where a token is to be guessed. Labels: `tokens`, int32 [B, T], what
        stood there, and `IGNORED` elsewhere; for pairs `pair_label`.
    """

    def __init__(self, options: Masking, tokenizer: BertTokenizer, seed: int = 0):
        if tokenizer.mask_id is None:
            raise InputError(f"the vocabulary has no {tokenizer.config.mask_token}, which hides what is to be guessed")
        self.options, self.tokenizer, self.seed = options, tokenizer, seed
        special = set(tokenizer.config.special_tokens)
        vocabulary = tokenizer.vocabulary
        self._special = np.array([token in special for token in vocabulary])
        self._words = np.flatnonzero(~self._special & ~_unused(vocabulary)).astype(np.int32)
        self._reach = options.reach()

    def __call__(
        self, features: Mapping[str, tf.Tensor], rows: tf.Tensor, epoch: tf.Tensor | int
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        token_ids = features["token_ids"]
        ordinary = (features["padding_mask"] > 0) & ~tf.gather(tf.constant(self._special), token_ids)

        def drawn(purpose: int, places: Any) -> tf.Tensor:
            return random_bits(random_keys(self.seed, purpose, epoch, rows)[:, None], places)

        units = self._units(features["word_starts"], ordinary)
        guessed = ordinary & self._covered(lambda places: drawn(_HIDE, places), units)
        places = tf.range(tf.shape(token_ids, tf.int64)[1])[None]
        hidden = self._hidden(token_ids, drawn(_REPLACE, places), drawn(_WORD, places))
        inputs = {
            "token_ids": tf.where(guessed, hidden, token_ids),
            "segment_ids": features["segment_ids"],
            "padding_mask": features["padding_mask"],
            "guessed": tf.cast(guessed, tf.int32),
        }
        labels = {"tokens": tf.where(guessed, token_ids, IGNORED)}
        if "pair_label" in features:
            labels["pair_label"] = features["pair_label"]
        return inputs, labels

    def _units(self, word_starts: tf.Tensor, ordinary: tf.Tensor) -> tf.Tensor:
        """The number of each token's unit in its row, int64 [B, T]; of tokens that are not ordinary, any.

        At each special token the numbers skip as many as a span is long. So no span goes on behind one, and those that
        begin at the numbers skipped cover the first words behind it as often as any other word.
        """
        before = tf.pad(ordinary, [[0, 0], [1, 0]])[:, :-1]
        begins = ordinary if self.options.unit == "token" else ordinary & (word_starts | ~before)
        steps = tf.where(ordinary, tf.cast(begins, tf.int64), len(self._reach))
        return tf.cumsum(steps, axis=1)

    def _covered(self, drawn: Any, units: tf.Tensor) -> tf.Tensor:
        """Whether a unit, or one so shortly before it that its span reaches it, has been drawn: bool [B, T]."""
        below = [round(probability * RANGE) for probability in self._reach]
        return tf.reduce_any(tf.stack([drawn(units - i) < bound for i, bound in enumerate(below)]), axis=0)

    def _hidden(self, token_ids: tf.Tensor, replace: tf.Tensor, word: tf.Tensor) -> tf.Tensor:
        """What each token becomes if it is to be guessed: int32 [B, T]."""
        masked = round(self.options.mask_fraction * RANGE)
        changed = round((self.options.mask_fraction + self.options.random_fraction) * RANGE)
        random = tf.gather(tf.constant(self._words), word * len(self._words) // RANGE)
        kept = tf.where(replace < changed, random, token_ids)
        return tf.where(replace < masked, self.tokenizer.mask_id, kept)


def _unused(vocabulary: Sequence[str]) -> np.ndarray:
    return np.array([re.fullmatch(r"\[unused\d+\]", token) is not None for token in vocabulary])
