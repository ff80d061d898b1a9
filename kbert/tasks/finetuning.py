"""A fine-tuning run from files to a finished model folder, which goes on where it was stopped."""

from __future__ import annotations

import hashlib
import logging
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kbert.checkpoints import huggingface
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.checkpoints.fresh import record_of
from kbert.errors import InputError
from kbert.files import read_json, write_json
from kbert.tasks.files import Loaded
from kbert.tasks.model_card import model_card
from kbert.tasks.plans import Plan, plan_of
from kbert.tasks.settings import FinetuneSettings
from kbert.tasks.task import Task
from kbert.training import strategies
from kbert.training.arithmetic import Arithmetic, arithmetic_for
from kbert.training.callbacks import EvaluationBar, FiniteLoss, ProgressBar, Resuming, write_history
from kbert.training.evaluation import BestEpoch
from kbert.training.run_folder import begin_folder, check_run

_log = logging.getLogger(__name__)


def finetune(settings: FinetuneSettings) -> dict[str, Any]:
    """Fine-tune a model, evaluate it and write its folder.

    Args:
        settings: the run. `settings.out` receives the model (a Hugging Face folder), metrics.json, history.csv,
            settings.toml, data.json (checksums of the data) and README.md; while the run goes on, checkpoints/.

    Returns:
        The content of metrics.json.

    Raises:
        InputError: bad settings or files, or a folder that holds another run.
        ConnectionError: another machine of TF_CONFIG has stopped.
    """
    strategy = strategies.strategy_for(settings.devices)
    arithmetic = arithmetic_for(strategy, settings.precision, settings.xla)
    with strategies.lost_machines_named(strategy), strategy.scope(), arithmetic.scope():
        return _finetune(settings, strategy, arithmetic)


def _finetune(settings: FinetuneSettings, strategy: tf.distribute.Strategy, arithmetic: Arithmetic) -> dict[str, Any]:
    out, writes = Path(settings.out), strategies.is_chief(strategy)
    plan = plan_of(settings)
    train, dev = _read(plan, settings.train), _read(plan, settings.dev)
    plan.check(train, dev)
    record: dict[str, Any] = {"train_sha256": _sha256(settings.train), "dev_sha256": _sha256(settings.dev)}
    if isinstance(plan.start, Checkpoint):
        record |= record_of(plan.start)
    check_run(settings, record, strategy, arithmetic)
    if (out / "config.json").exists():  # comes last of all files
        _log.info("%s is finished already", out)
        return read_json(out / "metrics.json")

    keras.utils.set_random_seed(settings.seed)
    model = plan.model(train, skip_padding=False if arithmetic.jit_compile else None)
    model.compile(**settings.recipe(), jit_compile=arithmetic.jit_compile)
    if settings.best_metric:
        _check_best_metric(settings.best_metric, model.metric_names(dev.x, dev.y))
    if writes:
        begin_folder(out, settings, record)
    history, best = _train(model, plan, train, dev, out)
    metrics = {
        "task": settings.task,
        **({"labels": list(labels)} if (labels := getattr(model.task, "labels", ())) else {}),
        "train_examples": len(train),
        "dev_examples": len(dev),
        **{name: train.counts[name] + dev.counts[name] for name in train.counts},
        "epoch": best["epoch"],
        "dev": {n.removeprefix("val_"): value for n, value in sorted(best.items()) if n.startswith("val_")},
        "kbert": version("kbert"),
    }
    if not writes:
        return metrics
    card = model_card(settings, metrics, model)

    def add_records(folder: Path) -> None:
        write_json(folder / "metrics.json", metrics)
        write_history(folder / "history.csv", history)
        (folder / "README.md").write_text(card, encoding="utf8")

    huggingface.write(out, model.checkpoint(), extra=add_records)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return metrics


def _read(plan: Plan, path: str) -> Loaded:
    loaded = plan.files.read(path, skip_bad_lines=plan.settings.skip_bad_lines)
    for name, count in loaded.counts.items():
        if count:
            line = loaded.first.get(name)
            place, rest = (f"{path}:{line}", ", the first in the sentence that begins here") if line else (path, "")
            _log.warning("%s: %d %s%s", place, count, name.replace("_", " "), rest)
    return loaded


def _check_best_metric(name: str, names: list[str]) -> None:
    if name not in names:
        raise InputError(
            f"--best-metric must be one of {', '.join(names)}, the metrics of this task. Received: {name!r}"
        )


def _sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _train(
    model: Task, plan: Plan, train: Loaded, dev: Loaded, out: Path
) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Train from where the run was stopped to its end: what each epoch reports, and the one that the model is of."""
    settings, strategy = plan.settings, model.distribute_strategy
    writes = strategies.is_chief(strategy)
    resuming = Resuming(out / "checkpoints", settings.checkpoint_steps, writes)
    resuming.restore(model)
    if not strategies.agree(strategy, str(resuming.step)):
        raise InputError(
            f"the machines of TF_CONFIG must share one folder {out}: they find different checkpoints there"
        )
    best = _best_epoch(settings, out, writes)
    if len(resuming.history) < settings.epochs and not (best and best.ends(len(resuming.history))):
        _fit(model, plan, train, dev, [best] if best else [], resuming)
    if best is None or not best.epoch:
        return resuming.history, resuming.history[-1]
    best.restore(model)
    strategies.agree(strategy, "restored")  # all have read the folder, before one of them removes it
    return resuming.history, resuming.history[best.epoch - 1]


def _best_epoch(settings: FinetuneSettings, out: Path, writes: bool) -> BestEpoch | None:
    if not settings.best_metric:
        return None
    return BestEpoch(out / "checkpoints", f"val_{settings.best_metric}", settings.patience or None, writes)


def _fit(
    model: Task, plan: Plan, train: Loaded, dev: Loaded, callbacks: list[keras.callbacks.Callback], resuming: Resuming
) -> None:
    settings = plan.settings
    if resuming.step:
        _log.info("going on from step %d", resuming.step)
    bar = ProgressBar(resuming.step)
    extra = []
    if settings.tensorboard and resuming.writes:
        extra.append(keras.callbacks.TensorBoard(Path(settings.out) / "tensorboard"))
    try:
        model.fit(
            train.x,
            train.y,
            **plan.fit_options(train),
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            validation_data=(dev.x, dev.y),
            gradient_accumulation_steps=settings.gradient_accumulation_steps,
            seed=settings.seed,
            initial_step=resuming.step,
            verbose=0,
            callbacks=[FiniteLoss(), *callbacks, bar, EvaluationBar(), resuming, *extra],
        )
    finally:
        bar.close()
