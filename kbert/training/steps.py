"""What a model does with one batch in training and in evaluation, on one device or on many.

The model says what its items are (examples, or tokens), through two methods: `item_weights` and `item_losses`. The
loss of a batch is the weighted mean over its items, whatever devices they lie on and in however many parts they are
computed: the sum of weighted losses over the sum of weights, each summed over all replicas.
"""

from __future__ import annotations

from typing import Any, Protocol

import keras
import tensorflow as tf

from kbert.errors import InputError
from kbert.training import replicas


class ItemModel(Protocol):
    """A compiled Keras model that names its items."""

    def item_weights(self, y: Any, sample_weight: tf.Tensor | None) -> tf.Tensor:
        """What each item of the labels `y` counts, float32; 0 for one to be ignored."""

    def item_losses(self, y: Any, y_pred: Any) -> tf.Tensor:
        """The loss of each item, float32, in the shape of `item_weights`."""


def train_step(model: Any, batch: Any, parts: int = 1) -> dict[str, tf.Tensor]:
    """Update the weights by one batch; every replica calls it with its share.

    Args:
        model: an `ItemModel`.
        batch: tuple of x, y and perhaps sample weights, whose tensors have the same number of rows.
        parts: how many parts the share is computed in, one after another.

    Returns:
        The metrics over the epoch so far, on all replicas.

    Raises:
        InputError: several parts of a step that XLA compiles, or losses that are no item's.
    """
    if parts > 1 and model.jit_compile:
        raise InputError("gradient_accumulation_steps must be 1 where XLA compiles the step: the last part is shorter")
    variables = model.trainable_variables
    _, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    total = replicas.summed(tf.reduce_sum(model.item_weights(y, sample_weight)))

    def gradients_of(part):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(part)
        with tf.GradientTape() as tape:
            losses, weights, y_pred = _losses(model, x, y, sample_weight, training=True)
            loss = tf.math.divide_no_nan(tf.tensordot(losses, weights, 1), total)
            loss = model.optimizer.scale_loss(loss)
        _update_metrics(model, x, y, y_pred, losses, weights)
        return replicas.gradients(tape, loss, variables)

    gradients = replicas.accumulated(gradients_of, batch, parts, variables)
    replicas.apply_gradients(model.optimizer, replicas.summed_present(gradients), variables)
    return _metrics(model)


def test_step(model: Any, batch: Any) -> dict[str, tf.Tensor]:
    """Count one batch in the metrics; as `train_step`."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    losses, weights, y_pred = _losses(model, x, y, sample_weight, training=False)
    _update_metrics(model, x, y, y_pred, losses, weights)
    return _metrics(model)


def _losses(model, x, y, sample_weight, training):
    """The losses and the weights of all items, both float32 [items], and the outputs."""
    y_pred = model(x, training=training)
    if model.losses:
        raise InputError("losses from add_loss or regularizers are not counted here: return them from item_losses")
    losses, weights = model.item_losses(y, y_pred), model.item_weights(y, sample_weight)
    losses.shape.assert_is_compatible_with(weights.shape)
    return tf.reshape(losses, [-1]), tf.reshape(weights, [-1]), y_pred


def _update_metrics(model, x, y, y_pred, losses, weights):
    for metric in model.metrics:
        if metric.name == "loss":
            metric.update_state(losses, sample_weight=weights)
    model.compute_metrics(x, y, y_pred, sample_weight=weights)


def _metrics(model):
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return model.get_metrics_result()
    variables = model.metrics_variables
    sums = replicas.summed([tf.identity(v) for v in variables])
    with keras.StatelessScope(state_mapping=list(zip(variables, sums, strict=True))):
        results = model.get_metrics_result()
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        # Keras averages these over the machines along a first axis, which a scalar has not.
        results = {name: tf.reshape(result, [1]) for name, result in results.items()}
    return results
