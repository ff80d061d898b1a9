"""What every reader of foreign weights returns and every writer takes: plain configs and numpy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kbert.config import BertConfig, TaskConfig, TokenizerConfig
from kbert.errors import InputError


@dataclass(frozen=True)
class Checkpoint:
    """A model outside Keras.

    `tensors` holds float32 arrays by kbert's own names (`tensor_shapes` lists them). A dense kernel is laid out as
    Keras does, `[inputs, outputs]`.
    """

    config: BertConfig
    tokenizer: TokenizerConfig
    vocabulary: tuple[str, ...]
    tensors: Mapping[str, np.ndarray]
    task: TaskConfig | None = None


def tensor_shapes(config: BertConfig, num_classes: int | None = None) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of an encoder, and of a classification head with `num_classes` logits.

    The names are the paths of the Keras variables below the encoder (and `classifier/...` for the head).
    """
    D, I = config.hidden_dim, config.intermediate_dim  # noqa: E741
    E = config.embedding_dim or D
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings/word/embeddings": (config.vocabulary_size, E),
        "embeddings/position/embeddings": (config.max_sequence_length, E),
        "embeddings/segment/embeddings": (config.num_segments, E),
        **_layer_norm("embeddings/layer_norm", E),
    }
    if config.embedding_dim is not None:
        shapes |= _dense("embeddings/projection", E, D)
    for i in range(config.num_layers):
        shapes |= _dense(f"layer_{i}/attention/query_key_value", D, 3 * D)
        shapes |= _dense(f"layer_{i}/attention/output", D, D)
        shapes |= _layer_norm(f"layer_{i}/attention/layer_norm", D)
        shapes |= _dense(f"layer_{i}/feedforward/intermediate", D, I)
        shapes |= _dense(f"layer_{i}/feedforward/output", I, D)
        shapes |= _layer_norm(f"layer_{i}/feedforward/layer_norm", D)
    shapes |= _dense("pooler", D, D)
    if num_classes is not None:
        shapes |= _dense("classifier", D, num_classes)
    return shapes


@dataclass(frozen=True)
class Rule:
    """Where one kbert tensor stands in a foreign checkpoint: one row of that system's name table.

    `foreign` names one tensor, or several that are joined along the last axis (after transposing).
    """

    name: str
    foreign: tuple[str, ...]
    transpose: bool = False


def expand(rules: tuple[Rule, ...], num_layers: int) -> Iterator[Rule]:
    """Write out the rules whose names hold `{i}`, once per layer."""
    for rule in rules:
        if "{i}" not in rule.name:
            yield rule
            continue
        for i in range(num_layers):
            yield Rule(rule.name.format(i=i), tuple(f.format(i=i) for f in rule.foreign), rule.transpose)


def read_tensor(rule: Rule, foreign: Mapping[str, np.ndarray]) -> np.ndarray:
    """The kbert tensor of one rule; KeyError names the first foreign tensor that is missing."""
    parts = [np.asarray(foreign[name], dtype=np.float32) for name in rule.foreign]
    if rule.transpose:
        parts = [part.T for part in parts]
    return np.ascontiguousarray(np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0])


def read_tensors(
    rules: Iterable[Rule],
    foreign: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    where: str,
    optional: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """The kbert tensors of a foreign checkpoint, each checked for its shape.

    Args:
        rules: the name table; rows whose names `shapes` lacks are passed over.
        foreign: the checkpoint's own names and arrays.
        shapes: what `tensor_shapes` gives.
        where: the checkpoint, for messages.
        optional: beginnings of names that may be missing.

    Raises:
        InputError: a tensor is missing, or its shape is not the config's.
    """
    tensors = {}
    for rule in rules:
        if rule.name not in shapes:
            continue
        try:
            tensor = read_tensor(rule, foreign)
        except KeyError as error:
            if rule.name.startswith(optional):
                continue
            raise InputError(f"{where}: the weights hold no tensor {error.args[0]!r}; is this a BERT?") from None
        if tensor.shape != shapes[rule.name]:
            raise InputError(
                f"{where}: {' + '.join(rule.foreign)} gives shape {tensor.shape}, the config asks for "
                f"{shapes[rule.name]}: these files do not belong together"
            )
        tensors[rule.name] = tensor
    return tensors


def write_tensor(rule: Rule, tensor: np.ndarray) -> dict[str, np.ndarray]:
    """The inverse of `read_tensor`: foreign name -> array."""
    parts = np.split(np.asarray(tensor), len(rule.foreign), axis=-1)
    return {
        name: np.ascontiguousarray(part.T if rule.transpose else part)
        for name, part in zip(rule.foreign, parts, strict=True)
    }


def _dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def _layer_norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/gamma": (size,), f"{name}/beta": (size,)}
