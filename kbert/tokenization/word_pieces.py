"""Texts to word pieces, inside the graph: ASCII as it is, other texts through the private alphabet."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
from tensorflow_text.core.pybinds import pywrap_fast_wordpiece_tokenizer_model_builder as model_builder

from kbert.tokenization.normalizer import Spelled, encode, mark_typed_tokens, spell_text
from kbert.tokenization.spelling import MAX_WORD_LENGTH, SUFFIX, Spelling

# The length of words is checked in characters, here; FastWordpieceTokenizer counts bytes, and must not.
_NO_LIMIT = 2**30
# Printable ASCII and the white space that BERT keeps, without a word that is too long.
_PLAIN = r"(?:[0-9A-Za-z]{0,%d}[\t\n\r !-/:-@\[-`{-~])*[0-9A-Za-z]{0,%d}" % (MAX_WORD_LENGTH, MAX_WORD_LENGTH)  # noqa: UP031


class WordPieces:
    """The longest-match-first algorithm on normalized texts (Wu et al. 2016, section 4.1; Song et al. 2021).

    Args:
        spelling: Vocabulary and code point tables.
        unk_id: Id of the token for words that the vocabulary cannot spell.
        lower_case: Whether texts are lower-cased.
    """

    def __init__(self, spelling: Spelling, unk_id: int, lower_case: bool):
        self._spelling = spelling
        self._lower_case = lower_case
        vocabulary = spelling.vocabulary
        model = model_builder.build_fast_wordpiece_model(
            vocabulary, _NO_LIMIT, SUFFIX, vocabulary[unk_id], False, False
        )
        self._model = np.frombuffer(model, np.uint8)

    def tokenize(self, text: tf.Tensor) -> tf.RaggedTensor:
        """string [B] to ids, int32 [B, (tokens)]."""
        text, is_plain = self._prepare(text)
        written = tf.cond(tf.reduce_all(is_plain), lambda: text, lambda: self._respell(text, ~is_plain)[0])
        return self._kernel().tokenize(written)

    def tokenize_with_offsets(self, text: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """string [B] to ids, starts and ends in characters of the text, each int32 [B, (tokens)]."""
        text, is_plain = self._prepare(text)

        def from_plain() -> tuple[tf.RaggedTensor, ...]:
            ids, starts, ends = self._kernel().tokenize_with_offsets(text)
            return ids, tf.cast(starts, tf.int32), tf.cast(ends, tf.int32)

        return tf.cond(tf.reduce_all(is_plain), from_plain, lambda: self._with_offsets(text, ~is_plain))

    def _prepare(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Texts with special tokens marked, the plain ones ready for the kernel; and which are plain: bool [B]."""
        text = mark_typed_tokens(text, self._spelling)
        is_plain = tf.strings.regex_full_match(text, _PLAIN)
        return tf.strings.lower(text) if self._lower_case else text, is_plain

    def _respell(self, text: tf.Tensor, selected: tf.Tensor) -> tuple[tf.Tensor, Spelled]:
        """Rewrite selected texts in the private alphabet; gives all texts, and the selected ones as they were spelt."""
        rows = tf.where(selected)  # [selected, 1]
        spelled = spell_text(tf.gather_nd(text, rows), self._spelling)
        return tf.tensor_scatter_nd_update(text, rows, encode(spelled)), spelled

    def _with_offsets(self, text: tf.Tensor, respelled: tf.Tensor) -> tuple[tf.RaggedTensor, ...]:
        """Tokens of texts some of which go through the private alphabet: those where `respelled`, bool [B]."""
        written, spelled = self._respell(text, respelled)
        ids, byte_starts, byte_ends = self._kernel().tokenize_with_offsets(written)
        starts, ends = (tf.cast(offsets.flat_values, tf.int32) for offsets in (byte_starts, byte_ends))
        rows = _row_numbers(ids)  # [tokens], as are the next
        changed = tf.gather(respelled, rows)
        spelled_rows = tf.where(changed, tf.gather(tf.cumsum(tf.cast(respelled, tf.int32)) - 1, rows), 0)
        # What is computed for the tokens of plain texts is not used, but must not point beside the tables.
        sources = self._sources(spelled, spelled_rows, tf.where(changed, starts, 0), tf.where(changed, ends, 1))
        starts, ends = (
            ids.with_flat_values(tf.where(changed, source, plain))
            for source, plain in zip(sources, (starts, ends), strict=True)
        )
        return ids, starts, ends

    def _sources(
        self, spelled: Spelled, rows: tf.Tensor, byte_starts: tf.Tensor, byte_ends: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Which characters of their texts the bytes of respelled texts come from; all int32 [tokens]."""
        characters = tf.bitwise.right_shift(spelled.values, 1)
        widths = sum(tf.cast(characters >= limit, tf.int32) for limit in (1, 0x80, 0x800, 0x10000))
        limits = tf.concat([[0], tf.cumsum(widths)], 0)  # [M + 1]: where a character begins and the one before ends
        base = tf.gather(tf.gather(limits, spelled.splits), rows)
        first = tf.searchsorted(limits, base + byte_starts)
        last = tf.searchsorted(limits, base + byte_ends) - 1
        base = tf.gather(tf.cast(spelled.source_splits, tf.int32), rows)
        starts = tf.gather(spelled.sources, first) - base
        ends = tf.gather(spelled.sources, last) + 1 - base
        if self._spelling.typed:
            last_characters = tf.gather(characters, last)
            for token, _, code in self._spelling.typed:
                ends += tf.where(last_characters == code, len(token) - 1, 0)
        return starts, ends

    def _kernel(self) -> tf_text.FastWordpieceTokenizer:
        """The word piece kernel, its model a constant of the current graph."""
        return tf_text.FastWordpieceTokenizer(model_buffer=tf.constant(self._model), token_out_type=tf.int32)


def _row_numbers(ragged: tf.RaggedTensor) -> tf.Tensor:
    """The row of each flat value: int32; `value_rowids` takes memory for a dense tensor of that shape."""
    size = tf.size(ragged.flat_values, tf.int64)
    starts = ragged.row_splits[1:-1, None]
    marks = tf.scatter_nd(starts, tf.ones_like(starts[:, 0], tf.int32), [size + 1])
    return tf.cumsum(marks)[:-1]
