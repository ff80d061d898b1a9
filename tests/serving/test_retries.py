"""What the client does when a server is away, full, slow or not ready, against servers that are so on purpose."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import ThreadingHTTPServer

import grpc
import pytest
from serving.fakes import HANG_SECONDS, FakeRest, Script, add_services

from kbert.errors import InputError
from kbert.serving import retries
from kbert.serving.client import Client
from kbert.serving.retries import Deadline, Unavailable, retrying


@pytest.fixture
def grpc_server():
    servers = []

    def start(*entries):
        script = Script(*entries)
        server = grpc.server(ThreadPoolExecutor(4))
        add_services(script, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}", script

    start.servers = servers
    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.fixture
def rest_server():
    servers = []

    def start(*entries):
        server = ThreadingHTTPServer(("127.0.0.1", 0), FakeRest)
        server.script = Script(*entries)
        server.handle_error = lambda request, address: None  # a client that did not wait for "hang"
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", server.script

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=["grpc", "rest"])
def start(request):
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.01)


def test_a_server_that_is_unavailable_twice_is_asked_three_times(start):
    target, script = start("UNAVAILABLE", "UNAVAILABLE")
    with Client(target) as client:
        assert client.status("mood") == {3: "AVAILABLE"}
    assert len(script.requests) == 3


@pytest.mark.parametrize("entry", ["proxy", "lost"])
def test_rest_tries_again_what_a_proxy_or_a_dying_server_answers(rest_server, entry):
    target, script = rest_server(entry, entry)
    with Client(target) as client:
        assert client.status("mood") == {3: "AVAILABLE"}
    assert len(script.requests) == 3


@pytest.mark.parametrize("attempts", [1, 3])
def test_retries_run_out(start, attempts):
    target, script = start(*["UNAVAILABLE"] * 9)
    with Client(target, retries=attempts - 1) as client, pytest.raises(ConnectionError, match=target):
        client.status("mood")
    assert len(script.requests) == attempts


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ("RESOURCE_EXHAUSTED", RuntimeError),
        ("INTERNAL", RuntimeError),
        ("NOT_FOUND", InputError),
        ("DEADLINE_EXCEEDED", ConnectionError),
        ("hang", ConnectionError),
    ],
)
def test_nothing_else_is_tried_again(start, entry, error):
    target, script = start(entry)
    with Client(target, timeout=HANG_SECONDS / 4 if entry == "hang" else 10) as client, pytest.raises(error):
        client.status("mood")
    assert len(script.requests) == 1


def test_the_deadline_holds_for_all_attempts_together(start, monkeypatch):
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.1)
    target, script = start(*["UNAVAILABLE"] * 100)
    with Client(target, timeout=0.5, retries=99) as client:
        before = time.monotonic()
        with pytest.raises(ConnectionError):
            client.status("mood")
        assert time.monotonic() - before < 5  # all 99 pauses would take minutes
    assert 1 < len(script.requests) < 9


def test_the_attempt_after_a_failed_one_gets_what_is_left(start, monkeypatch):
    """The second answer takes less than the timeout, and more than what the first attempt and the pause left of it."""
    monkeypatch.setattr(retries, "FIRST_PAUSE", HANG_SECONDS / 2)
    target, script = start("UNAVAILABLE", "hang")
    with Client(target, timeout=1.1 * HANG_SECONDS) as client, pytest.raises(ConnectionError, match="gave no answer"):
        client.status("mood")
    assert len(script.requests) == 2


def test_a_server_that_starts_meanwhile_is_found():
    """The channel has to try the port again within the client's own pauses, not after gRPC's second."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = grpc.server(ThreadPoolExecutor(2))
    add_services(Script(), server)

    def later():
        time.sleep(0.3)
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()

    thread = threading.Thread(target=later)
    thread.start()
    with Client(f"127.0.0.1:{port}", timeout=10, retries=8) as client:
        assert client.status("mood") == {3: "AVAILABLE"}
    thread.join()
    server.stop(None).wait()


