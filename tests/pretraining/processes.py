"""Runs in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def start(moment: str, arguments: list[str], out: Path, **environment: str) -> subprocess.Popen:
    """`kbert` with some arguments, and something that happens at a moment of `pretrain.py`."""
    search_path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-W", "error", HERE / "pretrain.py", moment, *arguments, "--out", out],
        env={**os.environ, "PYTHONPATH": search_path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
