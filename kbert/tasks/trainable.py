"""Keras models that train on raw strings, with sound defaults, on one device as on many."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.data.batching import PairedRows, Rows, batches, distributed, in_few_shapes, sorted_order, training_order
from kbert.errors import InputError
from kbert.tasks import datasets
from kbert.tasks.inputs import text_columns
from kbert.tasks.task_model import Examples, TaskModel
from kbert.training import replicas, steps
from kbert.training.assembly import loss_for, optimizer_for, step_for
from kbert.training.evaluation import AnswerMetrics
from kbert.training.layerwise import freeze
from kbert.training.optimizers import LinearWarmupDecay
from kbert.training.recipe import FIELDS, OF_LOSS, OF_OPTIMIZER, Recipe

Predict = Callable[..., Mapping[str, np.ndarray]]
"""Texts, and `batch_size`, to answers: as `Task.predict`."""


class Trainable(TaskModel):
    """`compile`, `fit` and `evaluate` for a model whose subclass says what its texts, rows and labels are.

    Made in the scope of a `tf.distribute` strategy (`kbert.training.strategies`), the model trains on all its devices
    as it does on one: a batch is shared out among them, and its loss is the mean over all of it.
    """

    # === Training ===

    def compile(self, optimizer: Any = "auto", loss: Any = "auto", metrics: Any = "auto", **options: Any) -> None:
        """Configure training; every default is what BERT is usually fine-tuned with.

        Args:
            optimizer: "auto" is AdamW with a linear warm-up and decay over the steps of each `fit`, no weight decay on
                biases and layer norms, and gradients clipped to a global norm of 1.
            loss: "auto" is the task's loss. Whatever its `reduction`, what is minimised is the mean over the examples
                of a batch, weighted by their weights.
            metrics: "auto" is the task's metrics.
            **options: fields of `kbert.training.recipe.Recipe` (`learning_rate=3e-5`, `layer_decay=0.9`, …), and what
                `keras.Model.compile` takes.

        Raises:
            InputError: a recipe that does not go with the task, or settings that cannot be kept on several devices.
        """
        given = {name: options.pop(name) for name in list(options) if name in FIELDS}
        for argument, name, idle in (("optimizer", optimizer, OF_OPTIMIZER), ("loss", loss, OF_LOSS)):
            if not (isinstance(name, str) and name == "auto") and idle & given.keys():
                raise InputError(
                    f"{', '.join(sorted(idle & given.keys()))} are of the usual {argument}: pass one of them"
                )
        if not self.takes_metrics and not (isinstance(metrics, str) and metrics == "auto"):
            raise InputError(
                f"{type(self).__name__} is measured by its answers (`score`), not by metrics of its outputs"
            )
        recipe = Recipe(**given)
        with self.distribute_strategy.scope():
            self._compile(optimizer, loss, metrics, recipe, **options)

    def _compile(self, optimizer, loss, metrics, recipe, **options):
        layers = self.encoder.stack()
        for layer in layers[: self._frozen]:  # by an earlier recipe
            layer.trainable = True
        freeze(layers, recipe.frozen_layers)
        self._frozen = recipe.frozen_layers
        self._recipe = None
        if isinstance(optimizer, str) and optimizer == "auto":
            schedule = LinearWarmupDecay(recipe.learning_rate, total_steps=1, warmup_steps=0)  # `fit` knows the steps
            self._recipe = {"schedule": schedule, "warmup_rate": recipe.warmup_rate}
            optimizer = optimizer_for(self, recipe, schedule)
        several = self.distribute_strategy.num_replicas_in_sync > 1
        if self.encoder.skip_padding or several:
            # The number of real tokens differs from batch to batch; XLA would compile anew for each.
            options.setdefault("jit_compile", False)
        if isinstance(loss, str):
            loss = loss_for(self, recipe) if loss == "auto" else keras.losses.get(loss)
        if isinstance(metrics, str) and metrics == "auto":
            metrics = self.default_metrics()
        self.loss = None  # Keras keeps an earlier one where this is None
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **options)
        if self.optimizer is not None and not self.optimizer.built:
            # A first step on several devices is too late, and so is a state that is to be taken up before it.
            self.optimizer.build(self.trainable_variables)
        if several:
            replicas.check_compiled(self)
        self._step = step_for(self, recipe)

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 32,
        epochs: int = 1,
        validation_data: Any = None,
        class_weight: Mapping[Any, float] | None = None,
        sample_weight: Any = None,
        gradient_accumulation_steps: int = 1,
        seed: int = 0,
        initial_step: int = 0,
        verbose: Any = "auto",
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
    ) -> keras.callbacks.History:
        """Train on raw strings.

        Args:
            x: texts, a sequence of str [examples]; for pairs a tuple `(texts, pairs)`. Or a batched tf.data of
                `(x, y)` or `(x, y, sample_weight)`, string tensors, which is then read in its own order.
            y: labels, str or class numbers [examples].
            batch_size: examples of a batch, on all devices together: replica r of n computes rows r, r + n, ….
            epochs: passes over the examples.
            validation_data: `(x, y)` as above, evaluated after each epoch.
            class_weight: what an example of a class counts in the loss, by label or class number; others count 1.
            sample_weight: what each example counts in the loss, float [examples]; on top of `class_weight`.
            gradient_accumulation_steps: batches per optimizer step, computed one after another. The step is that of
                one batch as large as all of them, in the memory of one. A step, here and for callbacks, is an
                optimizer step.
            seed: fixes the order of the examples (`keras.utils.set_random_seed` fixes weights and dropout).
            initial_step: steps that a run to be continued has done already; their examples are passed over.
            verbose: as in `keras.Model.fit`.
            callbacks: as in `keras.Model.fit`.

        Returns:
            Keras' History.

        Raises:
            InputError: texts, labels and weights that do not fit the model.
        """
        self._ready_to_fit(gradient_accumulation_steps)
        validation = self._validation(validation_data, callbacks or (), batch_size)
        fit = functools.partial(super().fit, **validation, verbose=verbose, shuffle=False)
        with replicas.own_dropout(self):
            if isinstance(x, tf.data.Dataset):
                datasets.check_alone(initial_step, sample_weight)
                return self._fit_dataset(fit, x, epochs, class_weight)
            examples = self.training_examples(text_columns(x, self.training_names), y)
            targets = self._weighted(examples, class_weight, sample_weight)
            rows, lengths = batch_size * gradient_accumulation_steps, examples.rows.lengths()
            orders = [training_order(lengths, rows, seed, epoch) for epoch in range(epochs)]
            return self._fit_rows(fit, examples.rows, targets, orders, initial_step)

    def _validation(self, data: Any, callbacks: Sequence[Any], batch_size: int) -> dict[str, Any]:
        """What Keras' `fit` is told, so that it evaluates on the data after each epoch."""
        if data is not None and not isinstance(data, tf.data.Dataset):
            x, y = data
            callbacks = [AnswerMetrics(lambda: self._answer_metrics(x, y, batch_size)), *callbacks]
        dataset, steps = self._evaluation(data, batch_size)
        return {"validation_data": dataset, "validation_steps": steps, "callbacks": list(callbacks)}

    def _ready_to_fit(self, gradient_accumulation_steps: int) -> None:
        if not getattr(self, "compiled", False):
            self.compile()
        if gradient_accumulation_steps < 1:
            raise InputError(f"gradient_accumulation_steps must be 1 or more. Received: {gradient_accumulation_steps}")
        if gradient_accumulation_steps != self._parts:
            self._parts, self.train_function = gradient_accumulation_steps, None

    def _fit_rows(self, fit, rows, targets, orders, initial_step):
        steps = len(orders[0])
        self._start_schedule(steps * len(orders), initial_step)
        order = [batch for epoch in orders for batch in epoch][initial_step:]
        if not order:
            raise InputError(f"initial_step is {initial_step}, but the run has {steps * len(orders)} steps")
        epoch, done = divmod(initial_step, steps)
        if done:
            # The rest of the epoch that the earlier run was stopped in.
            rest = self._dataset(rows, order[: steps - done], targets)
            history = fit(rest, initial_epoch=epoch, epochs=epoch + 1, steps_per_epoch=steps - done)
            order, epoch = order[steps - done :], epoch + 1
        if order and not self.stop_training:
            # One dataset holds all epochs, each in an order of its own.
            dataset = self._dataset(rows, order, targets)
            history = fit(dataset, initial_epoch=epoch, epochs=len(orders), steps_per_epoch=steps)
        return history

    def _fit_dataset(self, fit, dataset, epochs, class_weight):
        prepared = self._prepared(datasets.merged(dataset, self._parts), self.weights_of_classes(class_weight))
        steps = int(prepared.cardinality())
        if steps < 0 and self._recipe:
            raise InputError(
                "a tf.data of unknown or infinite size needs .apply(tf.data.experimental.assert_cardinality(n))"
            )
        self._start_schedule(steps * epochs, initial_step=0)
        if self.distribute_strategy.num_replicas_in_sync == 1 or steps < 0:
            return fit(self._shared(prepared), epochs=epochs)
        # Keras takes the shares for whole batches, and so must be told where an epoch ends.
        return fit(self._shared(prepared.repeat(epochs)), epochs=epochs, steps_per_epoch=steps)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One optimizer step on a batch, or on a replica's share of it."""
        return self._step(data, self._parts)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Loss and metrics of a batch, or of a replica's share of it."""
        return steps.test_step(self, data)

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: Keras would build the model from the mean of the replicas' first shares; it is built already."""

    def evaluate(  # type: ignore[override]
        self, x: Any, y: Any = None, *, batch_size: int = 32, verbose: Any = "auto", return_dict: bool = True, **kwargs
    ) -> Any:
        """Loss and metrics on raw strings and labels; `x`, `y` and `batch_size` as in `fit`.

        Of texts in memory, the metrics of final answers (`score`) are among them.
        """
        if not getattr(self, "compiled", False):
            self.compile()
        dataset, count = self._evaluation((x, y) if isinstance(x, (list, tuple, Mapping)) else x, batch_size)
        if count is not None:
            kwargs.setdefault("steps", count)
        logs = super().evaluate(dataset, verbose=verbose, return_dict=return_dict, **kwargs)
        if y is None or not return_dict:
            return logs
        return logs | self._answer_metrics(x, y, batch_size)

    def metric_names(self, x: Any, y: Any) -> list[str]:
        """The metrics that `evaluate` gives of these texts and labels, found by the answer to the first text alone."""
        columns = text_columns(x, self.training_names)
        first = tuple(column[:1] for column in columns)
        answers = self.answers_to_score(first if len(first) > 1 else first[0])
        # Whatever the others' answers are, their metrics have the same names.
        repeated = {name: np.repeat(value, len(columns[0]), axis=0) for name, value in answers.items()}
        return list(dict.fromkeys(["loss", *(m.name for m in self.default_metrics()), *self.score(repeated, y)]))

    def _answer_metrics(self, x: Any, y: Any, batch_size: int) -> dict[str, float]:
        return self.score(self.answers_to_score(x, batch_size), y)

    def answers_to_score(
        self, x: Any, batch_size: int = 32, predict: Predict | None = None
    ) -> Mapping[str, np.ndarray]:
        """What `score` and `judgements` read: the answers of `predict`, or what the task makes of them.

        `predict` stands for the model's own, where something else computes its answers.
        """
        return (predict or self.predict)(x, batch_size=batch_size)

    def _weighted(self, examples: Examples, class_weight: Any = None, sample_weight: Any = None) -> list[Any]:
        """The targets, and the weights of the rows if they have any."""
        classes = self.weights_of_classes(class_weight)
        weights = None if classes is None else classes[examples.targets]
        if sample_weight is not None:
            of_texts = datasets.checked_weights(sample_weight, int(examples.texts.max()) + 1)[examples.texts]
            weights = of_texts if weights is None else weights * of_texts
        return [examples.targets] if weights is None else [examples.targets, weights]

    def _dataset(self, rows: Rows | PairedRows, order: list[np.ndarray], targets: list[Any]) -> Any:
        return distributed(
            self.distribute_strategy, lambda shares: self._shaped(batches(rows, shares.rows(order), *targets))
        )

    def _prepared(self, dataset: tf.data.Dataset, classes: np.ndarray | None = None) -> tf.data.Dataset:
        return datasets.prepared(dataset, self.input_names, self.features, self.dataset_targets, classes)

    def _shared(self, dataset: tf.data.Dataset) -> Any:
        return distributed(self.distribute_strategy, lambda shares: self._shaped(shares.split(dataset)))

    def _shaped(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        pad_id = self.tokenizer.pad_id
        return in_few_shapes(dataset, self.task.max_length, pad_id) if self.jit_compile else dataset

    def _evaluation(self, data: Any, batch_size: int) -> tuple[Any, int | None]:
        """A dataset to evaluate on, and its number of batches (None where Keras counts them)."""
        if data is None or isinstance(data, tf.distribute.DistributedDataset):
            return data, None
        if isinstance(data, tf.data.Dataset):
            if datasets.is_features(data):
                return data, None
            prepared = self._prepared(data)
            count = int(prepared.cardinality())
            dataset = self._shared(prepared)
        else:
            x, y = data
            examples = self.examples(text_columns(x, self.training_names), y)
            order = sorted_order(examples.rows.lengths(), batch_size)
            count = len(order)
            dataset = self._dataset(examples.rows, order, self._weighted(examples))
        return dataset, None if self.distribute_strategy.num_replicas_in_sync == 1 or count < 0 else count

    def _start_schedule(self, total_steps: int, initial_step: int) -> None:
        """Give the "auto" optimizer the learning rates of this run; a continued run keeps its optimizer's state."""
        self.total_steps = total_steps
        if self._recipe is None:
            return
        warmup_steps = round(self._recipe["warmup_rate"] * total_steps)
        self._recipe["schedule"].start(total_steps, warmup_steps)
        optimizer = replicas.inner_optimizer(self.optimizer)
        if not initial_step:
            for variable in optimizer.variables:  # the step and both moments, which all start at zero
                variable.assign(tf.zeros_like(variable.value))
