"""Which class of transformers a task's model is, and what its config.json says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kbert.config import AnswerConfig, BertConfig, ClassifyConfig, EmbedConfig, FillMaskConfig, TagConfig, TaskConfig
from kbert.errors import InputError
from kbert.files import read_json

_ARCHITECTURES = {
    ClassifyConfig.task: "BertForSequenceClassification",
    TagConfig.task: "BertForTokenClassification",
    AnswerConfig.task: "BertForQuestionAnswering",
    FillMaskConfig.task: "BertForMaskedLM",
    EmbedConfig.task: "BertModel",
}
_ENCODER = "BertModel"
_WITH_PAIRS = "BertForPreTraining"

_PROBLEMS = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


def architecture_of(task: TaskConfig | None, tensors: Iterable[str]) -> str:
    """The class of transformers for a model of these tensors; a masked LM may score pairs as well."""
    if isinstance(task, FillMaskConfig) and "next_sentence/kernel" in tensors:
        return _WITH_PAIRS
    return _ARCHITECTURES[task.task] if task else _ENCODER


def architectures_of(task: TaskConfig) -> tuple[str, ...]:
    """The classes of transformers that a model of the task may be written as."""
    return (_ARCHITECTURES[task.task], *((_WITH_PAIRS,) if isinstance(task, FillMaskConfig) else ()))


def opens_in_transformers(config: BertConfig, task: TaskConfig | None) -> bool:
    """Whether transformers has the whole model; of what it has not, it opens nothing rather than a part."""
    has_head = not isinstance(task, TagConfig) or task.head == "dense"
    return has_head and (config.encoder_type, config.position_embedding, config.embedding_dim) == (
        "transformer",
        "learned",
        None,
    )


def task_keys(task: TaskConfig) -> dict[str, Any]:
    """The keys of config.json that say what the model answers."""
    keys: dict[str, Any] = {}
    if isinstance(task, ClassifyConfig):
        keys["problem_type"] = _PROBLEMS[task.problem]
    if isinstance(task, ClassifyConfig | TagConfig):
        # transformers counts labels by these names, one for a regression too.
        labels = task.labels or ("LABEL_0",)
        keys["id2label"] = {str(i): label for i, label in enumerate(labels)}
        keys["label2id"] = {label: i for i, label in enumerate(labels)}
    return keys


def task_from_keys(keys: dict[str, Any], folder: Path, max_length: int) -> TaskConfig | None:
    """The task that a foreign config.json names; None for a bare encoder and for what kbert has no task for.

    Args:
        keys: of config.json.
        folder: for messages.
        max_length: the rows of the position table.
    """
    for architecture in keys.get("architectures") or ():
        if architecture in _READERS:
            return _READERS[architecture](keys, folder, max_length)
    return None


def _classify(keys: dict[str, Any], folder: Path, max_length: int) -> ClassifyConfig:
    labels = _labels(keys)
    # transformers takes one output for a regression where the file names no problem.
    named = keys.get("problem_type") or _PROBLEMS["regression" if len(labels) == 1 else "single_label"]
    problem = next((ours for ours, theirs in _PROBLEMS.items() if theirs == named), None)
    if problem is None or (problem == "regression" and len(labels) > 1):
        raise InputError(
            f"{folder}/config.json: kbert reads classifiers of problem_type {', '.join(_PROBLEMS.values())} (one "
            f"output), not {named} with {len(labels)}"
        )
    length = min(ClassifyConfig.max_length, max_length)
    return ClassifyConfig(labels=() if problem == "regression" else labels, problem=problem, max_length=length)


def _tag(keys: dict[str, Any], folder: Path, max_length: int) -> TagConfig:
    return TagConfig(labels=_labels(keys), max_length=min(TagConfig.max_length, max_length))


def _answer(keys: dict[str, Any], folder: Path, max_length: int) -> AnswerConfig:
    return AnswerConfig(max_length=min(AnswerConfig.max_length, max_length))


def _fill_mask(keys: dict[str, Any], folder: Path, max_length: int) -> FillMaskConfig:
    return FillMaskConfig(max_length=min(FillMaskConfig.max_length, max_length))


def _embed(keys: dict[str, Any], folder: Path, max_length: int) -> EmbedConfig | None:
    """The pooling that sentence-transformers keeps beside an encoder; None where there is none, or one unknown here."""
    if not (folder / "1_Pooling" / "config.json").exists():
        return None
    modes = {name for name, chosen in read_json(folder / "1_Pooling" / "config.json").items() if chosen is True}
    pooling = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    chosen = [pooling.get(mode) for mode in modes if mode.startswith("pooling_mode_")]
    if len(chosen) != 1 or chosen[0] is None:
        return None
    lengths = folder / "sentence_bert_config.json"
    longest = read_json(lengths).get("max_seq_length") if lengths.exists() else None
    return EmbedConfig(pooling=chosen[0], max_length=min(longest or EmbedConfig.max_length, max_length))


def _labels(keys: dict[str, Any]) -> tuple[str, ...]:
    names = keys.get("id2label") or {str(i): f"LABEL_{i}" for i in range(keys.get("num_labels", 2))}
    return tuple(names[key] for key in sorted(names, key=int))


_READERS: dict[str, Callable[[dict[str, Any], Path, int], TaskConfig | None]] = {
    "BertModel": _embed,
    "BertForSequenceClassification": _classify,
    "BertForTokenClassification": _tag,
    "BertForQuestionAnswering": _answer,
    "BertForMaskedLM": _fill_mask,
    _WITH_PAIRS: _fill_mask,
}
