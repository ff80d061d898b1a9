"""A finished model at work on files."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kbert.checkpoints import presets
from kbert.config import BertConfig, ClassifyConfig, TaskConfig
from kbert.data.readers import Columns
from kbert.errors import InputError
from kbert.metrics.report import class_table, confusion_table, mistakes_table
from kbert.tasks.files import MODELS, Loaded, files_of
from kbert.tasks.predicting import Engine
from kbert.tasks.task import Task
from kbert.training.callbacks import EvaluationBar

_log = logging.getLogger(__name__)


def load_task(preset: str, max_length: int | None = None, pair: bool = False) -> Task:
    """The task model that a folder holds.

    Args:
        preset: as in `BertEncoder.from_preset`.
        max_length: the longest row in tokens, if it is not to be the folder's own.
        pair: that a classifier reads pairs of texts, which folders of other libraries do not say.

    Raises:
        InputError: there is no such preset, it holds a bare encoder or, with `pair`, no classifier, or its position
            table has fewer rows.
    """
    task, config = _configs_of(preset, pair)
    limit = config.max_sequence_length
    if max_length is not None and max_length > limit:
        raise InputError(
            f"{preset}: its position table has {limit} rows, too few for {max_length} tokens: give --length {limit} or "
            "less"
        )
    options = {"pair": True} if pair else {}
    return MODELS[task.task].from_preset(preset, max_length=max_length, **options)  # type: ignore[attr-defined]


def _configs_of(preset: str, pair: bool = False) -> tuple[TaskConfig, BertConfig]:
    """The task and the encoder of a folder, without its weights."""
    checkpoint = presets.load(preset, weights=False)
    task = checkpoint.task
    if task is None:
        raise InputError(f"{preset} holds an encoder without a head: fine-tune it first (kbert finetune)")
    if pair and not isinstance(task, ClassifyConfig):
        raise InputError(
            f"--pair is for classifiers, and {preset} holds a model of the task {task.task}: leave it away"
        )
    return task, checkpoint.config


def evaluate_file(
    preset: str,
    path: Path,
    columns: Columns,
    batch_size: int = 32,
    skip_bad_lines: bool = False,
    show: Callable[[str], None] | None = None,
    pair: bool = False,
) -> dict[str, Any]:
    """Metrics of a model on a labelled file, with the number of examples and what the reader passed over or mended.

    `show` is given a report in Markdown: metrics per class, and the worst mistakes. `pair` as for `load_task`.
    """
    model = load_task(preset, pair=pair)
    loaded = read_labelled(model, path, columns, skip_bad_lines)
    metrics = model.evaluate(loaded.x, loaded.y, batch_size=batch_size, verbose=0, callbacks=[EvaluationBar()])
    if show:
        show(_report(model, loaded, batch_size))
    return {
        **{name: float(value) for name, value in sorted(metrics.items())},
        "examples": len(loaded),
        **loaded.counts,
    }


def read_labelled(model: Task, path: Path, columns: Columns, skip_bad_lines: bool = False) -> Loaded:
    """The texts of a file that a model reads, with labels that it knows."""
    loaded = files_of(model.task, columns).read(str(path), skip_bad_lines)
    if (known := model.known_labels()) is not None and loaded.records is not None:
        loaded.records.check_labels(known, f"is none of the model's: {', '.join(known)}")
    return _as_read(loaded, model.training_names, model)


def read_unlabelled(model: Task, path: Path, columns: Columns, skip_bad_lines: bool = False) -> Loaded:
    """The texts of a file that a model reads, as many as are answered together."""
    part = next(files_of(model.task, columns).texts(str(path), skip_bad_lines))
    return _as_read(part, model.input_names, model)


def _report(model: Task, loaded: Loaded, batch_size: int) -> str:
    classes, rows = model.judgements(model.answers_to_score(loaded.x, batch_size), loaded.y)
    texts = [dict(zip(loaded.columns, row, strict=True)) for row in zip(*loaded.columns.values(), strict=True)]
    parts = ["## Per class\n", class_table(classes)] if classes else []
    if classes and "confusion_matrix" in classes:
        parts += ["## Confusions (rows: expected)\n", confusion_table(classes)]
    worst = mistakes_table([row | text for row, text in zip(rows, texts, strict=True)])
    return "\n".join([*parts, "## The worst mistakes\n", worst])


def predict_file(
    preset: str,
    file: str,
    columns: Columns,
    batch_size: int = 32,
    skip_bad_lines: bool = False,
    make_engine: Callable[[Task], Engine] | None = None,
    pair: bool = False,
) -> Iterator[dict[str, Any]]:
    """One dict per text: the text, and the outputs of the served signature for it.

    `make_engine` gives the `engine` of `predict`; `pair` as for `load_task`.
    """
    task, _ = _configs_of(preset, pair)
    parts = files_of(task, columns).texts(file, skip_bad_lines)
    first = list(itertools.islice(parts, 1))  # before the model is loaded, so that a wrong file is known at once
    model = load_task(preset, pair=pair)
    engine = make_engine(model) if make_engine else None
    for part in itertools.chain(first, parts):
        if part.counts.get("skipped_lines"):
            _log.warning("%s: %d bad lines skipped", file, part.counts["skipped_lines"])
        yield from _answers(model, part, batch_size, engine)


def _answers(model: Task, part: Loaded, batch_size: int, engine: Engine | None) -> Iterator[dict[str, Any]]:
    part = _as_read(part, model.input_names, model)
    answers = model.predict(part.x, batch_size=batch_size, engine=engine, verbose=1)
    for i, answer in enumerate(model.answer_rows(answers)):
        yield {name: texts[i] for name, texts in part.columns.items()} | answer


def _as_read(part: Loaded, names: Sequence[str], model: Task) -> Loaded:
    """The file with those texts alone that a model reads."""
    if "text_pair" in names and "text_pair" not in part.columns:
        raise InputError(
            f"{part.path} has no second text, which this model reads: give a file with columns, and name it with "
            "--pair-column"
        )
    if isinstance(model.task, ClassifyConfig) and set(part.columns) > set(names):
        raise InputError(
            f"{part.path} has a second text, which this model does not read: leave that column away, or say with "
            "--pair that the model was trained on pairs"
        )
    return dataclasses.replace(part, columns={name: part.columns[name] for name in names})
