"""How servers hold under load: many clients at once, each with one text after the other."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kbert.bench.entries import Entry, chosen
from kbert.bench.timing import Measurement, in_turn, ranked
from kbert.bench.worker import start
from kbert.errors import InputError

PATH = "/v1/models/bench:predict"
_EXPORTED = "served"  # in the classifier's folder
_TIMEOUT = 60.0  # seconds for one request
_WARM_UP = 2.0  # seconds at most of the round that does not count
Ask = Callable[[str], object]
Connect = Callable[[], AbstractContextManager[Ask]]


@dataclass(frozen=True)
class Load:
    """What a while under load came to."""

    seconds: float
    """Until the last answer had come."""
    latencies: list[float]
    """Seconds to each answer."""
    failures: int
    """Requests without an answer."""


@dataclass(frozen=True)
class _Asked:
    """How a contender is asked."""

    connect: Connect
    clients: int
    """That ask at the same time."""
    texts: int = 1
    """That each of them asks about at once."""


def compare_servers(
    texts: Sequence[str],
    folder: str,
    clients: int,
    seconds: float,
    rounds: int,
    threads: int,
    only: Sequence[str] = (),
) -> list[Measurement]:
    """Put servers of one classifier under load in turn: kbert's local one, and a plain one of its peers if installed.

    Args:
        texts: What is asked about; a request has one of them.
        folder: The classifier; its export is written into it.
        clients: That ask at the same time, each on a connection of its own.
        seconds: Of load for each server, in all rounds together.
        rounds: Turns that the seconds are cut into.
        threads: That each server's libraries may use.
        only: Names of contenders; none takes all.

    Returns:
        Texts per second; `details` has the latencies "p50_ms" and "p99_ms" of requests over all rounds, "requests" and
        "failures".
    """
    import kbert
    from kbert.export.saved_model import export_saved_model

    entries = chosen([entry for entry, _ in _SERVERS], only)
    model = kbert.BertTextClassifier.from_preset(folder)
    export_saved_model(model, Path(folder, _EXPORTED, "bench"), verify=False)
    with ExitStack() as stack:
        asked = {
            entry.name: connection(stack, entry.function, texts, folder, clients, threads)
            for entry, connection in _SERVERS
            if entry in entries
        }
        loads: dict[str, list[Load]] = {name: [] for name in asked}
        for counts, name in in_turn(list(asked), rounds, "asking"):
            turn = seconds / rounds if counts else min(seconds / rounds, _WARM_UP)
            load = put_under_load(asked[name].connect, texts, asked[name].clients, turn)
            if counts:
                loads[name].append(load)
    details = {name: _details(name, turns) for name, turns in loads.items()}
    rates = {
        name: [asked[name].texts * len(load.latencies) / load.seconds for load in turns]
        for name, turns in loads.items()
    }
    measured = ranked(rates, "texts/s", {entry.name: entry.note for entry in entries})
    return [replace(m, details=details[m.name]) for m in measured]


def put_under_load(connect: Connect, texts: Sequence[str], clients: int, seconds: float) -> Load:
    """Let clients ask at the same time, each one text after the other; what has been asked in time is waited for.

    Args:
        connect: Gives, as long as the block lasts, what a client asks with.
        texts: The clients begin at different ones of them.
        clients: How many.
        seconds: When to ask no more.
    """
    begin = time.perf_counter()
    latencies: list[list[float]] = [[] for _ in range(clients)]
    failures = [0] * clients

    def client(number: int) -> None:
        with connect() as ask:
            for text in itertools.islice(itertools.cycle(texts), number * len(texts) // clients, None):
                start = time.perf_counter()
                if start - begin >= seconds:
                    return
                try:
                    ask(text)
                except (OSError, http.client.HTTPException, ValueError, RuntimeError):
                    failures[number] += 1
                else:
                    latencies[number].append(time.perf_counter() - start)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return Load(time.perf_counter() - begin, list(itertools.chain(*latencies)), sum(failures))


def _details(name: str, loads: Sequence[Load]) -> dict[str, float]:
    latencies = np.array([latency for load in loads for latency in load.latencies])
    if not len(latencies):
        raise InputError(f"{name} has answered no request in time: give it more --seconds, or fewer --clients")
    p50, p99 = 1000 * np.percentile(latencies, [50, 99])
    failures = sum(load.failures for load in loads)
    return {"p50_ms": float(p50), "p99_ms": float(p99), "requests": len(latencies) + failures, "failures": failures}


# === How a contender is asked ===


def _by_rest(stack: ExitStack, function: str, texts: Sequence[str], folder: str, clients: int, threads: int) -> _Asked:
    """A server in a worker, asked over connections that are kept; every server gets the same bytes."""
    port = _free_port()
    start(stack, function, {"folder": folder, "port": port}, threads)

    @contextmanager
    def connect() -> Iterator[Ask]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)

        def ask(text: str) -> None:
            try:
                connection.request(
                    "POST", PATH, json.dumps({"instances": [text]}), {"Content-Type": "application/json"}
                )
                response = connection.getresponse()
                answer = json.loads(response.read())
            except BaseException:
                connection.close()  # opened anew by the next request
                raise
            if response.status != http.HTTPStatus.OK or len(answer["predictions"]) != 1:
                raise ConnectionError(f"{response.status}: {answer}")

        with closing(connection):
            yield ask

    return _Asked(connect, clients)


def _by_grpc(stack: ExitStack, function: str, texts: Sequence[str], folder: str, clients: int, threads: int) -> _Asked:
    """A server in a worker, asked by kbert's client."""
    from kbert.serving.client import Client

    port = _free_port()
    start(stack, function, {"folder": folder, "port": port}, threads)

    @contextmanager
    def connect() -> Iterator[Ask]:
        with Client(f"127.0.0.1:{port}", _TIMEOUT) as client:
            yield lambda text: client.predict("bench", {"text": [text]})

    return _Asked(connect, clients)


