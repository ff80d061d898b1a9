"""Random numbers in a graph that follow from a key and a place alone, whatever is computed beside them.

TensorFlow's own stateless numbers take a seed for a whole tensor, so a row's would depend on the batch and on its
padding. These are those of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators",
https://doi.org/10.1145/2660193.2660195): number i of seed s is mix(s + (i + 1) * gamma), which needs none before it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_GAMMA = 0x9E3779B97F4A7C15
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))  # shifts and factors of `mix`
RANGE = 2**32
"""Numbers are below this."""


def random_keys(*parts: Any) -> tf.Tensor:
    """Keys for `random_bits`: uint64 in the shape that the parts, ints or int64 tensors, broadcast to.

    Each part picks one of the streams that those before it make: a seed, an epoch, the number of a row.
    """
    keys = tf.constant(0, tf.uint64)
    for part in parts:
        keys = _number(keys, part)
    return keys


def random_bits(keys: tf.Tensor, places: Any) -> tf.Tensor:
    """32 random bits for each pair of a key, uint64, and a place, int64, which broadcast: int64 in [0, `RANGE`)."""
    return tf.cast(tf.bitwise.right_shift(_number(keys, places), tf.constant(32, tf.uint64)), tf.int64)


def _number(seeds: tf.Tensor, places: Any) -> tf.Tensor:
    # The cast wraps a negative place, and products wrap: both are meant modulo 2**64.
    places = tf.cast(tf.convert_to_tensor(places, tf.int64), tf.uint64) + tf.constant(1, tf.uint64)
    z = seeds + places * tf.constant(_GAMMA, tf.uint64)
    for shift, factor in _STEPS:
        z = tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, tf.constant(shift, tf.uint64)))
        z = z * tf.constant(factor, tf.uint64)
    return z
