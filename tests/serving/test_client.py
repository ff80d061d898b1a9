"""The client, by gRPC and by REST: the same call gives the same arrays."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import closing

import numpy as np
import pytest

from kbert.errors import InputError
from kbert.serving.client import Client, rows


@pytest.fixture(params=["grpc", "rest"])
def client(request, server):
    target = f"127.0.0.1:{server.grpc_port}" if request.param == "grpc" else f"http://127.0.0.1:{server.rest_port}"
    with Client(target) as client:
        yield client


def test_predict(client):
    outputs = client.predict("toy", {"text": ["naïve", "漢字"], "weight": np.float32([0.5, -3])})
    assert {name: array.dtype for name, array in outputs.items()} == {
        "upper": object,
        "product": np.float32,
        "pieces": object,
    }
    assert outputs["upper"].tolist() == ["NAÏVE", "漢字"]
    assert outputs["product"].tolist() == [5.0, -30.0]
    assert outputs["pieces"].tolist() == [["naïve", "5", "naïve!"], ["漢字", "2", "漢字!"]]


def test_predict_a_version(client):
    outputs = client.predict("toy", {"text": ["a"], "weight": np.float32([3])}, version=10)
    assert outputs["product"].tolist() == [30.0]
    with pytest.raises(InputError, match="version 2 is not served.*10: 'AVAILABLE'"):
        client.predict("toy", {"text": ["a"], "weight": np.float32([3])}, version=2)


def test_a_single_output_keeps_its_name_and_dtype(client):
    outputs = client.predict("toy", {"text": ["abcd", "", "é"]}, signature_name="one_output")
    assert list(outputs) == ["length"]
    assert outputs["length"].dtype == np.int32
    assert outputs["length"].tolist() == [4, 0, 2]


def test_dtypes(client):
    values = np.float32([[2, 0, -1.5], [0.1, np.nan, 1]])
    outputs = client.predict("toy", {"values": values}, signature_name="types")
    assert outputs["whole"].dtype == np.int64
    assert outputs["positive"].dtype == np.bool_
    assert outputs["double"].dtype == np.float64
    np.testing.assert_array_equal(outputs["double"], values.astype(np.float64))
    inverse = np.float32(
        [[0.5, np.inf, np.float32(1) / np.float32(-1.5)], [np.float32(1) / np.float32(0.1), np.nan, 1]]
    )
    np.testing.assert_array_equal(outputs["inverse"], inverse)
    assert outputs["raw_bytes"][0].tolist() == [b"2.0", b"0.0", b"-1.5"]


def test_texts_arrive_as_they_are(client):
    texts = ["end\0", "", " \t\n", '😀 "quoted" \\', b"\x00\xff"]
    outputs = client.predict("toy", {"text": texts}, signature_name="echo")
    assert outputs["echo"].tolist() == [*texts[:4], "\x00\ufffd"]
    assert outputs["echo_bytes"].tolist() == [*(text.encode() for text in texts[:4]), b"\x00\xff"]
    outputs = client.predict("toy", {"text": np.array(["a", "漢"])}, signature_name="echo")
    assert outputs["echo"].tolist() == ["a", "漢"]


def test_no_texts_at_all(client):
    assert rows(client.predict("sentiment", {"text": []})) == []


def test_status_and_metadata(client):
    assert client.status("toy") == {10: "AVAILABLE"}
    assert client.metadata("sentiment") == {
        "serving_default": {
            "inputs": {"text": {"dtype": "string", "shape": [None]}},
            "outputs": {
                "label": {"dtype": "string", "shape": [None]},
                "score": {"dtype": "float32", "shape": [None]},
                "probabilities": {"dtype": "float32", "shape": [None, 2]},
            },
        }
    }
    assert client.metadata("toy")["half"]["outputs"] == {"half": {"dtype": "half", "shape": [None]}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "none"}, "'none'"),
        ({"version": 11}, "11"),
        ({"signature_name": "nope"}, "'nope'"),
        ({"inputs": {"texts": ["a"]}}, "'texts'"),
        ({"inputs": {"text": [1, 2]}}, "'text'"),
        ({"inputs": {"text": "a"}}, "list of texts"),
        ({"inputs": {"text": ["a", None]}}, "list of texts"),
        ({"inputs": {"text": ["\ud800"]}}, "UTF-8"),
        ({"inputs": {"text": [["a"], ["b", "c"]]}}, "list of texts"),
    ],
)
def test_wrong_requests(client, arguments, words):
    with pytest.raises(InputError, match=words) as error:
        client.predict(**{"name": "sentiment", "inputs": {"text": ["a"]}, **arguments})
    assert "\n" not in str(error.value)


def test_a_failure_inside_the_server_is_no_input_error(client):
    with pytest.raises(RuntimeError, match="/no/such/file"):
        client.predict("toy", {"path": ["/no/such/file"]}, signature_name="read")


def free_port():
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_no_server(scheme):
    target = f"{scheme}127.0.0.1:{free_port()}"
    with Client(target) as client, pytest.raises(ConnectionError, match="kbert serve") as error:
        client.status("toy")
    assert target in str(error.value)


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_server_that_says_nothing(scheme):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        target = f"{scheme}127.0.0.1:{listener.getsockname()[1]}"
        with Client(target, timeout=0.3) as client, pytest.raises(ConnectionError, match=target):
            client.status("toy")


def test_the_wrong_protocol(server):
    with Client(f"http://127.0.0.1:{server.grpc_port}") as client, pytest.raises(ConnectionError, match="REST port"):
        client.status("toy")
    with Client(f"127.0.0.1:{server.rest_port}", timeout=2) as client, pytest.raises(ConnectionError):
        client.status("toy")


@pytest.mark.parametrize("target", ["localhost", "ftp://localhost:8500", "http://", "http://localhost:port", ""])
def test_wrong_targets(target):
    with pytest.raises(InputError, match="HOST:PORT"):
        Client(target)


def test_rest_connection_closed_by_the_server_is_opened_anew():
    """A server that answers one request per connection: the second request meets a closed one."""
    answer = b'{"model_version_status": [{"version": "4", "state": "AVAILABLE"}]}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
    accepted = []

    def serve(listener):
        for _ in range(2):
            connection, _address = listener.accept()
            with connection:
                accepted.append(connection.recv(4096))
                connection.sendall(head + answer)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=5) as client:
            assert client.status("toy") == {4: "AVAILABLE"}
            assert client.status("toy") == {4: "AVAILABLE"}
        thread.join()
    assert [request.split(b" ")[1] for request in accepted] == [b"/v1/models/toy"] * 2


def test_rest_needs_no_tensorflow(server):
    program = (
        "import sys, json; from kbert.serving.client import Client, rows\n"
        f"outputs = Client('http://127.0.0.1:{server.rest_port}').predict('sentiment', {{'text': ['fine']}})\n"
        "print(json.dumps([rows(outputs), 'tensorflow' in sys.modules, 'grpc' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    row = {"label": "positive", "score": 0.75, "probabilities": [0.25, 0.75]}
    assert json.loads(done.stdout) == [[row], False, False]


def test_rows():
    outputs = {
        "label": np.array(["a", "b", ""], dtype=object),
        "score": np.float32([0.2, 0.1, np.inf]),
        "start": np.int32([[3, -1], [0, 5], [7, 8]]),
        "raw_bytes": np.array([b"\xff", b"", b"a"], dtype=object),
    }
    assert rows(outputs) == [
        {"label": "a", "score": 0.2, "start": [3, -1], "raw_bytes": {"b64": "/w=="}},
        {"label": "b", "score": 0.1, "start": [0, 5], "raw_bytes": {"b64": ""}},
        {"label": "", "score": np.inf, "start": [7, 8], "raw_bytes": {"b64": "YQ=="}},
    ]
    assert type(rows(outputs)[0]["start"][0]) is int
    for wrong in ({"a": np.zeros(2), "b": np.zeros(3)}, {"a": np.float32(1)}):
        with pytest.raises(InputError, match="first dimension"):
            rows(wrong)
