"""What a run begins with: an architecture and a vocabulary, or a pretrained model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from kbert.checkpoints import huggingface, presets
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.checkpoints.huggingface_tokenizer import read_vocabulary_file
from kbert.config import SIZES, BertConfig, FillMaskConfig, TokenizerConfig
from kbert.errors import InputError
from kbert.files import read_json
from kbert.pretraining.settings import PretrainSettings


def start_of(settings: PretrainSettings) -> Checkpoint:
    """The checkpoint that a run starts from; without tensors where its weights are to be drawn.

    Raises:
        InputError: there is no such file or preset, or it does not suit the run.
    """
    if settings.model:
        checkpoint, where = presets.load(settings.model), settings.model
    else:
        vocabulary = read_vocabulary_file(Path(settings.vocab))
        config = config_of(settings.size, len(vocabulary))
        checkpoint = Checkpoint(config, TokenizerConfig(do_lower_case=not settings.cased), vocabulary, {})
        where = settings.vocab
    if settings.model and settings.cased:
        raise InputError("--cased goes with --vocab: the model of --model says itself how it reads text")
    mask = checkpoint.tokenizer.mask_token
    if mask not in checkpoint.vocabulary:
        raise InputError(f"{where} has no token {mask}, which hides what is to be guessed: learn one with kbert vocab")
    if settings.longest > checkpoint.config.max_sequence_length:
        raise InputError(
            f"--lengths must be at most {checkpoint.config.max_sequence_length}, the rows of the model's position "
            f"table. Received: {settings.longest}"
        )
    task = checkpoint.task if isinstance(checkpoint.task, FillMaskConfig) else FillMaskConfig()
    return dataclasses.replace(checkpoint, task=dataclasses.replace(task, max_length=settings.longest))


def config_of(size: str, num_tokens: int) -> BertConfig:
    """The architecture that --size names.

    Args:
        size: one of `SIZES`, or a JSON file with the keys of a Hugging Face config.json or the fields of `BertConfig`.
        num_tokens: of the vocabulary; a file may name more rows of the embedding table, or leave them out.

    Raises:
        InputError: there is no such size or file, or the file is no BERT's config.
    """
    if size in SIZES:
        return BertConfig.of_size(size, num_tokens)
    path = Path(size)
    if not size.endswith(".json"):
        raise InputError(f"--size must be one of {', '.join(SIZES)}, or a file FILE.json. Received: {size!r}")
    keys = read_json(path)
    try:
        config = _config_of_keys(keys, path, num_tokens)
    except (TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no config of a BERT ({error}): it must be a config.json of Hugging Face's"
        ) from None
    if config.vocabulary_size < num_tokens:
        raise InputError(
            f"{path} has room for {config.vocabulary_size} tokens, the vocabulary has {num_tokens}: leave the size out"
        )
    return config


def _config_of_keys(keys: dict[str, Any], path: Path, num_tokens: int) -> BertConfig:
    if "num_layers" in keys:
        return BertConfig.from_dict({"vocabulary_size": num_tokens} | keys)
    return huggingface.config_from_keys({"vocab_size": num_tokens} | keys, path)
