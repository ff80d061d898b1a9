"""Functions of texts as graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def trace_on_cpu(function: Callable[..., Any], num_texts: int) -> Any:
    """The graph of a function of string tensors [B], independent of any graph that is being built at the moment."""

    def on_cpu(*texts: tf.Tensor) -> Any:
        with tf.device("CPU:0"):  # string ops exist there alone, and the tables must not move to and fro
            return function(*texts)

    with tf.init_scope():
        return tf.function(on_cpu).get_concrete_function(*[tf.TensorSpec([None], tf.string)] * num_texts)
