"""Runs that are stopped or killed, and go on: they end with the very weights of one that was left alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import safetensors
import safetensors.numpy
from pretraining.processes import start

from kbert import cli
from kbert.pretraining import run
from kbert.training import callbacks


def assert_same(out: Path, finished: Path) -> None:
    for name in ("model.safetensors", "history.csv", "metrics.json"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name
    assert not (out / "checkpoints").exists()
    assert not list(out.glob(".*"))


@pytest.mark.parametrize(
    "moments",
    [
        ("step 3", "state 12", "-"),
        pytest.param(("state 4", "step 7", "before 12", "clearing 14", "model", "-"), marks=pytest.mark.slow),
    ],
    ids=len,
)
def test_a_killed_run_ends_as_one_left_alone(moments, arguments, finished, tmp_path):
    for moment in moments:
        process = start(moment, arguments, tmp_path / "run")
        _, errors = process.communicate(timeout=600)
        assert process.returncode == (0 if moment == "-" else -signal.SIGKILL), (moment, errors)
    assert_same(tmp_path / "run", finished)


@pytest.fixture
def at_step(monkeypatch):
    """Does something after a step of the next run."""

    def arrange(step, action):
        class Acting(run.PretrainingState):
            def on_train_batch_end(self, batch, logs=None):
                super().on_train_batch_end(batch, logs)
                if self.step == step:
                    action()

        monkeypatch.setattr(run, "PretrainingState", Acting)

    return arrange


@pytest.mark.parametrize(
    ("number", "step", "stopped_at"),
    [(signal.SIGTERM, 3, 3), (signal.SIGINT, 8, 8), (signal.SIGTERM, 6, 6)],
    ids=["inside a round", "at a checkpoint", "at the end of a round"],
)
def test_a_signal_stops_a_run_which_goes_on(
    number, step, stopped_at, arguments, finished, at_step, tmp_path, capsys, monkeypatch
):
    before = signal.getsignal(number)
    command = [*arguments, "--out", str(tmp_path / "run")]
    at_step(step, lambda: os.kill(os.getpid(), number))
    assert cli.main(command) == 0
    assert json.loads(capsys.readouterr().out) == {"stopped_at_step": stopped_at, "steps": 14}
    assert signal.getsignal(number) == before
    assert not (tmp_path / "run" / "config.json").exists()
    monkeypatch.undo()
    assert cli.main(command) == 0
    assert_same(tmp_path / "run", finished)


def test_a_signal_after_the_last_step_is_too_late(arguments, finished, at_step, tmp_path):
    at_step(14, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.main([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert_same(tmp_path / "run", finished)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), safetensors.SafetensorError("code: 28")])
def test_a_full_disk_leaves_the_last_state(error, arguments, finished, tmp_path, capsys, monkeypatch):
    write = safetensors.numpy.save_file

    def full(arrays, path, **options):
        if ".step-8." in str(path):
            path.write_bytes(b"half")
            raise error
        write(arrays, path, **options)

    command = [*arguments, "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.safetensors.numpy, "save_file", full)
        assert cli.main(command) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"kbert: {tmp_path}/run/checkpoints/step-8 cannot be written (")
    assert "make room" in line
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["best-1", "step-4", "step-6"]
    assert cli.main(command) == 0
    assert_same(tmp_path / "run", finished)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(arguments, finished, at_step, tmp_path, capsys, monkeypatch):
    command = [*arguments, "--out", str(tmp_path / "run")]
    at_step(9, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.main(command) == 0
    states = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in states.glob("step-*")) == ["step-8", "step-9"]
    (states / "step-9" / "variables.safetensors").write_bytes(b"torn")
    monkeypatch.undo()
    assert cli.main(command) == 0
    assert_same(tmp_path / "run", finished)


def test_no_state_that_fits_is_an_error(arguments, at_step, tmp_path, capsys):
    command = [*arguments, "--out", str(tmp_path / "run")]
    at_step(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.main(command) == 0
    states = tmp_path / "run" / "checkpoints"
    shutil.rmtree(states / "step-4")
    (states / "step-5" / "state.json").write_text("{}")
    assert cli.main(command) == 2
    assert "step-5 does not fit this run or is damaged" in capsys.readouterr().err
