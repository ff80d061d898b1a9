"""What the server does when it is asked too much, too late, too slowly; and how it stops."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from kbert.errors import InputError
from kbert.serving.client import Client
from kbert.serving.models import Model
from kbert.serving.options import ServerOptions
from kbert.serving.server import ModelServer

BODY = json.dumps({"instances": ["fine"]}).encode()


@pytest.fixture
def held(monkeypatch):
    """Holds every computation until the gate is opened; `calls` has the texts of each."""

    class Held:
        def __init__(self):
            self.gate = threading.Event()
            self.calls = []

        def wait_for(self, calls):
            end = time.monotonic() + 10
            while len(self.calls) < calls:
                assert time.monotonic() < end
                time.sleep(0.005)

    run, held = Model.predict, Held()

    def slow(model, name, inputs):
        held.calls.append(inputs["text"].tolist())
        assert held.gate.wait(20)
        return run(model, name, inputs)

    monkeypatch.setattr(Model, "predict", slow)
    yield held
    held.gate.set()


@contextmanager
def running(root, **options):
    with ModelServer(root / "sentiment", 0, 0, options=ServerOptions(**options)) as server:
        yield server


def post(server, text="fine", timeout=10):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=timeout)
    try:
        connection.request("POST", "/v1/models/sentiment:predict", json.dumps({"instances": [text]}).encode())
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@contextmanager
def stub_of(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def request_of(*texts):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "sentiment"
    request.inputs["text"].CopyFrom(tf.make_tensor_proto(list(texts), tf.string))
    return request


def eventually(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def waiting_rows(server):
    (served,) = server._store._models.values()
    return served.answering._loaded.batcher._queued_rows


def test_requests_of_both_protocols_are_computed_together(root, held):
    with running(root) as server, stub_of(server) as stub, ThreadPoolExecutor(9) as pool:
        first = stub.Predict.future(request_of("held"))
        held.wait_for(1)
        by_grpc = [stub.Predict.future(request_of(f"g{i}", "fine")) for i in range(4)]
        by_rest = [pool.submit(post, server, f"r{i}") for i in range(4)]
        eventually(lambda: waiting_rows(server) == 12)
        held.gate.set()
        for answer in by_grpc:
            assert list(answer.result().outputs["label"].string_val) == [b"negative", b"positive"]
            assert answer.result().outputs["probabilities"].tensor_shape.dim[0].size == 2
        for answer in by_rest:
            assert answer.result() == (
                200,
                {"predictions": [{"label": "negative", "score": 0.75, "probabilities": [0.75, 0.25]}]},
            )
        first.result()
    assert len(held.calls) == 2
    assert sorted(held.calls[1]) == sorted(
        [*(f"g{i}".encode() for i in range(4)), *(f"r{i}".encode() for i in range(4)), *[b"fine"] * 4]
    )


def test_forty_clients_are_computed_together_however_few_the_threads_were(root, held):
    """Each waits in a thread of the server's until its batch is computed: none may keep another from joining."""
    with running(root, max_batch_size=64, max_queue=40) as server, stub_of(server) as stub:
        first = stub.Predict.future(request_of("held"))
        held.wait_for(1)
        others = [stub.Predict.future(request_of(f"{i}")) for i in range(40)]
        eventually(lambda: waiting_rows(server) == 40)
        held.gate.set()
        for answer in (first, *others):
            answer.result()
    assert [len(texts) for texts in held.calls] == [1, 40]


def test_a_full_queue_is_said_at_once_by_both_protocols(root, held):
    with running(root, max_batch_size=2, max_queue=2) as server, stub_of(server) as stub:
        taken = [stub.Predict.future(request_of("a"))]
        held.wait_for(1)
        taken.append(stub.Predict.future(request_of("b", "c")))
        eventually(lambda: waiting_rows(server) == 2)
        start = time.monotonic()
        with pytest.raises(grpc.RpcError) as error:
            stub.Predict(request_of("d"), timeout=10)
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        status, answer = post(server)
        assert (status, list(answer)) == (429, ["error"])
        assert "2 rows wait already" in answer["error"]
        assert time.monotonic() - start < 2
        held.gate.set()
        assert [len(answer.result().outputs["label"].string_val) for answer in taken] == [1, 2]


def test_what_is_over_time_or_cancelled_is_not_computed(root, held):
    with running(root, request_timeout=0.3) as server, stub_of(server) as stub:
        first = stub.Predict.future(request_of("held"))
        held.wait_for(1)
        gone = stub.Predict.future(request_of("gone"))
        eventually(lambda: waiting_rows(server) == 1)
        gone.cancel()
        with pytest.raises(grpc.RpcError) as error:
            stub.Predict(request_of("late"), timeout=0.2)
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        status, answer = post(server, "slow")
        assert (status, list(answer)) == (504, ["error"])
        last = stub.Predict.future(request_of("last"))
        time.sleep(0.2)
        held.gate.set()
        first.result()
        last.result()
    assert held.calls == [[b"held"], [b"last"]]


