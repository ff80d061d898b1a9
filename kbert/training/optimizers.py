"""The optimizer that BERT is fine-tuned with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import keras
import tensorflow as tf
from keras import ops

NOT_DECAYED = ("bias", "gamma", "beta")
"""Last parts of the paths of weights that weight decay leaves alone (Devlin et al. 2018, appendix A.2)."""


Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices | None
"""Of one weight: None where the loss does not depend on it; the rows of a table that are not 0, each of them once."""


def dense(gradient: Gradient) -> tf.Tensor | None:
    """A gradient with all rows."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    shape = tf.cast(gradient.dense_shape, gradient.indices.dtype)
    return tf.scatter_nd(gradient.indices[:, None], gradient.values, shape)


@keras.saving.register_keras_serializable("kbert")
class LinearWarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly from 0 to its peak, then falls linearly to 0.

    The steps are variables, so that a traced training step serves runs of any length.

    Args:
        peak: float, the learning rate at the end of the warm-up.
        total_steps: int, optimizer steps of the whole run.
        warmup_steps: int, optimizer steps of the rise.
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int):
        super().__init__()
        self.peak = peak
        self._steps = keras.Variable([total_steps, warmup_steps], dtype="float32", trainable=False, name="steps")

    def start(self, total_steps: int, warmup_steps: int) -> None:
        """Begin a run of so many steps."""
        self._steps.assign([total_steps, warmup_steps])

    def __call__(self, step):
        step = ops.cast(step, "float32")
        total, warmup = ops.unstack(self._steps)
        rise = ops.where(warmup > 0, step / ops.maximum(warmup, 1.0), 1.0)
        left = ops.clip((total - step) / ops.maximum(total - warmup, 1.0), 0.0, 1.0)
        return self.peak * ops.minimum(rise, self.fall(left))

    def fall(self, left):
        """The part of the peak that is reached where `left`, in [0, 1], of the steps after the rise are to come."""
        return left

    def get_config(self):
        total_steps, warmup_steps = (int(steps) for steps in self._steps.numpy())
        return {"peak": self.peak, "total_steps": total_steps, "warmup_steps": warmup_steps}


@keras.saving.register_keras_serializable("kbert")
class CosineWarmupDecay(LinearWarmupDecay):
    """As `LinearWarmupDecay`, but falling along half a cosine (Loshchilov & Hutter 2017, without restarts)."""

    def fall(self, left):
        return 0.5 * (1.0 - ops.cos(math.pi * left))


@keras.saving.register_keras_serializable("kbert")
class AdamW(keras.optimizers.AdamW):
    """Keras' AdamW for gradients that the training step has summed over the replicas of a strategy.

    Keras' own sums them inside, after it has clipped what each replica has; this one clips the sum. And it updates a
    weight and both its moments in one pass over memory where Keras takes ten. The gradient of a table may be rows
    (tf.IndexedSlices), each of them once; the other rows are then updated with a gradient of 0.

    Args:
        *args: as in `keras.optimizers.AdamW`.
        rate_factors: by the path of a weight, what its learning rate, and so its decay, is multiplied by; 1 for others.
        **kwargs: as in `keras.optimizers.AdamW`.
    """

    def __init__(self, *args: Any, rate_factors: Mapping[str, float] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.rate_factors = dict(rate_factors or {})

    def get_config(self):
        return {**super().get_config(), "rate_factors": dict(self.rate_factors)}

    def _apply_weight_decay(self, variables):
        """Nothing: `update_step` decays each weight at its own rate."""

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars

    def _clip_gradients(self, grads):
        if not self.global_clipnorm:
            return super()._clip_gradients(grads)
        values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in grads]
        squares = tf.add_n([tf.nn.l2_loss(tf.cast(v, tf.float32)) for v in values]) * 2
        norm = tf.sqrt(squares)
        # As Keras has it: where one gradient is not finite, none is a number.
        scale = self.global_clipnorm / tf.maximum(norm, self.global_clipnorm) + (norm - norm)
        scaled = [v * tf.cast(scale, v.dtype) for v in values]
        return [
            tf.IndexedSlices(v, g.indices, g.dense_shape) if isinstance(g, tf.IndexedSlices) else v
            for g, v in zip(grads, scaled, strict=True)
        ]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        gradient, dtype = dense(gradient), variable.dtype
        factor = self.rate_factors.get(self._trainable_variables[index].path, 1.0)
        learning_rate = tf.cast(learning_rate, dtype) * factor
        if self.weight_decay and self._use_weight_decay(variable):
            variable.assign_sub(variable * (self.weight_decay * learning_rate))
        if self.amsgrad:
            return super().update_step(gradient, variable, learning_rate)
        step = tf.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = tf.constant(self.beta_1, dtype), tf.constant(self.beta_2, dtype)
        return tf.raw_ops.ResourceApplyAdam(
            var=handle(variable),
            m=handle(self._momentums[index]),
            v=handle(self._velocities[index]),
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=learning_rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )


def handle(variable: keras.Variable | tf.Variable) -> tf.Tensor:
    """The resource behind a variable."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


def adamw(
    variables: Iterable[keras.Variable],
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    weight_decay: float = 0.01,
    clip_norm: float = 1.0,
    rate_factors: Mapping[str, float] | None = None,
) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019) as BERT is fine-tuned with it.

    Args:
        variables: the weights to train; biases and layer norms among them are not decayed.
        learning_rate: a float or a schedule over optimizer steps.
        weight_decay: decoupled decay, a fraction of the learning rate per step.
        clip_norm: largest norm of all gradients together.
        rate_factors: as in `AdamW`.
    """
    optimizer = AdamW(
        learning_rate, weight_decay=weight_decay, epsilon=1e-8, global_clipnorm=clip_norm, rate_factors=rate_factors
    )
    variables = list(variables)
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if v.path.endswith(NOT_DECAYED)])
    optimizer.build(variables)
    return optimizer
