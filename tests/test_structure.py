"""The lines between the rooms of the package, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kbert"
# Rooms in the order in which data flow; each imports from itself and those before it.
ROOMS = [
    "errors",
    "files",
    "config",
    "metrics",
    "checkpoints",
    "tokenization",
    "modeling",
    "data",
    "training",
    "tasks",
    "pretraining",
    "export",
    "mobile",
    "serving",
    "quickstart",
    "bench",
    "commands",
    "cli",
]
# Rooms of model code, which a server does without.
_OF_MODELS = ("checkpoints", "tokenization", "modeling", "data", "training", "tasks", "export", "mobile")
# Beyond the order: what a room must not know even though it stands above.
NEVER = {
    ("modeling", "data"),
    ("modeling", "training"),
    ("training", "data"),
    ("export", "training"),
    ("export", "data"),
    ("mobile", "training"),
    ("mobile", "data"),
    ("mobile", "export"),
    *(("serving", room) for room in _OF_MODELS),
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at any level of it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_from_rooms_before_them(path):
    room = room_of(path)
    for module in imports(path):
        parts = module.split(".")
        if parts[0] != "kbert" or len(parts) < 2 or parts[1] not in ROOMS:
            continue
        assert ROOMS.index(parts[1]) <= ROOMS.index(room), f"{room} imports {module}"
        assert (room, parts[1]) not in NEVER, f"{room} imports {module}"


def test_serving_imports_no_keras():
    for path in (PACKAGE / "serving").glob("*.py"):
        assert not {module for module in imports(path) if module.split(".")[0] in ("keras", "keras_hub")}, path


def run_python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_importing_kbert_imports_no_tensorflow():
    heavy = run_python(
        "import sys, kbert, kbert.cli\n"
        "print([m for m in ('tensorflow', 'keras', 'torch', 'numpy', 'grpc') if m in sys.modules])"
    )
    assert heavy.strip() == "[]"


def test_help_is_quick():
    """0.3 s on a quiet machine; here the processor time that Python spends, which other work does not lengthen."""
    program = "import time, kbert.cli, contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n"
    program += "    try: kbert.cli.main(['--help'])\n    except SystemExit: pass\nprint(time.process_time())"
    assert min(float(run_python(program)) for _ in range(3)) < 0.3


def test_every_public_name_is_reachable():
    import kbert

    for name in kbert.__all__:
        assert getattr(kbert, name).__name__ == name
    assert set(kbert.__all__) <= set(dir(kbert))
    with pytest.raises(AttributeError, match="no attribute 'BertNothing'"):
        _ = kbert.BertNothing
