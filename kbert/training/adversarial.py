"""Two ways to train a model that small changes do not sway: FGM moves its embeddings, R-Drop its dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kbert.errors import InputError
from kbert.training.optimizers import Gradient, dense, handle
from kbert.training.steps import Batch


class FGM:
    """Gradients of a batch and of the same batch with moved embeddings, the Fast Gradient Method.

    Miyato et al. 2017 (https://arxiv.org/abs/1605.07725, section 3) move the embeddings of a text by epsilon g / |g|,
    g being the gradient of the loss. Here it is the table of embeddings that moves, and g the gradient of the whole
    batch, as is usual in fine-tuning BERT: so a batch on many devices, or in many parts, moves it as on one. A step
    takes twice as long. Use it as `gradients` of `kbert.training.steps.train_step`.

    Args:
        table: the embeddings to be moved, one of the model's trainable weights.
        epsilon: how far, in the Euclidean norm of the table.

    Raises:
        InputError: `epsilon` is not above 0; when training, the table is frozen.
    """

    def __init__(self, table: keras.Variable, epsilon: float = 1.0):
        if not epsilon > 0:
            raise InputError(f"FGM: epsilon must be more than 0. Received: {epsilon}")
        self.table, self.epsilon = table, epsilon

    def __call__(self, batch: Batch) -> list[Gradient]:
        gradients = [dense(gradient) for gradient in batch.gradients()]
        pairs = zip(batch.variables, gradients, strict=True)
        gradient = next((g for variable, g in pairs if variable is self.table), None)
        if gradient is None:
            raise InputError("FGM moves the word embeddings, which are frozen here: train them, or leave FGM away")
        before = tf.identity(self.table.value)
        move = tf.math.divide_no_nan(self.epsilon * gradient, tf.norm(gradient))
        self._set(before + move)
        moved = [dense(gradient) for gradient in batch.gradients(counted=False)]
        self._set(before)
        return [None if g is None else g + m for g, m in zip(gradients, moved, strict=True)]

    def _set(self, value: tf.Tensor) -> None:
        # Each replica its own copy, all of them the same; Keras and tf.distribute would have it done across replicas.
        tf.raw_ops.AssignVariableOp(resource=handle(self.table), value=value)


def softmax_divergence(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """KL(p || q) + KL(q || p) of the distributions p and q over the last axis of two logits."""
    first, second = tf.nn.log_softmax(first), tf.nn.log_softmax(second)
    return tf.reduce_sum((tf.exp(first) - tf.exp(second)) * (first - second), axis=-1)


class RDrop:
    """Losses of two passes with different dropout, and of how far they lie apart (Liang et al. 2021).

    Half of the paper's loss (https://arxiv.org/abs/2106.14448, section 2), so that without dropout it is the usual
    one: the mean of both losses, and `alpha` / 4 times the divergence between both outputs, in both directions. A step
    takes twice as long. Use it as `losses` of `kbert.training.steps.train_step`.

    Args:
        alpha: weight of the divergence, as in the paper.
        divergence: of the outputs of both passes, for each item, in the shape of `item_losses`; symmetric.
    """

    def __init__(self, alpha: float = 1.0, divergence: Callable[[Any, Any], tf.Tensor] = softmax_divergence):
        if not alpha > 0:
            raise InputError(f"R-Drop: alpha must be more than 0. Received: {alpha}")
        self.alpha, self.divergence = alpha, divergence

    def __call__(self, model: Any, x: Any, y: Any) -> tuple[tf.Tensor, Any]:
        first, second = model(x, training=True), model(x, training=True)
        losses = (model.item_losses(y, first) + model.item_losses(y, second)) / 2
        return losses + self.alpha / 4 * self.divergence(first, second), first
