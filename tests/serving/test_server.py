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
from kbert.serving.models import Model, ModelStore
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
        assert client.status("toy") == {10: "AVAILABLE", 2: "AVAILABLE"}
        assert client.predict("toy", WEIGHT)["product"].tolist() == [30.0]


def test_what_is_exported_during_the_run(root, tmp_path):
    shutil.copytree(root / "toy" / "2", tmp_path / "toy" / "2")
    with ModelServer(tmp_path, 0, 0) as server, Client(f"http://127.0.0.1:{server.rest_port}") as client:
        assert client.predict("toy", WEIGHT)["product"].tolist() == [6.0]
        shutil.copytree(root / "toy" / "10", tmp_path / "toy" / ".10")
        (tmp_path / "toy" / ".10").rename(tmp_path / "toy" / "10")
        assert client.predict("toy", WEIGHT)["product"].tolist() == [30.0]
        assert client.predict("toy", WEIGHT, version=2)["product"].tolist() == [6.0]
        (tmp_path / "toy" / "12").mkdir()
        (tmp_path / "toy" / "12" / "saved_model.pb").write_bytes(b"not a SavedModel")
        with pytest.raises(RuntimeError, match=r"answered 500.*does not load"):
            client.predict("toy", WEIGHT)


def test_a_version_is_loaded_once_and_dropped_when_a_newer_one_replaces_it(root, tmp_path):
    shutil.copytree(root / "toy" / "2", tmp_path / "toy" / "2")
    store = ModelStore(tmp_path)
    (second,) = store.load_latest()
    assert store.get("toy") is second
    assert store.get("toy", 2) is second
    shutil.copytree(root / "toy" / "10", tmp_path / "toy" / "10")
    tenth = store.get("toy")
    assert tenth.version == 10
    assert store.get("toy", 2) is not second
    assert store.get("toy") is tenth


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
    caplog.set_level(logging.INFO, logger="kbert.serving")
    with ModelServer(root / "sentiment", 0, 0) as server:
        assert len(caplog.messages) == 1
        assert "development server" in caplog.messages[0]
        assert "sentiment version 1" in caplog.messages[0]
        caplog.clear()
        with Client(f"127.0.0.1:{server.grpc_port}") as client:
            client.status("sentiment")
        with Client(f"http://127.0.0.1:{server.rest_port}") as client, pytest.raises(InputError):
            client.status("nope")
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("gRPC GetModelStatus 'sentiment' OK")
    assert caplog.messages[1].startswith("REST GET '/v1/models/nope' NOT_FOUND (there is no model 'nope'")
