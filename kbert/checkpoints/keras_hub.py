"""A keras-hub BERT preset, a folder or a Kaggle handle, read through keras-hub's own loader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kbert.checkpoints.checkpoint import Checkpoint, Rule, expand, read_tensor
from kbert.config import BertConfig, ClassifyConfig, TokenizerConfig
from kbert.errors import InputError
from kbert.files import read_json

if TYPE_CHECKING:
    import keras_hub

_LAYER = "transformer_layer_{i}"
_ATTENTION = f"{_LAYER}/self_attention_layer"

# The name table, by the paths of keras-hub's variables. Nothing is transposed: it lays kernels out as we do, but for
# the heads, which `_joined_heads` joins.
RULES = (
    Rule("embeddings/word/embeddings", ("token_embedding/embeddings",)),
    Rule("embeddings/position/embeddings", ("position_embedding/embeddings",)),
    Rule("embeddings/segment/embeddings", ("segment_embedding/embeddings",)),
    Rule("embeddings/layer_norm/gamma", ("embeddings_layer_norm/gamma",)),
    Rule("embeddings/layer_norm/beta", ("embeddings_layer_norm/beta",)),
    Rule(
        "layer_{i}/attention/query_key_value/kernel",
        tuple(f"{_ATTENTION}/{part}/kernel" for part in ("query", "key", "value")),
    ),
    Rule(
        "layer_{i}/attention/query_key_value/bias",
        tuple(f"{_ATTENTION}/{part}/bias" for part in ("query", "key", "value")),
    ),
    Rule("layer_{i}/attention/output/kernel", (f"{_ATTENTION}/attention_output/kernel",)),
    Rule("layer_{i}/attention/output/bias", (f"{_ATTENTION}/attention_output/bias",)),
    Rule("layer_{i}/attention/layer_norm/gamma", (f"{_LAYER}/self_attention_layer_norm/gamma",)),
    Rule("layer_{i}/attention/layer_norm/beta", (f"{_LAYER}/self_attention_layer_norm/beta",)),
    Rule("layer_{i}/feedforward/intermediate/kernel", (f"{_LAYER}/feedforward_intermediate_dense/kernel",)),
    Rule("layer_{i}/feedforward/intermediate/bias", (f"{_LAYER}/feedforward_intermediate_dense/bias",)),
    Rule("layer_{i}/feedforward/output/kernel", (f"{_LAYER}/feedforward_output_dense/kernel",)),
    Rule("layer_{i}/feedforward/output/bias", (f"{_LAYER}/feedforward_output_dense/bias",)),
    Rule("layer_{i}/feedforward/layer_norm/gamma", (f"{_LAYER}/feedforward_layer_norm/gamma",)),
    Rule("layer_{i}/feedforward/layer_norm/beta", (f"{_LAYER}/feedforward_layer_norm/beta",)),
    Rule("pooler/kernel", ("pooled_dense/kernel",)),
    Rule("pooler/bias", ("pooled_dense/bias",)),
)
HEAD_RULES = (
    Rule("classifier/kernel", ("logits/kernel",)),
    Rule("classifier/bias", ("logits/bias",)),
)


def read(preset: str | Path, weights: bool = True) -> Checkpoint:
    """Read a BERT that keras-hub saved or publishes.

    Args:
        preset: a folder that BertBackbone or BertTextClassifier saved together with its tokenizer, or a handle
            `kaggle://organisation/model/keras/variant[/version]`, which keras-hub fetches and caches in its own way.
        weights: False leaves `tensors` empty and reads no weight file.

    Returns:
        The checkpoint; `task` is set where a folder holds a BertTextClassifier. Of a Kaggle handle the encoder is read.

    Raises:
        InputError: the preset is no BERT, is incomplete or damaged, or is not cached and there is no connection.
    """
    import keras_hub
    import requests

    try:
        tokenizer = keras_hub.models.BertTokenizer.from_preset(str(preset))
        model, backbone = _load_model(preset, weights)
    except requests.RequestException as error:
        raise InputError(
            f"{preset} is not cached and Kaggle cannot be reached ({type(error).__name__}): connect once to fetch it, "
            "or copy the preset's folder here and give its path"
        ) from error
    # keras-hub's loader raises these for a missing or damaged file, a missing key, another architecture.
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{preset}: keras-hub cannot load a BERT and its tokenizer from it ({reason}): give a folder into which "
            "both were saved with save_to_preset, or a handle kaggle://organisation/model/keras/variant/version"
        ) from error
    config = BertConfig(
        vocabulary_size=backbone.vocabulary_size,
        num_layers=backbone.num_layers,
        num_heads=backbone.num_heads,
        hidden_dim=backbone.hidden_dim,
        intermediate_dim=backbone.intermediate_dim,
        max_sequence_length=backbone.max_sequence_length,
        num_segments=backbone.num_segments,
        # BertBackbone writes these two, and the range of its initialiser, into its code, not into its config.
        activation="gelu_approximate",
        layer_norm_epsilon=1e-12,
        initializer_range=0.02,
        dropout_rate=backbone.dropout,
        attention_dropout_rate=backbone.dropout,
    )
    vocabulary = tuple(tokenizer.get_vocabulary())
    if len(vocabulary) > config.vocabulary_size:
        raise InputError(
            f"{preset}: the vocabulary has {len(vocabulary)} tokens, config.json says {config.vocabulary_size}: "
            "these files do not belong together"
        )
    task = None if model is backbone else _task_config(model, preset)
    tensors: dict[str, np.ndarray] = {}
    if weights:
        foreign = {weight.path: _joined_heads(weight.path, weight.numpy()) for weight in model.weights}
        rules = expand(RULES + HEAD_RULES if task else RULES, config.num_layers)
        tensors = {rule.name: read_tensor(rule, foreign) for rule in rules}
    return Checkpoint(config, _tokenizer_config(tokenizer, preset), vocabulary, tensors, task)


def _load_model(preset: str | Path, weights: bool) -> tuple[Any, keras_hub.models.BertBackbone]:
    """The classifier of a folder and its backbone, or a backbone twice."""
    import keras_hub

    options = {"load_weights": weights, "dtype": "float32"}
    task_file = Path(preset) / "task.json"
    if task_file.exists() and read_json(task_file).get("class_name") == "BertTextClassifier":
        classifier = keras_hub.models.BertTextClassifier.from_preset(str(preset), **options)
        return classifier, classifier.backbone
    backbone = keras_hub.models.BertBackbone.from_preset(str(preset), **options)
    return backbone, backbone


def _joined_heads(path: str, tensor: np.ndarray) -> np.ndarray:
    """Join the axes of heads and head size, which only attention has: N, H -> N * H."""
    if "/self_attention_layer/" not in path:
        return tensor
    if path.endswith("/attention_output/kernel"):
        return tensor.reshape(-1, tensor.shape[-1])  # [N, H, D] -> [D, D]
    if path.endswith("/kernel"):
        return tensor.reshape(tensor.shape[0], -1)  # [D, N, H] -> [D, D]
    return tensor.reshape(-1)  # query, key, value: [N, H] -> [D]; the output's bias is [D] already


def _tokenizer_config(tokenizer: keras_hub.models.BertTokenizer, preset: str | Path) -> TokenizerConfig:
    if not tokenizer.split or tokenizer.suffix_indicator != "##":
        raise InputError(
            f"{preset}: the tokenizer must split words itself and mark later pieces with '##', as BERT's do"
        )
    return TokenizerConfig(
        do_lower_case=tokenizer.lowercase,
        # Unlike BERT's own, keras-hub's tokenizer keeps accents unless told otherwise, also where it lower-cases: the
        # setting is passed on as it is, since a model fine-tuned there has learnt with it.
        strip_accents=tokenizer.strip_accents,
        tokenize_chinese_chars=tokenizer.split_on_cjk,
        unk_token=tokenizer.oov_token,
    )


def _task_config(classifier: Any, preset: str | Path) -> ClassifyConfig:
    """keras-hub keeps no label names: they are LABEL_0, LABEL_1, ... as Hugging Face has them."""
    outputs, activation = classifier.num_classes, classifier.activation.__name__
    if outputs < 2 or activation not in ("linear", "softmax"):
        raise InputError(
            f"{preset}: kbert reads classifiers with one label a text, not {outputs} output(s) with activation "
            f"{activation!r}: save the encoder alone, with classifier.backbone.save_to_preset"
        )
    length = classifier.preprocessor.sequence_length if classifier.preprocessor else ClassifyConfig.max_length
    return ClassifyConfig(labels=tuple(f"LABEL_{i}" for i in range(outputs)), max_length=length)
