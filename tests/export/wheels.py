"""TensorFlow's and tf-text's wheels of other versions, unpacked: their shared libraries, without installing them.

`tensorflow-cpu` 2.19.1 lacks symbols that tf-text's kernels look for in it, so that its full wheel (0.6 GB) is taken.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

# Shared objects of tf-text whose kernels TF Serving up to 2.19.1 has not linked.
_NEWER_KERNELS = ("_trimmer_ops.so", "_utf8_binarize_op.so")


@dataclass(frozen=True)
class Wheels:
    """Wheels that come closest to one TF Serving."""

    serving: str
    """TF Serving's version."""
    tensorflow: str
    """The wheel of TensorFlow whose library loads the kernels of `text`."""
    text: str
    """The newest tf-text with kernels for that TensorFlow."""
    left_out: tuple[str, ...] = ()
    """Kernels of `text` that TF Serving lacks."""


RUNTIMES = (
    Wheels("2.19", "tensorflow==2.19.1", "tensorflow-text==2.19.0", _NEWER_KERNELS),
    Wheels("2.20", "tensorflow-cpu==2.20.0", "tensorflow-text==2.20.0"),
)


def unpacked(requirement: str, folder: Path) -> Path:
    """A wheel's shared objects and headers, downloaded by pip if they are not in `folder` yet."""
    target = folder / requirement.replace("==", "-")
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--python-version", "3.11", "--dest", folder, requirement], check=True)
        name, _, version = requirement.partition("==")
        (wheel,) = folder.glob(f"{name.replace('-', '_')}-{version}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            wanted = [m for m in archive.namelist() if ".so" in m or m.endswith(("/version.h", "/release_version.h"))]
            archive.extractall(target, wanted)
        wheel.unlink()
    return target


def libraries(requirement: str, folder: Path) -> Path:
    """The folder of TensorFlow's C library."""
    return unpacked(requirement, folder) / "tensorflow"


def kernels(requirement: str, folder: Path, left_out: tuple[str, ...] = ()) -> list[Path]:
    """The shared objects of tf-text that a TF Serving of its version has linked."""
    found = sorted((unpacked(requirement, folder) / "tensorflow_text").glob("python/*/_*.so"))
    return [path for path in found if path.name not in left_out]
