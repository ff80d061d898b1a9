"""Values of label columns to labels: one name, several names, or a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from kbert.data.rows import text_problem

LabelKind = Literal["single", "multiple", "number"]
# Columns to look for where none is named.
LABEL_COLUMNS: dict[LabelKind, tuple[str, ...]] = {
    "single": ("label",),
    "multiple": ("label", "labels"),
    "number": ("label", "score"),
}
SEPARATOR = "|"  # between the labels of one field
_FLAGS: dict[object, bool] = {"0": False, "1": True, 0: False, 1: True}  # JSON's false and true equal 0 and 1


class LabelReader:
    """Reads the labels of the rows of one file.

    Args:
        kind: "single", a name; "multiple", a list of names; "number", a float.
        columns: The column, or for "multiple" the columns, one a label, that hold 0 or 1.
    """

    def __init__(self, kind: LabelKind, columns: tuple[str, ...]):
        self._kind = kind
        self._columns = columns
        self._seen: dict[bool, object] = {}  # the last label that is a number (True) or cannot be one (False)

    def read(self, row: Mapping[str, object]) -> tuple[Any, str | None]:
        """The label of a row, and what is wrong with it, if anything."""
        name = self._columns[0]
        if len(self._columns) > 1:
            return self._flags(row)
        if self._kind == "number":
            return _number(name, row.get(name))
        return self._several(name, row.get(name)) if self._kind == "multiple" else self._name(name, row.get(name))

    def _flags(self, row: Mapping[str, object]) -> tuple[list[str], str | None]:
        labels = []
        for name in self._columns:
            value = row.get(name)
            if not isinstance(value, (str, int, float)) or value not in _FLAGS:
                return [], "no value for " + repr(name) if value is None else f"{name!r} must be 0 or 1, not {value!r}"
            labels += [name] * _FLAGS[value]
        return labels, None

    def _several(self, name: str, value: object) -> tuple[list[str], str | None]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(SEPARATOR)] if value.strip() else []
        if not isinstance(value, list):
            return [], f"no value for {name!r}" if value is None else f"{name!r} must be a list of texts, not {value!r}"
        read = [self._name(name, label) for label in value]
        return list(dict.fromkeys(label for label, _ in read)), next((problem for _, problem in read if problem), None)

    def _name(self, name: str, value: object) -> tuple[str, str | None]:
        is_number = type(value) is int or (type(value) is float and math.isfinite(value))
        if not is_number and (problem := text_problem(name, value)):
            return "", problem
        # "1" goes with the number 1 as well as with other texts.
        if is_number or _number(name, value)[1]:
            other = self._seen.get(not is_number)
            if other is not None:
                return "", f"{name!r} is {value!r} here and {other!r} on a line before: numbers and texts do not mix"
            self._seen[is_number] = value
        return str(value), None


def _number(name: str, value: object) -> tuple[float, str | None]:
    """A finite number, or a text that spells one."""
    if value in (None, ""):
        return math.nan, f"no value for {name!r}"
    number = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool) and "_" not in str(value):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    return number, None if math.isfinite(number) else f"{name!r} must be a finite number, not {value!r}"
