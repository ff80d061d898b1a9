"""What every task model shares: raw strings in, training with sound defaults, answers out."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kbert.checkpoints import huggingface
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.config import TaskConfig
from kbert.data.batching import TokenizedTexts, batches, sorted_order, training_order
from kbert.errors import InputError
from kbert.modeling.encoder import BertEncoder, named_weights
from kbert.tasks.inputs import label_numbers, texts_and_pairs
from kbert.tokenization.tokenizer import BertTokenizer
from kbert.training.optimizers import LinearWarmupDecay, adamw


class Task(keras.Model):
    """An encoder, a tokenizer and what the task answers.

    A subclass makes the head, and defines `call` (features to logits), `default_loss`, `default_metrics` and `answers`
    (logits to the outputs of the served signature).
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
        self._recipe: dict[str, float] | None = None

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
            loss: "auto" is the task's loss.
            metrics: "auto" is the task's metrics.
            learning_rate: peak of the "auto" optimizer.
            weight_decay: of the "auto" optimizer.
            warmup_rate: fraction of all steps that the "auto" optimizer warms up over.
            **kwargs: as in `keras.Model.compile`.
        """
        self._recipe = None
        if isinstance(optimizer, str) and optimizer == "auto":
            self._recipe = {
                "learning_rate": learning_rate,
                "weight_decay": weight_decay,
                "warmup_rate": warmup_rate,
            }
            # `fit` knows the number of steps, and puts its schedule in the place of this one.
            schedule = LinearWarmupDecay(learning_rate, total_steps=1, warmup_steps=0)
            optimizer = adamw(self.trainable_variables, schedule, weight_decay)
        if self.encoder.skip_padding:
            # The number of real tokens differs from batch to batch; XLA would compile anew for each.
            kwargs.setdefault("jit_compile", False)
        super().compile(
            optimizer=optimizer,
            loss=self.default_loss() if isinstance(loss, str) and loss == "auto" else loss,
            metrics=self.default_metrics() if isinstance(metrics, str) and metrics == "auto" else metrics,
            **kwargs,
        )

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 32,
        epochs: int = 1,
        validation_data: Any = None,
        seed: int = 0,
        initial_step: int = 0,
        verbose: Any = "auto",
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
    ) -> keras.callbacks.History:
        """Train on raw strings.

        Args:
            x: texts, a sequence of str [examples]; for pairs a tuple `(texts, pairs)`. Or a batched tf.data of
                `(x, y)`, string tensors, which is then read in its own order.
            y: labels, str or class numbers [examples].
            batch_size: examples per step.
            epochs: passes over the examples.
            validation_data: `(x, y)` as above, evaluated after each epoch.
            seed: fixes the order of the examples (`keras.utils.set_random_seed` fixes weights and dropout).
            initial_step: steps that a run to be continued has done already; their examples are passed over.
            verbose: as in `keras.Model.fit`.
            callbacks: as in `keras.Model.fit`.

        Returns:
            Keras' History.

        Raises:
            InputError: texts and labels that do not fit the model.
        """
        if not getattr(self, "compiled", False):
            self.compile()
        common = {
            "validation_data": self._validation(validation_data, batch_size),
            "verbose": verbose,
            "callbacks": callbacks,
            "shuffle": False,
        }
        if isinstance(x, tf.data.Dataset):
            if initial_step:
                raise InputError("initial_step needs texts and labels in memory, not a tf.data, whose order is its own")
            return super().fit(self._counted(x, epochs), epochs=epochs, **common)
        texts = self._tokenized(x)
        lengths = texts.lengths()
        labels = self._labels(y, len(lengths))
        orders = [training_order(lengths, batch_size, seed, epoch) for epoch in range(epochs)]
        steps = len(orders[0])
        self._start_schedule(steps * epochs, initial_step)
        order = [batch for epoch in orders for batch in epoch][initial_step:]
        if not order:
            raise InputError(f"initial_step is {initial_step}, but the run has {steps * epochs} steps")
        epoch, done = divmod(initial_step, steps)
        if done:
            # The rest of the epoch that the earlier run was stopped in.
            rest = batches(texts, order[: steps - done], labels)
            history = super().fit(rest, initial_epoch=epoch, epochs=epoch + 1, **common)
            order, epoch = order[steps - done :], epoch + 1
        if order:
            # One dataset holds all epochs, each in an order of its own.
            dataset = batches(texts, order, labels)
            history = super().fit(dataset, initial_epoch=epoch, epochs=epochs, steps_per_epoch=steps, **common)
        return history

    def evaluate(  # type: ignore[override]
        self, x: Any, y: Any = None, *, batch_size: int = 32, verbose: Any = "auto", return_dict: bool = True, **kwargs
    ) -> Any:
        """Loss and metrics on raw strings and labels; `x` and `y` as in `fit`."""
        if not getattr(self, "compiled", False):
            self.compile()
        dataset = self._validation(x if y is None else (x, y), batch_size)
        return super().evaluate(dataset, verbose=verbose, return_dict=return_dict, **kwargs)

    def predict(  # type: ignore[override]
        self, x: Any, *, batch_size: int = 32, verbose: Any = 0
    ) -> dict[str, np.ndarray]:
        """Answers to raw strings: the outputs of the served signature, as numpy arrays in the order of `x`.

        Args:
            x: as in `fit`; a tf.data gives texts alone.
            batch_size: texts computed at once; texts of like length are put together.
            verbose: 1 shows a progress bar on stderr where the work takes longer than two seconds.

        Returns:
            dict of arrays, first axis the texts; strings are Python str.
        """
        texts = self._tokenized(x)
        order = sorted_order(texts.lengths(), batch_size)
        bar = tqdm(batches(texts, order), unit="batch", file=sys.stderr, delay=2, leave=False, disable=not verbose)
        logits = np.concatenate([self._logits(features).numpy() for features in bar])
        restored = np.empty_like(logits)
        restored[np.concatenate(order)] = logits
        return {name: _to_numpy(value) for name, value in self.answers(tf.constant(restored)).items()}

    @functools.cached_property
    def _logits(self) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
        """One graph for batches of every shape; Keras' own predict traces anew for new shapes."""
        ids = tf.TensorSpec([None, None], tf.int32)
        signature = {"token_ids": ids, "segment_ids": ids, "padding_mask": ids}
        return tf.function(
            lambda features: self(features, training=False), input_signature=[signature], autograph=False
        )

    def _tokenized(self, x: Any) -> TokenizedTexts:
        texts, pairs = texts_and_pairs(x, self.task.pair)
        return TokenizedTexts.from_texts(self.tokenizer, texts, pairs, self.task.max_length)

    def _labels(self, y: Any, examples: int) -> np.ndarray:
        labels = label_numbers(y, self.task.labels)
        if len(labels) != examples:
            raise InputError(f"`x` and `y` must be equally many. Received: {examples} and {len(labels)}")
        return labels

    def _validation(self, data: Any, batch_size: int) -> tf.data.Dataset | None:
        if data is None:
            return None
        if isinstance(data, tf.data.Dataset):
            return self._from_dataset(data)
        x, y = data
        texts = self._tokenized(x)
        lengths = texts.lengths()
        return batches(texts, sorted_order(lengths, batch_size), self._labels(y, len(lengths)))

    def _from_dataset(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        if not isinstance(dataset.element_spec, tuple) or len(dataset.element_spec) != 2:
            raise InputError(f"a tf.data must give (texts, labels). Received: {dataset.element_spec}")
        if isinstance(dataset.element_spec[0], dict) and "token_ids" in dataset.element_spec[0]:
            return dataset  # features already: Keras' fit hands its validation data to `evaluate`
        names = tf.constant(self.task.labels)

        @tf.autograph.experimental.do_not_convert
        def prepare(x, y):
            if isinstance(x, dict):
                x = tuple(x[name] for name in ("text", "text_pair") if name in x)
            pair = x if isinstance(x, tuple) else (x,)
            if y.dtype == tf.string:
                matches = y[:, None] == names[None, :]  # [B, C]
                check = tf.debugging.assert_equal(tf.reduce_any(matches, 1), True, "a label that the model lacks")
                with tf.control_dependencies([check]):
                    y = tf.argmax(matches, axis=1, output_type=tf.int32)
            return self.features(*pair), y

        return dataset.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def _counted(self, dataset: tf.data.Dataset, epochs: int) -> tf.data.Dataset:
        """Features and labels of a user's tf.data; its size gives the steps of the schedule."""
        prepared = self._from_dataset(dataset)
        steps = int(prepared.cardinality())
        if steps < 0 and self._recipe:
            raise InputError(
                "a tf.data of unknown or infinite size needs .apply(tf.data.experimental.assert_cardinality(n))"
            )
        self._start_schedule(steps * epochs, initial_step=0)
        return prepared

    def _start_schedule(self, total_steps: int, initial_step: int) -> None:
        """Give the "auto" optimizer the learning rates of this run; a continued run keeps its optimizer's state."""
        if self._recipe is None:
            return
        warmup_steps = round(self._recipe["warmup_rate"] * total_steps)
        schedule = LinearWarmupDecay(self._recipe["learning_rate"], total_steps, warmup_steps)
        # Keras wraps the optimizer where mixed_float16 needs a scaled loss.
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        optimizer.learning_rate = schedule
        if not initial_step:
            for variable in optimizer.variables:  # the step and both moments, which all start at zero
                variable.assign(tf.zeros_like(variable.value))
        self.train_function = None

    # === Head ===

    def default_loss(self) -> keras.losses.Loss:
        """The loss of the task on the outputs of `call`."""
        raise NotImplementedError

    def default_metrics(self) -> list[keras.metrics.Metric]:
        """The metrics that `fit` and `evaluate` report."""
        raise NotImplementedError

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


def _to_numpy(value: tf.Tensor) -> np.ndarray:
    if value.dtype != tf.string:
        return value.numpy()
    array: np.ndarray = value.numpy()
    flat: Iterable[bytes] = array.ravel()
    return np.array([item.decode("utf8") for item in flat], dtype=object).reshape(array.shape)
