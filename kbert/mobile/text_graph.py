"""The tokenizer in ops that every LiteRT runtime has, for a file that reads text itself.

The graph of `kbert.tokenization` stands on string ops and on tf-text's kernel, of which LiteRT has no form. Here a text
is its bytes, all shapes but their number are fixed, nothing branches or loops: where the other graph passes over a step
that a text does not need, this one does it for all. Both share their tables (`kbert.tokenization.spelling`).

Legend: N bytes, W characters that a code point can become, L characters, T tokens of a row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kbert.mobile.trie import DEAD, FIRST, SUFFIXES, build_trie
from kbert.tokenization.packing import truncated_lengths
from kbert.tokenization.spelling import MAX_WORD_LENGTH, SUFFIX, PagedTable, spell
from kbert.tokenization.tokenizer import BertTokenizer

LETTER, ALONE, SPACE = 1, 2, 3  # in the last two bits of a character; 0: no character
_JUMPS = 7  # doublings that pass over a word of MAX_WORD_LENGTH tokens


class _Tokens(NamedTuple):
    """The tokens of a text where they begin."""

    ids: tf.Tensor
    """int32 [L]: the id of the token that begins at a character; meaningless where none does."""
    begins: tf.Tensor
    """bool [L]: whether one begins there."""


class TextGraph:
    """UTF-8 to a row of token ids, the ids of `BertTokenizer` for every text.

    Args:
        tokenizer: its vocabulary, normalization and special tokens; text that spells a special token is plain text.
    """

    def __init__(self, tokenizer: BertTokenizer):
        self._tokenizer = tokenizer
        spelling = spell(tokenizer.vocabulary, tokenizer.config)
        letters = sorted({c for i, token in enumerate(spelling.vocabulary) for c in _body(i, token)})
        self._number = {letter: 1 + i for i, letter in enumerate(letters)}
        self._characters = PagedTable(spelling.characters.starts, self._renumbered(spelling.characters.values))
        self._expansions = self._renumbered(spelling.expansions)
        self._parts = self._renumbered(spelling.parts)
        self._ordering, self._classes = spelling.ordering, spelling.classes
        self._reorders = spelling.movable < len(spelling.expansions)
        self._trie = build_trie(
            {
                (SUFFIXES if _is_suffix(token) else FIRST, tuple(self._number[c] for c in _body(i, token))): i
                for i, token in enumerate(spelling.vocabulary)
                if _body(i, token)
            }
        )

    def __call__(self, texts: list[tf.Tensor], length: int) -> dict[str, tf.Tensor]:
        """One text or a pair as a model's input, truncated as by `BertTokenizer`; runs in a graph.

        Args:
            texts: uint8 [1, N] each: UTF-8, zeros behind it or not; at least one byte.
            length: T.

        Returns:
            `token_ids`, `segment_ids` and `padding_mask`, int32 [1, T].
        """
        return self.rows([_decoded(tf.cast(text[0], tf.int32)) for text in texts], length)

    def rows(self, code_points: list[tf.Tensor], length: int) -> dict[str, tf.Tensor]:
        """As `__call__`, for code points: int32 [N] each, 0 where there is none."""
        tokens = [self._tokens(of_text) for of_text in code_points]
        counts = [tf.reduce_sum(tf.cast(of_text.begins, tf.int32)) for of_text in tokens]
        kept = _kept(counts, length)
        tokenizer, column = self._tokenizer, tf.range(length)
        ids, segments = tf.fill([length], tokenizer.pad_id), tf.zeros([length], tf.int32)
        ids = tf.where(column == 0, tokenizer.cls_id, ids)
        end = tf.constant(0)  # the place of the last token written
        for segment, (of_text, count) in enumerate(zip(tokens, kept, strict=True)):
            here = (column > end) & (column <= end + count)
            ids = tf.where(here, _laid_out(of_text, end + 1, length), ids)
            segments = tf.where((column > end) & (column <= end + count + 1), segment, segments)
            end += count + 1
            ids = tf.where(column == end, tokenizer.sep_id, ids)
        mask = tf.cast(column <= end, tf.int32)
        rows = {"token_ids": ids, "segment_ids": segments, "padding_mask": mask}
        # A fixed shape from here on, whatever that of the text: the runtime's fast kernels need it.
        return {name: tf.reshape(row, [1, length]) for name, row in rows.items()}

    def _renumbered(self, values: np.ndarray) -> np.ndarray:
        """Characters of the private alphabet as `4 * number + kind`; the number is 0 where no token has the letter."""
        codes = np.maximum(values >> 1, 0)
        numbers = np.zeros(codes.max(initial=0) + 1, np.int32)
        for letter, number in self._number.items():
            if letter < len(numbers):
                numbers[letter] = number
        kind = np.where(codes == ord(" "), SPACE, np.where(values & 1, ALONE, LETTER))
        return np.where(values > 0, 4 * numbers[codes] + kind, values).astype(np.int32)

    # === Code points to characters ===

    def values(self, code_points: Any) -> Any:
        """What code points become, int32 [N]: `4 * number + kind`, or 0, or below 0 for several characters."""
        return _look_up(self._characters, code_points)

    def _spelled(self, code_points: tf.Tensor) -> tf.Tensor:
        """Code points, int32 [N], to normalized characters, int32 [L], 0 behind the last."""
        values = self.values(code_points)  # [N]
        several = tf.gather(self._expansions, tf.maximum(-values, 0))  # [N, W]
        single = tf.pad(values[:, None], [[0, 0], [0, self._expansions.shape[1] - 1]])
        parts = tf.where(values[:, None] > 0, single, several)
        characters = self._reordered(code_points, parts) if self._reorders else tf.reshape(parts, [-1])
        present = characters > 0
        return _scattered(tf.cumsum(tf.cast(present, tf.int32)) - 1, characters, present, tf.size(characters))

    def _reordered(self, code_points: tf.Tensor, parts: tf.Tensor) -> tf.Tensor:
        """The parts in canonical order, as in `kbert.tokenization.normalizer`: int32 [N * W]."""
        width = self._parts.shape[1]
        row = _look_up(self._ordering, code_points)[:, None]  # [N, 1]
        parts = tf.pad(parts, [[0, 0], [0, width - self._expansions.shape[1]]])
        classes = tf.where(row > 0, tf.gather(self._classes, row[:, 0]), tf.where(parts > 0, 0, -1))  # [N, W]
        parts = tf.reshape(tf.where(row > 0, tf.gather(self._parts, row[:, 0]), parts), [-1])
        classes = tf.reshape(classes, [-1])
        runs = tf.cumsum(tf.cast(classes == 0, tf.int32))
        keys = -(runs * 256 + tf.maximum(classes, 0))
        return tf.gather(parts, tf.math.top_k(keys, tf.size(keys)).indices)  # among equals the earlier comes first

    # === Characters to tokens ===

    def _tokens(self, code_points: tf.Tensor) -> _Tokens:
        characters = self._spelled(code_points)
        number, kind = characters // 4, characters % 4  # [L], as are all below
        is_letter, is_alone = kind == LETTER, kind == ALONE
        starts_word = is_letter & ~tf.concat([[False], is_letter[:-1]], 0)
        first, further = self._longest_matches(number)
        lengths, ids = (tf.where(starts_word, *both) for both in zip(first, further, strict=True))
        place = tf.range(tf.size(number))
        lengths = tf.where(is_letter, lengths, 0)
        behind = tf.minimum(place + lengths, tf.size(number) - 1)  # the last place is none: expansions leave room
        jumps = [behind]  # where one token leads, then two, four, …; nothing leads away from a failure or a word's end
        for _ in range(_JUMPS):
            jumps.append(tf.gather(jumps[-1], jumps[-1]))
        fails = is_letter & (lengths == 0)
        word = tf.cumsum(tf.cast(starts_word, tf.int32))
        size = tf.scatter_nd(word[:, None], tf.cast(is_letter, tf.int32), [tf.size(number) + 1])
        unknown = starts_word & (tf.gather(fails, jumps[-1]) | (tf.gather(size, word) > MAX_WORD_LENGTH))
        reached = starts_word & ~unknown
        for jump in jumps[:-1]:
            hits = tf.scatter_nd(jump[:, None], tf.cast(reached, tf.int32), [tf.size(number)])
            reached = (reached | (hits > 0)) & is_letter
        known_alone = is_alone & (first[0] > 0)
        ids = tf.where(known_alone, first[1], tf.where(reached, ids, self._tokenizer.unk_id))
        return _Tokens(ids, reached | unknown | is_alone)

    def _longest_matches(self, number: tf.Tensor) -> Any:
        """The length and the id of the longest token at each place, as a first and as a further one: int32 [L] each."""
        L = tf.size(number)
        padded = tf.pad(number, [[0, self._trie.depth]])
        slots = tf.constant(self._trie.slots)
        state = tf.stack([tf.fill([L], FIRST), tf.fill([L], SUFFIXES)])  # [2, L], as are the next
        base = tf.stack([tf.fill([L], int(self._trie.slots[root, 1])) for root in (FIRST, SUFFIXES)])
        lengths, ids = tf.zeros_like(state), tf.zeros_like(state)
        for k in range(self._trie.depth):
            following = base + padded[None, k : k + L]
            before, next_base, token = tf.unstack(tf.gather(slots, following), axis=-1)
            goes_on = (before == state) & (padded[None, k : k + L] > 0)
            state, base = tf.where(goes_on, following, DEAD), tf.where(goes_on, next_base, 0)
            ends = goes_on & (token >= 0)
            lengths, ids = tf.where(ends, k + 1, lengths), tf.where(ends, token, ids)
        return list(zip(tf.unstack(lengths), tf.unstack(ids), strict=True))


def _body(i: int, token: str) -> list[int]:
    """The letters of a token in the private alphabet; none of a mere place holder."""
    if token == f"[{i}]":
        return []
    return [ord(c) for c in (token.removeprefix(SUFFIX) if _is_suffix(token) else token)]


def _is_suffix(token: str) -> bool:
    return len(token) > len(SUFFIX) and token.startswith(SUFFIX)


def _decoded(data: tf.Tensor) -> tf.Tensor:
    """The code point that begins at each byte, int32 [N]; 0, which normalization drops, where none does.

    Well-formed sequences are those of the Unicode Standard, table 3-7; bytes of others are dropped, as U+FFFD is.
    """
    following = tf.pad(data, [[0, 3]])
    N = tf.size(data)
    second, third, fourth = (following[i : i + N] for i in (1, 2, 3))
    two, three, four = ((data >= low) & (data <= high) for low, high in ((0xC2, 0xDF), (0xE0, 0xEF), (0xF0, 0xF4)))
    lowest = tf.where(data == 0xE0, 0xA0, tf.where(data == 0xF0, 0x90, 0x80))
    highest = tf.where(data == 0xED, 0x9F, tf.where(data == 0xF4, 0x8F, 0xBF))
    goes_on = (second >= lowest) & (second <= highest)
    three &= _is_inner(third)
    four &= _is_inner(third) & _is_inner(fourth)
    code_points = tf.where(data < 0x80, data, 0)
    code_points = tf.where(two & goes_on, (data - 0xC0) * 64 + second - 0x80, code_points)
    code_points = tf.where(three & goes_on, (data - 0xE0) * 4096 + (second - 0x80) * 64 + third - 0x80, code_points)
    return tf.where(
        four & goes_on,
        (data - 0xF0) * 262144 + (second - 0x80) * 4096 + (third - 0x80) * 64 + fourth - 0x80,
        code_points,
    )


def _is_inner(data: tf.Tensor) -> tf.Tensor:
    return (data >= 0x80) & (data <= 0xBF)


def _look_up(table: PagedTable, code_points: tf.Tensor) -> tf.Tensor:
    """The table's values [N]."""
    return tf.gather(table.values, tf.gather(table.starts, code_points // 256) + code_points % 256)


def _kept(counts: list[tf.Tensor], length: int) -> tuple[tf.Tensor, ...]:
    """How many tokens of each text a row has room for."""
    if len(counts) == 1:
        return (tf.minimum(counts[0], length - 2),)
    return truncated_lengths(counts[0], counts[1], length - 3)


def _laid_out(tokens: _Tokens, place: tf.Tensor, length: int) -> tf.Tensor:
    """The ids one after another from a place on, int32 [T]; what does not fit is left out."""
    places = place + tf.cumsum(tf.cast(tokens.begins, tf.int32)) - 1
    return _scattered(places, tokens.ids, tokens.begins & (places < length), length)


def _scattered(places: tf.Tensor, values: tf.Tensor, chosen: tf.Tensor, size: Any) -> tf.Tensor:
    """The chosen values at their places, 0 elsewhere: int32 [size]."""
    return tf.scatter_nd(tf.where(chosen, places, size)[:, None], tf.where(chosen, values, 0), [size + 1])[:size]
