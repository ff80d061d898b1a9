"""The settings of a run: one dataclass gives the flags, the TOML keys and the record in the run folder."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from kbert.errors import InputError
from kbert.training.arithmetic import PRECISIONS, XLA, check_arithmetic
from kbert.training.strategies import check_devices


def setting(default: Any, help: str) -> Any:
    """A field, with the text that `--help` shows for it; its type is that of the default."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class RunSettings:
    """What every run is told; a subclass for each kind of run adds the rest.

    Fields are str, int, float, bool or tuples of str, and have defaults.
    """

    BESIDE_THE_MODEL: ClassVar[tuple[str, ...]] = ("out", "devices", "xla", "tensorboard", "checkpoint_steps")
    """Fields that may be others when the run is taken up again."""
    REQUIRED: ClassVar[tuple[str, ...]] = ("out",)
    """Fields without a default that would do."""

    out: str = setting("", "folder of the run; the same command given again goes on where it stopped")
    devices: str = setting(
        "", "cpu, cpu:N (logical CPUs), gpu or gpu:N (default: all GPUs, or the CPU); TF_CONFIG adds machines"
    )
    precision: str = setting(
        "auto", f"{', '.join(PRECISIONS)}: what steps compute in (auto: what suits the devices); weights are float32"
    )
    xla: str = setting("auto", f"{', '.join(XLA)}: let XLA compile the steps, on padded rows of one device (auto: off)")
    seed: int = setting(0, "fixes fresh weights, dropout, the order of the examples, and what is masked")
    tensorboard: bool = setting(False, "write TensorBoard logs to OUT/tensorboard (needs the extra `tensorboard`)")

    def __post_init__(self):
        self.check_present(*self.REQUIRED)
        check_devices(self.devices)
        check_arithmetic(self.precision, self.xla)

    def to_toml(self) -> str:
        """The settings as a file that `--config` reads."""
        # JSON's strings, numbers, booleans and arrays of them are TOML's too.
        fields = dataclasses.asdict(self)
        return "".join(f"{flag(name)} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items())

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """The inverse of `to_toml`."""
        return cls(**read_toml(path, cls))

    def differences(self, other: RunSettings) -> list[str]:
        """Which settings that decide the model differ from another run's, each with its value then and now."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return [
            f"--{flag(name)} {theirs[name]!r}, now {mine[name]!r}"
            for name in mine
            if mine[name] != theirs[name] and name not in self.BESIDE_THE_MODEL
        ]

    def check_present(self, *names: str) -> None:
        """Refuse settings without these."""
        missing = [f"--{flag(name)}" for name in names if not getattr(self, name)]
        if missing:
            verb, what = ("is", "it") if len(missing) == 1 else ("are", "them")
            raise InputError(f"{', '.join(missing)} {verb} missing: give {what} as flags or in the file of --config")

    def check_choice(self, name: str, choices: Sequence[str]) -> None:
        """Refuse a value that is none of `choices`."""
        value = getattr(self, name)
        if value not in choices:
            raise InputError(f"--{flag(name)} must be one of {', '.join(choices)}. Received: {value!r}")

    def check_least(self, least: int, *names: str) -> None:
        """Refuse values below `least`."""
        rule = "more than 0" if least == 1 else f"{least} or more"
        for name in names:
            if not getattr(self, name) >= least:
                raise InputError(f"--{flag(name)} must be {rule}. Received: {getattr(self, name)}")


def flag(name: str) -> str:
    """The name of a field on the command line and in TOML."""
    return name.replace("_", "-")


def read_toml(path: Path, kind: type[RunSettings]) -> dict[str, Any]:
    """The settings in a TOML file, checked for names and types.

    Raises:
        InputError: the file is not TOML, or a key or a type is not one of `kind`.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not TOML: {error}") from None
    fields = {flag(f.name): f for f in dataclasses.fields(kind)}
    settings = {}
    for key, value in content.items():
        known = fields.get(flag(key))
        if known is None:
            raise InputError(f"{path}: there is no setting {key!r}; known are {', '.join(fields)}")
        wanted = type(known.default)
        if wanted is float and type(value) is int:
            value = float(value)
        if wanted is tuple and type(value) is list and all(type(part) is str for part in value):
            value = tuple(value)
        if type(value) is not wanted:
            name = "list of str" if wanted is tuple else wanted.__name__
            raise InputError(f"{path}: {key} must be of type {name}. Received: {value!r}")
        settings[known.name] = value
    return settings
