"""Documents of files: every format and layout, in pieces of any size, and errors that name file and line."""

from __future__ import annotations

import gzip
import io

import pytest

from kbert.data import documents
from kbert.data.documents import read_documents
from kbert.data.readers import Columns
from kbert.errors import InputError


def write(folder, name, content):
    path = folder / name
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


TEXT = "\ufeffOne, broken\ninto lines.\n\n\n第二。\r\n \t\r\n  Third\n\n"


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a", "a.md"])
@pytest.mark.parametrize("read", [1, 2, 3, 7, 2**20])
def test_blank_lines_stand_between_documents(tmp_path, monkeypatch, name, read):
    monkeypatch.setattr(documents, "_READ", read)
    found = [" ".join(text.split()) for text in read_documents([write(tmp_path, name, TEXT)])]
    assert [text.removeprefix("\ufeff") for text in found] == ["One, broken into lines.", "第二。", "Third"]


@pytest.mark.parametrize("read", [1, 5, 2**20])
def test_each_line_can_be_a_document(tmp_path, monkeypatch, read):
    monkeypatch.setattr(documents, "_READ", read)
    file = write(tmp_path, "a.txt", "one\n\n二 two\r\n \nthree")
    assert [text.strip() for text in read_documents([file], layout="lines")] == ["one", "二 two", "three"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"id": 1, "text": "say \\"hi"}\n\n{"text": " "}\n{"text": "好的\\n\\nyes"}\n'),
        ("a.jsonl.gz", '{"text": "say \\"hi"}\n{"text": "好的\\n\\nyes", "id": 2}'),
        ("a.csv", 'id,text\n1,"say ""hi"\n2,""\n3,"好的\n\nyes"\n'),
        ("a.csv.gz", 'text,id\r\n"say ""hi",1\r\n"好的\n\nyes",2\r\n'),
    ],
)
def test_rows_of_tables_are_documents(tmp_path, name, content):
    assert list(read_documents([write(tmp_path, name, content)])) == ['say "hi', "好的\n\nyes"]


def test_tsv_and_columns(tmp_path):
    file = write(tmp_path, "a.tsv", 'title\tbody\n"A\tfirst text\n"B\tsecond\n')
    assert list(read_documents([file], columns=Columns("body"))) == ["first text", "second"]
    both = list(read_documents([file], columns=Columns("title", "body")))
    assert both == ['"A\n\nfirst text', '"B\n\nsecond']


def test_files_follow_one_another(tmp_path):
    files = [write(tmp_path, "a.txt", "one\n\ntwo"), write(tmp_path, "b.jsonl", '{"text": "three"}')]
    assert list(read_documents(files)) == ["one", "two", "three"]


def test_stdin(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("一\n\ntwo".encode())))
    assert list(read_documents(["-"])) == ["一", "two"]


@pytest.mark.parametrize("read", [3, 11, 2**20])
def test_a_long_document_is_given_in_parts(tmp_path, monkeypatch, read):
    monkeypatch.setattr(documents, "_READ", read)
    monkeypatch.setattr(documents, "_LONGEST_DOCUMENT", 12)
    text = "one two\nthree four five six seven\n" + "x" * 30 + "\nend\n\nnext"
    parts = list(read_documents([write(tmp_path, "a.txt", text)]))
    assert max(map(len, parts)) <= 12
    words = " ".join(parts[:-1]).replace("x x", "xx").split()
    assert words == text.split()[:-1]
    assert parts[-1] == "next"


def test_a_file_is_never_in_memory(tmp_path, monkeypatch):
    """Of a file without end, the first documents come."""

    class Endless(io.RawIOBase):
        def read(self, size=-1):
            assert 0 < size <= 2**20
            return b"text\n\n" * 100

    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": Endless()}))
    found = read_documents(["-"])
    assert [next(found) for _ in range(250)] == ["text"] * 250


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.txt", b"fine\n\nf\xfcr\n", r"a\.txt:3: byte 0xfc is not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xfc"}', r"a\.jsonl:2: byte 0xfc is not UTF-8"),
        ("a.jsonl", '{"text": "a"}\n\n{"txt": "b"}', r"a\.jsonl:3: no 'text'"),
        ("a.jsonl", '{"txt": "a"}', r"a\.jsonl has no text column .*it has 'txt': name it with --text-column"),
        ("a.jsonl", '{"text": "a"}\n{"text": 3}', r"a\.jsonl:2: 'text' must be a text, not 3"),
        ("a.jsonl", '{"text": "a"}\n{"text": "\\ud800"}', r"a\.jsonl:2: 'text' holds half of a surrogate pair"),
        ("a.jsonl", '{"text": "a"}\nnot json', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", "[1]", r"a\.jsonl:1: not a JSON object"),
        ("a.tsv", "text\tid\na\n", r"a\.tsv:2: 1 fields where the header names 2"),
        ("a.csv", 'text\n"a', r"a\.csv:2: not CSV"),
        ("a.txt", "", r"a\.txt is empty"),
        ("a.txt", " \n\n \r\n", r"a\.txt is empty"),
        ("a.jsonl", "", r"a\.jsonl is empty"),
        ("a.csv", "text\n", r"a\.csv is empty"),
        ("a.txt.gz", "", r"a\.txt\.gz is empty"),
    ],
)
def test_bad_files(tmp_path, name, content, complaint):
    with pytest.raises(InputError, match=complaint) as error:
        list(read_documents([write(tmp_path, name, content)]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("read", [1, 4, 2**20])
def test_the_line_of_an_error_in_a_later_piece(tmp_path, monkeypatch, read):
    monkeypatch.setattr(documents, "_READ", read)
    with pytest.raises(InputError, match=r"a\.txt:4: byte 0xff"):
        list(read_documents([write(tmp_path, "a.txt", b"one\n\ntwo\nthr\xffee")]))


def test_what_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="cannot be read"):
        list(read_documents([tmp_path / "none.txt"]))
    damaged = tmp_path / "a.txt.gz"
    damaged.write_bytes(gzip.compress(b"some text " * 99)[:-9])
    with pytest.raises(InputError, match=r"a\.txt\.gz cannot be read"):
        list(read_documents([damaged]))
    with pytest.raises(InputError, match="`layout` must be one of documents, lines. Received: 'pages'"):
        list(read_documents([damaged], layout="pages"))
    monkeypatch.setattr(documents, "_READ", 4)
    monkeypatch.setattr(documents, "_LONGEST_LINE", 16)
    with pytest.raises(InputError, match=r"a\.txt:2: a line of more than 16 bytes"):
        list(read_documents([write(tmp_path, "a.txt", "short\n" + 30 * "x")]))
