"""Tags of units to entities with their text, inside the graph.

A unit is a word piece that begins a word, with the pieces that go on with it; the tag of its first piece is its tag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Units(NamedTuple):
    """The units of texts, one after another; [U] each."""

    places: tf.Tensor
    """int64 [U, 2]: the window of the unit, and the place of its first piece there."""
    text: tf.Tensor
    """int32: the text that it belongs to."""
    start: tf.Tensor
    """int32: its first character."""
    end: tf.Tensor
    """int32: the character behind its last."""


def units_of(features: Mapping[str, tf.Tensor], owned: tf.Tensor, is_continuation: tf.Tensor) -> Units:
    """The units of texts cut into windows.

    Args:
        features: of `BertTokenizer.windows`.
        owned: bool [W, T], each token of the texts once (`owned_tokens`).
        is_continuation: bool [V], the tokens that go on with a word.
    """
    places = tf.where(owned)  # [tokens, 2], in the order of the texts
    first = ~tf.gather(is_continuation, tf.gather_nd(features["token_ids"], places))
    unit = tf.maximum(tf.cumsum(tf.cast(first, tf.int32)) - 1, 0)
    number = tf.reduce_sum(tf.cast(first, tf.int32))
    places_of_units = tf.boolean_mask(places, first)
    return Units(
        places_of_units,
        tf.gather(features["text_index"], places_of_units[:, 0]),
        tf.math.unsorted_segment_min(tf.gather_nd(features["token_starts"], places), unit, number),
        tf.math.unsorted_segment_max(tf.gather_nd(features["token_ends"], places), unit, number),
    )


def entities(
    text: tf.Tensor,
    units: Units,
    tags: tf.Tensor,
    probabilities: tf.Tensor,
    joins: np.ndarray,
    types: Sequence[str],
) -> dict[str, tf.Tensor]:
    """Runs of tags as entities, the outputs of the served signature.

    Args:
        text: string [B].
        units: of these texts.
        tags: int32 [U].
        probabilities: float32 [U], of the tags.
        joins: bool [C, C]: whether the second tag goes on with the entity of the first.
        types: the type of each tag, "" outside of entities; [C].

    Returns:
        `entity_text` and `entity_label` string [B, E], `entity_start`, `entity_end` (characters of the text, the end
        exclusive) int32 [B, E], `entity_score` float32 [B, E], the mean probability of its tags, and `entity_count`
        int32 [B]. Short rows are filled with "", -1 and 0.0.
    """
    names = tf.constant(list(types))
    inside = tf.gather(names != "", tags)
    same_text = units.text[1:] == units.text[:-1]
    joined = same_text & tf.gather_nd(tf.constant(joins), tf.stack([tags[:-1], tags[1:]], axis=1))
    begins = inside & ~tf.concat([[False], joined], 0)[: tf.size(tags)]
    ends = inside & ~tf.concat([joined, [False]], 0)[: tf.size(tags)]
    entity = tf.boolean_mask(tf.cumsum(tf.cast(begins, tf.int32)) - 1, inside)
    begin, last = tf.where(begins)[:, 0], tf.where(ends)[:, 0]
    row = tf.gather(units.text, begin)
    start, end = tf.gather(units.start, begin), tf.gather(units.end, last)
    score = tf.math.unsorted_segment_mean(tf.boolean_mask(probabilities, inside), entity, tf.size(begin))
    B = tf.size(text)

    def rows(values, filling):
        return tf.RaggedTensor.from_value_rowids(values, tf.cast(row, tf.int64), tf.cast(B, tf.int64), False).to_tensor(
            filling
        )

    # Bytes that are not UTF-8 count as one character each, as the tokenizer counts them.
    readable = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    return {
        "entity_text": rows(tf.strings.substr(tf.gather(readable, row), start, end - start, unit="UTF8_CHAR"), ""),
        "entity_label": rows(tf.gather(names, tf.gather(tags, begin)), ""),
        "entity_start": rows(start, -1),
        "entity_end": rows(end, -1),
        "entity_score": rows(score, 0.0),
        "entity_count": tf.math.bincount(row, minlength=B, maxlength=B),
    }
