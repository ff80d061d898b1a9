"""Which files a task reads, and which model answers it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kbert.config import ClassifyConfig, TaskConfig
from kbert.data.answers import read_answers
from kbert.data.readers import FORMATS, Columns, TextRecords, read_lines, read_texts, table_format
from kbert.data.tags import read_tags
from kbert.errors import InputError
from kbert.tasks.masked_lm import BertMaskedLM
from kbert.tasks.question_answerer import BertQuestionAnswerer
from kbert.tasks.task import Task
from kbert.tasks.text_classifier import BertTextClassifier
from kbert.tasks.text_embedder import BertTextEmbedder
from kbert.tasks.token_classifier import BertTokenClassifier

_LINES = 512  # lines of plain text answered together


class Records(Protocol):
    """What every reader of labelled files returns."""

    path: Path
    skipped: int

    def check_labels(self, known: Iterable[str], complaint: str) -> None:
        """Raise InputError, which names file and line and ends in `complaint`, for a label that is not known."""


@dataclass(frozen=True)
class Loaded:
    """A file as a model's `fit`, `evaluate` and `predict` take it."""

    path: Path
    columns: Mapping[str, list[str]]
    """The texts of all examples by the names of the model's inputs."""
    y: Any = None
    records: Records | None = None
    counts: dict[str, int] = field(default_factory=dict)
    """What the reader passed over or mended."""
    first: dict[str, int | None] = field(default_factory=dict)
    """The line of the first record of what is counted, where it is known."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def x(self) -> Any:
        """The texts as task models take them."""
        columns = tuple(self.columns.values())
        return columns if len(columns) > 1 else columns[0]


class TaskFiles:
    """The files of a task; a subclass for each.

    Args:
        columns: names of the columns of tables.
    """

    def __init__(self, columns: Columns = Columns()):
        self.columns = columns

    def read(self, path: str, skip_bad_lines: bool = False) -> Loaded:
        """A file with labels."""
        raise InputError(f"{path}: this model answers, and has no labelled files to be measured on")

    def texts(self, file: str, skip_bad_lines: bool = False) -> Iterator[Loaded]:
        """The texts alone of a table, or of the lines of any other file or of stdin ("-"), a part at a time."""
        if file != "-" and table_format(Path(file)):
            yield _texts(read_texts(file, self.columns, labelled=False, skip_bad_lines=skip_bad_lines))
            return
        if self.columns != Columns():
            raise InputError(
                f"{file} is read as one text a line, without columns: use {', '.join(FORMATS)} to name some"
            )
        yield from map(_texts, read_lines(file, _LINES))


def _texts(records: TextRecords, y: Any = None) -> Loaded:
    columns = {"text": records.texts}
    if records.pairs is not None:
        columns["text_pair"] = records.pairs
    return Loaded(records.path, columns, y, records, {"skipped_lines": records.skipped})


class ClassifyFiles(TaskFiles):
    """Texts or pairs of texts with a label, several, or a number."""

    def __init__(self, columns: Columns = Columns(), problem: str = "single_label"):
        super().__init__(columns)
        self.labels: Any = {"single_label": "single", "multi_label": "multiple", "regression": "number"}[problem]

    def read(self, path, skip_bad_lines=False):
        records = read_texts(path, self.columns, labels=self.labels, skip_bad_lines=skip_bad_lines)
        return _texts(records, records.labels)


class TagFiles(TaskFiles):
    """Texts with entities."""

    def read(self, path, skip_bad_lines=False):
        _check_no_columns(path, self.columns)
        records = read_tags(path, skip_bad_lines=skip_bad_lines)
        counts = {"skipped_lines": records.skipped, "repaired_entities": records.repaired}
        first = {"repaired_entities": records.first_repaired}
        return Loaded(records.path, {"text": records.texts}, records.spans, records, counts, first)


class AnswerFiles(TaskFiles):
    """Questions and contexts with answers."""

    def read(self, path, skip_bad_lines=False):
        _check_no_columns(path, self.columns)
        records = read_answers(path, skip_bad_lines=skip_bad_lines)
        counts = {"skipped_lines": records.skipped, "moved_answers": records.moved, "absent_answers": records.absent}
        return Loaded(records.path, _questions(records), records.answers, counts=counts)

    def texts(self, file, skip_bad_lines=False):
        _check_no_columns(file, self.columns)
        records = read_answers(file, labelled=False, skip_bad_lines=skip_bad_lines)
        yield Loaded(records.path, _questions(records), counts={"skipped_lines": records.skipped})


def _check_no_columns(path: str, columns: Columns) -> None:
    if columns != Columns():
        raise InputError(f"{path} is not read by columns that one can name: leave --text-column and its like away")


def _questions(records: Any) -> dict[str, list[str]]:
    return {"question": records.questions, "context": records.contexts}


class EmbedFiles(TaskFiles):
    """Pairs of texts, with scores of how alike they are or without."""

    def read(self, path, skip_bad_lines=False):
        records = read_texts(path, self.columns, labelled=None, labels="number", skip_bad_lines=skip_bad_lines)
        if records.pairs is None:
            raise InputError(f"{path} has no second text, which an embedder learns from: name it with --pair-column")
        return _texts(records, records.labels)


FILES: dict[str, type[TaskFiles]] = {
    "classify": ClassifyFiles,
    "tag": TagFiles,
    "answer": AnswerFiles,
    "embed": EmbedFiles,
    "fill-mask": TaskFiles,
}
MODELS: dict[str, type[Task]] = {
    "classify": BertTextClassifier,
    "tag": BertTokenClassifier,
    "answer": BertQuestionAnswerer,
    "embed": BertTextEmbedder,
    "fill-mask": BertMaskedLM,
}


def files_of(task: TaskConfig, columns: Columns) -> TaskFiles:
    """The files that a model reads."""
    if isinstance(task, ClassifyConfig):
        return ClassifyFiles(columns, task.problem)
    return FILES[task.task](columns)
