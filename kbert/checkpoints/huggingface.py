"""A Hugging Face model folder: config.json and model.safetensors, read and written.

kbert's own model folder is this layout, so what is written here opens in transformers as it is. kbert's settings stand
under the one key `kbert` of config.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from kbert.checkpoints.checkpoint import Checkpoint, expand, head_shapes, read_tensors, tensor_shapes
from kbert.checkpoints.huggingface_names import ENCODER_RULES, HEAD_RULES, OPTIONAL, foreign_tensors
from kbert.checkpoints.huggingface_tasks import (
    architecture_of,
    architectures_of,
    opens_in_transformers,
    task_from_keys,
    task_keys,
)
from kbert.checkpoints.huggingface_tokenizer import read_tokenizer_config, read_vocabulary, write_tokenizer
from kbert.config import BertConfig, ClassifyConfig, TaskConfig
from kbert.errors import InputError
from kbert.files import read_json, replaced_files, write_json

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_approximate",
    "gelu_pytorch_tanh": "gelu_approximate",
    "gelu_fast": "gelu_approximate",
    "relu": "relu",
}
_POSITIONS = {"absolute": "learned", "sinusoidal": "sinusoidal"}


def read(folder: Path, weights: bool = True) -> Checkpoint:
    """Read a Hugging Face BERT folder.

    Args:
        folder: holds config.json, model.safetensors (or pytorch_model.bin, read through torch's weights-only loader
            where torch is installed) and vocab.txt or tokenizer.json.
        weights: False leaves `tensors` empty and opens no weight file.

    Returns:
        The checkpoint; `task` is set where the folder holds a head that kbert knows.

    Raises:
        InputError: the folder is no BERT, a file is missing or damaged, or a tensor is missing or has another shape.
    """
    try:
        return _read(folder, weights)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder} has a form that kbert does not know ({type(error).__name__}: {error})") from error


def _read(folder: Path, weights: bool) -> Checkpoint:
    keys = read_json(folder / "config.json")
    config = config_from_keys(keys, folder / "config.json")
    task = _task_from_keys(keys, folder, config.max_sequence_length)
    vocabulary = read_vocabulary(folder)
    if len(vocabulary) > config.vocabulary_size:
        raise InputError(
            f"{folder}: the vocabulary has {len(vocabulary)} tokens, config.json says {config.vocabulary_size}: "
            "these files do not belong together"
        )
    tensors = _kbert_tensors(_read_weights(folder), config, task, folder) if weights else {}
    return Checkpoint(config, read_tokenizer_config(folder), vocabulary, tensors, task)


def write(folder: Path, checkpoint: Checkpoint, extra: Callable[[Path], None] | None = None) -> None:
    """Write a folder that transformers opens as it is; files of the same names in it are replaced.

    Args:
        folder: made if missing.
        checkpoint: what to write.
        extra: called with the folder in which the files are prepared, to add more that belong to them.
    """
    import safetensors.numpy

    keys = _keys(checkpoint)
    foreign = foreign_tensors(checkpoint.tensors, checkpoint.config, keys["architectures"][0])
    with replaced_files(folder, last="config.json") as partial:
        safetensors.numpy.save_file(foreign, partial / "model.safetensors", metadata={"format": "pt"})
        write_tokenizer(
            partial, checkpoint.vocabulary, checkpoint.tokenizer, max_length=checkpoint.config.max_sequence_length
        )
        write_json(partial / "config.json", keys)
        if extra:
            extra(partial)


def config_from_keys(keys: Mapping[str, Any], path: Path) -> BertConfig:
    """The architecture that the keys of a config.json say; `path` is for messages.

    Raises:
        InputError: the keys are no BERT's.
    """
    if keys.get("model_type", "bert") not in ("bert", "kbert"):
        raise InputError(f"{path}: kbert reads BERT models; this is model_type {keys['model_type']!r}")
    positions = keys.get("position_embedding_type", "absolute")
    if positions not in _POSITIONS:
        raise InputError(f"{path}: only absolute position embeddings are BERT's")
    activation = keys.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise InputError(f"{path}: hidden_act must be one of {tuple(_ACTIVATIONS)}, not {activation!r}")
    try:
        return BertConfig(
            vocabulary_size=keys["vocab_size"],
            num_layers=keys["num_hidden_layers"],
            num_heads=keys["num_attention_heads"],
            hidden_dim=keys["hidden_size"],
            intermediate_dim=keys["intermediate_size"],
            max_sequence_length=keys.get("max_position_embeddings", 512),
            num_segments=keys.get("type_vocab_size", 2),
            activation=_ACTIVATIONS[activation],
            dropout_rate=keys.get("hidden_dropout_prob", 0.1),
            attention_dropout_rate=keys.get("attention_probs_dropout_prob", 0.1),
            initializer_range=keys.get("initializer_range", 0.02),
            layer_norm_epsilon=keys.get("layer_norm_eps", 1e-12),
            embedding_dim=keys.get("embedding_size") if keys.get("embedding_size") != keys["hidden_size"] else None,
            encoder_type=keys.get("kbert", {}).get("encoder_type", "transformer"),
            position_embedding=_POSITIONS[positions],
        )
    except KeyError as error:
        raise InputError(f"{path} has no key {error.args[0]!r}, which every BERT has") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _task_from_keys(keys: dict[str, Any], folder: Path, max_length: int) -> TaskConfig | None:
    own = keys.get("kbert", {}).get("task")
    if own:
        task = TaskConfig.from_dict(own)
        # transformers keeps our settings in a folder that it has trained for another task or with other labels.
        same_class = keys.get("architectures") in [[architecture] for architecture in architectures_of(task)]
        if same_class and all(keys.get(k) == value for k, value in task_keys(task).items() if k != "label2id"):
            return task
    return task_from_keys(keys, folder, max_length)


def _keys(checkpoint: Checkpoint) -> dict[str, Any]:
    config, task = checkpoint.config, checkpoint.task
    keys: dict[str, Any] = {
        "architectures": [architecture_of(task, checkpoint.tensors)],
        # A type of our own fails there clearly, not quietly.
        "model_type": "bert" if opens_in_transformers(config, task) else "kbert",
        "vocab_size": config.vocabulary_size,
        "hidden_size": config.hidden_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_dim,
        "hidden_act": next(name for name, ours in _ACTIVATIONS.items() if ours == config.activation),
        "hidden_dropout_prob": config.dropout_rate,
        "attention_probs_dropout_prob": config.attention_dropout_rate,
        "max_position_embeddings": config.max_sequence_length,
        "type_vocab_size": config.num_segments,
        "initializer_range": config.initializer_range,
        "layer_norm_eps": config.layer_norm_epsilon,
        "position_embedding_type": next(name for name, ours in _POSITIONS.items() if ours == config.position_embedding),
        "dtype": "float32",
        "pad_token_id": checkpoint.vocabulary.index(checkpoint.tokenizer.pad_token),
    }
    if config.embedding_dim is not None:
        keys["embedding_size"] = config.embedding_dim
    if task:
        keys |= task_keys(task)
    keys["kbert"] = {
        "version": version("kbert"),
        "encoder_type": config.encoder_type,
        "task": task.to_dict() if task else None,
    }
    return keys


def _kbert_tensors(
    foreign: Mapping[str, np.ndarray], config: BertConfig, task: TaskConfig | None, folder: Path
) -> dict[str, np.ndarray]:
    names = {_bare_name(name): tensor for name, tensor in foreign.items()}
    shapes = tensor_shapes(config) | (head_shapes(task, config) if task else {})
    rules = expand(ENCODER_RULES + HEAD_RULES, config.num_layers)
    needs_pooler = task is not None and task.task == ClassifyConfig.task
    return read_tensors(rules, names, shapes, str(folder), () if needs_pooler else OPTIONAL)


def _bare_name(name: str) -> str:
    """Strip the task model's prefix, and turn the names of BERT's first PyTorch port into today's."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _read_weights(folder: Path) -> dict[str, np.ndarray]:
    if (folder / "model.safetensors").exists():
        return _read_safetensors(folder / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(read_json(index)["weight_map"].values()))
        return {name: tensor for file in files for name, tensor in _read_safetensors(folder / file).items()}
    if (folder / "pytorch_model.bin").exists():
        return _read_pytorch(folder / "pytorch_model.bin")
    raise InputError(f"{folder} holds no model.safetensors and no pytorch_model.bin")


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    # numpy alone has no bfloat16; ml_dtypes (which TensorFlow brings) registers it.
    import ml_dtypes  # noqa: F401
    import safetensors
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}): fetch it again") from None


def _read_pytorch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path} is a PyTorch pickle, which kbert opens only through torch: pip install torch, "
            "or choose a preset with model.safetensors"
        ) from None
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path} is damaged or holds more than weights ({str(error).splitlines()[0]})") from None
    return {name: tensor.float().numpy() for name, tensor in weights.items()}
