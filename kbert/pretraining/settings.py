"""The settings of a pretraining run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kbert.config import MASK_UNITS, PAIR_TASKS, SIZES, is_size
from kbert.data.documents import LAYOUTS
from kbert.errors import InputError
from kbert.pretraining.stages import Stage, stages_of
from kbert.training.recipe import FIELDS, complaints
from kbert.training.run_settings import RunSettings, flag, setting

DECAYS = ("linear", "cosine")
_WIDE = 768  # from here on BERT's own rate; narrower encoders bear, and want, a higher one


@dataclass(frozen=True)
class PretrainSettings(RunSettings):
    """Everything that a pretraining run is told. Rates are fractions, lengths and batches tokens."""

    REQUIRED = ("corpus", *RunSettings.REQUIRED)
    BESIDE_THE_MODEL = (*RunSettings.BESIDE_THE_MODEL, "keep_checkpoints", "processes")

    corpus: tuple[str, ...] = setting(
        (), "text files, or .tsv, .csv or .jsonl files, of which the texts are read, plain or .gz"
    )
    vocab: str = setting("", "file with one token a line, as `kbert vocab` writes it")
    cased: bool = setting(False, "keep upper case and accents; as `kbert vocab` was told")
    size: str = setting(
        "", f"of the fresh model: {', '.join(SIZES)}, or FILE.json with a config of Hugging Face's or ours"
    )
    model: str = setting("", "preset to pretrain further, instead of --vocab and --size")
    steps: int = setting(100_000, "optimizer steps")
    batch_tokens: int = setting(
        16_384, "tokens of an optimizer step, padding not counted, on all devices together (BERT: 131072)"
    )
    gradient_accumulation_steps: int = setting(1, "parts that a step is computed in, in the memory of one")
    lengths: str = setting("128", "longest sequences: 128, or 128:0.9,512:0.1 for 90 %% of the steps at 128, then 512")
    learning_rate: float = setting(
        0.0,
        "peak of AdamW; 0: 5e-4 for encoders below 768 wide (ELECTRA-Small's), else 1e-4 (BERT's); 5e-5 with --model",
    )
    warmup_rate: float = setting(0.05, FIELDS["warmup_rate"].metadata["help"])
    decay: str = setting("linear", f"how the learning rate falls after that: {', '.join(DECAYS)}")
    weight_decay: float = setting(0.01, FIELDS["weight_decay"].metadata["help"])
    clip_norm: float = setting(1.0, "largest norm of all gradients together")
    mask_rate: float = setting(0.15, "tokens to guess")
    mask_unit: str = setting("word", "what is hidden at once: token, word (all pieces of a word) or span (of words)")
    pairs: str = setting(
        "none",
        f"{', '.join(PAIR_TASKS)}: a second task, whether two texts follow each other (nsp: BERT's) or which comes "
        "first (sop: ALBERT's); none: without it models are no worse (RoBERTa), and rows hold one text",
    )
    across_documents: bool = setting(False, "let a sequence go on in the next document, so that fewer are short")
    segmenter: str = setting("", "splits texts without blanks into words, for --mask-unit word: jieba for Chinese")
    layout: str = setting(
        "documents", f"{' or '.join(LAYOUTS)}, of plain text: what ends a document, a blank line or each"
    )
    text_column: str = setting("", "column of the text")
    pair_column: str = setting("", "column of the second text")
    held_out: float = setting(0.01, "part of the documents that is not trained on, but evaluated on")
    evaluation_steps: int = setting(1000, "optimizer steps between evaluations on the held-out part")
    checkpoint_steps: int = setting(
        1000, "optimizer steps between checkpoints, besides one after each evaluation; 0: none"
    )
    keep_checkpoints: int = setting(
        2, "checkpoints to keep while the run goes on, besides the best by the held-out loss"
    )
    processes: int = setting(0, "that tokenize the corpus; 0: half as many as there are cores, at most 8")

    def __post_init__(self):
        super().__post_init__()
        if self.model and (self.vocab or self.size):
            raise InputError("--model brings its own vocabulary and size: leave --vocab and --size away")
        if not self.model:
            self.check_present("vocab", "size")
            if not is_size(self.size):
                raise InputError(f"--size must be one of {', '.join(SIZES)}, or FILE.json. Received: {self.size!r}")
        self.check_least(
            1, "steps", "batch_tokens", "gradient_accumulation_steps", "evaluation_steps", "keep_checkpoints"
        )
        self.check_least(0, "checkpoint_steps", "processes", "learning_rate")
        for name, complaint in complaints({"warmup_rate": self.warmup_rate, "weight_decay": self.weight_decay}):
            raise InputError(f"--{flag(name)} {complaint}")
        for name in ("learning_rate", "clip_norm"):
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"--{flag(name)} must be a finite number. Received: {getattr(self, name)}")
        if not self.clip_norm > 0:
            raise InputError(f"--clip-norm must be more than 0. Received: {self.clip_norm}")
        for name in ("held_out", "mask_rate"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"--{flag(name)} must be more than 0 and less than 1. Received: {getattr(self, name)}")
        self.check_choice("mask_unit", MASK_UNITS)
        self.check_choice("pairs", PAIR_TASKS)
        self.check_choice("decay", DECAYS)
        self.check_choice("layout", LAYOUTS)
        if self.pairs != "none" and self.across_documents:
            raise InputError("--pairs and --across-documents do not go together: pairs are of one document each")
        if self.longest > self.batch_tokens:
            raise InputError(f"--batch-tokens must be at least the longest of --lengths. Received: {self.batch_tokens}")
        if self.xla == "on" and len(self.stages) > 1:
            raise InputError("--xla on compiles for sequences of one length: name one with --lengths")
        if self.xla == "on" and self.gradient_accumulation_steps > 1:
            raise InputError("--xla on and --gradient-accumulation-steps do not go together: leave one of them away")

    @property
    def stages(self) -> list[Stage]:
        """What --lengths says, in optimizer steps."""
        return stages_of(self.lengths, self.steps)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence in the run."""
        return max(stage.length for stage in self.stages)

    def peak_rate(self, hidden_dim: int) -> float:
        """The learning rate, where it is not given that which suits a model so wide."""
        if self.learning_rate:
            return self.learning_rate
        return 5e-5 if self.model else 5e-4 if hidden_dim < _WIDE else 1e-4
