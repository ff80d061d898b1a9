"""The settings of a fine-tuning run: one dataclass gives the flags, the TOML keys and the record in the run folder."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from kbert.config import POOLINGS, TAG_HEADS
from kbert.errors import InputError
from kbert.training.arithmetic import PRECISIONS, XLA, check_arithmetic
from kbert.training.recipe import FIELDS, complaints
from kbert.training.strategies import check_devices


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


def _of_recipe(name: str) -> Any:
    return _setting(FIELDS[name].default, FIELDS[name].metadata["help"])


_BESIDE_THE_MODEL = ("out", "checkpoint_steps", "tensorboard", "devices", "xla")


@dataclass(frozen=True)
class FinetuneSettings:
    """Everything that a fine-tuning run is told, whatever the task. Rates are fractions, lengths tokens."""

    task: ClassVar[str]
    """The verb of the command line."""

    model: str = _setting(
        "", "preset to start from: a folder, hf://…, pypi://…, kaggle://… or a name of `kbert presets`"
    )
    train: str = _setting("", "file to train on, optionally .gz")
    dev: str = _setting("", "file to evaluate on after each epoch")
    out: str = _setting("", "folder of the run; the same command given again goes on where it stopped")
    epochs: int = _setting(3, "passes over the training file")
    learning_rate: float = _of_recipe("learning_rate")
    batch_size: int = _setting(32, "examples of a batch, on all devices together; each device computes its share")
    gradient_accumulation_steps: int = _setting(1, "batches per optimizer step, in the memory of one")
    max_length: int = _setting(128, "longest row in tokens")
    warmup_rate: float = _of_recipe("warmup_rate")
    weight_decay: float = _of_recipe("weight_decay")
    layer_decay: float = _of_recipe("layer_decay")
    frozen_layers: int = _of_recipe("frozen_layers")
    fgm: float = _of_recipe("fgm")
    best_metric: str = _setting(
        "", "keep the epoch that is best by this metric on the dev file, say accuracy (default: the last)"
    )
    patience: int = _setting(0, "epochs without a better --best-metric after which the run ends; 0: none")
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
    skip_bad_lines: bool = _setting(False, "count bad lines and go on instead of stopping at the first")
    checkpoint_steps: int = _setting(1000, "optimizer steps between checkpoints, besides one after each epoch; 0: none")
    tensorboard: bool = _setting(False, "write TensorBoard logs to OUT/tensorboard (needs the extra `tensorboard`)")

    def __post_init__(self):
        for name in ("model", "train", "dev", "out"):
            if not getattr(self, name):
                raise InputError(f"--{name} is missing: give it as a flag or in the file of --config")
        check_devices(self.devices)
        check_arithmetic(self.precision, self.xla)
        for name, complaint in complaints(self.recipe()):
            raise InputError(f"--{flag(name)} {complaint}")
        for name in ("epochs", "batch_size", "gradient_accumulation_steps"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{flag(name)} must be more than 0. Received: {getattr(self, name)}")
        for name in ("checkpoint_steps", "patience"):
            if getattr(self, name) < 0:
                raise InputError(f"--{flag(name)} must be 0 or more. Received: {getattr(self, name)}")
        if self.patience and not self.best_metric:
            raise InputError("--patience needs --best-metric, which says what a better epoch is")
        if self.xla == "on" and self.gradient_accumulation_steps > 1:
            raise InputError("--xla on and --gradient-accumulation-steps do not go together: leave one of them away")
        if self.max_length < 3:
            raise InputError(f"--max-length must be 3 or more. Received: {self.max_length}")

    def recipe(self) -> dict[str, Any]:
        """What `compile` is told."""
        return {name: getattr(self, name) for name in FIELDS if hasattr(self, name)}

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


@dataclass(frozen=True)
class ClassifySettings(FinetuneSettings):
    """One label, several or a number for a text or a pair of texts."""

    task = "classify"
    text_column: str = _setting("", "column of the text (default: text, sentence, sentence1 or text_a)")
    pair_column: str = _setting("", "column of the second text (default: text_pair, sentence2 or text_b, if there)")
    label_column: str = _setting("", "column of the label (default: label, or score with --regression)")
    label_smoothing: float = _of_recipe("label_smoothing")
    r_drop: float = _of_recipe("r_drop")
    multi_label: bool = _setting(False, "any number of labels a text")
    regression: bool = _setting(False, "a number for each text instead of a label")
    class_weights: str = _setting("", 'balanced: each class counts as much as any other; or JSON, {"label": 2.5, …}')

    def __post_init__(self):
        super().__post_init__()
        if self.multi_label and self.regression:
            raise InputError("--multi-label and --regression exclude each other")
        if self.class_weights and self.problem != "single_label":
            raise InputError("--class-weights are for texts of one label each")
        self.weights_by_label([])

    @property
    def problem(self) -> str:
        """As in `ClassifyConfig`."""
        return "regression" if self.regression else "multi_label" if self.multi_label else "single_label"

    def weights_by_label(self, labels: Sequence[str]) -> dict[str, float] | None:
        """What an example of each label counts.

        Args:
            labels: those of all examples.
        """
        if not self.class_weights:
            return None
        if self.class_weights == "balanced":
            counts = Counter(labels)
            return {label: len(labels) / (len(counts) * count) for label, count in counts.items()}
        try:
            weights = {label: float(weight) for label, weight in json.loads(self.class_weights).items()}
        except (ValueError, TypeError, AttributeError):
            raise InputError(
                f'--class-weights must be "balanced" or a JSON object of numbers. Received: {self.class_weights!r}'
            ) from None
        return weights


@dataclass(frozen=True)
class TagSettings(FinetuneSettings):
    """Entities in texts; windows of --max-length tokens slide over longer ones."""

    task = "tag"
    head: str = _setting("dense", f"what stands on the encoder: {', '.join(TAG_HEADS)}")
    label_smoothing: float = _of_recipe("label_smoothing")
    r_drop: float = _of_recipe("r_drop")

    def __post_init__(self):
        super().__post_init__()
        _check_choice(self, "head", TAG_HEADS)


@dataclass(frozen=True)
class AnswerSettings(FinetuneSettings):
    """The part of a context that answers a question; windows of --max-length tokens slide over long contexts."""

    task = "answer"
    max_length: int = _setting(384, "longest row in tokens, question and part of the context")
    max_answer_length: int = _setting(30, "longest answer in tokens")

    def __post_init__(self):
        super().__post_init__()
        if self.max_length < 4:
            raise InputError(f"--max-length must be 4 or more. Received: {self.max_length}")
        if self.max_answer_length < 1:
            raise InputError(f"--max-answer-length must be 1 or more. Received: {self.max_answer_length}")


@dataclass(frozen=True)
class EmbedSettings(FinetuneSettings):
    """A vector for a text, learnt from pairs of texts that are alike."""

    task = "embed"
    text_column: str = _setting("", "column of the text (default: text, sentence, sentence1 or text_a)")
    pair_column: str = _setting("", "column of the second text (default: text_pair, sentence2 or text_b)")
    label_column: str = _setting("", "column of how alike they are (default: score or label; none: all are)")
    pooling: str = _setting("mean", f"how the vectors of tokens become one: {', '.join(POOLINGS)}")

    def __post_init__(self):
        super().__post_init__()
        _check_choice(self, "pooling", POOLINGS)


SETTINGS: tuple[type[FinetuneSettings], ...] = (ClassifySettings, TagSettings, AnswerSettings, EmbedSettings)


def _check_choice(settings: FinetuneSettings, name: str, choices: tuple[str, ...]) -> None:
    if getattr(settings, name) not in choices:
        value = getattr(settings, name)
        raise InputError(f"--{flag(name)} must be one of {', '.join(choices)}. Received: {value!r}")


def flag(name: str) -> str:
    """The name of a field on the command line and in TOML."""
    return name.replace("_", "-")


def read_toml(path: Path, kind: type[FinetuneSettings]) -> dict[str, Any]:
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
        if type(value) is not wanted:
            raise InputError(f"{path}: {key} must be of type {wanted.__name__}. Received: {value!r}")
        settings[known.name] = value
    return settings
