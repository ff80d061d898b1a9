"""Texts to normalized words, inside the graph: what word pieces are learnt from."""

from __future__ import annotations

import tensorflow as tf

from kbert.config import TokenizerConfig
from kbert.tokenization.normalizer import Spelled, encode, spell_text
from kbert.tokenization.spelling import spell_as_is
from kbert.tokenization.tracing import trace_on_cpu


class WordSplitter:
    """Splits texts into the words that BERT cuts into word pieces.

    The words are those of Hugging Face's `BertNormalizer` and `BertPreTokenizer`, less those of more than 100
    characters, which no word piece can stand for.

    Args:
        config: The normalization.
    """

    def __init__(self, config: TokenizerConfig = TokenizerConfig()):
        spelling = spell_as_is(config)
        self._split = trace_on_cpu(lambda text: tf.strings.split(_spaced(spell_text(text, spelling))), num_texts=1)

    def __call__(self, text: tf.Tensor) -> tf.RaggedTensor:
        """string [B] to string [B, (words)]."""
        return self._split(text)


def _spaced(spelled: Spelled) -> tf.Tensor:
    """Texts with white space between words: string [B]."""
    space = 2 * ord(" ")
    is_alone = tf.cast(tf.bitwise.bitwise_and(spelled.values, 1), tf.bool)  # white space too, which does no harm
    characters = tf.stack([tf.fill(tf.shape(is_alone), space), spelled.values, tf.fill(tf.shape(is_alone), space)], 1)
    kept = tf.stack([is_alone, tf.ones_like(is_alone), is_alone], 1)  # [M, 3]
    ends = tf.concat([[0], tf.cumsum(tf.math.count_nonzero(kept, axis=1))], 0)
    return encode(spelled._replace(values=characters[kept], splits=tf.gather(ends, spelled.splits)))
