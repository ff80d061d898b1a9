"""One vector for a row of vectors."""

from __future__ import annotations

from keras import ops


def mean_pooling(sequence_output, padding_mask):
    """The mean of a row's real tokens: [B, T, D] -> float32 [B, D]; zeros for a row of padding alone."""
    mask = ops.expand_dims(ops.cast(padding_mask, "float32"), -1)
    # Not by multiplying: padding may hold anything.
    real = ops.where(mask > 0, ops.cast(sequence_output, "float32"), 0.0)
    return ops.sum(real, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1.0)


def cls_pooling(sequence_output, padding_mask):
    """The vector of a row's first token, [CLS]: [B, T, D] -> float32 [B, D]."""
    return ops.cast(sequence_output[:, 0], "float32")
