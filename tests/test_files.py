"""Files are written whole or not at all, and what keeps them from it is one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kbert.errors import InputError
from kbert.files import replace_file


def test_an_old_file_is_replaced(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (b"one", b"two"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(self, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match=r"file cannot be written \(No space left on device\): make room, or choose"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_names_and_folders_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match=r"cannot be written \(File name too long\): make room, or choose another"):
        replace_file(tmp_path / ("x" * 300), b"")
    with pytest.raises(InputError, match="is a folder: name a file"):
        replace_file(tmp_path, b"")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file cannot be made a folder \(.+\): choose another target"):
        replace_file(tmp_path / "file" / "x", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
