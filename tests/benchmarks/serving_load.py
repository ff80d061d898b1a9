"""The local server under load: a steady one, one that is too much, and new versions meanwhile.

    python tests/benchmarks/serving_load.py steady MODEL [--clients 32] [--seconds 60]
    python tests/benchmarks/serving_load.py overload MODEL [--clients 32] [--seconds 60] [--factor 3]
    python tests/benchmarks/serving_load.py reload MODEL [--clients 32] [--seconds 120] [--every 10]

MODEL is the folder of one version of an exported classifier, such as saved_models/sentiment/1. The server runs in a
process of its own, on ports of its own; each request has one text. Prints one JSON object, and exits with 1 if what it
looks for does not hold:

- steady: each client asks one text after the other, half of them by gRPC and half by REST. No request may fail.
- overload: first as steady, which gives the capacity; then requests come at `--factor` times that rate, whether the
  earlier ones have an answer or not, from clients of a process of their own. Those that are accepted must have a p99
  within twice the first one's, all others must be refused as RESOURCE_EXHAUSTED, and the server's memory must stay
  within 5 %.
- reload: as steady, while a new version comes every `--every` seconds. No request may fail, and all versions must have
  answered.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from serving_robustness import PREDICT, free_port, memory, start_server
from tensorflow_serving.apis import predict_pb2

from kbert.serving.client import Client

NAME = "load"
TEXTS = [
    "a fine film",
    "dull, long, and far too sure of itself",
    "the second half makes up for much that the first one leaves out, and the actors do the rest",
    "no",
    "I would see it again tomorrow, and take everyone I know with me, whether they like the cinema or not",
]
Ports = tuple[int, int]


def ask_in_turn(ports: Ports, clients: int, seconds: float) -> tuple[list[float], Counter[str]]:
    """Latencies in seconds, and failures by kind, of clients that ask one text after another."""
    latencies: list[float] = []
    failures: Counter[str] = Counter()
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        target = f"127.0.0.1:{ports[0]}" if number % 2 else f"http://127.0.0.1:{ports[1]}"
        with Client(target, timeout=60) as client:
            for i in range(number, sys.maxsize):
                start = time.perf_counter()
                if start >= end:
                    return
                try:
                    client.predict(NAME, {"text": [TEXTS[i % len(TEXTS)]]})
                except (ConnectionError, RuntimeError, ValueError) as error:
                    failures[f"{type(error).__name__}: {error}"[:200]] += 1
                else:
                    latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, failures


def ask_at_rate(port: int, rate: float, seconds: float, results: Any) -> None:
    """Send requests at a rate by gRPC, whatever comes of the earlier ones, and put what came of them into `results`."""
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    done = threading.Semaphore(0)

    def answered(future: Future[Any], start: float) -> None:
        error = future.exception()
        statuses["OK" if error is None else error.code().name] += 1
        if error is None:
            latencies.append(time.perf_counter() - start)
        done.release()

    requests = []
    for text in TEXTS:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = NAME
        request.inputs["text"].CopyFrom(tf.make_tensor_proto([text]))
        requests.append(request.SerializeToString())
    gc.freeze()  # a collection here would count as the server's time
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(60)  # to connect is no part of an answer's time
        sent, begin = 0, time.perf_counter()
        predict = channel.unary_unary(PREDICT)  # bytes both ways: the sender's own work would slow the server
        while (now := time.perf_counter()) - begin < seconds:
            while sent < (now - begin) * rate:
                future = predict.future(requests[sent % len(requests)], timeout=60)
                future.add_done_callback(lambda future, start=time.perf_counter(): answered(future, start))
                sent += 1
            time.sleep(0.001)
        last = time.perf_counter() + 60
        for _ in range(sent):
            done.acquire(timeout=max(last - time.perf_counter(), 0))
    results.put((latencies, statuses, sent / seconds))


def summary(latencies: list[float], seconds: float) -> dict[str, float]:
    """Figures of what was answered."""
    p50, p99 = 1000 * np.percentile(latencies, [50, 99]) if latencies else (float("nan"),) * 2
    return {
        "answers": len(latencies),
        "answers_per_second": round(len(latencies) / seconds, 1),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
    }


def steady(args: argparse.Namespace, ports: Ports, process: subprocess.Popen[bytes], root: Path) -> dict[str, Any]:
    """Clients that wait for their answers."""
    ask_in_turn(ports, args.clients, min(args.seconds / 10, 5))
    before = memory(process)
    latencies, failures = ask_in_turn(ports, args.clients, args.seconds)
    found = {**summary(latencies, args.seconds), "failures": dict(failures)}
    return {**found, "memory_mb": [round(before, 1), round(memory(process), 1)], "holds": not failures}


def overload(args: argparse.Namespace, ports: Ports, process: subprocess.Popen[bytes], root: Path) -> dict[str, Any]:
    """Requests that do not wait for the answers of others."""
    ask_in_turn(ports, args.clients, min(args.seconds / 10, 5))
    latencies, failures = ask_in_turn(ports, args.clients, args.seconds)
    alone = summary(latencies, args.seconds)
    before = memory(process)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    rate = args.factor * alone["answers_per_second"]
    sender = context.Process(target=ask_at_rate, args=(ports[0], rate, args.seconds, results))
    sender.start()
    accepted, statuses, sent = results.get()
    sender.join()
    after = memory(process)
    found = summary(accepted, args.seconds)
    holds = {
        "p99_within_twice": found["p99_ms"] <= 2 * alone["p99_ms"],
        "refused_as_exhausted": set(statuses) <= {"OK", "RESOURCE_EXHAUSTED"} and not failures,
        "memory_flat": after <= 1.05 * before,
    }
    return {
        "steady": {**alone, "failures": dict(failures)},
        "overload": {**found, "sent_per_second": round(sent, 1), "statuses": dict(statuses)},
        "memory_mb": [round(before, 1), round(after, 1)],
        **holds,
        "holds": all(holds.values()),
    }


def reload(args: argparse.Namespace, ports: Ports, process: subprocess.Popen[bytes], root: Path) -> dict[str, Any]:
    """Clients that wait for their answers, while versions come and go."""
    seen: dict[int, str] = {}
    stop = threading.Event()
    memories = []

    def export() -> None:
        version = 1
        with Client(f"127.0.0.1:{ports[0]}") as client:
            while not stop.wait(args.every):
                version += 1
                shutil.copytree(args.model, root / f".{version}")
                (root / f".{version}").rename(root / NAME / str(version))
                memories.append(round(memory(process), 1))
                seen.update(client.status(NAME))
            time.sleep(2)
            seen.update(client.status(NAME))

    exporting = threading.Thread(target=export)
    exporting.start()
    latencies, failures = ask_in_turn(ports, args.clients, args.seconds)
    stop.set()
    exporting.join()
    found = {**summary(latencies, args.seconds), "failures": dict(failures), "versions": seen, "memory_mb": memories}
    ended = [version for version, state in seen.items() if state == "END"]
    return {**found, "holds": not failures and len(seen) > 1 and len(ended) >= len(seen) - 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs = {"steady": (steady, 60.0), "overload": (overload, 60.0), "reload": (reload, 120.0)}
    parser.add_argument("run", choices=runs)
    parser.add_argument("model", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--factor", type=float, default=3.0)
    parser.add_argument("--every", type=float, default=10.0)
    args = parser.parse_args()
    run, seconds = runs[args.run]
    gc.freeze()
    args.seconds = args.seconds or seconds
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(args.model, root / NAME / "1")
        ports = (free_port(), free_port())
        process = start_server(root, ports)
        try:
            found = run(args, ports, process, root)
        finally:
            process.terminate()
            process.wait(60)
    print(json.dumps({"run": args.run, "clients": args.clients, "seconds": args.seconds, **found}))
    sys.exit(not found["holds"])


if __name__ == "__main__":
    main()
