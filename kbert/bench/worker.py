"""A contender in a process of its own, so that no library's threads or memory stand in another's way.

    python -m kbert.bench.worker MODULE:FUNCTION

The first line on stdin holds the function's keyword arguments, as JSON. The function prepares the work and returns a
function that does it once. For each further line on stdin the worker does it and answers with a line; both sides wait
in between, so that only one contender works at a time.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import Any

from kbert.errors import InputError


class Worker:
    """A process that does a piece of work on demand.

    Args:
        function: "module:function", which returns the function that does the work.
        arguments: Its keyword arguments, as JSON can hold them.
        threads: That each library in the process may use.
    """

    def __init__(self, function: str, arguments: dict[str, Any], threads: int):
        self.function = function
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kbert.bench.worker", function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | thread_settings(threads),
        )
        # Not on the command line, which has room for some thousand texts only.
        self._tell(json.dumps({**arguments, "threads": threads}))

    def run(self) -> None:
        """Let the process do its work once."""
        self._tell("")

    def _tell(self, line: str) -> None:
        """Write a line, and wait for the answer."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # what has gone wrong stands in the log
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        self._wait()

    def close(self) -> None:
        """End the process; a second time does nothing."""
        if not self._log.closed:
            self._process.kill()
            self._process.communicate()
            self._log.close()

    def _wait(self) -> None:
        assert self._process.stdout
        if not self._process.stdout.readline():
            self._process.wait()
            self._log.seek(0)
            last = (self._log.read().strip().splitlines() or ["it ended without a word"])[-1]
            self.close()
            raise InputError(f"{self.function.partition(':')[2]} failed: {last}")


def start(stack: ExitStack, function: str, arguments: dict[str, Any], threads: int) -> Worker:
    """A worker that ends with the stack."""
    worker = Worker(function, arguments, threads)
    stack.callback(worker.close)
    return worker


def thread_settings(threads: int) -> dict[str, str]:
    """The environment that pins the threads of all libraries that a contender may use."""
    count = str(threads)
    return {
        "OMP_NUM_THREADS": count,
        "RAYON_NUM_THREADS": count,
        "TOKENIZERS_PARALLELISM": "true",
        "TF_NUM_INTRAOP_THREADS": count,
        "TF_NUM_INTEROP_THREADS": count,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "KERAS_BACKEND": "tensorflow",
    }


def main() -> None:
    """The worker's side."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    module, _, name = sys.argv[1].partition(":")
    arguments = json.loads(sys.stdin.readline())
    work = getattr(importlib.import_module(module), name)(**arguments)
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        work()
        print("done", file=answers, flush=True)


if __name__ == "__main__":
    main()
