"""What both protocols share around a call: one error type, its codes, and one log line per request."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

logger = logging.getLogger("kbert.serving")

MAX_MESSAGE_LENGTH = 1000
"""Characters of an error message: gRPC sends it in a header, and headers are limited to 8 KiB."""


class Code(Enum):
    """What went wrong: the name is gRPC's status code, the value the HTTP status."""

    INVALID_ARGUMENT = 400
    NOT_FOUND = 404
    RESOURCE_EXHAUSTED = 413  # only for a body that is too long; TF Serving, which runs out of other things, has 429
    INTERNAL = 500
    UNIMPLEMENTED = 501


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


def one_line(message: object) -> str:
    """The message on one line of at most `MAX_MESSAGE_LENGTH` characters."""
    line = " ".join(str(message).split())
    return line if len(line) <= MAX_MESSAGE_LENGTH else line[: MAX_MESSAGE_LENGTH - 1] + "…"


@contextmanager
def call(label: str) -> Iterator[None]:
    """Log one line for the request that `label` names; whatever is raised inside leaves as a ServingError."""
    start = time.perf_counter()
    outcome = "OK"
    try:
        yield
    except ServingError as error:
        outcome = f"{error.code.name} ({error})"
        raise
    except Exception as error:
        outcome = Code.INTERNAL.name
        logger.exception("%s failed", label)
        raise ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}") from error
    finally:
        logger.info("%s %s %.1f ms", label, outcome, 1000 * (time.perf_counter() - start))
