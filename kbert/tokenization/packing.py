"""Rows of token ids to the dense tensors that a BERT model reads."""

from __future__ import annotations

import tensorflow as tf


def truncated_lengths(first: tf.Tensor, second: tf.Tensor, room: int) -> tuple[tf.Tensor, tf.Tensor]:
    """How many tokens of each text to keep, longest first, as Hugging Face's `truncation=True` does.

    Taking tokens off the longer text one by one ends with equal lengths, or with the shorter text untouched.

    Args:
        first: int32 [B], tokens of the first texts.
        second: int32 [B], tokens of the second texts.
        room: Tokens that a row has for both.

    Returns:
        int32 [B] twice.
    """
    shorter = tf.minimum(tf.minimum(first, second), room // 2)
    longer = tf.minimum(tf.maximum(first, second), room - shorter)
    first_is_longer = first > second
    return tf.where(first_is_longer, longer, shorter), tf.where(first_is_longer, shorter, longer)


def pack_rows(
    first: tf.RaggedTensor, second: tf.RaggedTensor | None, max_length: int, cls_id: int, sep_id: int, pad_id: int
) -> dict[str, tf.Tensor]:
    """Write `[CLS] first [SEP]` or `[CLS] first [SEP] second [SEP]` into rows as long as the longest.

    Args:
        first: int32 [B, (tokens)].
        second: int32 [B, (tokens)], or None.
        max_length: Longest row in tokens; what is longer is truncated.
        cls_id: Id of the token that begins a row.
        sep_id: Id of the token that ends a text.
        pad_id: Id of the token that fills a row up.

    Returns:
        `token_ids`, `segment_ids` and `padding_mask`, each int32 [B, T].
    """
    first_starts, first_lengths = _rows(first)
    flat = tf.concat([first.flat_values, [cls_id, sep_id, pad_id]], 0)
    cls, sep, pad = (tf.size(first.flat_values) + i for i in range(3))  # places in `flat`
    if second is None:
        first_lengths = tf.minimum(first_lengths, max_length - 2)
        lengths = first_lengths + 2  # [B]
    else:
        second_starts, second_lengths = _rows(second)
        second_starts += tf.size(flat)
        flat = tf.concat([flat, second.flat_values], 0)
        first_lengths, second_lengths = truncated_lengths(first_lengths, second_lengths, max_length - 3)
        lengths = first_lengths + second_lengths + 3

    column = tf.range(tf.maximum(tf.reduce_max(lengths), 0))[None, :]  # [1, T]
    length, border = lengths[:, None], first_lengths[:, None] + 1  # [B, 1]; the place of the first [SEP]
    source = first_starts[:, None] + column - 1  # [B, T], as are all below
    if second is not None:
        source = tf.where(column > border, second_starts[:, None] + column - border - 1, source)
    source = tf.where((column == border) | (column == length - 1), sep, source)
    source = tf.where(column == 0, cls, tf.where(column < length, source, pad))
    mask = tf.cast(column < length, tf.int32)
    return {
        "token_ids": tf.gather(flat, source),
        "segment_ids": tf.cast((column > border) & (column < length), tf.int32),
        "padding_mask": mask,
    }


def _rows(ids: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each row begins in the flat values, and its length: int32 [B] twice."""
    return tf.cast(ids.row_starts(), tf.int32), tf.cast(ids.row_lengths(), tf.int32)
