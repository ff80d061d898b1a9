"""Two devices, or two machines, pretrain the model that one device does."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from pretraining.processes import start

from kbert import cli


@pytest.fixture(scope="module")
def command(arguments, files) -> list[str]:
    """Without dropout, whose masks are each device's own; in batches of so few rows that some devices have none."""
    flags = {"size": files / "steady.json", "lengths": 32, "batch-tokens": 48, "pairs": "sop", "clip-norm": 0.5}
    return [*arguments, *(str(word) for name, value in flags.items() for word in (f"--{name}", value))]


@pytest.fixture(scope="module")
def one_device(command, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("devices") / "one"
    assert cli.main([*command, "--out", str(folder)]) == 0
    return folder


def assert_same(out: Path, one_device: Path) -> None:
    got, expected = (safetensors.numpy.load_file(folder / "model.safetensors") for folder in (out, one_device))
    assert got.keys() == expected.keys()
    for name in expected:
        if not name.endswith("key.bias"):  # it moves no attention weight: its gradient is rounding
            np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-5, err_msg=name)
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (out, one_device)]
    assert metrics[0]["held_out"] == pytest.approx(metrics[1]["held_out"], rel=1e-4)


def test_two_devices(command, one_device, tmp_path):
    process = start("-", [*command, "--devices", "cpu:2"], tmp_path / "run")
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert_same(tmp_path / "run", one_device)


def test_two_machines_stop_together_and_go_on(command, one_device, tmp_path):
    """The second of them is told to stop after step 8; they ask each other every ten steps."""
    for moments, answer in ((("-", "told 8"), {"stopped_at_step": 10, "steps": 14}), (("-", "-"), None)):
        sockets = [socket.create_server(("localhost", 0)) for _ in moments]
        cluster = {"worker": [f"localhost:{server.getsockname()[1]}" for server in sockets]}
        for server in sockets:
            server.close()
        tasks = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(len(moments))]
        processes = [
            start(moment, command, tmp_path / "run", TF_CONFIG=json.dumps(task))
            for moment, task in zip(moments, tasks, strict=True)
        ]
        for process in processes:
            output, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors
            if answer is not None:
                assert json.loads(output) == answer
    assert_same(tmp_path / "run", one_device)
