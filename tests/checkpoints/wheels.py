"""Wheels made for a test."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path


def write_wheel(
    folder: Path,
    files: dict[str, bytes],
    name: str = "toy",
    version: str = "1.2",
    record: dict[str, bytes] | None = None,
    extra: Sequence[tuple[zipfile.ZipInfo, bytes]] = (),
) -> Path:
    """Write a wheel that pip accepts.

    Args:
        folder: made if missing.
        files: path in the wheel -> content.
        name: of the package.
        version: of the package.
        record: contents whose hashes RECORD states in place of the true ones.
        extra: members that RECORD does not list.
    """
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, content in {**files, **(record or {})}.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(content)}")
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        for member, content in extra:
            archive.writestr(member, content)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]))
    return wheel
