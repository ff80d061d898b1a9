"""What a model is, as frozen dataclasses with a JSON form; nothing here imports TensorFlow.

Legend of dimensions, used in every shape comment of the package:

    B batch   T tokens of the longest row   R real tokens of the whole batch   D hidden   I intermediate
    N attention heads   H = D / N head size   V vocabulary   S segments   C classes   P positions
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from kbert.errors import InputError

ACTIVATIONS = ("gelu", "gelu_approximate", "relu")
SIZES = {
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
    "large": (24, 1024),
}
"""Layers and hidden width of the published BERTs (Devlin et al. 2018; Turc et al. 2019). Their heads are 64 wide, their
feed-forward layers four times the hidden width."""


def is_size(text: str) -> bool:
    """Whether a text names the size of a fresh model: one of `SIZES`, or a file FILE.json with its config."""
    return text in SIZES or text.endswith(".json")


POSITION_EMBEDDINGS = ("learned", "sinusoidal")
# Vectors of `hidden_dim` that stand side by side in what an encoder gives.
_VECTORS = {"transformer": 1, "bilstm": 2}
ENCODER_TYPES = tuple(_VECTORS)


@dataclass(frozen=True)
class BertConfig:
    """The architecture of a BERT encoder (Devlin et al. 2018, section 3), or of the light one with a BiLSTM.

    Every constant that changes a number in the forward pass stands here and is passed on explicitly.
    """

    vocabulary_size: int
    """Rows of the word embedding table, V."""
    num_layers: int
    """Transformer blocks; 1 for the light encoder, which has one self-attention layer."""
    num_heads: int
    """Attention heads per block, N; divides `hidden_dim`."""
    hidden_dim: int
    """Width of the encoder's vectors, D; of one direction of a BiLSTM."""
    intermediate_dim: int
    """Width of the feed-forward layer inside a block, I; the light encoder has none."""
    max_sequence_length: int = 512
    """Rows of the position table, P: the longest input in tokens."""
    num_segments: int = 2
    """Rows of the segment table, S."""
    activation: str = "gelu"
    """Feed-forward activation: "gelu" (exact, erf), "gelu_approximate" (tanh) or "relu"."""
    dropout_rate: float = 0.1
    """Probability of dropping a hidden value, after the embeddings and before each residual sum."""
    attention_dropout_rate: float = 0.1
    """Probability of dropping an attention weight."""
    initializer_range: float = 0.02
    """Standard deviation of the truncated normal that fresh weights are drawn from."""
    layer_norm_epsilon: float = 1e-12
    """Added to the variance in every layer norm."""
    embedding_dim: int | None = None
    """Width of the embedding tables where it differs from `hidden_dim` (a projection follows); None: the same."""
    encoder_type: str = "transformer"
    """"transformer" (BERT) or "bilstm", the light encoder: one self-attention layer and a BiLSTM."""
    position_embedding: str = "learned"
    """"learned" (BERT's table) or "sinusoidal" (Vaswani et al. 2017, section 3.5: no weights)."""

    def __post_init__(self):
        sizes = ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim")
        for name in (*sizes, "max_sequence_length", "num_segments", "embedding_dim"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"BertConfig: `{name}` must be at least 1. Received: {getattr(self, name)}")
        if self.hidden_dim % self.num_heads:
            raise InputError(
                "BertConfig: `num_heads` must divide `hidden_dim`. "
                f"Received: num_heads={self.num_heads}, hidden_dim={self.hidden_dim}"
            )
        choices = {
            "activation": ACTIVATIONS,
            "encoder_type": ENCODER_TYPES,
            "position_embedding": POSITION_EMBEDDINGS,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(f"BertConfig: `{name}` must be one of {known}. Received: {getattr(self, name)!r}")
        if self.encoder_type == "bilstm" and self.num_layers != 1:
            raise InputError(
                f"BertConfig: `num_layers` must be 1 where `encoder_type` is 'bilstm'. Received: {self.num_layers}"
            )
        for name in ("dropout_rate", "attention_dropout_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"BertConfig: `{name}` must be in [0, 1). Received: {getattr(self, name)}")

    @classmethod
    def of_size(cls, size: str, vocabulary_size: int) -> BertConfig:
        """The architecture of one of `SIZES`, with Google's constants."""
        if size not in SIZES:
            raise InputError(f"there is no size {size!r}; known are {', '.join(SIZES)}")
        num_layers, hidden_dim = SIZES[size]
        return cls(vocabulary_size, num_layers, hidden_dim // 64, hidden_dim, 4 * hidden_dim)

    @property
    def head_dim(self) -> int:
        """Width of one attention head, H."""
        return self.hidden_dim // self.num_heads

    @property
    def output_dim(self) -> int:
        """Width of the vectors that the encoder gives: D, twice that with a BiLSTM."""
        return self.hidden_dim * _VECTORS[self.encoder_type]

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> BertConfig:
        """The inverse of `to_dict`."""
        return cls(**fields)


@dataclass(frozen=True)
class TokenizerConfig:
    """How text becomes word pieces; the names are those of Hugging Face's `tokenizer_config.json`."""

    do_lower_case: bool = True
    """Lower-case the text (an "uncased" model)."""
    strip_accents: bool | None = None
    """Decompose (NFD) and drop combining marks; None: as `do_lower_case` says."""
    tokenize_chinese_chars: bool = True
    """Make every CJK ideograph a word of its own."""
    unk_token: str = "[UNK]"
    """Stands for a word that the vocabulary cannot spell."""
    sep_token: str = "[SEP]"
    """Ends every segment."""
    pad_token: str = "[PAD]"
    """Fills short rows."""
    cls_token: str = "[CLS]"
    """Begins every row."""
    mask_token: str = "[MASK]"
    """Hides a word in masked language modelling."""

    @property
    def strips_accents(self) -> bool:
        """`strip_accents` with its default resolved."""
        return self.do_lower_case if self.strip_accents is None else self.strip_accents

    @property
    def special_tokens(self) -> tuple[str, str, str, str, str]:
        """The special tokens in the order in which BERT's vocabularies list them."""
        return (self.pad_token, self.unk_token, self.cls_token, self.sep_token, self.mask_token)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict, ready for JSON."""
        return dataclasses.asdict(self)


PROBLEMS = ("single_label", "multi_label", "regression")
TAG_HEADS = ("dense", "crf", "bilstm", "bilstm-crf")
POOLINGS = ("mean", "cls")
MASK_UNITS = ("token", "word", "span")
"""What pretraining hides at once."""
PAIR_TASKS = ("none", "nsp", "sop")
"""What pretraining asks about two segments: next-sentence prediction, or sentence-order prediction."""


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What a fine-tuned model answers; a bare encoder has none. There is a subclass for each task."""

    task: ClassVar[str]
    """The verb of the command line that trains it."""
    max_length: int = 128
    """Longest input in tokens, special tokens included."""

    def __post_init__(self):
        if self.max_length < 3:
            raise InputError(f"{type(self).__name__}: `max_length` must be at least 3. Received: {self.max_length}")
        labels = getattr(self, "labels", ())
        if len(set(labels)) != len(labels):
            raise InputError(f"{type(self).__name__}: `labels` must differ from each other. Received: {labels}")

    def to_dict(self) -> dict[str, Any]:
        """The task and its fields as a plain dict, ready for JSON."""
        fields = dataclasses.asdict(self)
        return {"task": self.task} | {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> TaskConfig:
        """The inverse of `to_dict`: an instance of the task's own subclass."""
        known = {config.task: config for config in TaskConfig.__subclasses__()}
        if fields["task"] not in known:
            raise InputError(f"there is no task {fields['task']!r}; known are {', '.join(known)}")
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in fields.items() if name != "task"
        }
        return known[fields["task"]](**values)


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(TaskConfig):
    """Labels or a number for a text or a pair of texts; longer ones are truncated."""

    task = "classify"
    labels: tuple[str, ...] = ()
    """Class names by index; none for regression."""
    pair: bool = False
    """Whether the model reads `text` and `text_pair`, not `text` alone."""
    problem: str = "single_label"
    """"single_label": one class a text; "multi_label": any number of them; "regression": a number."""

    def __post_init__(self):
        super().__post_init__()
        _check_choice(self, "problem", PROBLEMS)
        fewest = {"single_label": 2, "multi_label": 1, "regression": 0}[self.problem]
        if len(self.labels) < fewest:
            raise InputError(f"a classifier needs {fewest} labels or more. Received: {list(self.labels)}")
        if self.problem == "regression" and self.labels:
            raise InputError(f"regression has no labels. Received: {list(self.labels)}")

    @property
    def num_outputs(self) -> int:
        """Logits of a text."""
        return len(self.labels) or 1


@dataclass(frozen=True, kw_only=True)
class TagConfig(TaskConfig):
    """Entities in a text of any length, over which windows slide."""

    task = "tag"
    labels: tuple[str, ...]
    """Tags by index: "O", "B-LOC", "I-LOC", …"""
    head: str = "dense"
    """What stands on the encoder: "dense", "crf", "bilstm" or "bilstm-crf"."""

    def __post_init__(self):
        super().__post_init__()
        _check_choice(self, "head", TAG_HEADS)
        if len(self.labels) < 1:
            raise InputError(f"a tagger needs tags or more. Received: {list(self.labels)}")

    @property
    def has_crf(self) -> bool:
        """Whether the tags of a row are decoded by a CRF."""
        return "crf" in self.head

    def bilstm_units(self, config: BertConfig) -> int | None:
        """The width, in a direction, of the BiLSTM above an encoder; None: there is none."""
        return config.output_dim // 2 if "bilstm" in self.head else None


@dataclass(frozen=True, kw_only=True)
class AnswerConfig(TaskConfig):
    """The part of a context, over which windows slide, that answers a question."""

    task = "answer"
    max_length: int = 384
    max_answer_length: int = 30
    """Longest answer in tokens."""
    no_answer: bool = False
    """Whether a question may have no answer in its context (SQuAD 2.0)."""

    def __post_init__(self):
        super().__post_init__()
        if self.max_length < 4:
            raise InputError(f"AnswerConfig: `max_length` must be at least 4. Received: {self.max_length}")
        if self.max_answer_length < 1:
            raise InputError(
                f"AnswerConfig: `max_answer_length` must be at least 1. Received: {self.max_answer_length}"
            )


@dataclass(frozen=True, kw_only=True)
class EmbedConfig(TaskConfig):
    """A vector for a text; longer ones are truncated."""

    task = "embed"
    pooling: str = "mean"
    """"mean" over the real tokens, or "cls": the first token's vector."""
    score_scale: float = 1.0
    """The score of a pair that means a cosine of 1."""

    def __post_init__(self):
        super().__post_init__()
        _check_choice(self, "pooling", POOLINGS)
        if not 0 < self.score_scale < float("inf"):
            raise InputError(f"EmbedConfig: `score_scale` must be more than 0. Received: {self.score_scale}")


@dataclass(frozen=True, kw_only=True)
class FillMaskConfig(TaskConfig):
    """Words for each mask in a text; longer ones are truncated."""

    task = "fill-mask"
    top_k: int = 5
    """Candidates for a mask."""

    def __post_init__(self):
        super().__post_init__()
        if self.top_k < 1:
            raise InputError(f"FillMaskConfig: `top_k` must be at least 1. Received: {self.top_k}")


def _check_choice(config: TaskConfig, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(config, name)
    if value not in choices:
        raise InputError(f"{type(config).__name__}: `{name}` must be one of {', '.join(choices)}. Received: {value!r}")
