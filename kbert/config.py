"""What a model is, as frozen dataclasses with a JSON form; nothing here imports TensorFlow.

Legend of dimensions, used in every shape comment of the package:

    B batch   T tokens of the longest row   R real tokens of the whole batch   D hidden   I intermediate
    N attention heads   H = D / N head size   V vocabulary   S segments   C classes   P positions
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class BertConfig:
    """The architecture of a BERT encoder (Devlin et al. 2018, section 3).

    Every constant that changes a number in the forward pass stands here and is passed on explicitly.
    """

    vocabulary_size: int
    """Rows of the word embedding table, V."""
    num_layers: int
    """Transformer blocks."""
    num_heads: int
    """Attention heads per block, N; divides `hidden_dim`."""
    hidden_dim: int
    """Width of the encoder's vectors, D."""
    intermediate_dim: int
    """Width of the feed-forward layer inside a block, I."""
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
        if self.activation not in ACTIVATIONS:
            raise InputError(f"BertConfig: `activation` must be one of {ACTIVATIONS}. Received: {self.activation!r}")
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


@dataclass(frozen=True)
class TaskConfig:
    """What a fine-tuned model answers; a bare encoder has none."""

    task: str
    """The verb of the command line that trains it: "classify"."""
    labels: tuple[str, ...]
    """Class names by index."""
    pair: bool = False
    """Whether the model reads `text` and `text_pair`, not `text` alone."""
    max_length: int = 128
    """Longest input in tokens, special tokens included; longer texts are truncated."""

    def __post_init__(self):
        if self.max_length < 3:
            raise InputError(f"TaskConfig: `max_length` must be at least 3. Received: {self.max_length}")
        if len(set(self.labels)) != len(self.labels):
            raise InputError(f"TaskConfig: `labels` must differ from each other. Received: {self.labels}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict, ready for JSON."""
        return {**dataclasses.asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> TaskConfig:
        """The inverse of `to_dict`."""
        return cls(**{**fields, "labels": tuple(fields["labels"])})
