"""Requests that are wrong in every way we can think of: what the local server answers, and what is left of it.

    python tests/benchmarks/serving_robustness.py [--requests 10000] [--seed 0]

A server of its own process gets them on both ports. Each kind of request has the statuses that TF Serving gives it; any
other is an error. At the end the server must still answer, and its memory must not have grown by more than 5 % after
the first tenth. It runs with MALLOC_ARENA_MAX=2, as a server that gets texts of 20 MB should: glibc keeps what such a
text leaves behind in an arena for each of many threads, which is no leak, but looks like one.
Prints one JSON object: requests, answers by kind and status, memory before and after in MB.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

PREDICT = "/tensorflow.serving.PredictionService/Predict"
PATH = "/v1/models/toy:predict"
LARGE = 20 * 2**20
TIMEOUT = 60


@dataclass(frozen=True)
class Ports:
    """Where the server listens, with the model "toy" of tests/serving/conftest.py."""

    grpc: int
    rest: int
    channel: grpc.Channel


@dataclass(frozen=True)
class Kind:
    """A way in which a request is wrong."""

    name: str
    ask: Callable[[Ports, random.Random], str]
    """Returns the status."""
    expected: Sequence[str]
    weight: float = 1.0
    """How often it comes, beside the others."""


def ports_of(grpc_port: int, rest_port: int) -> Ports:
    """The ports, with a channel that takes any answer; its owner closes it."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    return Ports(grpc_port, rest_port, grpc.insecure_channel(f"127.0.0.1:{grpc_port}", options))


# === REST ===


def exchange(ports: Ports, data: bytes, cut: bool = False) -> str:
    """Send bytes to the REST port, and return the status, "closed" or "left"."""
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", ports.rest), timeout=TIMEOUT) as connection:
        connection.sendall(data)
        if cut:
            # Gone without a word: what is on its way is answered with a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return "left"
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(2**20):
            parts.append(part)
        received = b"".join(parts)
        if received.startswith(b"HTTP/1."):
            return received.split(b" ", 2)[1].decode()
    return "closed"


