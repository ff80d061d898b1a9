"""What every reader of foreign weights returns and every writer takes: plain configs and numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from kbert.config import BertConfig, ClassifyConfig, TagConfig, TaskConfig, TokenizerConfig
from kbert.errors import InputError


@dataclass(frozen=True)
class Checkpoint:
    """A model outside Keras.

    `tensors` holds float32 arrays by kbert's own names (`tensor_shapes` and its likes for heads list them). A dense
    kernel is laid out as Keras does, `[inputs, outputs]`. A fresh model's has none: its weights are yet to be drawn.
    """

    config: BertConfig
    tokenizer: TokenizerConfig
    vocabulary: tuple[str, ...] = field(repr=False)
    tensors: Mapping[str, np.ndarray] = field(repr=False)
    task: TaskConfig | None = None


Shapes = dict[str, tuple[int, ...]]


# === Names and shapes: the paths of the Keras variables below their encoder or head ===


def tensor_shapes(config: BertConfig, pooler: bool = True) -> Shapes:
    """The weights of an encoder; without its pooler, which tasks on single tokens do not use."""
    E = config.embedding_dim or config.hidden_dim
    shapes: Shapes = {"embeddings/word/embeddings": (config.vocabulary_size, E)}
    if config.position_embedding == "learned":
        shapes["embeddings/position/embeddings"] = (config.max_sequence_length, E)
    shapes["embeddings/segment/embeddings"] = (config.num_segments, E)
    shapes |= _layer_norm("embeddings/layer_norm", E)
    if config.embedding_dim is not None:
        shapes |= _dense("embeddings/projection", E, config.hidden_dim)
    shapes |= _BODIES[config.encoder_type](config)
    if pooler:
        shapes |= _dense("pooler", config.output_dim, config.output_dim)
    return shapes


def classifier_shapes(config: BertConfig, num_classes: int) -> Shapes:
    """The weights of a classification head with `num_classes` logits."""
    return _dense("classifier", config.output_dim, num_classes)


def tagger_shapes(config: BertConfig, num_labels: int, crf: bool = False, bilstm_units: int | None = None) -> Shapes:
    """The weights of a head on tokens, with its BiLSTM and its CRF if it has them."""
    if bilstm_units is None:
        shapes = _dense("classifier", config.output_dim, num_labels)
    else:
        shapes = _bilstm("tagger_bilstm", config.output_dim, bilstm_units)
        shapes |= _dense("classifier", 2 * bilstm_units, num_labels)
    if crf:
        shapes |= {"crf/transitions": (num_labels, num_labels), "crf/start": (num_labels,), "crf/end": (num_labels,)}
    return shapes


def span_shapes(config: BertConfig) -> Shapes:
    """The weights of a head that scores the start and the end of an answer."""
    return _dense("span", config.output_dim, 2)


def masked_lm_shapes(config: BertConfig) -> Shapes:
    """The weights of a masked-LM head, but for the word embeddings, which are the encoder's."""
    E = config.embedding_dim or config.hidden_dim
    shapes = _dense("masked_lm_dense", config.output_dim, E) | _layer_norm("masked_lm_layer_norm", E)
    return shapes | {"masked_lm_bias": (config.vocabulary_size,)}


def next_sentence_shapes(config: BertConfig) -> Shapes:
    """The weights of a head that scores pairs of segments, which a masked LM may have beside its own."""
    return _dense("next_sentence", config.output_dim, 2)


def head_shapes(task: TaskConfig, config: BertConfig) -> Shapes:
    """The weights that a task's model has above its encoder, or may have."""
    if isinstance(task, ClassifyConfig):
        return classifier_shapes(config, task.num_outputs)
    if isinstance(task, TagConfig):
        return tagger_shapes(config, len(task.labels), task.has_crf, task.bilstm_units(config))
    heads: dict[str, Callable[[BertConfig], Shapes]] = {
        "answer": span_shapes,
        "fill-mask": lambda config: masked_lm_shapes(config) | next_sentence_shapes(config),
    }
    return heads[task.task](config) if task.task in heads else {}


def _transformer(config: BertConfig) -> Shapes:
    D, I = config.hidden_dim, config.intermediate_dim  # noqa: E741
    shapes: Shapes = {}
    for i in range(config.num_layers):
        shapes |= _attention(f"layer_{i}/attention", D)
        shapes |= _dense(f"layer_{i}/feedforward/intermediate", D, I)
        shapes |= _dense(f"layer_{i}/feedforward/output", I, D)
        shapes |= _layer_norm(f"layer_{i}/feedforward/layer_norm", D)
    return shapes


def _light(config: BertConfig) -> Shapes:
    return _attention("attention", config.hidden_dim) | _bilstm("bilstm", config.hidden_dim, config.hidden_dim)


_BODIES = {"transformer": _transformer, "bilstm": _light}


def _attention(name: str, D: int) -> Shapes:
    return (
        _dense(f"{name}/query_key_value", D, 3 * D)
        | _dense(f"{name}/output", D, D)
        | _layer_norm(f"{name}/layer_norm", D)
    )


def _bilstm(name: str, inputs: int, units: int) -> Shapes:
    shapes: Shapes = {}
    for direction in ("forward", "backward"):
        cell = f"{name}/{direction}/lstm_cell"
        shapes |= {f"{cell}/kernel": (inputs, 4 * units), f"{cell}/recurrent_kernel": (units, 4 * units)}
        shapes |= {f"{cell}/bias": (4 * units,)}
    return shapes


def _dense(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def _layer_norm(name: str, size: int) -> Shapes:
    return {f"{name}/gamma": (size,), f"{name}/beta": (size,)}


# === Foreign names ===


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
        shapes: name -> shape of the tensors to read.
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
