"""What every task model shares: raw strings in, answers out, folders that other libraries open."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kbert.checkpoints import huggingface
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.config import TaskConfig
from kbert.data.batching import Rows
from kbert.modeling.encoder import load_tensors, make_encoder, named_weights
from kbert.tasks.inputs import text_columns, to_numpy
from kbert.tasks.predicting import INPUTS, Engine, chunks, concatenated, in_batches
from kbert.tasks.trainable import Trainable
from kbert.tokenization.tokenizer import BertTokenizer

_log = logging.getLogger(__name__)


class Task(Trainable):
    """An encoder, a tokenizer and what the task answers.

    A subclass makes the head, and defines `input_names`, `call` (features to logits), `examples`, `default_loss`,
    `default_metrics`, `answers` (logits to the outputs of the served signature) and `score`; where not every row
    counts as one, `item_weights` and `item_losses` too.

    Made in the scope of a `tf.distribute` strategy (`kbert.training.strategies`), the model trains on all its devices
    as it does on one: a batch is shared out among them, and its loss is the mean over all of it.
    """

    uses_pooler = False
    """Whether the head stands on `pooled_output`."""

    @property
    def example_api(self) -> str | None:
        """What of TF Serving's API takes a `tf.Example` and gives such answers: "classify", "regress", or nothing."""
        return None

    # === Answers ===

    def predict(  # type: ignore[override]
        self, x: Any, *, batch_size: int = 32, engine: Engine | None = None, verbose: Any = 0
    ) -> dict[str, np.ndarray]:
        """Answers to raw strings: the outputs of the served signature, as numpy arrays in the order of `x`.

        Args:
            x: as in `fit`; a tf.data gives texts alone.
            batch_size: rows computed at once; rows of like length are put together.
            engine: what computes the outputs of `infer` from features; None: TensorFlow. `kbert.LiteRTEngine(model)`
                is quicker on a CPU.
            verbose: 1 shows a progress bar on stderr where the work takes longer than two seconds.

        Returns:
            dict of arrays, first axis the texts; strings are Python str.
        """
        columns = text_columns(x, self.input_names)
        parts = []
        with tqdm(total=0, unit="batch", file=sys.stderr, delay=2, leave=False, disable=not verbose) as bar:
            for chunk in chunks(columns):
                texts = [tf.constant(column) for column in chunk]
                features = self.features(*texts)
                outputs = in_batches(engine or self._inference, features, batch_size, bar)
                answers = self._answering(tf.nest.map_structure(tf.constant, outputs), features, texts)
                parts.append({name: to_numpy(value) for name, value in answers.items()})
        return concatenated(parts)

    @functools.cached_property
    def _inference(self) -> Engine:
        """One graph for batches of every shape; Keras' own predict traces anew for new shapes."""
        signature = {name: tf.TensorSpec([None, None], tf.int32) for name in INPUTS}
        return tf.function(self.infer, input_signature=[signature], autograph=False)

    @functools.cached_property
    def _answering(self) -> Any:
        def answer(outputs, features, texts):
            return self.answers(outputs, features, *texts)

        return tf.function(answer, reduce_retracing=True, autograph=False)

    def _rows(self, columns: Sequence[list[str]]) -> Rows:
        """All rows of texts, tokenized once, with a bar on stderr where that takes longer than two seconds."""
        bar = tqdm(desc="tokenizing", total=len(columns[0]), unit="text", file=sys.stderr, delay=2, leave=False)

        def features():
            for chunk in chunks(columns):
                yield self.features(*map(tf.constant, chunk))
                bar.update(len(chunk[0]))
            bar.close()

        return Rows.from_features(features(), self.tokenizer.pad_id)

    def infer(self, features: Mapping[str, tf.Tensor]) -> Any:
        """What `answers` needs of each batch: the outputs of `call`, or tensors made of them; runs in a graph."""
        return self(features, training=False)

    def answers(self, outputs: Any, features: Mapping[str, tf.Tensor], *texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """The outputs of the served signature; runs in a graph.

        Args:
            outputs: of `infer`, first axis the rows.
            features: of `features`.
            *texts: string [B], one for each of `input_names`.
        """
        raise NotImplementedError

    def example_answers(self, answers: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """What `answers` gives in the form of `example_api`; runs in a graph.

        "classify": `classes` string and `scores` float32, [B, C] both. "regress": `outputs` float32 [B].
        """
        raise NotImplementedError

    def answer_rows(self, answers: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
        """What `predict` answers to each text, ready for JSON, without what fills short rows."""
        for values in zip(*answers.values(), strict=True):
            plain = (value.tolist() if hasattr(value, "tolist") else value for value in values)
            yield dict(zip(answers, plain, strict=True))

    def known_labels(self) -> Sequence[str] | None:
        """The labels that a file to evaluate on may hold; None: any."""
        return None

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
        return named_weights(self.head)

    def load_head(self, checkpoint: Checkpoint) -> None:
        """Take up the head of a checkpoint of the same task, as far as it fits this one's."""
        for name, variable in self.head_weights().items():
            variable.assign(checkpoint.tensors[name])

    @classmethod
    def make_tokenizer(cls, checkpoint: Checkpoint) -> BertTokenizer:
        """The tokenizer that the task reads texts with."""
        return BertTokenizer(checkpoint.vocabulary, checkpoint.tokenizer)

    @classmethod
    def _from_checkpoint(cls, checkpoint: Checkpoint, task: TaskConfig, skip_padding: bool | None, **kwargs) -> Self:
        """A model with the checkpoint's encoder, and its head where it has one for the same task; fresh ones else."""
        encoder = make_encoder(checkpoint.config, skip_padding)
        fresh = [name for name in load_tensors(encoder, checkpoint.tensors) if cls.uses_pooler or "pooler" not in name]
        if fresh and checkpoint.tensors:
            _log.warning("the preset has no %s: they start from random values", ", ".join(fresh))
        model = cls(encoder, cls.make_tokenizer(checkpoint), task, **kwargs)
        if checkpoint.task and checkpoint.task.task == task.task:
            model.load_head(checkpoint)
        return model

    def save_to_preset(self, folder: str | Path) -> None:
        """Write a Hugging Face model folder that `from_preset` and transformers open.

        Files of the same names are replaced. A stop in between leaves a folder without config.json, which nothing
        opens, never a mixture of two models.
        """
        huggingface.write(Path(folder), self.checkpoint())
