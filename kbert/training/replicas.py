"""One training step over the replicas of a `tf.distribute` strategy, so that N of them train the model that one does.

Every replica has a share of the rows of a batch, perhaps none of them. So nothing here is a mean over replicas: what
they compute are sums, of weighted losses, of weights, of gradients, and a sum over the replicas is all that passes
between them. With one replica these sums cost nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from kbert.errors import InputError
from kbert.training.optimizers import AdamW, Gradient, dense

_SEED_STRIDE = 1_000_003  # between the dropout seeds of two replicas


def summed(values: Any) -> Any:
    """The sum over all replicas of every tensor in a structure; to be called by each replica."""
    context = tf.distribute.get_replica_context()
    return values if context.num_replicas_in_sync == 1 else context.all_reduce(tf.distribute.ReduceOp.SUM, values)


def summed_gradients(gradients: Sequence[Gradient]) -> list[Gradient]:
    """As `summed`; dense where there are several replicas."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return list(gradients)
    present = iter(summed([dense(gradient) for gradient in gradients if gradient is not None]))
    return [None if gradient is None else next(present) for gradient in gradients]


def gradients(tape: tf.GradientTape, loss: tf.Tensor, variables: Sequence[keras.Variable]) -> list[Gradient]:
    """The gradients of a loss.

    A table's gradient comes as rows, the same row many times over. Norms and squares must be taken of their sum, which
    Keras' optimizers do not do. Not to spread the rows over a table of zeros yet spares passes over all of it.
    """
    return [_rows_once(gradient) for gradient in tape.gradient(loss, list(variables))]


def _rows_once(gradient: Gradient) -> Gradient:
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    indices, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(indices))
    return tf.IndexedSlices(values, indices, gradient.dense_shape)


def accumulated(
    gradients_of: Callable[[Any], list[Gradient]], batch: Any, parts: int, variables: Sequence[keras.Variable]
) -> list[Gradient]:
    """The sum of the gradients of the parts of a batch, one after another, so that memory holds one part at a time.

    Args:
        gradients_of: gives the gradients of some rows of the batch with regard to `variables`.
        batch: a structure of tensors with the same number of rows.
        parts: into how many parts of equally many rows (the last ones may have fewer, or none) the batch is cut.
        variables: the weights to train.
    """
    if parts == 1:
        return gradients_of(batch)
    size = -(-tf.shape(tf.nest.flatten(batch)[0])[0] // parts)
    connected: list[bool] = []

    def add(i, sums):
        part = tf.nest.map_structure(lambda rows: rows[i * size : (i + 1) * size], batch)
        new = gradients_of(part)
        connected[:] = [gradient is not None for gradient in new]
        return i + 1, [s if gradient is None else s + dense(gradient) for s, gradient in zip(sums, new, strict=True)]

    zeros = [tf.zeros(v.shape, v.dtype) for v in variables]
    _, sums = tf.while_loop(lambda i, _: i < parts, add, (tf.constant(0), zeros), parallel_iterations=1)
    return [s if known else None for s, known in zip(sums, connected, strict=True)]


def apply_gradients(
    optimizer: keras.optimizers.Optimizer, gradients: Sequence[Gradient], variables: Sequence[keras.Variable]
) -> None:
    """One step of the optimizer with gradients that are summed over the replicas already.

    Weights that the loss does not depend on (None) stay as they are, without decay.
    """
    pairs = [(gradient, v) for gradient, v in zip(gradients, variables, strict=True) if gradient is not None]
    if not isinstance(optimizer, AdamW):
        pairs = [(dense(gradient), v) for gradient, v in pairs]
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1 and not isinstance(inner_optimizer(optimizer), AdamW):
        # Keras' own optimizers sum once more.
        pairs = [(gradient / replicas, v) for gradient, v in pairs]
    optimizer.apply_gradients(pairs)


def inner_optimizer(optimizer: Any) -> Any:
    """The optimizer that updates weights: Keras wraps it where mixed_float16 needs a scaled loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)


@contextlib.contextmanager
def own_dropout(model: keras.Model) -> Iterator[None]:
    """Let every replica draw its own dropout masks: Keras starts them all from the same seeds.

    The first replica keeps the seeds that one device has, and what a checkpoint holds.
    """
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        yield
        return
    of_replica = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant([_SEED_STRIDE * context.replica_id_in_sync_group, 0])
    )
    offsets = strategy.experimental_local_results(of_replica)

    def shift(sign):
        for variable in model.variables:
            if variable.name == "seed_generator_state":
                for state, offset in zip(strategy.experimental_local_results(variable.value), offsets, strict=True):
                    state.assign_add(sign * tf.cast(offset, state.dtype))

    shift(1)
    try:
        yield
    finally:
        shift(-1)


def check_compiled(model: keras.Model) -> None:
    """Refuse what Keras does in another way on several replicas.

    Raises:
        InputError: the model is compiled with something that would give each replica its own.
    """
    if model.steps_per_execution > 1:
        raise InputError("steps_per_execution must be 1 on several devices")
    if model.jit_compile:
        raise InputError("jit_compile must be off on several devices")
    optimizer = inner_optimizer(model.optimizer)
    if isinstance(optimizer, AdamW):
        return
    for name in ("clipnorm", "global_clipnorm", "clipvalue", "gradient_accumulation_steps"):
        if getattr(optimizer, name):
            raise InputError(
                f"{name} of {type(optimizer).__name__} works on each replica alone: on several devices take "
                "kbert.training.optimizers.AdamW, or leave it away"
            )