def post(body: bytes | dict[str, Any], path: str = PATH, cut: bool = False) -> Callable[[Ports, random.Random], str]:
    """POST a body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    data = head.encode() + content

    def ask(ports: Ports, chance: random.Random) -> str:
        return exchange(ports, data[: chance.randrange(1, len(data))] if cut else data, cut)

    return ask


def random_bytes(ports: Ports, chance: random.Random) -> str:
    return exchange(ports, chance.randbytes(chance.randrange(1, 3000)))


def random_body(ports: Ports, chance: random.Random) -> str:
    return post(chance.randbytes(chance.randrange(0, 3000)))(ports, chance)


def broken_json(ports: Ports, chance: random.Random) -> str:
    """A good body with some bytes changed."""
    body = bytearray(json.dumps(GOOD).encode())
    for _ in range(chance.randrange(1, 5)):
        body[chance.randrange(len(body))] = chance.randrange(256)
    return post(bytes(body))(ports, chance)


GOOD = {"inputs": {"text": ["a", "b"], "weight": [1, 2]}}
REST_KINDS = [
    Kind("REST random bytes", random_bytes, ["400", "404", "414", "431", "501", "505", "closed"], 3),
    Kind("REST random body", random_body, ["400"], 3),
    Kind("REST broken JSON", broken_json, ["400", "200"], 3),  # a changed text is a good one
    Kind("REST cut off", post(GOOD, cut=True), ["left", "closed"], 3),
    Kind("REST UTF-8", post(b'{"inputs": {"text": ["\xff\xfe"], "weight": [1]}}'), ["400"]),
    Kind("REST surrogate", post(b'{"inputs": {"text": ["\\ud800"], "weight": [1]}}'), ["400"]),
    Kind("REST nested lists", post(b'{"inputs": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"), ["400"]),
    Kind("REST nested objects", post(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), ["400"]),
    Kind("REST many dimensions", post({"signature_name": "types", "inputs": eval("[" * 90 + "1" + "]" * 90)}), ["400"]),
    Kind("REST long number", post(b'{"inputs": {"text": ["a"], "weight": [' + b"1" * 50_000 + b"]}}"), ["400"]),
    Kind("REST dtype", post({"inputs": {"text": [1], "weight": ["a"]}}), ["400"]),
    Kind("REST shape", post({"inputs": {"text": [["a"], ["b"]], "weight": [1, 2]}}), ["400"]),
    Kind("REST uneven", post({"inputs": {"text": [["a"], ["b", "c"]], "weight": [1, 2]}}), ["400"]),
    Kind("REST input name", post({"inputs": {"texts": ["a"], "weight": [1]}}), ["400"]),
    Kind("REST signature", post({**GOOD, "signature_name": "none"}), ["400"]),
    Kind("REST model", post(GOOD, "/v1/models/none:predict"), ["404"]),
    Kind("REST version", post(GOOD, "/v1/models/toy/versions/9999999999999999999:predict"), ["404"]),
    Kind("REST path", post(GOOD, "/v1/models/%00%ff/../toy:predict"), ["404"]),
    Kind("REST address", post(GOOD, "http://[toy"), ["404"]),
    Kind("REST classify", post({"examples": [{"a": 1}]}, "/v1/models/toy:classify"), ["400"]),
    Kind("REST regress", post({"examples": [{"a": [[]]}]}, "/v1/models/toy:regress"), ["400"]),
    Kind("REST long path", post(GOOD, "/" + "x" * 70_000), ["414", "closed"]),
    Kind(
        "REST long header",
        lambda ports, chance: exchange(ports, b"GET / HTTP/1.1\r\nA: " + b"b" * 70_000 + b"\r\n\r\n"),
        ["431", "closed"],
    ),
    Kind(
        "REST many headers",
        lambda ports, chance: exchange(ports, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n"),
        ["431", "closed"],
    ),
    Kind(
        "REST length",
        lambda ports, chance: exchange(ports, f"POST {PATH} HTTP/1.1\r\nContent-Length: 1e9\r\n\r\n".encode()),
        ["400"],
    ),
    Kind(
        "REST too large",
        lambda ports, chance: exchange(ports, f"POST {PATH} HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n".encode()),
        ["413"],
    ),
    Kind("REST large text", post({"inputs": {"text": ["x" * LARGE], "weight": [1]}}), ["200"], 0.01),
]


# === gRPC ===


def send_to_grpc(ports: Ports, chance: random.Random) -> str:
    """Bytes that are no HTTP/2, with or without its preface."""
    data = chance.choice([b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]) + chance.randbytes(chance.randrange(1, 3000))
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", ports.grpc), timeout=TIMEOUT) as connection:
        connection.sendall(data)
    return "left"


def call(message: bytes, method: str = PREDICT) -> Callable[[Ports, random.Random], str]:
    """Call with a message of these bytes."""

    def ask(ports: Ports, chance: random.Random) -> str:
        try:
            ports.channel.unary_unary(method)(message, timeout=TIMEOUT)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    return ask


def random_message(ports: Ports, chance: random.Random) -> str:
    return call(chance.randbytes(chance.randrange(1, 3000)))(ports, chance)


def changed_message(ports: Ports, chance: random.Random) -> str:
    message = bytearray(predict())
    for _ in range(chance.randrange(1, 5)):
        message[chance.randrange(len(message))] = chance.randrange(256)
    return call(bytes(message))(ports, chance)


def cancelled(ports: Ports, chance: random.Random) -> str:
    future = ports.channel.unary_unary(PREDICT).future(predict(), timeout=TIMEOUT)
    time.sleep(chance.random() / 500)
    future.cancel()
    return "left"


def predict(name: str = "toy", version: int | None = None, signature: str = "", **inputs: Any) -> bytes:
    """A PredictRequest."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    for key, value in (inputs or {"text": ["a", "b"], "weight": np.float32([1, 2])}).items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request.SerializeToString()


def shaped(*sizes: int, dtype: int = 1, **values: Any) -> bytes:
    """A PredictRequest whose tensor says that it has these sizes."""
    request = predict_pb2.PredictRequest.FromString(predict())
    proto = request.inputs["weight"]
    proto.Clear()
    proto.dtype = dtype
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    for key, value in values.items():
        getattr(proto, key).extend(value)
    return request.SerializeToString()


