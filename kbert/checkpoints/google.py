"""A Google BERT folder as google-research/bert publishes it: bert_config.json, a TF1 checkpoint and vocab.txt."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from kbert.checkpoints.checkpoint import Checkpoint, Rule, expand, read_tensors, tensor_shapes
from kbert.checkpoints.huggingface_tokenizer import read_vocabulary_file
from kbert.config import BertConfig, TokenizerConfig
from kbert.errors import InputError
from kbert.files import read_json

_LAYER = "bert/encoder/layer_{i}"
_ATTENTION = f"{_LAYER}/attention"

# The name table. TF1 lays a dense kernel out as Keras does, so nothing is transposed. Names that are not asked for
# here (the optimizer's slots, the masked-LM head) are never read.
RULES = (
    Rule("embeddings/word/embeddings", ("bert/embeddings/word_embeddings",)),
    Rule("embeddings/position/embeddings", ("bert/embeddings/position_embeddings",)),
    Rule("embeddings/segment/embeddings", ("bert/embeddings/token_type_embeddings",)),
    Rule("embeddings/layer_norm/gamma", ("bert/embeddings/LayerNorm/gamma",)),
    Rule("embeddings/layer_norm/beta", ("bert/embeddings/LayerNorm/beta",)),
    Rule("embeddings/projection/kernel", ("bert/encoder/embedding_hidden_mapping_in/kernel",)),
    Rule("embeddings/projection/bias", ("bert/encoder/embedding_hidden_mapping_in/bias",)),
    Rule(
        "layer_{i}/attention/query_key_value/kernel",
        tuple(f"{_ATTENTION}/self/{part}/kernel" for part in ("query", "key", "value")),
    ),
    Rule(
        "layer_{i}/attention/query_key_value/bias",
        tuple(f"{_ATTENTION}/self/{part}/bias" for part in ("query", "key", "value")),
    ),
    Rule("layer_{i}/attention/output/kernel", (f"{_ATTENTION}/output/dense/kernel",)),
    Rule("layer_{i}/attention/output/bias", (f"{_ATTENTION}/output/dense/bias",)),
    Rule("layer_{i}/attention/layer_norm/gamma", (f"{_ATTENTION}/output/LayerNorm/gamma",)),
    Rule("layer_{i}/attention/layer_norm/beta", (f"{_ATTENTION}/output/LayerNorm/beta",)),
    Rule("layer_{i}/feedforward/intermediate/kernel", (f"{_LAYER}/intermediate/dense/kernel",)),
    Rule("layer_{i}/feedforward/intermediate/bias", (f"{_LAYER}/intermediate/dense/bias",)),
    Rule("layer_{i}/feedforward/output/kernel", (f"{_LAYER}/output/dense/kernel",)),
    Rule("layer_{i}/feedforward/output/bias", (f"{_LAYER}/output/dense/bias",)),
    Rule("layer_{i}/feedforward/layer_norm/gamma", (f"{_LAYER}/output/LayerNorm/gamma",)),
    Rule("layer_{i}/feedforward/layer_norm/beta", (f"{_LAYER}/output/LayerNorm/beta",)),
    Rule("pooler/kernel", ("bert/pooler/dense/kernel",)),
    Rule("pooler/bias", ("bert/pooler/dense/bias",)),
)

# Google's modeling.py defines "gelu" as the tanh approximation; Hugging Face means erf by the same word.
_ACTIVATIONS = {"gelu": "gelu_approximate", "relu": "relu"}


def read(folder: Path, weights: bool = True) -> Checkpoint:
    """Read a Google TF1 folder.

    The folder says nothing about letter case: a vocabulary with an upper-case letter outside special tokens is taken
    as cased (neither lower-cased nor stripped of accents), any other as uncased (both).

    Args:
        folder: holds bert_config.json, one `*.index` with its data file, and vocab.txt. `embedding_size` in the config
            gives a factorised embedding, as in SimBERT-tiny.
        weights: False leaves `tensors` empty and does not open the checkpoint.

    Returns:
        The encoder with its pooler; heads are not read.

    Raises:
        InputError: a file is missing or damaged, files do not belong together, or a variable is missing.
    """
    config = _config_from_keys(read_json(folder / "bert_config.json"), folder)
    vocabulary = read_vocabulary_file(folder / "vocab.txt")
    if len(vocabulary) != config.vocabulary_size:
        raise InputError(
            f"{folder}: vocab.txt has {len(vocabulary)} tokens, bert_config.json says {config.vocabulary_size}: "
            "these files do not belong together"
        )
    tensors = _read_tensors(folder, config) if weights else {}
    return Checkpoint(config, TokenizerConfig(do_lower_case=not _is_cased(vocabulary)), vocabulary, tensors)


def _config_from_keys(keys: dict[str, Any], folder: Path) -> BertConfig:
    activation = keys.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise InputError(
            f"{folder}/bert_config.json: hidden_act must be one of {tuple(_ACTIVATIONS)}, not {activation!r}"
        )
    try:
        width = keys.get("embedding_size", keys["hidden_size"])
        return BertConfig(
            vocabulary_size=keys["vocab_size"],
            num_layers=keys["num_hidden_layers"],
            num_heads=keys["num_attention_heads"],
            hidden_dim=keys["hidden_size"],
            intermediate_dim=keys["intermediate_size"],
            max_sequence_length=keys["max_position_embeddings"],
            num_segments=keys["type_vocab_size"],
            activation=_ACTIVATIONS[activation],
            dropout_rate=keys.get("hidden_dropout_prob", 0.1),
            attention_dropout_rate=keys.get("attention_probs_dropout_prob", 0.1),
            initializer_range=keys.get("initializer_range", 0.02),
            # modeling.py leaves it to tf.contrib's layer_norm, whose constant this is.
            layer_norm_epsilon=1e-12,
            embedding_dim=None if width == keys["hidden_size"] else width,
        )
    except KeyError as error:
        raise InputError(f"{folder}/bert_config.json has no key {error.args[0]!r}, which every BERT has") from None


def _is_cased(vocabulary: Iterable[str]) -> bool:
    # Special tokens stand in [] or, in Google's Chinese vocabulary, in <>. A letter that lower-casing leaves as it is
    # (the uncased English vocabulary holds such mathematical capitals) proves nothing.
    return any(token != token.lower() and not token.startswith(("[", "<")) for token in vocabulary)


def _read_tensors(folder: Path, config: BertConfig) -> dict[str, np.ndarray]:
    shapes = tensor_shapes(config)
    rules = [rule for rule in expand(RULES, config.num_layers) if rule.name in shapes]
    variables = _read_variables(folder, [name for rule in rules for name in rule.foreign])
    return read_tensors(rules, variables, shapes, str(folder))


def _read_variables(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    import tensorflow as tf

    indexes = sorted(folder.glob("*.index"))
    if len(indexes) != 1:
        found = ", ".join(path.name for path in indexes) or "none"
        raise InputError(f"{folder} must hold exactly one checkpoint index (*.index); it holds {found}")
    # The prefix, not the folder: the `checkpoint` file beside it often names a path of the machine it was written on.
    prefix = str(indexes[0].with_suffix(""))
    try:
        reader = tf.train.load_checkpoint(prefix)
        stored = reader.get_variable_to_shape_map()
        return {name: reader.get_tensor(name) for name in names if name in stored}
    # The reader turns some of TensorFlow's codes into Python's own errors: a short file is an IndexError.
    except (tf.errors.OpError, RuntimeError, IndexError, ValueError) as error:
        raise InputError(
            f"{prefix}.*: the checkpoint is damaged ({str(error).splitlines()[0]}): fetch it again"
        ) from None
