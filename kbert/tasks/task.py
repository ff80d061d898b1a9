"""What every task model shares: raw strings in, training with sound defaults, answers out."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kbert.checkpoints import huggingface
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.config import TaskConfig
from kbert.data.batching import TokenizedTexts, batches, distributed, in_few_shapes, sorted_order, training_order
from kbert.errors import InputError
from kbert.modeling.encoder import BertEncoder, named_weights
from kbert.tasks import datasets
from kbert.tasks.inputs import label_numbers, texts_and_pairs, to_numpy
from kbert.tokenization.tokenizer import BertTokenizer
from kbert.training import replicas, steps
from kbert.training.optimizers import LinearWarmupDecay, adamw

Engine = Callable[[dict[str, tf.Tensor]], Any]
"""Features, int32 [B, T], to what a model's `call` returns, as an array or a tensor."""


class Task(keras.Model):
    """An encoder, a tokenizer and what the task answers.

    A subclass makes the head, and defines `call` (features to logits), `default_loss`, `default_metrics` and `answers`
    (logits to the outputs of the served signature); where not every example counts as one, `item_weights` too.

    Made in the scope of a `tf.distribute` strategy (`kbert.training.strategies`), the model trains on all its devices
    as it does on one: a batch is shared out among them, and its loss is the mean over all of it.
    """

    optimizer: Any  # set by Keras' `compile`

    def __init__(self, encoder: BertEncoder, tokenizer: BertTokenizer, task: TaskConfig, **kwargs):
        super().__init__(**kwargs)
        if task.max_length > encoder.config.max_sequence_length:
            raise InputError(
                f"max_length must be at most {encoder.config.max_sequence_length}, the rows of the encoder's position "
                f"table. Received: {task.max_length}"
            )
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.task = task
        self._recipe: dict[str, Any] | None = None
        self._parts = 1

    # === Features ===

    def features(self, text: Any, text_pair: Any = None) -> dict[str, tf.Tensor]:
        """String tensors [B] to the model's inputs, int32 [B, T]; runs in a graph."""
        return self.tokenizer(text, text_pair, max_length=self.task.max_length)

    # === Training ===

    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        metrics: Any = "auto",
        *,
        learning_rate: float = 2e-5,
        weight_decay: float = 0.01,
        warmup_rate: float = 0.1,
        **kwargs: Any,
    ) -> None:
        """Configure training; every default is what BERT is usually fine-tuned with.

        Args:
            optimizer: "auto" is AdamW with a linear warm-up and decay over the steps of each `fit`, no weight decay on
                biases and layer norms, and gradients clipped to a global norm of 1.
            loss: "auto" is the task's loss. Whatever its `reduction`, what is minimised is the mean over the examples
                of a batch, weighted by their weights.
            metrics: "auto" is the task's metrics.
            learning_rate: peak of the "auto" optimizer.
            weight_decay: of the "auto" optimizer.
            warmup_rate: fraction of all steps that the "auto" optimizer warms up over.
            **kwargs: as in `keras.Model.compile`.

        Raises:
            InputError: settings that cannot be kept on several devices.
        """
        with self.distribute_strategy.scope():
            self._compile(optimizer, loss, metrics, learning_rate, weight_decay, warmup_rate, **kwargs)

    def _compile(self, optimizer, loss, metrics, learning_rate, weight_decay, warmup_rate, **kwargs):
        self._recipe = None
        if isinstance(optimizer, str) and optimizer == "auto":
            schedule = LinearWarmupDecay(learning_rate, total_steps=1, warmup_steps=0)  # `fit` knows the steps
            self._recipe = {"schedule": schedule, "warmup_rate": warmup_rate}
            optimizer = adamw(self.trainable_variables, schedule, weight_decay)
        several = self.distribute_strategy.num_replicas_in_sync > 1
        if self.encoder.skip_padding or several:
            # The number of real tokens differs from batch to batch; XLA would compile anew for each.
            kwargs.setdefault("jit_compile", False)
        if isinstance(loss, str):
            loss = self.default_loss() if loss == "auto" else keras.losses.get(loss)
        if isinstance(metrics, str) and metrics == "auto":
            metrics = self.default_metrics()
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
        if self.optimizer is not None and not self.optimizer.built:
            # A first step on several devices is too late, and so is a state that is to be taken up before it.
            self.optimizer.build(self.trainable_variables)
        if several:
            replicas.check_compiled(self)

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
        validation, validation_steps = self._evaluation(validation_data, batch_size)
        fit = functools.partial(
            super().fit,
            validation_data=validation,
            validation_steps=validation_steps,
            verbose=verbose,
            callbacks=callbacks,
            shuffle=False,
        )
        classes = None if class_weight is None else datasets.weights_of_classes(class_weight, self.task.labels)
        with replicas.own_dropout(self):
            if isinstance(x, tf.data.Dataset):
                if initial_step:
                    raise InputError(
                        "initial_step needs texts and labels in memory, not a tf.data of an order of its own"
                    )
                if sample_weight is not None:
                    raise InputError("a tf.data gives sample_weight itself, as the third of (x, y, sample_weight)")
                return self._fit_dataset(fit, x, epochs, classes)
            texts = self._tokenized(x)
            lengths = texts.lengths()
            targets = self._targets(y, len(lengths), classes, sample_weight)
            rows = batch_size * gradient_accumulation_steps
            orders = [training_order(lengths, rows, seed, epoch) for epoch in range(epochs)]
            return self._fit_texts(fit, texts, targets, orders, initial_step)

    def _ready_to_fit(self, gradient_accumulation_steps: int) -> None:
        if not getattr(self, "compiled", False):
            self.compile()
        if gradient_accumulation_steps < 1:
            raise InputError(f"gradient_accumulation_steps must be 1 or more. Received: {gradient_accumulation_steps}")
        if gradient_accumulation_steps != self._parts:
            self._parts, self.train_function = gradient_accumulation_steps, None

    def _fit_texts(self, fit, texts, targets, orders, initial_step):
        steps = len(orders[0])
        self._start_schedule(steps * len(orders), initial_step)
        order = [batch for epoch in orders for batch in epoch][initial_step:]
        if not order:
            raise InputError(f"initial_step is {initial_step}, but the run has {steps * len(orders)} steps")
        epoch, done = divmod(initial_step, steps)
        if done:
            # The rest of the epoch that the earlier run was stopped in.
            rest = self._dataset(texts, order[: steps - done], targets)
            history = fit(rest, initial_epoch=epoch, epochs=epoch + 1, steps_per_epoch=steps - done)
            order, epoch = order[steps - done :], epoch + 1
        if order:
            # One dataset holds all epochs, each in an order of its own.
            dataset = self._dataset(texts, order, targets)
            history = fit(dataset, initial_epoch=epoch, epochs=len(orders), steps_per_epoch=steps)
        return history

    def _fit_dataset(self, fit, dataset, epochs, classes):
        dataset = datasets.merged(dataset, self._parts)
        prepared = datasets.features_and_labels(dataset, self.features, self.task.labels, classes)
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
        return steps.train_step(self, data, self._parts)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Loss and metrics of a batch, or of a replica's share of it."""
        return steps.test_step(self, data)

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: Keras would build the model from the mean of the replicas' first shares; it is built already."""

    def evaluate(  # type: ignore[override]
        self, x: Any, y: Any = None, *, batch_size: int = 32, verbose: Any = "auto", return_dict: bool = True, **kwargs
    ) -> Any:
        """Loss and metrics on raw strings and labels; `x`, `y` and `batch_size` as in `fit`."""
        if not getattr(self, "compiled", False):
            self.compile()
        dataset, count = self._evaluation(x if y is None else (x, y), batch_size)
        if count is not None:
            kwargs.setdefault("steps", count)
        return super().evaluate(dataset, verbose=verbose, return_dict=return_dict, **kwargs)

    def predict(  # type: ignore[override]
        self, x: Any, *, batch_size: int = 32, engine: Engine | None = None, verbose: Any = 0
    ) -> dict[str, np.ndarray]:
        """Answers to raw strings: the outputs of the served signature, as numpy arrays in the order of `x`.

        Args:
            x: as in `fit`; a tf.data gives texts alone.
            batch_size: texts computed at once; texts of like length are put together.
            engine: what computes the outputs of `call` from features; None: TensorFlow. `kbert.LiteRTEngine(model)` is
                quicker on a CPU.
            verbose: 1 shows a progress bar on stderr where the work takes longer than two seconds.

        Returns:
            dict of arrays, first axis the texts; strings are Python str.
        """
        texts = self._tokenized(x)
        order = sorted_order(texts.lengths(), batch_size)
        bar = tqdm(order, unit="batch", file=sys.stderr, delay=2, leave=False, disable=not verbose)
        compute = engine or self._logits
        # One batch after the other: the threads of a tf.data pipeline would take the cores from the engine's.
        logits = np.concatenate([np.asarray(compute(texts.features(tf.constant(index)))) for index in bar])
        restored = np.empty_like(logits)
        restored[np.concatenate(order)] = logits
        return {name: to_numpy(value) for name, value in self.answers(tf.constant(restored)).items()}

    @functools.cached_property
    def _logits(self) -> Engine:
        """One graph for batches of every shape; Keras' own predict traces anew for new shapes."""
        ids = tf.TensorSpec([None, None], tf.int32)
        signature = {"token_ids": ids, "segment_ids": ids, "padding_mask": ids}
        return tf.function(
            lambda features: self(features, training=False), input_signature=[signature], autograph=False
        )

    def _tokenized(self, x: Any) -> TokenizedTexts:
        texts, pairs = texts_and_pairs(x, self.task.pair)
        return TokenizedTexts.from_texts(self.tokenizer, texts, pairs, self.task.max_length)

    def _targets(self, y: Any, examples: int, classes: Any = None, sample_weight: Any = None) -> list[np.ndarray]:
        """Class numbers [examples], and the weights of the examples if they have any."""
        labels = label_numbers(y, self.task.labels)
        if len(labels) != examples:
            raise InputError(f"`x` and `y` must be equally many. Received: {examples} and {len(labels)}")
        weights = datasets.weights_of_examples(labels, classes, sample_weight)
        return [labels] if weights is None else [labels, weights]

    def _dataset(self, texts: TokenizedTexts, order: list[np.ndarray], targets: list[np.ndarray]) -> Any:
        return distributed(
            self.distribute_strategy, lambda shares: self._shaped(batches(texts, shares.rows(order), *targets))
        )

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
            prepared = datasets.features_and_labels(data, self.features, self.task.labels)
            count = int(prepared.cardinality())
            dataset = self._shared(prepared)
        else:
            x, y = data
            texts = self._tokenized(x)
            lengths = texts.lengths()
            order = sorted_order(lengths, batch_size)
            count = len(order)
            dataset = self._dataset(texts, order, self._targets(y, len(lengths)))
        return dataset, None if self.distribute_strategy.num_replicas_in_sync == 1 or count < 0 else count

    def _start_schedule(self, total_steps: int, initial_step: int) -> None:
        """Give the "auto" optimizer the learning rates of this run; a continued run keeps its optimizer's state."""
        if self._recipe is None:
            return
        warmup_steps = round(self._recipe["warmup_rate"] * total_steps)
        self._recipe["schedule"].start(total_steps, warmup_steps)
        optimizer = replicas.inner_optimizer(self.optimizer)
        if not initial_step:
            for variable in optimizer.variables:  # the step and both moments, which all start at zero
                variable.assign(tf.zeros_like(variable.value))

    # === Head ===

    def default_loss(self) -> keras.losses.Loss:
        """The loss of the task on the outputs of `call`."""
        raise NotImplementedError

    def default_metrics(self) -> list[keras.metrics.Metric]:
        """The metrics that `fit` and `evaluate` report."""
        raise NotImplementedError

    def item_weights(self, y: Any, sample_weight: tf.Tensor | None) -> tf.Tensor:
        """What each item counts in the loss, float32; 0 for one to be ignored.

        Items are the examples here, [B]; where they are tokens, weights and losses are [B, T]. `sample_weight` is
        float32 [B] or None.
        """
        return tf.ones(tf.shape(y)[:1]) if sample_weight is None else sample_weight

    def item_losses(self, y: Any, y_pred: Any) -> tf.Tensor:
        """The loss of each item, float32, in the shape of `item_weights`; those of weight 0 must be finite."""
        return self.loss.call(y, y_pred) if isinstance(self.loss, keras.losses.Loss) else self.loss(y, y_pred)

    def answers(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """The outputs of `call` as final answers; runs in a graph."""
        raise NotImplementedError

    # === Folders ===

    def checkpoint(self) -> Checkpoint:
        """The model as plain configs and arrays."""
        variables = {**named_weights(self.encoder), **self.head_weights()}
        return Checkpoint(
            config=self.encoder.config,
            tokenizer=self.tokenizer.config,
            vocabulary=tuple(self.tokenizer.vocabulary),
            tensors={name: variable.value.numpy() for name, variable in variables.items()},
            task=self.task,
        )

    def head_weights(self) -> dict[str, keras.Variable]:
        """The weights above the encoder by their names in a checkpoint."""
        raise NotImplementedError

    def save_to_preset(self, folder: str | Path) -> None:
        """Write a Hugging Face model folder that `from_preset` and transformers open.

        Files of the same names are replaced. A stop in between leaves a folder without config.json, which nothing
        opens, never a mixture of two models.
        """
        huggingface.write(Path(folder), self.checkpoint())
