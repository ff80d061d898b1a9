"""What a model begins as that has learnt nothing yet: an architecture and a vocabulary, without weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from kbert.checkpoints.checkpoint import Checkpoint
from kbert.checkpoints.huggingface import config_from_keys
from kbert.checkpoints.huggingface_tokenizer import read_vocabulary_file
from kbert.config import SIZES, BertConfig, TokenizerConfig, is_size
from kbert.errors import InputError
from kbert.files import read_json


def fresh_checkpoint(size: str, vocab: Path, cased: bool = False) -> Checkpoint:
    """A checkpoint without tensors, whose weights are to be drawn.

    Args:
        size: as in `config_of`.
        vocab: a file with one token a line, as `kbert vocab` writes it.
        cased: whether upper case and accents are kept.

    Raises:
        InputError: there is no such size or file, or a file is none of its kind.
    """
    tokenizer = TokenizerConfig(do_lower_case=not cased)
    vocabulary = read_vocabulary_file(vocab)
    _check_tokens(vocabulary, tokenizer, vocab)
    return Checkpoint(config_of(size, len(vocabulary)), tokenizer, vocabulary, {})


def _check_tokens(vocabulary: tuple[str, ...], tokenizer: TokenizerConfig, path: Path) -> None:
    lines: dict[str, int] = {}
    for line, token in enumerate(vocabulary, 1):
        if token in lines:
            raise InputError(f"{path}:{line}: the token {token!r} is that of line {lines[token]}, too")
        lines[token] = line
    missing = [token for token in tokenizer.special_tokens if token not in lines and token != tokenizer.mask_token]
    if missing:
        raise InputError(f"{path} has no token {', '.join(missing)}: learn a vocabulary with kbert vocab")


def config_of(size: str, num_tokens: int) -> BertConfig:
    """The architecture that a size names.

    Args:
        size: one of `SIZES`, or a JSON file with the keys of a Hugging Face config.json or the fields of `BertConfig`.
        num_tokens: of the vocabulary; a file may name more rows of the embedding table, or leave them out.

    Raises:
        InputError: there is no such size or file, or the file is no BERT's config.
    """
    if size in SIZES:
        return BertConfig.of_size(size, num_tokens)
    path = Path(size)
    if not is_size(size):
        raise InputError(f"there is no size {size!r}: it must be one of {', '.join(SIZES)}, or a file FILE.json")
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
    if "num_layers" not in keys:
        return config_from_keys({"vocab_size": num_tokens} | keys, path)
    try:
        return BertConfig.from_dict({"vocabulary_size": num_tokens} | keys)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def record_of(start: Checkpoint) -> dict[str, Any]:
    """What decides a fresh model beside the settings of its run, as JSON."""
    tokens = "\n".join(start.vocabulary).encode()
    return {
        "config": start.config.to_dict(),
        "tokenizer": start.tokenizer.to_dict(),
        "vocabulary_sha256": hashlib.sha256(tokens).hexdigest(),
    }