def test_more_requests_at_once_than_are_held(root, held):
    with running(root, max_batch_size=1, max_queue=2, max_connections=3) as server, stub_of(server) as stub:
        taken = [stub.Predict.future(request_of("held"))]
        held.wait_for(1)
        taken += [stub.Predict.future(request_of(f"{i}")) for i in range(2)]
        eventually(lambda: waiting_rows(server) == 2)
        with pytest.raises(grpc.RpcError) as error:
            stub.Predict(request_of("d"), timeout=10)
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        connections = [socket.create_connection(("127.0.0.1", server.rest_port)) for _ in range(3)]
        answers = []

        def is_refused_at_the_door():
            with suppress(ConnectionError):  # the server may close before the request has been sent
                answers.append(post(server))
            return answers and "connections" in answers[-1][1]["error"]  # until then the queue refuses

        eventually(is_refused_at_the_door)
        assert {(status, *answer) for status, answer in answers} == {(429, "error")}
        for connection in connections:
            connection.close()
        held.gate.set()
        for future in taken:
            future.result()
        eventually(lambda: post(server)[0] == 200)


def receive(connection):
    received = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            received += part
    return received


def test_slow_clients_do_not_hold_a_connection_for_long(root):
    """A byte now and then keeps neither the head nor the body of a request alive; nor is an answer kept for ever."""
    with running(root, read_timeout=0.5, idle_timeout=0.5) as server:
        address = ("127.0.0.1", server.rest_port)
        heads = {
            b"": b"",
            b"POST /v1/models/senti": b"",
            b"POST /v1/models/sentiment:predict HTTP/1.1\r\nA: b\r\n": b"",
            b"POST /v1/models/sentiment:predict HTTP/1.1\r\nContent-Length: 50\r\n\r\n{": b"HTTP/1.1 408",
        }
        for head, answer in heads.items():
            start = time.monotonic()
            with socket.create_connection(address, timeout=5) as connection:
                connection.sendall(head)
                with suppress(OSError):
                    while head and time.monotonic() - start < 0.4:
                        connection.sendall(b"x")
                        time.sleep(0.1)
                assert receive(connection).startswith(answer)
            assert 0.3 < time.monotonic() - start < 3
        assert post(server)[0] == 200


def test_bodies_that_are_cut_off(root):
    with running(root) as server:
        address = ("127.0.0.1", server.rest_port)
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(b"POST /v1/models/sentiment:predict HTTP/1.1\r\nContent-Length: 50\r\n\r\n{")
            connection.shutdown(socket.SHUT_WR)
            answer = receive(connection)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"1 of 50 bytes" in answer


def test_readiness(root):
    with running(root) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=10)
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())) == (200, {"ready": True})
        connection.close()


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_the_grace_time_ends(root, held, scheme):
    server = ModelServer(root / "sentiment", 0, 0, options=ServerOptions(grace_seconds=0.3))
    server.start()
    with Client(f"{scheme}127.0.0.1:{server.rest_port if scheme else server.grpc_port}") as client:
        pool = ThreadPoolExecutor(1)
        asking = pool.submit(client.predict, "sentiment", {"text": ["fine"]})
        held.wait_for(1)
        start = time.monotonic()
        server.stop()
        assert 0.2 < time.monotonic() - start < 5
        held.gate.set()
        with suppress(ConnectionError, RuntimeError, InputError):
            asking.result(10)
        pool.shutdown()


PROGRAM = """
import sys, threading, time
from kbert.commands.terminal import load_tensorflow
load_tensorflow()
from kbert.serving import models
run = models.Model.predict
def slow(model, name, inputs):
    print("computing", flush=True)
    time.sleep(1)
    return run(model, name, inputs)
models.Model.predict = slow
from kbert.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_sigterm_lets_a_request_in_flight_finish(root):
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    arguments = ["serve", str(root / "sentiment"), f"--grpc-port={ports[0]}", f"--rest-port={ports[1]}"]
    arguments += ["--log-format=json", "--log-requests", "--max-batch-size=4", "--max-queue=9", "--grace-seconds=20"]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stdout is not None
            notes = []
            while not notes or "development server" not in notes[-1]:
                notes.append(process.stderr.readline())
                assert notes[-1], notes
            with Client(f"127.0.0.1:{ports[0]}") as client, ThreadPoolExecutor(1) as pool:
                asking = pool.submit(client.predict, "sentiment", {"text": ["fine", "dull"]})
                assert process.stdout.readline() == "computing\n"
                process.send_signal(signal.SIGTERM)
                assert asking.result(15)["label"].tolist() == ["positive", "negative"]
            assert process.wait(15) == 0
            notes += process.stderr.readlines()
        finally:
            process.kill()
    lines = [json.loads(line) for line in notes]
    assert any("is unloaded" in line["message"] for line in lines)
    (line,) = [line for line in lines if line.get("method") == "Predict"]
    assert line["ms"] >= 1000
    del line["ms"], line["time"], line["message"]
    assert line == {
        "level": "DEBUG",
        "logger": "kbert.serving",
        "entrypoint": "GRPC",
        "method": "Predict",
        "model": "sentiment",
        "version": 1,
        "rows": 2,
        "status": "OK",
    }
