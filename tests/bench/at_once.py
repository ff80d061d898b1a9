"""A worker without a process, for tests of what it is given and what is made of it."""

from __future__ import annotations

import importlib
from types import SimpleNamespace


def start_here(stack, function, arguments, threads):
    """In the place of `kbert.bench.worker.start`."""
    module, _, name = function.partition(":")
    work = getattr(importlib.import_module(module), name)(**arguments, threads=threads)
    if name.endswith("server"):
        stack.callback(lambda: getattr(work(), "stop", lambda: None)())
    return SimpleNamespace(run=work)
