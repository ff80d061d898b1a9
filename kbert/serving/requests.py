"""A request from its arrival to its answer: one line in the log, and counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kbert.serving.calls import Code, ServingError, logger
from kbert.serving.metrics import Metrics


@dataclass
class Call:
    """A request, as the log and the metrics tell of it; what is not known yet is filled in on the way."""

    entrypoint: str
    """ "GRPC" or "REST"."""
    method: str
    """ "Predict", "GetModelStatus", …"""
    asked: str = ""
    """What was asked for, in the request's own words."""
    model: str = ""
    """Name of the model that answers; empty as long as there is none, so that no client can make up a metric."""
    version: int | None = None
    rows: int | None = None


@contextmanager
def observed(call: Call, metrics: Metrics) -> Iterator[None]:
    """Log and count a request; whatever is raised inside leaves as a ServingError."""
    start = time.perf_counter()
    code, problem = Code.OK, ""
    try:
        yield
    except ServingError as error:
        code, problem = error.code, f" ({error})"
        raise
    except Exception as error:
        code = Code.INTERNAL
        logger.exception("%s %s failed", call.entrypoint, call.method)
        raise ServingError(code, f"{type(error).__name__}: {error}") from error
    finally:
        seconds = time.perf_counter() - start
        metrics.request_done(call.model, call.method, call.entrypoint, code, seconds)
        if logger.isEnabledFor(logging.DEBUG):
            _log(call, code, problem, seconds)


def _log(call: Call, code: Code, problem: str, seconds: float) -> None:
    fields = {
        "entrypoint": call.entrypoint,
        "method": call.method,
        "model": call.model,
        "version": call.version,
        "rows": call.rows,
        "status": code.name,
        "ms": round(1000 * seconds, 3),
    }
    logger.debug(
        "%s %s %s %s%s %.1f ms",
        call.entrypoint,
        call.method,
        call.asked,
        code.name,
        problem,
        fields["ms"],
        extra={"fields": fields},
    )
