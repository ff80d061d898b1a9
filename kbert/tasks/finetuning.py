"""A fine-tuning run from files to a finished model folder, which goes on where it was stopped."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from kbert.checkpoints import huggingface
from kbert.data.readers import Columns, TextRecords, read_texts
from kbert.errors import InputError
from kbert.files import read_json, write_json
from kbert.tasks.model_card import model_card
from kbert.tasks.settings import FinetuneSettings, read_toml
from kbert.tasks.text_classifier import BertTextClassifier
from kbert.training.callbacks import ProgressBar, Resuming, write_history

_log = logging.getLogger(__name__)


def finetune_classify(settings: FinetuneSettings) -> dict[str, Any]:
    """Fine-tune a classifier, evaluate it and write its folder.

    Args:
        settings: the run. `settings.out` receives the model (a Hugging Face folder), metrics.json, history.csv,
            settings.toml and README.md; while the run goes on, checkpoints/.

    Returns:
        The content of metrics.json.

    Raises:
        InputError: bad settings or files, or a folder that holds another run.
    """
    out = Path(settings.out)
    if (out / "metrics.json").exists() and not _is_other_run(out, settings):
        _log.info("%s is finished already", out)
        return read_json(out / "metrics.json")
    train, dev = _read(settings, settings.train), _read(settings, settings.dev)
    labels = sorted_labels(train)
    _check_labels(dev, labels)
    _begin_folder(out, settings)

    keras.utils.set_random_seed(settings.seed)
    model = BertTextClassifier.from_preset(
        settings.model, labels, pair=train.pairs is not None, max_length=settings.max_length
    )
    model.compile(
        learning_rate=settings.learning_rate, weight_decay=settings.weight_decay, warmup_rate=settings.warmup_rate
    )
    begin = time.perf_counter()
    history = _train(model, settings, train, dev, out)
    seconds = time.perf_counter() - begin
    dev_metrics = model.evaluate(*_xy(dev), batch_size=settings.batch_size, verbose=0)
    metrics = {
        "task": "classify",
        "labels": labels,
        "train_examples": len(train),
        "dev_examples": len(dev),
        "skipped_lines": train.skipped + dev.skipped,
        "dev": {name: float(value) for name, value in sorted(dev_metrics.items())},
        "seconds": round(seconds, 1),
        "kbert": version("kbert"),
    }
    command = shlex.join(["kbert", *sys.argv[1:]])
    card = model_card(settings, metrics, command)

    def add_records(folder: Path) -> None:
        write_json(folder / "metrics.json", metrics)
        write_history(folder / "history.csv", history)
        (folder / "README.md").write_text(card, encoding="utf8")

    huggingface.write(out, model.checkpoint(), extra=add_records)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return metrics


def sorted_labels(records: TextRecords) -> list[str]:
    """The distinct labels of a file: by number if all are whole numbers, else by name."""
    labels = set(records.labels or ())
    if len(labels) < 2:
        raise InputError(f"{records.path} holds one label only ({labels.pop()!r}): a classifier needs two or more")
    whole = all(label.removeprefix("-").isdecimal() for label in labels)
    return sorted(labels, key=int) if whole else sorted(labels)


def columns(settings: Any) -> Columns:
    """The columns that flags name."""
    return Columns(settings.text_column or None, settings.pair_column or None, settings.label_column or None)


def _read(settings: FinetuneSettings, path: str) -> TextRecords:
    records = read_texts(path, columns(settings), skip_bad_lines=settings.skip_bad_lines)
    if records.skipped:
        _log.warning("%s: %d bad lines skipped, %d records read", path, records.skipped, len(records))
    return records


def _check_labels(dev: TextRecords, labels: list[str]) -> None:
    for line, label in zip(dev.lines, dev.labels or (), strict=True):
        if label not in labels:
            raise InputError(f"{dev.path}:{line}: label {label!r} does not occur in the training file")


def _is_other_run(out: Path, settings: FinetuneSettings) -> bool:
    """False where the folder's settings are these; InputError where they are others."""
    path = out / "settings.toml"
    if not path.exists():
        raise InputError(f"{out} is not empty and holds no run of kbert: choose another --out")
    differences = settings.differences(FinetuneSettings(**read_toml(path)))
    if differences:
        raise InputError(
            f"{out} holds a run with other settings ({'; '.join(differences)}): choose another --out, or remove it"
        )
    return False


def _begin_folder(out: Path, settings: FinetuneSettings) -> None:
    if out.is_file():
        raise InputError(f"--out {out} is a file: name a folder")
    if out.exists() and any(out.iterdir()):
        _is_other_run(out, settings)
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "settings.toml").write_text(settings.to_toml(), encoding="utf8")
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror}") from None


def _train(
    model: BertTextClassifier, settings: FinetuneSettings, train: TextRecords, dev: TextRecords, out: Path
) -> list[dict[str, float]]:
    resuming = Resuming(out / "checkpoints", settings.checkpoint_steps)
    resuming.restore(model)
    total = settings.epochs * -(-len(train) // settings.batch_size)
    if resuming.step >= total:
        return resuming.history
    if resuming.step:
        _log.info("going on from step %d of %d", resuming.step, total)
    bar = ProgressBar(total, resuming.step)
    extra = [keras.callbacks.TensorBoard(out / "tensorboard")] if settings.tensorboard else []
    try:
        model.fit(
            *_xy(train),
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            validation_data=_xy(dev),
            seed=settings.seed,
            initial_step=resuming.step,
            verbose=0,
            # The state is saved before anything that may fail, and after the metrics are known.
            callbacks=[bar, resuming, *extra],
        )
    finally:
        bar.close()
    return resuming.history


def _xy(records: TextRecords) -> tuple[Any, list[str]]:
    texts = records.texts if records.pairs is None else (records.texts, records.pairs)
    return texts, records.labels or []