def _by_hand(stack: ExitStack, function: str, texts: Sequence[str], folder: str, clients: int, threads: int) -> _Asked:
    """A worker that goes through the texts by itself, as many at once as there are clients of the others."""
    worker = start(stack, function, {"folder": folder, "texts": list(texts), "batch_size": clients}, threads)
    return _Asked(lambda: nullcontext(lambda text: worker.run()), 1, clients)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


_SERVERS = (
    (
        Entry(
            "FastAPI transformers",
            "kbert.bench.peers:fastapi_server",
            {},
            ("fastapi", "uvicorn", "torch", "transformers"),
            "REST",
        ),
        _by_rest,
    ),
    (Entry("kbert serve REST", "kbert.bench.serving:kbert_rest_server"), _by_rest),
    (Entry("kbert serve gRPC", "kbert.bench.serving:kbert_grpc_server"), _by_grpc),
    (
        Entry("kbert predict", "kbert.bench.serving:kbert_answer", {}, (), "no server, all clients' texts at once"),
        _by_hand,
    ),
)


# === In a worker ===


def kbert_rest_server(folder: str, port: int, threads: int) -> Callable[[], Any]:
    """kbert's local server of the exported classifier; the work is done when it is asked."""
    return _serve(folder, grpc_port=0, rest_port=port)


def kbert_grpc_server(folder: str, port: int, threads: int) -> Callable[[], Any]:
    """As `kbert_rest_server`."""
    return _serve(folder, grpc_port=port, rest_port=0)


def _serve(folder: str, grpc_port: int, rest_port: int) -> Callable[[], Any]:
    from kbert.serving.server import ModelServer

    server = ModelServer(Path(folder, _EXPORTED), grpc_port, rest_port)
    server.start()
    return lambda: server


def kbert_answer(folder: str, texts: Sequence[str], batch_size: int, threads: int) -> Callable[[], Any]:
    """kbert's classifier without a server: each run answers the next texts, as they come."""
    import kbert

    model = kbert.BertTextClassifier.from_preset(folder)
    turns = itertools.cycle(texts)
    return lambda: model.predict(list(itertools.islice(turns, batch_size)), batch_size=batch_size)
