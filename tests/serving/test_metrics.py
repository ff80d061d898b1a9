"""The page of metrics, read as Prometheus reads it; and log lines as JSON."""

from __future__ import annotations

import json
import logging
import math
import re
import urllib.request

import pytest

from kbert.errors import InputError
from kbert.serving.client import Client
from kbert.serving.logs import JsonFormatter
from kbert.serving.metrics import Counter, Histogram, exponential
from kbert.serving.options import ServerOptions
from kbert.serving.server import ModelServer

LINE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*",?)*)\} (\S+)')
LABEL = re.compile(r'(\w+)="((?:[^"\\\n]|\\.)*)"')


def parse(page):
    """Name -> labels -> value, and name -> kind; every line must fit Prometheus' text format."""
    values, kinds = {}, {}
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            kinds[name] = kind
            continue
        match = LINE.fullmatch(line)
        assert match, line
        labels = tuple((key, re.sub(r"\\(.)", r"\1", value)) for key, value in LABEL.findall(match[2]))
        values.setdefault(match[1], {})[labels] = float(match[3])
    return values, kinds


def test_a_histogram():
    histogram = Histogram("a:b", ["x"], [1.0, 2.0, 4.0])
    for amount in (0.5, 1.0, 3.0, 100.0):
        histogram.add(amount, 'say "\\"')
    values, _ = parse("\n".join(histogram.lines()))
    label = ("x", 'say "\\"')
    assert values == {
        "a:b_bucket": {
            (label, ("le", "1")): 2,
            (label, ("le", "2")): 2,
            (label, ("le", "4")): 3,
            (label, ("le", "+Inf")): 4,
        },
        "a:b_sum": {(label,): 104.5},
        "a:b_count": {(label,): 4},
    }


def test_a_counter_without_labels():
    counter = Counter("a", [])
    counter.add()
    counter.add()
    assert list(counter.lines()) == ["a{} 2"]


def test_bounds_are_tf_servings():
    bounds = exponential(10, 1.8, 33)
    assert len(bounds) == 33
    assert bounds[:2] == [10, 18]
    assert bounds[-1] == pytest.approx(10 * 1.8**32)
    assert 20 * 60e6 < bounds[-1] < 30 * 60e6  # "~20 minutes"


def test_the_page(root):
    with ModelServer(root, 0, 0, options=ServerOptions(max_batch_size=4)) as server:
        targets = [f"127.0.0.1:{server.grpc_port}", f"http://127.0.0.1:{server.rest_port}"]
        for target, rows in zip(targets, (3, 5), strict=True):
            with Client(target) as client:
                client.predict("sentiment", {"text": ["fine"] * rows})
                for name in ("none", 'made "up"'):
                    with pytest.raises(InputError):
                        client.predict(name, {"text": ["fine"]})
                with pytest.raises(InputError):
                    client.predict("sentiment", {"texts": ["fine"]})
        url = f"http://127.0.0.1:{server.rest_port}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url, timeout=10) as response:
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            values, kinds = parse(response.read().decode())
    prefix = ":tensorflow:serving:"
    counts = {tuple(dict(labels).values()): value for labels, value in values[f"{prefix}request_count"].items()}
    assert counts[("sentiment", "OK")] == 4  # of which two tell the client by REST what the model takes
    assert counts[("sentiment", "INVALID_ARGUMENT")] == 2
    assert counts[("", "NOT_FOUND")] == 4
    assert {name for name, _ in counts} == {"", "sentiment"}
    assert kinds[f"{prefix}request_count"] == "counter"

    latencies = values[f"{prefix}request_latency_count"]
    assert kinds[f"{prefix}request_latency"] == "histogram"
    for entrypoint in ("GRPC", "REST"):
        labels = (("model_name", "sentiment"), ("API", "Predict"), ("entrypoint", entrypoint))
        assert latencies[labels] == 1
        assert 0 < values[f"{prefix}request_latency_sum"][labels] < 60e6
        buckets = [
            value for key, value in values[f"{prefix}request_latency_bucket"].items() if key[: len(labels)] == labels
        ]
        assert len(buckets) == 34
        assert buckets == sorted(buckets)
        assert buckets[-1] == 1
    runtime = (("model_name", "sentiment"), ("API", "Predict"), ("runtime", "TF2"))
    assert values[f"{prefix}runtime_latency_count"] == {runtime: 2}
    assert values[f"{prefix}batching_session:queuing_latency_count"] == {(("thread_pool_name", "sentiment"),): 2}
    assert values[f"{prefix}batching_session:wrapped_run_count"] == {(): 2}
    assert values[":kbert:serving:batch_rows_sum"] == {(("model_name", "sentiment"),): 8}
    assert not math.isnan(sum(value for series in values.values() for value in series.values()))


def test_log_lines():
    record = logging.LogRecord("kbert.serving", logging.INFO, "", 0, "%d models\n你好", (2,), None)
    record.fields = {"model": "sentiment", "ms": 1.5}
    line = JsonFormatter().format(record)
    assert "\n" not in line
    content = json.loads(line)
    assert content.pop("time").endswith("+00:00")
    assert content == {
        "level": "INFO",
        "logger": "kbert.serving",
        "message": "2 models\n你好",
        "model": "sentiment",
        "ms": 1.5,
    }
    try:
        raise ValueError("why")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    assert "ValueError: why" in json.loads(JsonFormatter().format(record))["exception"]
