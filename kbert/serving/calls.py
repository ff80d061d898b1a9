"""What both protocols share around a call: one error type, its codes, and one log line per request."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kbert.serving.metrics import Metrics

logger = logging.getLogger("kbert.serving")

MAX_MESSAGE_LENGTH = 1000
"""Characters of an error message: gRPC sends it in a header, and headers are limited to 8 KiB."""


class Code(Enum):
    """What came of a request: gRPC's name and number for it, and the HTTP status that TF Serving's REST gives it."""

    OK = (0, HTTPStatus.OK)
    CANCELLED = (1, 499)  # nobody is there to read it
    UNKNOWN = (2, HTTPStatus.INTERNAL_SERVER_ERROR)
    INVALID_ARGUMENT = (3, HTTPStatus.BAD_REQUEST)
    DEADLINE_EXCEEDED = (4, HTTPStatus.GATEWAY_TIMEOUT)
    NOT_FOUND = (5, HTTPStatus.NOT_FOUND)
    RESOURCE_EXHAUSTED = (8, HTTPStatus.TOO_MANY_REQUESTS)
    FAILED_PRECONDITION = (9, HTTPStatus.BAD_REQUEST)
    UNIMPLEMENTED = (12, HTTPStatus.NOT_IMPLEMENTED)
    INTERNAL = (13, HTTPStatus.INTERNAL_SERVER_ERROR)
    UNAVAILABLE = (14, HTTPStatus.SERVICE_UNAVAILABLE)

    @property
    def number(self) -> int:
        return self.value[0]

    @property
    def http_status(self) -> int:
        return int(self.value[1])


@dataclass(frozen=True)
class ModelChoice:
    """Which version of which model a client asks: by its number, by a label, or the one served by default."""

    name: str
    version: int | None = None
    label: str | None = None
    """What the server's configuration calls a version, such as "stable"; not together with `version`."""


class ServingError(Exception):
    """A request that gets an error for an answer, whichever protocol it came by.

    Args:
        code: what both protocols' status codes derive from.
        message: any text; its white space is collapsed to one line, and a long one is cut.
    """

    def __init__(self, code: Code, message: str):
        super().__init__(one_line(message))
        self.code = code

    @property
    def http_status(self) -> int:
        return self.code.http_status


def invalid(message: str) -> ServingError:
    """The error of a request that is wrong in itself."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def one_line(message: object) -> str:
    """The message on one line of at most `MAX_MESSAGE_LENGTH` characters."""
    line = " ".join(str(message)[: 100 * MAX_MESSAGE_LENGTH].split())
    return line if len(line) <= MAX_MESSAGE_LENGTH else line[: MAX_MESSAGE_LENGTH - 1] + "…"


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
        metrics.request_done(call, code, seconds)
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
