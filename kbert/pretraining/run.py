"""A pretraining run from text files to a model folder, which goes on where it was stopped."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
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
from kbert.pretraining.batches import HeldOut, PretrainingData
from kbert.pretraining.callbacks import PretrainingState, Stopped, Stopping, TokenBar
from kbert.pretraining.corpus import FOLDER, batches_of, corpus_of
from kbert.pretraining.model import PretrainingModel
from kbert.pretraining.model_card import model_card
from kbert.pretraining.settings import PretrainSettings
from kbert.pretraining.start import start_of
from kbert.tokenization.tokenizer import BertTokenizer
from kbert.training import replicas, strategies
from kbert.training.arithmetic import Arithmetic, arithmetic_for
from kbert.training.callbacks import EvaluationBar, FiniteLoss, write_history
from kbert.training.evaluation import BestEpoch
from kbert.training.optimizers import CosineWarmupDecay, LinearWarmupDecay, adamw
from kbert.training.run_folder import begin_folder, check_run, has_begun, room_for

_log = logging.getLogger(__name__)


def pretrain(settings: PretrainSettings) -> dict[str, Any]:
    """Pretrain a model, evaluate it and write its folder.

    Args:
        settings: the run. `settings.out` receives the model (a Hugging Face folder), metrics.json, history.csv,
            settings.toml, data.json (what else decides the model), README.md and corpus/, the tokens of the corpus;
            while the run goes on, checkpoints/.

    Returns:
        The content of metrics.json; or, of a run that was told to stop by SIGTERM or SIGINT, `stopped_at_step` and
        `steps`.

    Raises:
        InputError: bad settings or files, a folder that holds another run, or no room on the disk.
        ConnectionError: another machine of TF_CONFIG has stopped.
    """
    strategy = strategies.strategy_for(settings.devices)
    arithmetic = arithmetic_for(strategy, settings.precision, settings.xla)
    with strategies.lost_machines_named(strategy), strategy.scope(), arithmetic.scope():
        return _pretrain(settings, strategy, arithmetic)


def _pretrain(settings: PretrainSettings, strategy: tf.distribute.Strategy, arithmetic: Arithmetic) -> dict[str, Any]:
    out, writes = Path(settings.out), strategies.is_chief(strategy)
    start = start_of(settings)
    record = record_of(start)  # the corpus knows itself whether it is the same
    check_run(settings, record, strategy, arithmetic, beside=(FOLDER,))
    if (out / "config.json").exists():  # comes last of all files
        _log.info("%s is finished already", out)
        if writes:
            shutil.rmtree(out / "checkpoints", ignore_errors=True)
        return read_json(out / "metrics.json")

    tokenizer = BertTokenizer(start.vocabulary, start.tokenizer)
    data = batches_of(settings, corpus_of(settings, tokenizer, strategy), tokenizer, arithmetic.jit_compile)
    keras.utils.set_random_seed(settings.seed)
    model = _compiled(settings, start, arithmetic)
    run = _Run(settings, model, *data)
    if writes and not has_begun(out):
        begin_folder(out, settings, record)
    try:
        metrics = run.train()
    except Stopped:
        _log.info("stopped at step %d of %d: the same command goes on", run.state.step, settings.steps)
        return {"stopped_at_step": run.state.step, "steps": settings.steps}
    if writes:
        _write(out, settings, model, metrics, run.state.history)
    return metrics


def _compiled(settings: PretrainSettings, start: Checkpoint, arithmetic: Arithmetic) -> PretrainingModel:
    model = PretrainingModel.from_checkpoint(
        start, settings.pairs, skip_padding=False if arithmetic.jit_compile else None, mask_rate=settings.mask_rate
    )
    schedule = _SCHEDULES[settings.decay](
        settings.peak_rate(start.config.hidden_dim), settings.steps, round(settings.warmup_rate * settings.steps)
    )
    optimizer = adamw(model.trainable_variables, schedule, settings.weight_decay, settings.clip_norm)
    model.compile(optimizer, settings.gradient_accumulation_steps, jit_compile=arithmetic.jit_compile)
    model.total_steps = settings.steps
    return model


_SCHEDULES = {"linear": LinearWarmupDecay, "cosine": CosineWarmupDecay}


class _Run:
    """The training of a compiled model, from where it was stopped to its end."""

    def __init__(self, settings: PretrainSettings, model: PretrainingModel, data: PretrainingData, held_out: HeldOut):
        self.settings, self.model, self.data, self.held_out = settings, model, data, held_out
        out, writes = Path(settings.out), strategies.is_chief(model.distribute_strategy)
        self.state = PretrainingState(out, self.data, settings.checkpoint_steps, writes, settings.keep_checkpoints)
        self.best = BestEpoch(out / "checkpoints", "val_loss", writes=writes)

    def train(self) -> dict[str, Any]:
        """Leaves the model with its best weights; returns what metrics.json holds."""
        self.state.restore(self.model)
        if not strategies.agree(self.model.distribute_strategy, str(self.state.step)):
            raise InputError(
                f"the machines of TF_CONFIG must share one folder {self.settings.out}: they find different checkpoints"
            )
        if self.state.step < self.settings.steps:
            self._fit()
        self.best.restore(self.model)
        strategies.agree(self.model.distribute_strategy, "restored")  # all have read it, before one removes it
        return self._metrics()

    def _fit(self) -> None:
        state, steps = self.state, self.settings.steps
        if state.step:
            _log.info("going on from step %d", state.step)
        bar, stopping = TokenBar(state), Stopping(state, steps)
        callbacks = [FiniteLoss(), self.best, state, bar, EvaluationBar(), *self._tensorboard(), stopping]
        try:
            with stopping.listening(), replicas.own_dropout(self.model):
                for first, last, of_round in rounds(state.step, steps, self.settings.evaluation_steps):
                    self._fit_rounds(first, last, of_round, callbacks)
        finally:
            bar.close()

    def _fit_rounds(self, first: int, last: int, steps: int, callbacks: list[keras.callbacks.Callback]) -> None:
        strategy = self.model.distribute_strategy
        self.model.fit(
            self.data.dataset(strategy, self.state.step, self.state.position),
            initial_epoch=first,
            epochs=last,
            steps_per_epoch=steps,
            validation_data=self.held_out.dataset(strategy),
            validation_steps=len(self.held_out),
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )

    def _tensorboard(self) -> list[keras.callbacks.Callback]:
        if not (self.settings.tensorboard and self.state.writes):
            return []
        return [keras.callbacks.TensorBoard(Path(self.settings.out) / "tensorboard")]

    def _metrics(self) -> dict[str, Any]:
        row = self.state.history[self.best.epoch - 1]
        return {
            "task": "pretrain",
            "steps": self.settings.steps,
            "step": row["step"],
            "epochs": self.state.history[-1]["epoch"],
            "tokens": self.state.history[-1]["tokens"],
            "held_out": {n.removeprefix("val_"): value for n, value in sorted(row.items()) if n.startswith("val_")},
            "kbert": version("kbert"),
        }


def rounds(step: int, steps: int, every: int) -> Iterator[tuple[int, int, int]]:
    """The calls of Keras' `fit` that lead from a step to the end of a run which is evaluated every so many steps.

    Yields:
        The first round, the one after the last, and the steps of each: the rest of a round that was stopped in, all
        whole rounds, and a last one that is shorter.
    """
    while step < steps:
        first, done = divmod(step, every)
        number = 1 if done else max((steps - step) // every, 1)
        of_round = min(every - done, steps - step)
        yield first, first + number, of_round
        step += number * of_round


def _write(
    out: Path, settings: PretrainSettings, model: PretrainingModel, metrics: dict[str, Any], history: list[Any]
) -> None:
    checkpoint = model.checkpoint()
    card = model_card(settings, metrics, checkpoint)

    def add_records(folder: Path) -> None:
        write_json(folder / "metrics.json", metrics)
        write_history(folder / "history.csv", history)
        (folder / "README.md").write_text(card, encoding="utf8")

    with room_for(out):
        huggingface.write(out, checkpoint, extra=add_records)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