def test_requests_are_spread_over_servers_and_survive_the_end_of_one(grpc_server):
    """Two addresses, as a headless Service of Kubernetes gives them for one name."""
    (first, first_script), (second, second_script) = grpc_server(), grpc_server()
    with Client(f"ipv4:{first},{second}") as client:
        deadline = Deadline(10)  # until the channel is connected to both
        while not (first_script.requests and second_script.requests) and deadline.remaining() > 1:
            client.status("mood")
        before = len(first_script.requests), len(second_script.requests)
        for _ in range(10):
            client.status("mood")
        assert (len(first_script.requests) - before[0], len(second_script.requests) - before[1]) == (5, 5)
        grpc_server.servers[0].stop(None).wait()
        for _ in range(10):
            assert client.status("mood") == {3: "AVAILABLE"}
        assert len(second_script.requests) == before[1] + 15


def test_pauses_double_up_to_a_limit_and_are_spread(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.1)
    pauses = []
    monkeypatch.setattr(retries.time, "sleep", pauses.append)

    def fail():
        raise Unavailable("away")

    for _ in range(20):
        with pytest.raises(Unavailable):
            retrying(fail, 8, Deadline(1000))
    for number in range(8):
        nominal = min(2.0, 0.1 * 2**number)
        same = pauses[number::8]
        assert all(0.5 * nominal <= pause <= 1.5 * nominal for pause in same)
        assert max(same) - min(same) > 0.2 * nominal


def test_a_version_and_a_label_reach_the_server(grpc_server, rest_server):
    target, script = grpc_server()
    with Client(target) as client:
        client.predict("mood", {"text": ["a"]}, label="canary")
        client.predict("mood", {"text": ["a"]}, version=7)
        client.predict("mood", {"text": ["a"]})
        client.metadata("mood", label="stable")
    specs = [request.model_spec for request in script.requests]
    assert [spec.version_label for spec in specs] == ["canary", "", "", "stable"]
    assert [spec.HasField("version") and spec.version.value for spec in specs] == [False, 7, False, False]
    target, script = rest_server()
    with Client(target) as client:
        assert client.predict("mood", {}, label="can/ary")["score"].tolist() == [0.5]
        client.predict("mood", {}, version=7)
    assert script.requests == [
        "/v1/models/mood/labels/can%2Fary/metadata",
        "/v1/models/mood/labels/can%2Fary:predict",
        "/v1/models/mood/versions/7/metadata",
        "/v1/models/mood/versions/7:predict",
    ]
    with Client(target) as client, pytest.raises(InputError, match="not both"):
        client.predict("mood", {}, version=7, label="stable")


def test_rest_connections_are_kept_and_shared_by_threads(rest_server):
    target, script = rest_server()
    with Client(target) as client, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.status("mood"), range(40)))
        assert answers == [{3: "AVAILABLE"}] * 40
        assert 1 <= len(client._transport._idle) <= 4
    assert len(script.requests) == 40
    assert not client._transport._idle


def test_wait_until_ready(start, monkeypatch):
    monkeypatch.setattr("kbert.serving.client.READY_POLL_SECONDS", 0.02)
    target, script = start("UNAVAILABLE", "NOT_FOUND", "NOT_FOUND")
    with Client(target) as client:
        client.wait_until_ready("mood", timeout=10)
    assert len(script.requests) == 4


def test_waiting_ends_and_says_why(start, monkeypatch):
    monkeypatch.setattr("kbert.serving.client.READY_POLL_SECONDS", 0.02)
    target, script = start(*["NOT_FOUND"] * 1000)
    with Client(target) as client, pytest.raises(ConnectionError, match=r"'mood' is not ready after 1.0 s: .*purpose"):
        client.wait_until_ready("mood", timeout=1.0)
    assert 1 < len(script.requests) < 51
