"""vocab.txt, tokenizer.json and tokenizer_config.json of a Hugging Face folder, read and written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from kbert.config import TokenizerConfig
from kbert.errors import InputError
from kbert.files import read_json, write_json

MAX_WORD_LENGTH = 100
"""Characters; a longer word is unknown (BERT's `max_input_chars_per_word`)."""


def read_vocabulary(folder: Path) -> tuple[str, ...]:
    """The word pieces of a folder by id, from vocab.txt or else from tokenizer.json."""
    path = folder / "vocab.txt"
    if path.exists():
        return read_vocabulary_file(path)
    path = folder / "tokenizer.json"
    if not path.exists():
        raise InputError(f"{folder} holds no vocab.txt and no tokenizer.json")
    content = read_json(path)
    try:
        pieces = {**content["model"]["vocab"], **{t["content"]: t["id"] for t in content.get("added_tokens", ())}}
        vocabulary = tuple(sorted(pieces, key=pieces.__getitem__))
        ids = sorted(pieces.values())
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path} holds no WordPiece vocabulary") from None
    if ids != list(range(len(ids))):
        raise InputError(f"{path}: the ids of the vocabulary leave gaps or repeat")
    return vocabulary


def read_vocabulary_file(path: Path) -> tuple[str, ...]:
    """The word pieces of a vocab.txt, one a line."""
    try:
        text = path.read_text(encoding="utf8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start})") from None
    # Only "\n" ends a line: some vocabularies hold other Unicode line separators as tokens.
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return tuple(line.removesuffix("\r") for line in lines)


def read_tokenizer_config(folder: Path) -> TokenizerConfig:
    """The tokenizer's settings: tokenizer_config.json's, else tokenizer.json's, else BERT's defaults."""
    found: dict = {}
    if (folder / "tokenizer.json").exists():
        normalizer = read_json(folder / "tokenizer.json").get("normalizer") or {}
        if normalizer.get("type") == "BertNormalizer":
            found["do_lower_case"] = normalizer.get("lowercase")
            found["strip_accents"] = normalizer.get("strip_accents")
            found["tokenize_chinese_chars"] = normalizer.get("handle_chinese_chars")
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / file).exists():
            found |= read_json(folder / file)
    settings = {}
    for field in dataclasses.fields(TokenizerConfig):
        value = found.get(field.name)
        # An added token may be written as {"content": ..., "lstrip": ...}.
        value = value["content"] if isinstance(value, dict) else value
        if value is not None:
            settings[field.name] = value
    return TokenizerConfig(**settings)


def write_tokenizer(folder: Path, vocabulary: Sequence[str], config: TokenizerConfig, max_length: int) -> None:
    """Write vocab.txt, tokenizer.json and tokenizer_config.json, which transformers and kbert both read."""
    import tokenizers

    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf8")
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(ids, unk_token=config.unk_token, max_input_chars_per_word=MAX_WORD_LENGTH)
    )
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.tokenize_chinese_chars,
        strip_accents=config.strip_accents,
        lowercase=config.do_lower_case,
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    cls, sep = config.cls_token, config.sep_token
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
    )
    tokenizer.add_special_tokens([token for token in config.special_tokens if token in ids])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": max_length, **config.to_dict()}
    write_json(folder / "tokenizer_config.json", settings)
