"""Documents of text files, one after another: memory holds a document, never a file.

A document is a text. A line end in it is white space; a blank line ends a paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from kbert.data.readers import PAIR_COLUMNS, TEXT_COLUMNS, Columns, find_column, table_format
from kbert.data.rows import Row, decode, json_rows, open_bytes, table_rows, text_problem
from kbert.errors import InputError

Layout = Literal["documents", "lines"]
LAYOUTS = ("documents", "lines")
_READ = 2**20  # bytes of a file at a time
_LONGEST_LINE = 2**26  # bytes
_LONGEST_DOCUMENT = 2**21  # characters
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")


def read_documents(
    files: Iterable[str | Path], *, layout: Layout = "documents", columns: Columns = Columns()
) -> Iterator[str]:
    """The documents of files, in order, without those that are blank.

    A row of a `.jsonl`, `.tsv` or `.csv` file is a document, its text a column. All other files are plain text. One of
    more than two million characters is given in parts, which end where a line does.

    Args:
        files: paths, UTF-8, optionally `.gz`; "-" is stdin.
        layout: of plain text: "documents": blank lines stand between documents, and lines of a document may be broken
            anywhere between words; "lines": each line is a document.
        columns: of tables: the text's column, by default the first of the known names; if a `pair` column is named, its
            text goes on after a blank line.

    Raises:
        InputError: names the file, and the line where there is one, of what cannot be read; or a file has no document.
    """
    if layout not in LAYOUTS:
        raise InputError(f"read_documents: `layout` must be one of {', '.join(LAYOUTS)}. Received: {layout!r}")
    for file in map(str, files):
        path = Path("stdin" if file == "-" else file)
        format = table_format(path)
        with open_bytes(file) as source:
            if format is not None:
                documents = _of_table(path, source, format, columns)
            else:
                documents = _of_text(_texts(path, source), layout)
            is_empty = True
            for document in documents:
                for part in _bounded(document):
                    is_empty = False
                    yield part
        if is_empty:
            raise InputError(f"{path} is empty: it holds no document")


# === Plain text ===


def _texts(path: Path, source: BinaryIO) -> Iterator[str]:
    """The text of a file in pieces of whole lines."""
    rest, line = b"", 1
    while read := source.read(_READ):
        content = rest + read
        end = content.rfind(b"\n") + 1
        rest = content[end:]
        if end:
            yield decode(content[:end], path, first_line=line)
            line += content.count(b"\n")
        elif len(rest) > _LONGEST_LINE:
            raise InputError(f"{path}:{line}: a line of more than {_LONGEST_LINE:,} bytes: break it between sentences")
    yield decode(rest, path, first_line=line)


def _of_text(texts: Iterator[str], layout: Layout) -> Iterator[str]:
    if layout == "lines":
        for text in texts:
            yield from filter(str.strip, text.split("\n"))
        return
    begun = ""
    for text in texts:
        *whole, begun = _BLANK_LINES.split(begun + text)
        yield from filter(str.strip, whole)
        if len(begun) > _LONGEST_DOCUMENT:
            end = begun.rfind("\n", 0, -1) + 1
            if begun[:end].strip():
                yield begun[:end]
            begun = begun[end:]
    if begun.strip():
        yield begun


def _bounded(document: str) -> Iterator[str]:
    """A document in parts that are not too long, cut at the end of a line, or between words, or else anywhere."""
    while len(document) > _LONGEST_DOCUMENT:
        ends = (document.rfind(sign, 0, _LONGEST_DOCUMENT) for sign in "\n ")
        end = next((end for end in ends if end > 0), _LONGEST_DOCUMENT)
        yield document[:end]
        document = document[end:].lstrip()
    if document:
        yield document


# === Tables ===


def _of_table(path: Path, source: BinaryIO, format: str, columns: Columns) -> Iterator[str]:
    names: list[str] = []
    for number, row in _rows(path, source, format):
        if isinstance(row, str):
            raise InputError(f"{path}:{number}: {row}")
        if not names:
            names = _column_names(path, row, columns)
        texts = []
        for name in names:
            if name not in row:
                raise InputError(f"{path}:{number}: no {name!r}; name the column of the text with --text-column")
            value = row[name]
            if isinstance(value, str) and not value.strip():
                continue
            if problem := text_problem(name, value):
                raise InputError(f"{path}:{number}: {problem}")
            texts.append(str(value))
        if texts:
            yield "\n\n".join(texts)


def _rows(path: Path, source: BinaryIO, format: str) -> Iterator[Row]:
    lines = (decode(line, path, first_line=number) for number, line in enumerate(source, 1))
    first = next(lines, None)
    if first is None:
        return iter(())

    def again() -> Iterator[str]:
        yield first
        yield from lines

    return json_rows(again()) if format == ".jsonl" else table_rows(path, again(), format)


def _column_names(path: Path, row: Iterable[str], columns: Columns) -> list[str]:
    header = dict.fromkeys(row)
    names = [find_column(path, header, "text", columns.text, TEXT_COLUMNS, True)]
    if columns.pair is not None:
        names.append(find_column(path, header, "pair", columns.pair, PAIR_COLUMNS, True))
    return [name for name in names if name is not None]
