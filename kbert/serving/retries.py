"""One call to a server within one deadline: which failures are worth another attempt, and when."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds, before chance lengthens or shortens them by up to a half."""

T = TypeVar("T")


class Unavailable(ConnectionError):
    """The server took no request just now: it is starting, being replaced, or full. Another attempt may succeed."""


class Deadline:
    """The moment by which a call must have ended, all of its attempts and pauses included.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left; never quite zero, which a socket would read as "do not wait at all"."""
        return max(0.001, self._end - time.monotonic())


def retrying(attempt: Callable[[], T], retries: int, deadline: Deadline) -> T:
    """Call `attempt`, and call it again if it raises `Unavailable`.

    Pauses double from `FIRST_PAUSE` to `LONGEST_PAUSE`; chance spreads them, so that the clients of a server that
    came back do not all ask in the same moment.

    Args:
        attempt: asks the server once.
        retries: attempts after the first one.
        deadline: no pause goes beyond it.

    Raises:
        Unavailable: that of the last attempt.
    """
    for number in range(retries):
        try:
            return attempt()
        except Unavailable:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**number) * random.uniform(0.5, 1.5)
            if pause >= deadline.remaining():
                raise
        time.sleep(pause)
    return attempt()
