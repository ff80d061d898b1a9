"""What a fine-tuning run of each task reads, checks and trains."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kbert.checkpoints.checkpoint import Checkpoint
from kbert.checkpoints.fresh import fresh_checkpoint
from kbert.data.readers import Columns
from kbert.data.schemes import label_names
from kbert.errors import InputError
from kbert.tasks.files import AnswerFiles, ClassifyFiles, EmbedFiles, Loaded, TagFiles, TaskFiles
from kbert.tasks.question_answerer import BertQuestionAnswerer
from kbert.tasks.settings import AnswerSettings, ClassifySettings, EmbedSettings, FinetuneSettings, TagSettings
from kbert.tasks.task import Task
from kbert.tasks.text_classifier import BertTextClassifier
from kbert.tasks.text_embedder import BertTextEmbedder
from kbert.tasks.token_classifier import BertTokenClassifier

_UNSEEN = "does not occur in the training file"


class Plan:
    """A run of one task.

    Args:
        settings: the run.
        files: reads its files.
    """

    def __init__(self, settings: Any, files: TaskFiles):
        self.settings = settings
        self.files = files
        self.start: str | Checkpoint = settings.model
        """What the model begins as: a preset, or a checkpoint whose weights are to be drawn."""
        if settings.vocab:
            self.start = fresh_checkpoint(settings.model, Path(settings.vocab), settings.cased)

    def check(self, train: Loaded, dev: Loaded) -> None:
        """Refuse files that do not go together, before the time that loading a model takes."""

    def model(self, train: Loaded, skip_padding: bool | None) -> Task:
        """The model to train; `skip_padding` as in `BertEncoder`."""
        raise NotImplementedError

    def fit_options(self, train: Loaded) -> dict[str, Any]:
        """What `fit` is told beside texts and labels."""
        return {}


class ClassifyPlan(Plan):
    """Labels or a number."""

    settings: ClassifySettings

    def __init__(self, settings: ClassifySettings):
        super().__init__(settings, ClassifyFiles(_columns(settings), settings.problem))

    def check(self, train, dev):
        if self.settings.problem != "regression":
            dev.records.check_labels(self._labels(train), _UNSEEN)
        if ("text_pair" in train.columns) != ("text_pair" in dev.columns):
            raise InputError(f"{train.path} and {dev.path} must both have a second text, or neither of them")

    def model(self, train, skip_padding):
        return BertTextClassifier.from_preset(
            self.start,
            None if self.settings.problem == "regression" else self._labels(train),
            pair="text_pair" in train.columns,
            problem=self.settings.problem,
            max_length=self.settings.max_length,
            skip_padding=skip_padding,
        )

    def fit_options(self, train):
        return {"class_weight": self.settings.weights_by_label(train.y)}

    def _labels(self, train: Loaded) -> list[str]:
        if self.settings.problem == "multi_label":
            return sorted({label for labels in train.y for label in labels})
        return sorted_labels(train.y, str(train.path))


class TagPlan(Plan):
    """Entities; every set of tags is learnt as B-X, I-X and O."""

    settings: TagSettings

    def __init__(self, settings: TagSettings):
        super().__init__(settings, TagFiles())

    def check(self, train, dev):
        dev.records.check_labels(train.records.types(), _UNSEEN)
        if not train.records.types():
            raise InputError(f"{train.path} holds no entity")

    def model(self, train, skip_padding):
        return BertTokenClassifier.from_preset(
            self.start,
            label_names(train.records.types(), "BIO", outside=train.records.outside),
            head=self.settings.head,
            max_length=self.settings.max_length,
            skip_padding=skip_padding,
        )


class AnswerPlan(Plan):
    """Answers in contexts."""

    settings: AnswerSettings

    def __init__(self, settings: AnswerSettings):
        super().__init__(settings, AnswerFiles())

    def model(self, train, skip_padding):
        return BertQuestionAnswerer.from_preset(
            self.start,
            max_length=self.settings.max_length,
            skip_padding=skip_padding,
            max_answer_length=self.settings.max_answer_length,
            no_answer=not all(train.y),
        )


class EmbedPlan(Plan):
    """Vectors, learnt from pairs."""

    settings: EmbedSettings

    def __init__(self, settings: EmbedSettings):
        super().__init__(settings, EmbedFiles(_columns(settings)))

    def check(self, train, dev):
        if dev.y is None:
            raise InputError(f"{dev.path} has no scores, against which an embedder is measured")
        self.highest = max(map(abs, [*(train.y or ()), *dev.y]), default=0) or 1.0

    def model(self, train, skip_padding):
        return BertTextEmbedder.from_preset(
            self.start,
            pooling=self.settings.pooling,
            score_scale=self.highest,
            max_length=self.settings.max_length,
            skip_padding=skip_padding,
        )


def plan_of(settings: FinetuneSettings) -> Plan:
    """The plan of a run, by the class of its settings."""
    plans: dict[str, Any] = {"classify": ClassifyPlan, "tag": TagPlan, "answer": AnswerPlan, "embed": EmbedPlan}
    return plans[settings.task](settings)


def sorted_labels(labels: Iterable[str], path: str) -> list[str]:
    """The distinct labels of a file: by number if all are whole numbers, else by name."""
    distinct = set(labels)
    if len(distinct) < 2:
        raise InputError(f"{path} holds one label only ({distinct.pop()!r}): a classifier needs two or more")
    whole = all(label.removeprefix("-").isdecimal() for label in distinct)
    return sorted(distinct, key=lambda label: (int(label), label)) if whole else sorted(distinct)


def _columns(settings: ClassifySettings | EmbedSettings) -> Columns:
    return Columns(settings.text_column or None, settings.pair_column or None, settings.label_column or None)
