"""What the server counts, in the text format of Prometheus, at TF Serving's path and under TF Serving's names.

TF Serving has, with these labels and bucket bounds: `request_count`, `request_latency`, `runtime_latency`,
`batching_session:queuing_latency` and `batching_session:wrapped_run_count`, all below `:tensorflow:serving:`; latencies
are in microseconds (tensorflow_serving/servables/tensorflow/util.cc, batching/batching_session.cc). What this server
adds of its own stands below `:kbert:serving:`. Two meanings are narrower than TF Serving's: the runtime latency is that
of one call of the graph, without the wait for it, and requests for models that do not exist count under the empty name,
because clients could otherwise make up any number of series.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator, Sequence

from kbert.serving.calls import Code

PATH = "/monitoring/prometheus/metrics"
TF_SERVING = ":tensorflow:serving:"
OWN = ":kbert:serving:"


def exponential(first: float, growth: float, count: int) -> list[float]:
    """Upper bounds of buckets, each `growth` times the one before."""
    return [first * growth**i for i in range(count)]


class Counter:
    """Totals that only grow, one for each set of label values."""

    kind = "counter"

    def __init__(self, name: str, labels: Sequence[str]):
        self.name = name
        self._labels = labels
        self._totals: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def add(self, *values: str) -> None:
        """One more."""
        with self._lock:
            self._totals[values] = self._totals.get(values, 0) + 1

    def lines(self) -> Iterator[str]:
        with self._lock:
            totals = dict(self._totals)
        for values, total in totals.items():
            yield f"{self.name}{{{_pairs(self._labels, values)}}} {total}"


class Histogram:
    """Amounts by size, one histogram for each set of label values.

    Args:
        name: its name on the page.
        labels: their names.
        bounds: the largest amount of each bucket but the last, ascending.
    """

    kind = "histogram"

    def __init__(self, name: str, labels: Sequence[str], bounds: Sequence[float]):
        self.name = name
        self._labels = labels
        self._bounds = bounds
        self._buckets: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def add(self, amount: float, *values: str) -> None:
        """One more of this size."""
        with self._lock:
            buckets = self._buckets.setdefault(values, [0] * (len(self._bounds) + 1))
            buckets[bisect.bisect_left(self._bounds, amount)] += 1
            self._sums[values] = self._sums.get(values, 0.0) + amount

    def lines(self) -> Iterator[str]:
        with self._lock:
            series = [(values, list(buckets), self._sums[values]) for values, buckets in self._buckets.items()]
        for values, buckets, total in series:
            pairs, count = _pairs(self._labels, values), 0
            for bound, bucket in zip([*(f"{bound:g}" for bound in self._bounds), "+Inf"], buckets, strict=True):
                count += bucket
                yield f'{self.name}_bucket{{{pairs}{"," if pairs else ""}le="{bound}"}} {count}'
            yield f"{self.name}_sum{{{pairs}}} {total:.10g}"
            yield f"{self.name}_count{{{pairs}}} {count}"


class Metrics:
    """Everything that one server counts."""

    def __init__(self) -> None:
        up_to_20_minutes = exponential(10, 1.8, 33)  # microseconds
        self._requests = Counter(f"{TF_SERVING}request_count", ["model_name", "status"])
        self._request_latency = Histogram(
            f"{TF_SERVING}request_latency", ["model_name", "API", "entrypoint"], up_to_20_minutes
        )
        self._runtime_latency = Histogram(
            f"{TF_SERVING}runtime_latency", ["model_name", "API", "runtime"], up_to_20_minutes
        )
        self._queuing_latency = Histogram(
            f"{TF_SERVING}batching_session:queuing_latency", ["thread_pool_name"], exponential(100, 1.2, 52)
        )
        self._runs = Counter(f"{TF_SERVING}batching_session:wrapped_run_count", [])
        self._batch_rows = Histogram(f"{OWN}batch_rows", ["model_name"], exponential(1, 2, 15))
        self._all: list[Counter | Histogram] = [
            self._requests,
            self._request_latency,
            self._runtime_latency,
            self._queuing_latency,
            self._runs,
            self._batch_rows,
        ]

    def request_done(self, model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None:
        """A request has got its answer; only good ones have their latency counted, as TF Serving has it.

        Args:
            model: name of the model that has answered; empty where there is none.
            api: "Predict", "GetModelStatus", …
            entrypoint: "GRPC" or "REST".
            code: what came of it.
            seconds: what it took.
        """
        self._requests.add(model, code.name)
        if code is Code.OK:
            self._request_latency.add(1e6 * seconds, model, api, entrypoint)

    def batch_done(self, model: str, api: str, waits: Sequence[float], rows: int, seconds: float) -> None:
        """A batch has been computed, whose requests had waited so many seconds; `api` as for `request_done`."""
        for wait in waits:
            self._queuing_latency.add(1e6 * wait, model)
        self._runs.add()
        self._batch_rows.add(rows, model)
        self._runtime_latency.add(1e6 * seconds, model, api, "TF2")

    def page(self) -> str:
        """All of it, as Prometheus reads it."""
        return "".join(
            f"{line}\n" for metric in self._all for line in (f"# TYPE {metric.name} {metric.kind}", *metric.lines())
        )


def _pairs(labels: Sequence[str], values: Sequence[str]) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return ",".join(f'{label}="{escaped(value)}"' for label, value in zip(labels, values, strict=True))
