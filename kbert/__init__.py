"""BERT on Keras 3 and TensorFlow, from raw text to an answer in production."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kbert.config import (
        AnswerConfig,
        BertConfig,
        ClassifyConfig,
        EmbedConfig,
        FillMaskConfig,
        TagConfig,
        TokenizerConfig,
    )
    from kbert.errors import InputError
    from kbert.mobile.litert import LiteRTEngine
    from kbert.modeling.encoder import BertEncoder
    from kbert.tasks.masked_lm import BertMaskedLM
    from kbert.tasks.question_answerer import BertQuestionAnswerer
    from kbert.tasks.text_classifier import BertTextClassifier
    from kbert.tasks.text_embedder import BertTextEmbedder, similarity
    from kbert.tasks.token_classifier import BertTokenClassifier
    from kbert.tokenization.tokenizer import BertTokenizer

__version__ = version("kbert")

# Where each public name lives. They are imported on first use, so that `import kbert` and `kbert --help` need no
# TensorFlow.
_HOMES = {
    "BertConfig": "kbert.config",
    "AnswerConfig": "kbert.config",
    "ClassifyConfig": "kbert.config",
    "EmbedConfig": "kbert.config",
    "FillMaskConfig": "kbert.config",
    "TagConfig": "kbert.config",
    "TokenizerConfig": "kbert.config",
    "InputError": "kbert.errors",
    "BertEncoder": "kbert.modeling.encoder",
    "BertTokenizer": "kbert.tokenization.tokenizer",
    "BertMaskedLM": "kbert.tasks.masked_lm",
    "BertQuestionAnswerer": "kbert.tasks.question_answerer",
    "BertTextClassifier": "kbert.tasks.text_classifier",
    "BertTextEmbedder": "kbert.tasks.text_embedder",
    "BertTokenClassifier": "kbert.tasks.token_classifier",
    "similarity": "kbert.tasks.text_embedder",
    "LiteRTEngine": "kbert.mobile.litert",
}

__all__ = [
    "AnswerConfig",
    "BertConfig",
    "BertEncoder",
    "BertMaskedLM",
    "BertQuestionAnswerer",
    "BertTextClassifier",
    "BertTextEmbedder",
    "BertTokenClassifier",
    "BertTokenizer",
    "ClassifyConfig",
    "EmbedConfig",
    "FillMaskConfig",
    "InputError",
    "LiteRTEngine",
    "TagConfig",
    "TokenizerConfig",
    "similarity",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kbert' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
