"""Files to rows with line numbers: TSV, CSV and JSON lines, plain or gzipped, UTF-8."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kbert.errors import InputError

Row = tuple[int, Mapping[str, object] | str]  # line number, and the fields or what is wrong with them
_LONGEST_FIELD = 2**31 - 1  # the most that the csv module takes on every platform


@contextlib.contextmanager
def open_bytes(file: str) -> Iterator[Any]:
    """A file of lines of bytes; what goes wrong while it is read names it."""
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        with (gzip.open if file.endswith(".gz") else open)(file, "rb") as source:
            yield source
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read: {error}") from None


def read_utf8(path: Path) -> str:
    """A whole file; InputError where it cannot be read, holds nothing or is not UTF-8."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    text = decode(content, path, first_line=1)
    if not text.strip():
        raise InputError(f"{path} is empty")
    return text


def decode(content: bytes, path: Path, first_line: int) -> str:
    """UTF-8 without its byte order mark; InputError names the line."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + first_line
        raise InputError(
            f"{path}:{line}: byte 0x{content[error.start]:02x} is not UTF-8; convert the file, for example with "
            f"iconv -f LATIN1 -t UTF-8"
        ) from None


def lines_of(text: str, format: str) -> Iterator[str]:
    """The lines of a whole file; in CSV a bare carriage return ends one too."""
    return io.StringIO(text, newline="" if format == ".csv" else "\n")


def table_rows(path: Path, lines: Iterable[str], format: str) -> Iterator[Row]:
    """The rows of a ".tsv" or ".csv" file with a header, given its lines; quotes mean nothing in the first."""
    rows: Iterator[tuple[int, list[str]]]
    if format == ".tsv":
        # Not the csv module: it would end a line at a bare carriage return, and has a limit on the size of a field.
        rows = (
            (number, line.removesuffix("\n").removesuffix("\r").split("\t")) for number, line in enumerate(lines, 1)
        )
    else:
        rows = _csv_rows(path, lines)
    _, header = next(rows)
    for number, values in rows:
        if not any(values):
            continue
        if len(values) != len(header):
            yield number, f"{len(values)} fields where the header names {len(header)}"
        else:
            yield number, dict(zip(header, values, strict=True))


def _csv_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(lines, strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not CSV ({error})") from None


def json_rows(lines: Iterable[str]) -> Iterator[Row]:
    """The rows of a file with one JSON object a line, given its lines."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            yield number, f"not JSON ({error})"
            continue
        yield number, row if isinstance(row, dict) else "not a JSON object"


def text_problem(name: str, value: object) -> str | None:
    """What is wrong with a value that must be a text and not blank."""
    if not isinstance(value, str) or not value.strip():
        return f"no value for {name!r}" if value in (None, "") else f"{name!r} must be a text, not {value!r}"
    try:
        value.encode()
    except UnicodeEncodeError:
        return f"{name!r} holds half of a surrogate pair, which has no UTF-8 form"
    return None


def no_record(path: Path, skipped: int) -> InputError:
    """The error for a file without a single good record."""
    return InputError(f"{path} holds no record" + (f" (and {skipped} bad ones)" if skipped else ""))
