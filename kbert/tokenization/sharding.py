"""A function of texts run on several parts of a batch at the same time."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

_SHARD_BYTES = 32768  # enough work to pay for the hand-over, little enough for a core's own cache
_AT_ONCE = 64  # shards in flight: more than there are cores


def in_shards(
    function: Callable[[tf.Tensor], tuple[tf.RaggedTensor, ...]], text: tf.Tensor, num_outputs: int
) -> tuple[tf.RaggedTensor, ...]:
    """Apply a function that treats every text by itself, on all cores.

    Its ops are single-threaded, so that a large batch is cut into shards of about 32 kB, whole texts each; a small
    batch is a single one.

    Args:
        function: string [B] to `num_outputs` int32 ragged tensors [B, (tokens)] with the same row lengths.
        text: string [B].
        num_outputs: How many tensors it returns.

    Returns:
        What `function(text)` would.
    """
    ends = tf.cumsum(tf.strings.length(text), axis=0)  # bytes, int32 [B]; a batch is smaller than 2 GiB
    total = tf.reduce_max(tf.concat([[0], ends], 0))
    count = total // _SHARD_BYTES + 1
    cuts = tf.searchsorted(ends, tf.range(1, count) * _SHARD_BYTES)
    bounds = tf.concat([[0], cuts, [tf.size(text)]], 0)  # [count + 1]

    def shard(i: tf.Tensor) -> tuple[tf.Tensor, ...]:
        outputs = function(text[bounds[i] : bounds[i + 1]])
        return (tf.cast(outputs[0].row_lengths(), tf.int32), *(output.flat_values for output in outputs))

    flat = tf.RaggedTensorSpec([None], tf.int32, ragged_rank=0)
    lengths, *values = tf.map_fn(
        shard, tf.range(count), fn_output_signature=(flat,) * (num_outputs + 1), parallel_iterations=_AT_ONCE
    )
    splits = tf.concat([[0], tf.cumsum(tf.cast(lengths.flat_values, tf.int64))], 0)
    return tuple(tf.RaggedTensor.from_row_splits(value.flat_values, splits, validate=False) for value in values)
