"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kbert.errors import InputError


def read_json(path: Path) -> Any:
    """The content of a JSON file; InputError names the file where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable JSON: {error}") from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON with an end of line, non-ASCII text as it is."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf8")


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in the place of an old one, if there is one; InputError where the system does not let it."""
    check_file(path)
    partial: Path | None = None
    try:
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        partial = Path(name)
        with os.fdopen(number, "wb") as file:
            file.write(content)
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): make room, or choose another target") from None
    finally:
        if partial:
            partial.unlink(missing_ok=True)


def check_file(path: Path) -> None:
    """Raise InputError where no file can be written; make its folder."""
    _make_parents(path)
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder: name a file")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that takes its name when the block ends without an error."""
    _make_parents(target)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield partial
        partial.chmod(0o755)
        try:
            partial.rename(target)
        except OSError as error:
            raise InputError(f"{target} cannot be made ({error.strerror}): name another target") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def replaced_files(folder: Path, last: str) -> Iterator[Path]:
    """Yield an empty folder whose files move into `folder` when the block ends without an error.

    `last` names the file without which the folder does not count as complete: an old one goes first, the new one comes
    after all others, so that a stop in between leaves a folder that is seen to be incomplete, never a mixture.
    """
    _make_parents(folder / last)
    partial = Path(tempfile.mkdtemp(prefix=".partial.", dir=folder))
    try:
        yield partial
        (folder / last).unlink(missing_ok=True)
        for path in sorted(partial.iterdir(), key=lambda path: path.name == last):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _make_parents(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be made a folder ({error.strerror}): choose another target") from None
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path.parent} cannot be written to: choose another target or change its permissions")
