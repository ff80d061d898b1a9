"""Runs from files to a folder: what is written, going on after a stop, and settings that do not fit."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import safetensors.numpy

import kbert
from kbert.data.readers import read_texts
from kbert.errors import InputError
from kbert.tasks import finetuning
from kbert.tasks.finetuning import finetune
from kbert.tasks.plans import sorted_labels
from kbert.tasks.settings import ClassifySettings
from kbert.training.arithmetic import Arithmetic
from kbert.training.callbacks import Resuming


@pytest.fixture
def settings(tiny_folder, review_files, tmp_path):
    train, dev = map(str, review_files)
    return ClassifySettings(
        model=str(tiny_folder),
        train=train,
        dev=dev,
        out=str(tmp_path / "run"),
        epochs=3,
        learning_rate=0.01,
        batch_size=4,
        max_length=16,
        checkpoint_steps=2,
    )


def weights(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


def test_a_run_writes_a_whole_folder(settings, tmp_path):
    metrics = finetune(settings)
    out = tmp_path / "run"
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "config.json",
        "data.json",
        "history.csv",
        "metrics.json",
        "model.safetensors",
        "settings.toml",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert metrics["train_examples"] == 19
    assert metrics["labels"] == ["negative", "positive"]
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "5"), ("2", "10"), ("3", "15")]
    assert float(rows[-1]["val_accuracy"]) == metrics["dev"]["accuracy"]
    assert ClassifySettings.from_toml(out / "settings.toml") == settings
    card = (out / "README.md").read_text()
    assert f"| accuracy | {metrics['dev']['accuracy']:.4f} |" in card
    model = kbert.BertTextClassifier.from_preset(str(out))
    assert model.task.max_length == 16


def test_a_run_stopped_anywhere_ends_as_one_left_alone(settings, tmp_path, monkeypatch):
    finetune(settings)
    # Before the first checkpoint, inside an epoch, at the end of one (in its validation), and where a checkpoint falls
    # on the end of an epoch.
    for stop_at in (1, 3, 5, 10):
        stopped = dataclasses.replace(settings, out=str(tmp_path / f"stopped-{stop_at}"))

        class Stop(Resuming):
            def on_train_batch_end(self, batch, logs=None, stop_at=stop_at):
                super().on_train_batch_end(batch, logs)
                if self.step == stop_at == 3:
                    raise KeyboardInterrupt

            def on_test_begin(self, logs=None, stop_at=stop_at):
                if self.step == stop_at:
                    raise KeyboardInterrupt

            def on_train_batch_begin(self, batch, logs=None, stop_at=stop_at):
                if stop_at == 1 and self.step == 1:
                    raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(finetuning, "Resuming", Stop)
            with pytest.raises(KeyboardInterrupt):
                finetune(stopped)
        assert not (tmp_path / f"stopped-{stop_at}" / "config.json").exists()
        finetune(stopped)
        expected, got = weights(tmp_path / "run"), weights(tmp_path / f"stopped-{stop_at}")
        for name in expected:
            np.testing.assert_allclose(got[name], expected[name], atol=1e-6, err_msg=name)
        # The metrics of the epoch that was stopped cover the whole epoch.
        both = [(tmp_path / run / "history.csv").read_text().split() for run in ("run", f"stopped-{stop_at}")]
        for left, right in zip(*both, strict=True):
            if left[0].isdigit():
                np.testing.assert_allclose(*[np.array(r.split(","), float) for r in (left, right)], rtol=1e-4)


def test_accumulation_counts_optimizer_steps_and_goes_on_elsewhere(settings, tmp_path, monkeypatch):
    """Two batches of two a step; the devices are no part of what makes a run another one."""
    accumulated = dataclasses.replace(settings, batch_size=2, gradient_accumulation_steps=2)

    class Stop(Resuming):
        def on_train_batch_begin(self, batch, logs=None):
            if self.step == 7:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "Resuming", Stop)
        with pytest.raises(KeyboardInterrupt):
            finetune(accumulated)
    assert Resuming(tmp_path / "run" / "checkpoints", 2).find().name == "step-6"
    finetune(dataclasses.replace(accumulated, devices="cpu"))
    with (tmp_path / "run" / "history.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["5", "10", "15"]


@pytest.fixture
def trained(monkeypatch):
    """The models that runs have trained."""
    models = []
    train = finetuning._train
    monkeypatch.setattr(finetuning, "_train", lambda model, *rest: models.append(model) or train(model, *rest))
    return models


def test_precision_and_xla_are_kept(settings, trained, tmp_path):
    finetune(dataclasses.replace(settings, epochs=1))
    changed = dataclasses.replace(settings, out=str(tmp_path / "other"), epochs=1, precision="mixed_float16")
    finetune(dataclasses.replace(changed, batch_size=19, xla="on"))
    for model, policy, jit_compile in zip(trained, ("float32", "mixed_float16"), (False, True), strict=True):
        assert {layer.dtype_policy.name for layer in model._flatten_layers()} == {policy}
        assert (model.jit_compile, model.encoder.skip_padding) == (jit_compile, not jit_compile)
    assert {array.dtype.name for array in weights(tmp_path / "other").values()} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    finetune(dataclasses.replace(changed, batch_size=19, xla="off"))  # the finished run, given again
    with pytest.raises(InputError, match="--precision 'mixed_float16', now 'auto'"):
        finetune(dataclasses.replace(changed, batch_size=19, precision="auto"))


@pytest.mark.parametrize("policies", [("float32", "mixed_float16"), ("mixed_float16", "float32")])
def test_a_run_goes_on_where_the_devices_want_another_precision(settings, tmp_path, monkeypatch, trained, policies):
    class Stop(Resuming):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            raise KeyboardInterrupt

    for i, policy in enumerate(policies):
        with monkeypatch.context() as patch:
            patch.setattr(finetuning, "arithmetic_for", lambda *_, policy=policy: Arithmetic(policy, False))
            if i:
                finetune(settings)
            else:
                patch.setattr(finetuning, "Resuming", Stop)
                with pytest.raises(KeyboardInterrupt):
                    finetune(settings)
    assert [model.dtype_policy.name for model in trained] == list(policies)
    assert (tmp_path / "run" / "config.json").exists()
    assert trained[1].optimizer.iterations.numpy() == 15


def test_a_finished_run_is_not_repeated(settings, tmp_path, monkeypatch):
    metrics = finetune(settings)
    monkeypatch.setattr(finetuning, "_train", None)
    assert finetune(settings) == metrics


def test_a_folder_of_another_run_is_refused(settings):
    finetune(settings)
    with pytest.raises(InputError, match=r"other settings \(--learning-rate 0.01, now 0.02\): choose another --out"):
        finetune(dataclasses.replace(settings, learning_rate=0.02))


def test_changed_data_are_noticed(settings, tmp_path):
    dev = tmp_path / "dev.tsv"
    dev.write_text("text\tlabel\ngood\tpositive\n")
    finetune(dataclasses.replace(settings, dev=str(dev)))
    dev.write_text("text\tlabel\nbad\tnegative\n")
    with pytest.raises(InputError, match="a run on other data"):
        finetune(dataclasses.replace(settings, dev=str(dev)))


def test_a_wrong_start_leaves_the_folder_free(settings, tmp_path):
    with pytest.raises(InputError, match="max_length must be at most 29"):
        finetune(dataclasses.replace(settings, max_length=30))
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_stops(settings):
    with pytest.raises(InputError, match="lower --learning-rate"):
        finetune(dataclasses.replace(settings, learning_rate=1e30))


def test_a_folder_with_other_things_is_refused(settings, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        finetune(settings)


def test_a_damaged_checkpoint_is_named(settings, tmp_path, monkeypatch):
    class Stop(Resuming):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "Resuming", Stop)
        with pytest.raises(KeyboardInterrupt):
            finetune(settings)
    (path,) = (tmp_path / "run" / "checkpoints").glob("step-5/variables.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"step-5 does not fit this run or is damaged .* remove .*checkpoints"):
        finetune(settings)


def test_a_label_that_training_lacks_is_named(settings, tmp_path):
    dev = tmp_path / "dev.tsv"
    dev.write_text("text\tlabel\ngood\tpositive\nhm\tneutral\n")
    with pytest.raises(InputError, match=r"dev.tsv:3: label 'neutral' does not occur in the training file"):
        finetune(dataclasses.replace(settings, dev=str(dev)))
    assert not (tmp_path / "run").exists()


def test_one_label_makes_no_classifier(settings, tmp_path):
    train = tmp_path / "train.tsv"
    train.write_text("text\tlabel\ngood\tpositive\nfine\tpositive\n")
    with pytest.raises(InputError, match=r"train.tsv holds one label only \('positive'\)"):
        finetune(dataclasses.replace(settings, train=str(train)))


def test_whole_numbers_are_labels_in_their_own_order(settings, tmp_path):
    train = tmp_path / "train.tsv"
    train.write_text("text\tlabel\n" + "".join(f"good\t{label}\n" for label in (10, 9, 2, 10, -1)))
    assert sorted_labels(read_texts(train).labels, "train") == ["-1", "2", "9", "10"]


def test_tensorboard_logs(settings, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra `tensorboard`")
    finetune(dataclasses.replace(settings, tensorboard=True, epochs=1))
    assert list((tmp_path / "run" / "tensorboard").rglob("events.*"))
    shutil.rmtree(tmp_path / "run")


# === Settings ===


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "--model is missing"),
        ({"epochs": 0}, "--epochs must be more than 0"),
        ({"learning_rate": -1.0}, "--learning-rate must be more than 0"),
        ({"warmup_rate": 1.5}, r"--warmup-rate must be in \[0, 1\]"),
        ({"weight_decay": -0.1}, "--weight-decay must be 0 or more"),
        ({"weight_decay": float("nan")}, "--weight-decay must be a finite number"),
        ({"max_length": 2}, "--max-length must be 3 or more"),
        ({"devices": "tpu"}, "--devices must be cpu, cpu:N, gpu or gpu:N"),
        ({"gradient_accumulation_steps": 0}, "--gradient-accumulation-steps must be more than 0"),
        ({"precision": "half"}, "--precision must be one of auto, float32, mixed_bfloat16, mixed_float16"),
        ({"xla": "maybe"}, "--xla must be one of auto, on, off"),
        ({"xla": "on", "gradient_accumulation_steps": 2}, "--xla on and --gradient-accumulation-steps do not go"),
    ],
)
def test_settings_that_make_no_run(settings, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(settings, **changes)


def test_settings_survive_toml(settings, tmp_path):
    odd = dataclasses.replace(settings, text_column='a "quoted" 列', skip_bad_lines=True)
    (tmp_path / "a.toml").write_text(odd.to_toml(), encoding="utf8")
    assert ClassifySettings.from_toml(tmp_path / "a.toml") == odd


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = ", "is not TOML"),
        ("epoch = 3", "there is no setting 'epoch'; known are out"),
        ('epochs = "3"', "epochs must be of type int. Received: '3'"),
        ("epochs = true", "epochs must be of type int. Received: True"),
    ],
)
def test_a_bad_toml(tmp_path, text, message):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        ClassifySettings.from_toml(tmp_path / "a.toml")