WRONG = ["INVALID_ARGUMENT"]
GRPC_KINDS = [
    Kind("gRPC random bytes", send_to_grpc, ["left"], 3),
    Kind("gRPC random message", random_message, ["INTERNAL", "NOT_FOUND", *WRONG], 3),
    Kind(
        "gRPC changed message",
        changed_message,
        ["OK", "INTERNAL", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED", *WRONG],
        3,
    ),
    Kind("gRPC cancelled", cancelled, ["left"], 3),
    Kind("gRPC dtype", call(predict(text=["a"], weight=np.float64([1]))), WRONG),
    Kind("gRPC shape", call(predict(text=[["a"]], weight=np.float32([1]))), WRONG),
    Kind("gRPC sizes", call(predict(signature="types", values=np.float32([[1, 2]]))), WRONG),
    Kind("gRPC input name", call(predict(texts=["a"], weight=np.float32([1]))), WRONG),
    Kind("gRPC many values", call(shaped(2**33, float_val=[1.0])), WRONG),
    Kind("gRPC overflow", call(shaped(2**62, 2**62, float_val=[1.0])), WRONG),
    Kind("gRPC negative", call(shaped(-5, float_val=[1.0])), WRONG),
    Kind("gRPC no dtype", call(shaped(1, dtype=0, float_val=[1.0])), WRONG),
    Kind("gRPC unknown dtype", call(shaped(1, dtype=9999, float_val=[1.0])), WRONG),
    Kind("gRPC resource", call(shaped(1, dtype=20)), WRONG),
    Kind("gRPC values missing", call(shaped(3, 2, dtype=9, int64_val=[1, 2, 3, 4])), WRONG),
    Kind("gRPC in the graph", call(predict(signature="check", number=np.int32([-1]))), WRONG),
    Kind("gRPC signature", call(predict(signature="none")), ["FAILED_PRECONDITION"]),
    Kind("gRPC model", call(predict("none")), ["NOT_FOUND"]),
    Kind("gRPC version", call(predict(version=-1)), ["NOT_FOUND"]),
    Kind("gRPC method", call(b"", "/tensorflow.serving.PredictionService/Nothing"), ["UNIMPLEMENTED"]),
    Kind("gRPC classify", call(b"", "/tensorflow.serving.PredictionService/Classify"), ["NOT_FOUND"]),
    Kind("gRPC not UTF-8", call(predict(signature="echo", text=[b"\xff\xfe\x00"])), ["OK"]),
    Kind("gRPC large text", call(predict(text=["x" * LARGE], weight=np.float32([1]))), ["OK"], 0.01),
]
KINDS = [*REST_KINDS, *GRPC_KINDS]


def ask_wrongly(ports: Ports, kinds: Sequence[Kind], chance: random.Random) -> Counter[tuple[str, str]]:
    """Ask once for each kind given, and count kinds and statuses.

    Raises:
        AssertionError: a status that is not expected.
    """
    found = Counter((kind.name, kind.ask(ports, chance)) for kind in kinds)
    expected = {kind.name: kind.expected for kind in kinds}
    wrong = {key: count for key, count in found.items() if key[1] not in expected[key[0]]}
    assert not wrong, wrong
    return found


def is_alive(ports: Ports) -> bool:
    """Whether a good request has a good answer on both ports."""
    chance = random.Random(0)
    return (post(GOOD)(ports, chance), call(predict())(ports, chance)) == ("200", "OK")


# === A server of its own process ===


def memory(process: subprocess.Popen[bytes]) -> float:
    """MB in memory."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the server has ended")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_server(root: Path, ports: tuple[int, int], *arguments: str) -> subprocess.Popen[bytes]:
    """`kbert serve`, once it answers."""
    command = ["from kbert.cli import main; import sys; sys.exit(main(sys.argv[1:]))", "serve", str(root)]
    command += [f"--grpc-port={ports[0]}", f"--rest-port={ports[1]}", *arguments]
    process = subprocess.Popen([sys.executable, "-c", *command], stderr=subprocess.DEVNULL)
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", ports[1]), timeout=5) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nConnection: close\r\n\r\n")
            if connection.recv(100).startswith(b"HTTP/1.1 200"):
                return process
        time.sleep(0.1)
    process.kill()
    raise RuntimeError("the server did not start")


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from serving.conftest import save_toy

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    kinds = chance.choices(KINDS, [kind.weight for kind in KINDS], k=args.requests)
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # for the server
    with tempfile.TemporaryDirectory() as folder:
        save_toy(Path(folder, "toy", "1"), 10.0)
        numbers = free_port(), free_port()
        process = start_server(Path(folder), numbers)
        try:
            ports = ports_of(*numbers)
            with ports.channel:
                # The large ones often at first: what they need at their highest is no growth.
                large = [kind for kind in KINDS if "large text" in kind.name] * 8
                found = ask_wrongly(ports, [*KINDS, *large, *kinds[: args.requests // 10]], chance)
                before = memory(process)
                found += ask_wrongly(ports, kinds[args.requests // 10 :], chance)
                after = memory(process)
                alive = is_alive(ports)
        finally:
            process.terminate()
            process.wait(60)
    result = {
        "requests": found.total(),
        "answers": {f"{kind}: {status}": count for (kind, status), count in sorted(found.items())},
        "memory_before_mb": round(before, 1),
        "memory_after_mb": round(after, 1),
        "growth_percent": round(100 * (after / before - 1), 2),
        "alive": alive,
    }
    print(json.dumps(result))
    if not alive or after > 1.05 * before:
        sys.exit(1)


if __name__ == "__main__":
    main()
