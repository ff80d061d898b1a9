"""Long texts to rows of tokens that overlap.

Legend: B texts, W windows of all texts together, T the length of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Windows(NamedTuple):
    """Windows over the tokens of texts."""

    text_index: tf.Tensor
    """int32 [W]: the text that a window belongs to."""
    ids: tf.RaggedTensor
    """int32 [W, (tokens)]."""
    starts: tf.RaggedTensor
    """int32 [W, (tokens)]: where each token begins in its text, in characters."""
    ends: tf.RaggedTensor
    """int32 [W, (tokens)]."""
    window_starts: tf.Tensor
    """int32 [W]: where the part of the text that a window covers begins, in characters."""
    window_ends: tf.Tensor
    """int32 [W]."""


def first_text_room(max_length: int) -> int:
    """How many tokens of the first text of a pair every window keeps: at most half of those that are not special."""
    return (max_length - 3) // 2


def smallest_room(max_length: int, is_pair: bool) -> int:
    """How many tokens of the text a window has room for at least."""
    return max_length - 3 - first_text_room(max_length) if is_pair else max_length - 2


def default_stride(max_length: int, is_pair: bool) -> int:
    """Tokens that a window shares with the one before: a quarter of a row, if there is room for one more."""
    return min(max_length // 4, smallest_room(max_length, is_pair) - 1)


def slide(
    ids: tf.RaggedTensor,
    starts: tf.RaggedTensor,
    ends: tf.RaggedTensor,
    num_characters: tf.Tensor,
    room: tf.Tensor,
    stride: int,
) -> Windows:
    """Cut texts into windows that share `stride` tokens.

    A text that fits has one window, and so has one without tokens. Together the windows of a text cover all of it:
    one covers what lies between its first token and the token behind its last; the first begins and the last ends where
    the text does.

    Args:
        ids: int32 [B, (tokens)].
        starts: int32 [B, (tokens)], in characters of the text.
        ends: int32 [B, (tokens)].
        num_characters: int32 [B], the lengths of the texts.
        room: int32 [B], tokens that a window of each text may have, more than `stride`.
        stride: Tokens that a window shares with the one before.
    """
    tokens = tf.cast(ids.row_lengths(), tf.int32)  # [B], as is `counts`
    step = room - stride
    counts = 1 + tf.maximum(tokens - room + step - 1, 0) // step
    index = tf.repeat(tf.range(tf.size(tokens)), counts)  # [W], as are the next
    nth = tf.range(tf.size(index)) - tf.gather(tf.cumsum(counts, exclusive=True), index)
    begin = nth * tf.gather(step, index)
    text_tokens, text_begin = tf.gather(tokens, index), tf.gather(tf.cast(ids.row_starts(), tf.int32), index)
    end = tf.minimum(begin + tf.gather(room, index), text_tokens)
    places = tf.ragged.range(text_begin + begin, text_begin + end)  # [W, (tokens)]

    def gathered(values: tf.RaggedTensor) -> tf.RaggedTensor:
        return places.with_flat_values(tf.gather(values.flat_values, places.flat_values))

    token_starts, token_ends = gathered(starts), gathered(ends)
    # Of marks that normalization puts in another order, a later token can have an earlier place in the text.
    first = tf.reduce_min(token_starts, axis=1)
    behind = tf.gather(tf.concat([starts.flat_values, [0]], 0), text_begin + end)
    last = tf.maximum(tf.reduce_max(token_ends, axis=1), behind)
    is_last = end == text_tokens
    return Windows(
        index,
        gathered(ids),
        token_starts,
        token_ends,
        tf.where(nth == 0, 0, first),
        tf.where(is_last, tf.gather(num_characters, index), last),
    )


def lay_out(offsets: tf.RaggedTensor, lead: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """The offsets of each window where its tokens stand in a row.

    Args:
        offsets: int32 [W, (tokens)].
        lead: int32 [W], tokens of the row before the window's.
        length: int32, T.

    Returns:
        int32 [W, T]; -1 for all other tokens.
    """
    place = tf.range(length)[None, :] - lead[:, None]  # [W, T]
    inside = (place >= 0) & (place < tf.cast(offsets.row_lengths(), tf.int32)[:, None])
    flat = tf.concat([[-1], offsets.flat_values], 0)
    starts = tf.cast(offsets.row_starts(), tf.int32)[:, None]
    return tf.gather(flat, tf.where(inside, starts + place + 1, 0))


def owned_tokens(token_starts: tf.Tensor, text_index: tf.Tensor, stride: int) -> tf.Tensor:
    """Each token of the texts once, in the window where more stands around it.

    Args:
        token_starts: int32 [W, T], -1 for what is no token of the text.
        text_index: int32 [W].
        stride: Tokens that a window shares with the one before.

    Returns:
        bool [W, T]. Its true places, row by row, are the tokens of the texts one after another.
    """
    real = token_starts >= 0
    nth = tf.cumsum(tf.cast(real, tf.int32), axis=1, exclusive=True)  # [W, T], place among the window's tokens
    number = tf.reduce_sum(tf.cast(real, tf.int32), axis=1)  # [W]
    same_text = text_index[1:] == text_index[:-1]
    goes_on = tf.concat([[False], same_text], 0)[: tf.size(text_index)]
    is_followed = tf.concat([same_text, [False]], 0)[: tf.size(text_index)]
    half = stride // 2
    first = tf.where(goes_on, half, 0)
    end = tf.where(is_followed, number - stride + half, number)
    return real & (nth >= first[:, None]) & (nth < end[:, None])
