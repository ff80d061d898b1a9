"""What a model does with one batch in training and in evaluation, on one device or on many.

The model says what its items are (examples, or tokens), through two methods: `item_weights` and `item_losses`. The
loss of a batch is the weighted mean over its items, whatever devices they lie on and in however many parts they are
computed: the sum of weighted losses over the sum of weights, each summed over all replicas. A model may have items of
several kinds, tokens and pairs say; then the loss is the sum of the means of each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import keras
import tensorflow as tf

from kbert.errors import InputError
from kbert.training import replicas

Items: TypeAlias = "tf.Tensor | Mapping[str, tf.Tensor]"
"""A number for each item, float32; where there are several kinds of them, by their names."""


class ItemModel(Protocol):
    """A compiled Keras model that names its items."""

    def item_weights(self, y: Any, sample_weight: tf.Tensor | None) -> Items:
        """What each item of the labels `y` counts; 0 for one to be ignored."""

    def item_losses(self, y: Any, y_pred: Any) -> Items:
        """The loss of each item, in the shape of `item_weights`."""


Losses = Callable[[Any, Any, Any], tuple[Items, Any]]
"""Of an `ItemModel`, inputs and labels: the loss of each item in training, as `item_losses`, and the outputs."""


def one_pass(model: Any, x: Any, y: Any) -> tuple[Items, Any]:
    """The losses of the model as it is."""
    y_pred = model(x, training=True)
    return model.item_losses(y, y_pred), y_pred


class Batch:
    """A batch that a model is to learn from, or a replica's share of it.

    Args:
        model: an `ItemModel`.
        data: tuple of x, y and perhaps sample weights, whose tensors have the same number of rows.
        parts: how many parts the share is computed in, one after another.
        losses: what the model is to make small.
    """

    def __init__(self, model: Any, data: Any, parts: int = 1, losses: Losses = one_pass):
        self.model, self.data, self.parts, self.losses = model, data, parts, losses
        self.variables = model.trainable_variables
        _, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self._totals = replicas.summed(tf.nest.map_structure(tf.reduce_sum, model.item_weights(y, sample_weight)))

    def gradients(self, counted: bool = True) -> list[tf.Tensor | None]:
        """The gradients of the loss of the whole batch, on all replicas, one for each of `variables`.

        Args:
            counted: whether the model's metrics count the batch, which they are to do once.
        """

        def of_part(part):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(part)
            with tf.GradientTape() as tape:
                losses, y_pred = self.losses(self.model, x, y)
                losses, weights = _flat(self.model, losses, y, sample_weight)
                loss = self.model.optimizer.scale_loss(_sum_of_means(losses, weights, self._totals))
            if counted:
                _update_metrics(self.model, x, y, y_pred, losses, weights)
            return replicas.gradients(tape, loss, self.variables)

        found = replicas.accumulated(of_part, self.data, self.parts, self.variables)
        return replicas.summed_present(found)


Gradients = Callable[[Batch], list[tf.Tensor | None]]
"""Of a batch: what the optimizer is to apply, the same on all replicas."""


def train_step(
    model: Any, data: Any, parts: int = 1, losses: Losses = one_pass, gradients: Gradients = Batch.gradients
) -> dict[str, tf.Tensor]:
    """Update the weights by one batch; every replica calls it with its share.

    Args:
        model: an `ItemModel`.
        data: as for `Batch`; so are `parts` and `losses`.
        gradients: gives the optimizer its gradients, by default those of the batch.

    Returns:
        The metrics over the epoch so far, on all replicas.

    Raises:
        InputError: several parts of a step that XLA compiles, or losses that are no item's.
    """
    if parts > 1 and model.jit_compile:
        raise InputError("gradient_accumulation_steps must be 1 where XLA compiles the step: the last part is shorter")
    batch = Batch(model, data, parts, losses)
    replicas.apply_gradients(model.optimizer, gradients(batch), batch.variables)
    return _metrics(model)


def test_step(model: Any, batch: Any) -> dict[str, tf.Tensor]:
    """Count one batch in the metrics; as `train_step`."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    y_pred = model(x, training=False)
    losses, weights = _flat(model, model.item_losses(y, y_pred), y, sample_weight)
    _update_metrics(model, x, y, y_pred, losses, weights)
    return _metrics(model)


def _flat(model, losses, y, sample_weight):
    """The losses and the weights of all items, both float32 [items], of each kind."""
    if model.losses:
        raise InputError("losses from add_loss or regularizers are not counted here: return them from item_losses")
    weights = model.item_weights(y, sample_weight)
    tf.nest.map_structure(lambda loss, weight: loss.shape.assert_is_compatible_with(weight.shape), losses, weights)
    return tf.nest.map_structure(lambda items: tf.reshape(items, [-1]), (losses, weights))


def _sum_of_means(losses, weights, totals):
    means = tf.nest.map_structure(
        lambda loss, weight, total: tf.math.divide_no_nan(tf.tensordot(loss, weight, 1), total), losses, weights, totals
    )
    return tf.add_n(tf.nest.flatten(means))


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
