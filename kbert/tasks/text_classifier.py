"""Labels or a number for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from kbert.checkpoints import presets
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.config import ClassifyConfig
from kbert.errors import InputError
from kbert.modeling.encoder import BertEncoder
from kbert.modeling.heads import ClassificationHead
from kbert.tasks import datasets
from kbert.tasks.problems import problem_of
from kbert.tasks.task import Task
from kbert.tasks.task_model import Examples
from kbert.tokenization.tokenizer import BertTokenizer


class BertTextClassifier(Task):
    """BERT with a dense layer on its pooled output (Devlin et al. 2018, section 4.1).

    The task's `problem` says what the logits mean: one class a text (softmax), any number of them (sigmoid), or a
    number.

    Args:
        encoder: gives `pooled_output` [B, D].
        tokenizer: makes the encoder's inputs.
        task: labels and longest input.

    Call arguments:
        inputs: the encoder's dict, int32 [B, T]. (`fit`, `evaluate` and `predict` take raw strings.)

    Returns:
        Logits, float [B, C].

    Example:
        ```python
        model = kbert.BertTextClassifier.from_preset("minilm-l6-en", labels=["negative", "positive"])
        model.fit(texts, labels, epochs=3)
        model.predict(["What a film!"])["label"]
        ```
    """

    task: ClassifyConfig
    uses_pooler = True
    takes_metrics = True

    def __init__(self, encoder: BertEncoder, tokenizer: BertTokenizer, task: ClassifyConfig, **kwargs: Any):
        super().__init__(encoder, tokenizer, task, **kwargs)
        self.problem = problem_of(task)
        # === Layers ===
        self.head = ClassificationHead(encoder.config, task.num_outputs, name="head")
        self.build()

    def build(self, input_shape=None):
        self.head.build()

    def call(self, inputs):
        return self.head(self.encoder(inputs, first_token_only=True)["pooled_output"])

    @property
    def input_names(self):
        return ("text", "text_pair") if self.task.pair else ("text",)

    def examples(self, columns, y):
        """`y` holds, for each text: a label or class number; for multi-label a list of labels; or a number."""
        targets = self.problem.targets(y)
        if len(targets) != len(columns[0]):
            raise InputError(f"`x` and `y` must be equally many. Received: {len(columns[0])} and {len(targets)}")
        return Examples(self._rows(columns), targets, np.arange(len(targets)))

    def dataset_targets(self, y):
        return self.problem.graph_targets(y)

    def weights_of_classes(self, class_weight):
        if class_weight is None or self.task.problem != "single_label":
            return super().weights_of_classes(class_weight)
        return datasets.weights_of_classes(class_weight, self.task.labels)

    @property
    def has_softmax(self):
        return self.task.problem == "single_label"

    def default_loss(self):
        return self.problem.loss()

    def default_metrics(self):
        return self.problem.metrics()

    def answers(self, outputs, features, *texts):
        """What the problem answers.

        One class: `label` string [B], `score` float32 [B] (its probability) and `probabilities` float32 [B, C]. Any
        number: `labels` string [B, C], filled with "", and `probabilities`. A number: `value` float32 [B].
        """
        return self.problem.answers(outputs)

    @property
    def example_api(self):
        return self.problem.example_api

    def example_answers(self, answers):
        return self.problem.example_answers(answers)

    def score(self, answers, y):
        return self.problem.score(answers, self.problem.targets(y))

    def judgements(self, answers, y):
        return self.problem.judgements(answers, self.problem.targets(y))

    def answer_rows(self, answers):
        for row in super().answer_rows(answers):
            yield row | ({"labels": [label for label in row["labels"] if label]} if "labels" in row else {})

    def known_labels(self):
        return self.task.labels or None

    def load_head(self, checkpoint: Checkpoint) -> None:
        saved = checkpoint.task
        assert isinstance(saved, ClassifyConfig)
        if saved.problem != self.task.problem or set(saved.labels) != set(self.task.labels):
            return
        columns = [saved.labels.index(label) for label in self.task.labels] or [0]
        for name, variable in self.head_weights().items():
            variable.assign(checkpoint.tensors[name][..., columns])

    @classmethod
    def from_preset(
        cls,
        preset: str | Checkpoint,
        labels: Sequence[str] | None = None,
        *,
        pair: bool | None = None,
        problem: str | None = None,
        max_length: int | None = None,
        skip_padding: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a classifier, or an encoder to fine-tune into one.

        Args:
            preset: as in `BertEncoder.from_preset`; or a checkpoint, whose weights may be yet to be drawn.
            labels: class names. None takes those of the preset. The preset's own in another order keep its trained
                head; any others give a fresh one.
            pair: whether the model reads pairs of texts. None: as the preset says, else False.
            problem: "single_label", "multi_label" or "regression" (without labels). None: as the preset says, else
                "single_label".
            max_length: longest input in tokens. None: as the preset says, else 128 (or the encoder's own limit).
            skip_padding: as in `BertEncoder`.

        Raises:
            InputError: the preset does not exist or is damaged, or no labels are known.
        """
        checkpoint = presets.load(preset)
        saved = checkpoint.task if isinstance(checkpoint.task, ClassifyConfig) else None
        problem = problem or (saved.problem if saved else "single_label")
        if labels is None and problem != "regression":
            if saved is None or saved.problem == "regression":
                raise InputError(f"{preset} has no classification head: pass labels=[…], the names of the classes")
            labels = saved.labels
        task = ClassifyConfig(
            labels=tuple(labels or ()),
            pair=pair if pair is not None else bool(saved and saved.pair),
            problem=problem,
            max_length=max_length
            if max_length is not None
            else min(saved.max_length if saved else 128, checkpoint.config.max_sequence_length),
        )
        return cls._from_checkpoint(checkpoint, task, skip_padding, **kwargs)
