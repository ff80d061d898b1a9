"""Starting and stopping the local server, and what it serves from which folder."""

from __future__ import annotations

import logging
import shutil
import socket
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from kbert.errors import InputError
from kbert.serving.client import Client
from kbert.serving.models import Model
from kbert.serving.server import ModelServer

WEIGHT = {"text": ["a"], "weight": np.float32([3])}


def is_free(port):
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("name", ["grpc", "rest"])
def test_port_in_use_by_another_server(root, server, name):
    ports = {"grpc_port": 0, "rest_port": 0, f"{name}_port": getattr(server, f"{name}_port")}
    second = ModelServer(root, **ports)
    with pytest.raises(InputError, match=f"{ports[f'{name}_port']}.*another {name} port"):
        second.start()
    if name == "grpc":
        assert is_free(second.rest_port)  # what it had taken before it failed
    with Client(f"127.0.0.1:{server.grpc_port}") as client:
        assert client.status("sentiment") == {1: "AVAILABLE"}


@pytest.mark.parametrize("port", [-1, 65536])
def test_ports_that_are_none(root, port):
    with pytest.raises(InputError, match=f"`rest_port`.*{port}"):
        ModelServer(root, rest_port=port)


def test_roots_without_a_model(root, tmp_path):
    for folder, mend in (
        (tmp_path, "export a model"),
        (tmp_path / "missing", "export a model"),
        (root / "toy" / "2", "parent folder"),
    ):
        with pytest.raises(InputError, match=mend):
            ModelServer(folder)


def test_a_damaged_model_is_named(root, tmp_path):
    shutil.copytree(root / "sentiment", tmp_path / "sentiment")
    (tmp_path / "sentiment" / "1" / "saved_model.pb").write_bytes(b"not a SavedModel")
    server = ModelServer(tmp_path, 0, 0)
    with pytest.raises(InputError, match=f"{tmp_path / 'sentiment' / '1'} does not load") as error:
        server.start()
    assert "\n" not in str(error.value)
    assert is_free(server.grpc_port)
    assert is_free(server.rest_port)


def test_a_model_folder_as_root(root, monkeypatch):
    monkeypatch.chdir(root / "toy")
    with ModelServer(Path(), 0, 0) as server, Client(f"127.0.0.1:{server.grpc_port}") as client:
        assert client.status("toy") == {10: "AVAILABLE"}
        assert client.predict("toy", WEIGHT)["product"].tolist() == [30.0]


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_stop_answers_what_is_in_flight(root, monkeypatch, scheme):
    entered, go_on = threading.Event(), threading.Event()
    run = Model.predict

    def slow(*arguments):
        entered.set()
        assert go_on.wait(10)
        return run(*arguments)

    monkeypatch.setattr(Model, "predict", slow)
    answers = []
    server = ModelServer(root / "sentiment", 0, 0)
    server.start()
    target = f"{scheme}127.0.0.1:{server.rest_port if scheme else server.grpc_port}"
    with Client(target) as client:
        asking = threading.Thread(target=lambda: answers.append(client.predict("sentiment", {"text": ["fine"]})))
        asking.start()
        assert entered.wait(10)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        stopping.join(0.2)
        assert stopping.is_alive()
        go_on.set()
        stopping.join(10)
        asking.join(10)
        assert not stopping.is_alive()
    assert answers[0]["label"].tolist() == ["positive"]
    with Client(target) as client, pytest.raises(ConnectionError):
        client.status("sentiment")
    server.wait()  # returns, because the server has stopped
    server.stop()  # and once more does no harm


def test_stop_does_not_wait_for_idle_connections(root):
    server = ModelServer(root / "sentiment", 0, 0)
    server.start()
    with Client(f"http://127.0.0.1:{server.rest_port}") as client:
        client.status("sentiment")
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        stopping.join(5)
        assert not stopping.is_alive()


def test_one_log_line_per_request(root, caplog):
    caplog.set_level(logging.DEBUG, logger="kbert.serving")
    with ModelServer(root / "sentiment", 0, 0) as server:
        available, running = caplog.messages
        assert available == "model 'sentiment' version 1 is available"
        assert "development server" in running
        assert "sentiment version 1" in running
        caplog.clear()
        with Client(f"127.0.0.1:{server.grpc_port}") as client:
            client.status("sentiment")
        with Client(f"http://127.0.0.1:{server.rest_port}") as client, pytest.raises(InputError):
            client.status("nope")
    first, second = caplog.messages[:2]
    assert first.startswith("GRPC GetModelStatus 'sentiment' OK")
    assert second.startswith(
        "REST GetModelStatus GET '/v1/models/nope' NOT_FOUND (model 'nope': there is no such model"
    )
