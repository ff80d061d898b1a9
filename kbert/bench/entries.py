"""Who takes part in a comparison: what is installed, and what the user asks for."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kbert.errors import InputError


@dataclass(frozen=True)
class Entry:
    """A contender, if what it needs is installed."""

    name: str
    function: str
    """"module:function" for a worker."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of the function beside those that all of them have."""
    needs: tuple[str, ...] = ()
    """Packages."""
    note: str = ""
    """What a reader must know to compare it."""

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def chosen(entries: Sequence[Entry], only: Sequence[str]) -> list[Entry]:
    """The entries that take part.

    Args:
        entries: All there are.
        only: Names; none takes all that are installed.

    Raises:
        InputError: A name that is no entry's, or an entry that is not installed.
    """
    if not only:
        return [entry for entry in entries if not entry.missing]
    names = {entry.name: entry for entry in entries}
    for name in only:
        if name not in names:
            raise InputError(f"--only names {name!r}; the contenders are {', '.join(names)}")
        if missing := names[name].missing:
            raise InputError(f"{name} needs {', '.join(missing)}: install it, or leave it out of --only")
    return [entry for entry in entries if entry.name in only]
