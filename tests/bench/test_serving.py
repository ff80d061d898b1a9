"""Servers under load: what is counted, and that kbert's answer."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
import time

import pytest
from bench.at_once import start_here

from kbert.bench import serving
from kbert.bench.models import classifier_folder
from kbert.bench.serving import compare_servers, put_under_load
from kbert.errors import InputError

TEXTS = ["good film", "the plot was not very dull", "我爱电影"]


def test_clients_ask_at_the_same_time():
    """Four clients, each through the texts from another one on."""
    asked, open_now = {}, []

    @contextlib.contextmanager
    def connect():
        open_now.append(1)
        asked[threading.get_ident()] = texts = []

        def ask(text):
            texts.append(text)
            time.sleep(0.02)

        yield ask
        open_now.pop()

    load = put_under_load(connect, "abcdefgh", clients=4, seconds=0.3)
    assert open_now == []
    assert sorted(texts[0] for texts in asked.values()) == ["a", "c", "e", "g"]
    for texts in asked.values():
        assert "".join(texts) in "abcdefgh" * 9
    assert len(load.latencies) == sum(map(len, asked.values()))
    assert load.failures == 0
    assert 4 <= len(load.latencies) <= 4 * 15
    assert min(load.latencies) >= 0.02
    assert 0.3 <= load.seconds < 2


def test_failures_are_counted_and_no_answers():
    def ask(text):
        time.sleep(0.01)
        if text == "bad":
            raise ConnectionError

    load = put_under_load(lambda: contextlib.nullcontext(ask), ["good", "bad"], clients=1, seconds=0.2)
    assert load.failures > 0
    assert load.failures <= len(load.latencies) <= load.failures + 1


def test_a_mistake_is_no_failure():
    with pytest.raises(KeyError):
        put_under_load(lambda: contextlib.nullcontext({}.__getitem__), ["a"], clients=2, seconds=1)


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(serving, "start", start_here)


def test_every_contender_answers(tiny_folder, at_once):
    only = ["kbert serve REST", "kbert serve gRPC", "kbert predict"]
    if all(map(importlib.util.find_spec, ("fastapi", "uvicorn", "torch", "transformers"))):
        only = ["FastAPI transformers", *only]
    with classifier_folder(str(tiny_folder)) as folder:
        found = compare_servers(TEXTS, folder, clients=3, seconds=1, rounds=2, threads=1, only=only)
    assert [m.name for m in found] == only
    for m in found:
        assert m.unit == "texts/s"
        assert m.best >= m.median > 0
        assert m.details["failures"] == 0
        assert m.details["requests"] >= 2
        assert 0 < m.details["p50_ms"] <= m.details["p99_ms"]


def test_a_server_that_never_answers_is_named(tiny_folder, at_once, monkeypatch):
    monkeypatch.setattr(serving, "PATH", "/v1/models/nothing:predict")
    with (
        classifier_folder(str(tiny_folder)) as folder,
        pytest.raises(InputError, match="kbert serve REST has answered no request in time"),
    ):
        compare_servers(TEXTS, folder, clients=1, seconds=1, rounds=1, threads=1, only=["kbert serve REST"])
