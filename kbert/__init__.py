"""BERT on Keras 3 and TensorFlow, from raw text to an answer in production."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kbert.config import BertConfig, TaskConfig, TokenizerConfig
    from kbert.errors import InputError
    from kbert.export.litert import LiteRTEngine
    from kbert.modeling.encoder import BertEncoder
    from kbert.tasks.text_classifier import BertTextClassifier
    from kbert.tokenization.tokenizer import BertTokenizer

__version__ = version("kbert")

# Where each public name lives. They are imported on first use, so that `import kbert` and `kbert --help` need no
# TensorFlow.
_HOMES = {
    "BertConfig": "kbert.config",
    "TaskConfig": "kbert.config",
    "TokenizerConfig": "kbert.config",
    "InputError": "kbert.errors",
    "BertEncoder": "kbert.modeling.encoder",
    "BertTokenizer": "kbert.tokenization.tokenizer",
    "BertTextClassifier": "kbert.tasks.text_classifier",
    "LiteRTEngine": "kbert.export.litert",
}

__all__ = [
    "BertConfig",
    "BertEncoder",
    "BertTextClassifier",
    "BertTokenizer",
    "InputError",
    "LiteRTEngine",
    "TaskConfig",
    "TokenizerConfig",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kbert' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
