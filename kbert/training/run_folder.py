"""The folder of a run: whose it is, and whether all machines mean the same run."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from kbert.errors import InputError
from kbert.files import read_json, replaced_files, write_json
from kbert.training import strategies
from kbert.training.arithmetic import Arithmetic
from kbert.training.run_settings import RunSettings

if TYPE_CHECKING:
    import tensorflow as tf


def check_run(
    settings: RunSettings,
    record: dict[str, Any],
    strategy: tf.distribute.Strategy,
    arithmetic: Arithmetic,
    beside: tuple[str, ...] = (),
) -> None:
    """Refuse what can be seen to be wrong before a run begins or goes on.

    Args:
        settings: of the run.
        record: what else decides the model, as JSON.
        strategy: all its machines call this at the same point.
        arithmetic: what the steps compute in.
        beside: names in the folder that may be there before a run has begun.

    Raises:
        InputError: the machines of TF_CONFIG differ, or the folder holds anything but this run, on this data.
    """
    if settings.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard needs tensorboard: pip install tensorboard")
    if not strategies.agree(strategy, settings.to_toml() + str(record)):
        raise InputError("the machines of TF_CONFIG have different settings or data: give all of them the same")
    if not strategies.agree(strategy, str(arithmetic)):
        raise InputError("the machines of TF_CONFIG have GPUs of different makes: name one --precision for all of them")
    if strategies.is_chief(strategy):
        _check_folder(Path(settings.out), settings, record, beside)


def _check_folder(out: Path, settings: RunSettings, record: dict[str, Any], beside: tuple[str, ...]) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: name a folder")
    for pattern in (".partial.*", *(f".{name}.*" for name in beside)):  # what an earlier run was killed over
        for path in out.glob(pattern):
            shutil.rmtree(path)
    if not out.exists() or all(path.name in beside for path in out.iterdir()):
        return
    if not has_begun(out):
        raise InputError(f"{out} is not empty and holds no run of kbert: choose another --out")
    differences = settings.differences(type(settings).from_toml(out / "settings.toml"))
    if differences:
        raise InputError(
            f"{out} holds a run with other settings ({'; '.join(differences)}): choose another --out, or remove it"
        )
    if read_json(out / "data.json") != record:
        raise InputError(f"{out} holds a run on other data (a file has changed since): choose another --out")


def has_begun(out: Path) -> bool:
    """Whether `begin_folder` has been here."""
    return (out / "data.json").exists()


def begin_folder(out: Path, settings: RunSettings, record: dict[str, Any]) -> None:
    """Say in the folder whose it is, once everything that can be wrong with a new run has been looked at."""
    with room_for(out), replaced_files(out, last="data.json") as partial:
        (partial / "settings.toml").write_text(settings.to_toml(), encoding="utf8")
        write_json(partial / "data.json", record)


@contextlib.contextmanager
def room_for(target: Path) -> Iterator[None]:
    """Say in one line that a file of a run could not be written.

    Raises:
        InputError: the disk is full, or something else keeps the block from writing `target`.
    """
    try:
        yield
    except InputError:
        raise
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            f"{target} cannot be written ({getattr(error, 'strerror', None) or error}): make room, and give the same "
            "command again; the run goes on from its last checkpoint"
        ) from None
