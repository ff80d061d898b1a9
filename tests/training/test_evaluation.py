"""Metrics of answers in a run's logs; the best epoch, also of a run that was stopped and taken up again."""

from __future__ import annotations

import csv

import keras
import numpy as np
import pytest

import kbert
from kbert.errors import InputError
from kbert.training.callbacks import Resuming
from kbert.training.evaluation import AnswerMetrics, BestEpoch

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(12, 3)), RANDOM.normal(size=(12, 1))


def small_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def scripted(values):
    """A `score` that gives one value after the other."""
    rest = iter(values)
    return lambda: {"f1": next(rest)}


class Record(keras.callbacks.Callback):
    """The weights after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.__dict__.setdefault("weights", []).append(self.model.get_weights())


def assert_weights(model, expected):
    for got, array in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(got, array)


# === Metrics ===


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras' ModelCheckpoint
def test_what_comes_after_sees_the_metrics(tmp_path):
    model = small_model()
    callbacks = [
        AnswerMetrics(scripted([0.1, np.float32(0.5), 0.25, 0.25])),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}-{val_f1:.2f}.weights.h5", save_weights_only=True),
        keras.callbacks.EarlyStopping("val_f1", patience=2, mode="max"),
    ]
    history = model.fit(X, Y, epochs=9, verbose=0, callbacks=callbacks).history
    assert history["val_f1"] == [0.1, 0.5, 0.25, 0.25]
    with (tmp_path / "log.csv").open() as file:
        assert [float(row["val_f1"]) for row in csv.DictReader(file)] == history["val_f1"]
    assert {path.name for path in tmp_path.glob("*.h5")} >= {"2-0.50.weights.h5", "3-0.25.weights.h5"}


# === The best epoch ===


@pytest.mark.parametrize(
    ("metric", "values", "epochs", "best"),
    [
        ("val_f1", [0.1, 0.5, 0.5, 0.4, 0.9], 4, 2),
        ("val_f1", [0.1, 0.5, 0.3, 0.6, 0.2, 0.1], 6, 4),
        ("val_f1", [float("nan"), 0.2, float("nan"), 0.3, 0.1], 5, 4),
        ("val_loss", [0.5, 0.3, 0.4, 0.3, 0.1], 4, 2),
    ],
)
def test_a_run_ends_and_restores_its_best_epoch(tmp_path, metric, values, epochs, best):
    model, record = small_model(), Record()
    name = metric.removeprefix("val_")
    score = scripted(values)
    best_epoch = BestEpoch(tmp_path, metric, patience=2)
    callbacks = [AnswerMetrics(lambda: {name: score()["f1"]}), best_epoch, record]
    model.fit(X, Y, epochs=len(values), verbose=0, callbacks=callbacks)
    assert len(record.weights) == epochs
    assert [path.name for path in tmp_path.iterdir()] == [f"best-{best}"]
    best_epoch.restore(model)
    assert_weights(model, record.weights[best - 1])


def test_without_patience_a_run_goes_to_its_end(tmp_path):
    model, record = small_model(), Record()
    best_epoch = BestEpoch(tmp_path, "val_f1")
    model.fit(X, Y, epochs=5, verbose=0, callbacks=[AnswerMetrics(scripted([3, 2, 1, 0, 0])), best_epoch, record])
    assert len(record.weights) == 5
    best_epoch.restore(model)
    assert_weights(model, record.weights[0])


def test_a_metric_that_never_is_a_number_restores_nothing(tmp_path):
    model, record = small_model(), Record()
    best_epoch = BestEpoch(tmp_path / "best", "val_f1", patience=1)
    callbacks = [AnswerMetrics(scripted([float("nan")] * 3)), best_epoch, record]
    model.fit(X, Y, epochs=3, verbose=0, callbacks=callbacks)
    best_epoch.restore(model)
    assert_weights(model, record.weights[2])
    assert not (tmp_path / "best").exists()


def test_one_of_several_machines_writes(tmp_path):
    best_epoch = BestEpoch(tmp_path / "best", "loss", writes=False)
    small_model().fit(X, Y, verbose=0, callbacks=[best_epoch])
    assert best_epoch.epoch == 1
    assert not (tmp_path / "best").exists()


def test_a_metric_that_is_not_there(tmp_path):
    with pytest.raises(
        InputError, match=r"no metric 'val_f1' to tell the best epoch by \(--best-metric\): there are loss"
    ):
        small_model().fit(X, Y, verbose=0, callbacks=[BestEpoch(tmp_path, "val_f1")])


def test_patience_of_no_epoch(tmp_path):
    with pytest.raises(InputError, match="patience must be at least 1 epoch. Received: 0"):
        BestEpoch(tmp_path, "val_f1", patience=0)


def test_damaged_weights_are_named(tmp_path):
    model = small_model()
    best_epoch = BestEpoch(tmp_path, "loss")
    model.fit(X, Y, verbose=0, callbacks=[best_epoch])
    path = tmp_path / "best-1" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"best-1/weights.safetensors does not fit this run or is damaged .* remove"):
        best_epoch.restore(model)


# === Stopped and taken up again ===

SCORES = [0.2, 0.6, 0.5, 0.7, 0.1, 0.3, 0.9]  # with a patience of two, six epochs of which the fourth is the best
TEXTS = ["good film", "bad film", "a very good plot", "the plot was dull", "fine", "not bad", "not good"] * 2
STEPS = 4  # of an epoch


class Stopping(Resuming):
    """A run that is stopped after a step, or just before it would keep an epoch."""

    def __init__(self, folder, at):
        super().__init__(folder, every_steps=1)
        self.at = at

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self.at == self.step:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        if self.at == f"end of {epoch + 1}":
            raise KeyboardInterrupt
        super().on_epoch_end(epoch, logs)


def run(tiny_folder, folder, stop_at=None):
    """What a fine-tuning run does, from its last checkpoint on; the classifier's weights at its end."""
    keras.utils.set_random_seed(0)
    model = kbert.BertTextClassifier.from_preset(str(tiny_folder), ["n", "p"], max_length=16)
    model.compile(learning_rate=0.01)
    resuming, best_epoch = Stopping(folder, stop_at), BestEpoch(folder, "val_f1", patience=2)
    resuming.restore(model)
    if not best_epoch.ends(len(resuming.history)):
        model.fit(
            TEXTS,
            [i % 2 for i in range(len(TEXTS))],
            batch_size=4,
            epochs=len(SCORES),
            initial_step=resuming.step,
            verbose=0,
            callbacks=[AnswerMetrics(lambda: {"f1": SCORES[len(resuming.history)]}), best_epoch, resuming],
        )
    assert [row["val_f1"] for row in resuming.history] == SCORES[:6]
    assert best_epoch.epoch == 4
    best_epoch.restore(model)
    return model.get_weights()


def test_a_run_stopped_anywhere_ends_with_the_same_weights(tiny_folder, tmp_path):
    expected = run(tiny_folder, tmp_path / "whole")
    # After the best epoch, and where it is kept but the state that belongs to it is not.
    for stop_at in (4 * STEPS + 1, 5 * STEPS + 1, "end of 4"):
        folder = tmp_path / str(stop_at)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_folder, folder, stop_at)
        for got, array in zip(run(tiny_folder, folder), expected, strict=True):
            np.testing.assert_allclose(got, array, atol=1e-6)
    # And with nothing left to do but restoring.
    for got, array in zip(run(tiny_folder, tmp_path / "whole"), expected, strict=True):
        np.testing.assert_array_equal(got, array)
