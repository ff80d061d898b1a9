"""Text to the private alphabet, inside the graph: core TensorFlow ops over tables, no ICU property, no Python.

Legend: B texts, M characters of all texts together, W characters a code point can become, E edges of words.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import tensorflow as tf

from kbert.tokenization.spelling import MAX_WORD_LENGTH, TYPED_TOKENS_START, PagedTable, Spelling


class Spelled(NamedTuple):
    """Texts in the private alphabet, character by character."""

    values: tf.Tensor
    """int32 [M]: `2 * code + edge`, as in Spelling."""
    splits: tf.Tensor
    """int64 [B + 1]: where each text begins in `values`."""
    sources: tf.Tensor
    """int32 [M]: which code point each comes from, counted through all texts."""
    source_splits: tf.Tensor
    """int64 [B + 1]: where each text begins in that count."""


def mark_typed_tokens(text: tf.Tensor, spelling: Spelling) -> tf.Tensor:
    """Put a private code point and white space, as long as the token, where text spells out a special token."""
    if spelling.typed:
        last = TYPED_TOKENS_START + len(spelling.typed) - 1
        text = tf.strings.regex_replace(text, f"[{chr(TYPED_TOKENS_START)}-{chr(last)}]", "\ufffd")
    for token, code_point, _ in spelling.typed:
        text = tf.strings.regex_replace(text, re.escape(token), chr(code_point) + " " * (len(token) - 1))
    return text


def spell_text(text: tf.Tensor, spelling: Spelling) -> Spelled:
    """Normalize texts and write them in the private alphabet.

    Args:
        text: string [B], UTF-8; what is not valid UTF-8 counts as U+FFFD, which normalization drops.
        spelling: The tables.

    Returns:
        The characters. A word that is too long has `unknown_letter` in place of each of its characters.
    """
    # The space makes the end of a text the end of a word.
    code_points = tf.strings.unicode_decode(tf.strings.join([text, " "]), "UTF-8")
    flat, splits = code_points.flat_values, code_points.row_splits  # [M], [B + 1]
    values = _look_up(spelling.characters, flat)  # [M]
    values, splits, sources = tf.cond(
        tf.reduce_all(values > 0),
        lambda: (values, splits, tf.range(tf.size(values))),
        lambda: _rewrite(flat, values, splits, spelling),
    )
    is_edge = tf.equal(tf.bitwise.bitwise_and(values, 1), 1)  # [M]
    edges = places(is_edge)  # [E]
    spans = edges - tf.concat([[-1], edges[:-1]], 0)  # [E], each a word and the edge behind it
    is_long = spans > MAX_WORD_LENGTH + 1
    values = tf.cond(
        tf.reduce_any(is_long),
        lambda: tf.where(
            tf.gather(is_long, tf.cumsum(tf.cast(is_edge, tf.int32), exclusive=True)) & ~is_edge,
            spelling.unknown_letter,
            values,
        ),
        lambda: values,
    )
    return Spelled(values, splits, sources, code_points.row_splits)


def count_characters(text: tf.Tensor) -> tf.Tensor:
    """The lengths of texts as offsets count them, each flaw in their UTF-8 being a character: int32 [B]."""
    return tf.cast(tf.strings.unicode_decode(text, "UTF-8").row_lengths(), tf.int32)


def encode(spelled: Spelled) -> tf.Tensor:
    """The texts as UTF-8: string [B]."""
    characters = tf.bitwise.right_shift(spelled.values, 1)
    rows = tf.RaggedTensor.from_row_splits(characters, spelled.splits, validate=False)
    return tf.strings.unicode_encode(rows, "UTF-8")


def _look_up(table: PagedTable, code_points: tf.Tensor) -> tf.Tensor:
    """The table's values [M]."""
    page = tf.gather(table.starts, tf.bitwise.right_shift(code_points, 8))
    return tf.gather(table.values, page + tf.bitwise.bitwise_and(code_points, 255))


def _rewrite(
    code_points: tf.Tensor, values: tf.Tensor, splits: tf.Tensor, spelling: Spelling
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Take out what becomes nothing, and put in what becomes several characters."""
    several = tf.gather(spelling.expansions, tf.maximum(-values, 0))  # [M, W]
    parts = tf.where(values[:, None] > 0, tf.pad(values[:, None], [[0, 0], [0, several.shape[1] - 1]]), several)

    def expand() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        present = parts != 0
        return parts[present], _resplit(splits, present), places(present)

    if spelling.movable == len(spelling.expansions):
        return expand()
    return tf.cond(
        tf.reduce_any(values <= -spelling.movable),
        lambda: _reorder(code_points, parts, splits, spelling),
        expand,
    )


def _reorder(
    code_points: tf.Tensor, parts: tf.Tensor, splits: tf.Tensor, spelling: Spelling
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Do as `_rewrite`, with the marks of each run in canonical order (Unicode Standard, section 3.11).

    Hugging Face pairs what has been reordered with the sources in their old order: the n-th code point that results
    is said to come from the n-th there was, and what a decomposition adds goes with the code point before it.
    """
    width = spelling.parts.shape[1]
    row = _look_up(spelling.ordering, code_points)  # [M]
    parts = tf.pad(parts, [[0, 0], [0, width - spelling.expansions.shape[1]]])  # [M, W]
    classes = tf.where(row[:, None] > 0, tf.gather(spelling.classes, row), tf.where(parts > 0, 0, -1))
    parts = tf.where(row[:, None] > 0, tf.gather(spelling.parts, row), parts)
    present = classes >= 0
    first_present = present[:, 0]
    is_first = tf.broadcast_to(tf.range(width) == 0, tf.shape(parts))[present]  # [P], as are the next
    parts, classes, splits = parts[present], tf.cast(classes[present], tf.int64), _resplit(splits, present)
    runs = tf.cumsum(tf.cast(classes == 0, tf.int64))
    order = tf.argsort(runs * 256 + classes, stable=True)
    parts, is_first = tf.gather(parts, order), tf.gather(is_first, order)
    nth = tf.maximum(tf.cumsum(tf.cast(is_first, tf.int32)) - 1, 0)
    kept = parts > 0
    return parts[kept], _resplit(splits, kept), tf.gather(places(first_present), nth[kept])


def places(present: tf.Tensor) -> tf.Tensor:
    """The rows of what is present: int32."""
    return tf.cast(tf.where(present)[:, 0], tf.int32)


def _resplit(splits: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Where texts begin when of each element, or of each row of elements, only what is `kept` stays."""
    counts = tf.cast(kept, tf.int64) if kept.shape.rank == 1 else tf.math.count_nonzero(kept, axis=1)
    return tf.gather(tf.concat([[0], tf.cumsum(counts)], 0), splits)
