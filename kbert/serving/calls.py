"""What both protocols share around a call: one error type, its codes, and how a model is named."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus

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
