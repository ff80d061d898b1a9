"""A finished model at work on files."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kbert.data.readers import FORMATS, Columns, TextRecords, read_lines, read_texts, table_format
from kbert.errors import InputError
from kbert.tasks.task import Engine, Task
from kbert.tasks.text_classifier import BertTextClassifier
from kbert.training.callbacks import EvaluationBar

_log = logging.getLogger(__name__)
_LINES = 512  # lines of plain text answered together


def load_task(preset: str) -> Task:
    """The task model that a folder holds."""
    return BertTextClassifier.from_preset(preset)


def evaluate_file(
    preset: str, path: Path, columns: Columns, batch_size: int = 32, skip_bad_lines: bool = False
) -> dict[str, Any]:
    """Metrics of a model on a labelled file, with the number of examples and of skipped lines."""
    records = read_texts(path, columns, skip_bad_lines=skip_bad_lines)
    model = load_task(preset)
    records.check_labels(model.task.labels, f"is none of the model's: {', '.join(model.task.labels)}")
    metrics = model.evaluate(
        _x(records, model), records.labels, batch_size=batch_size, verbose=0, callbacks=[EvaluationBar()]
    )
    return {
        **{name: float(value) for name, value in sorted(metrics.items())},
        "examples": len(records),
        "skipped_lines": records.skipped,
    }


def predict_file(
    preset: str,
    file: str,
    columns: Columns,
    batch_size: int = 32,
    skip_bad_lines: bool = False,
    make_engine: Callable[[Task], Engine] | None = None,
) -> Iterator[dict[str, Any]]:
    """One dict per text: the text, and the outputs of the served signature for it; `make_engine` as for `predict`."""
    chunks = _chunks(file, columns, skip_bad_lines)
    first = next(chunks)  # before the model is loaded, so that a wrong file is known at once
    model = load_task(preset)
    engine = make_engine(model) if make_engine else None
    for chunk in itertools.chain([first], chunks):
        yield from _answers(model, chunk, batch_size, engine)


def _chunks(file: str, columns: Columns, skip_bad_lines: bool) -> Iterator[TextRecords]:
    if file != "-" and table_format(Path(file)):
        records = read_texts(file, columns, labelled=False, skip_bad_lines=skip_bad_lines)
        if records.skipped:
            _log.warning("%s: %d bad lines skipped", file, records.skipped)
        yield records
        return
    if columns != Columns():
        raise InputError(f"{file} is read as one text a line, without columns: use {', '.join(FORMATS)} to name some")
    yield from read_lines(file, _LINES)


def _answers(model: Task, records: TextRecords, batch_size: int, engine: Engine | None) -> Iterator[dict[str, Any]]:
    answers = model.predict(_x(records, model), batch_size=batch_size, engine=engine, verbose=1)
    for i, text in enumerate(records.texts):
        row: dict[str, Any] = {"text": text}
        if records.pairs is not None:
            row["text_pair"] = records.pairs[i]
        yield row | {
            name: values[i].tolist() if values.dtype != object else values[i] for name, values in answers.items()
        }


def _x(records: TextRecords, model: Task) -> Any:
    if model.task.pair and records.pairs is None:
        raise InputError(
            f"{records.path} has no second text, which this model reads: give a file with columns, and name it with "
            "--pair-column"
        )
    return (records.texts, records.pairs) if model.task.pair else records.texts
