"""A corpus as token ids on disk: made once from text files, mapped into memory by every run.

The folder holds `manifest.json`, without which it is no corpus, and shards as `shards` writes them. Its bytes follow
from the texts, the vocabulary and the settings alone.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from kbert.data.documents import LAYOUTS, Layout, read_documents
from kbert.data.readers import Columns
from kbert.data.segmenting import load_segmenter
from kbert.data.shards import COUNTS, SHARD_TOKENS, CorpusPart, ShardWriter, file_entry
from kbert.errors import InputError
from kbert.files import new_folder, read_json, write_json

if TYPE_CHECKING:
    from kbert.tokenization.tokenizer import BertTokenizer

MANIFEST = "manifest.json"
FORMAT = {"name": "kbert corpus", "version": 1}
PARTS = ("train", "held_out")
_BLOCK = 2**20  # characters that are tokenized together
_MOST_PROCESSES = 8  # more than one reader keeps busy


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus that is ready to be cut into rows."""

    folder: Path
    manifest: Mapping[str, Any]
    """What `manifest.json` holds: `sources`, `settings`, `tokenizer`, counts of everything, and the shards."""
    train: CorpusPart
    """What is trained on."""
    held_out: CorpusPart
    """What is not; without documents if the corpus has one only."""

    @classmethod
    def open(cls, folder: str | os.PathLike[str], tokenizer: BertTokenizer | None = None) -> PreparedCorpus:
        """Open a folder that `prepare_corpus` wrote.

        Args:
            folder: where it is.
            tokenizer: what must have made the ids.

        Raises:
            InputError: the folder is no whole corpus, or another vocabulary or normalization made the ids.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).exists():
            raise InputError(f"{folder} is no prepared corpus: it has no {MANIFEST}")
        manifest = read_json(folder / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise InputError(f"{folder / MANIFEST} is not of this version of kbert: prepare the corpus anew")
        if tokenizer is not None and manifest["tokenizer"] != _tokenizer_entry(tokenizer):
            raise InputError(
                f"{folder} was prepared with another vocabulary or normalization: prepare the corpus anew, or give the "
                "vocabulary it was prepared with"
            )
        ids = manifest["tokenizer"]["special_ids"]
        parts = {name: CorpusPart(folder, manifest["shards"][name], ids) for name in PARTS}
        for part in parts.values():
            for shard in part.shards:
                shard.check_sizes()
        return cls(folder, manifest, **parts)

    def check_sources(self, files: Sequence[str | os.PathLike[str]]) -> None:
        """Raise InputError unless these files are what the corpus was made of; one that is not there is not read."""
        sources, names = self.manifest["sources"], [Path(file).name for file in files]
        if names != [source["name"] for source in sources]:
            raise InputError(
                f"{self.folder} was prepared from other files ({', '.join(source['name'] for source in sources)}): "
                "name another folder"
            )
        for file, source in zip(map(Path, files), sources, strict=True):
            if file.exists() and (file.stat().st_size != source["bytes"] or file_entry(file) != source):
                raise InputError(f"{file}: a corpus file changed since the manifest of {self.folder}: prepare it anew")

    def check_content(self) -> None:
        """Raise InputError unless every shard holds what was written; this reads all of them."""
        for shard in (*self.train.shards, *self.held_out.shards):
            shard.check_content()


def prepare_corpus(
    files: Sequence[str | os.PathLike[str]],
    tokenizer: BertTokenizer,
    folder: str | os.PathLike[str],
    *,
    layout: Layout = "documents",
    columns: Columns = Columns(),
    segmenter: str | None = None,
    processes: int | None = None,
    held_out: float = 0.005,
) -> PreparedCorpus:
    """Turn text files into a corpus of token ids, which is written whole or not at all.

    Args:
        files: as `documents.read_documents` takes them.
        tokenizer: its vocabulary and normalization are used; "[MASK]" in a text is plain text, whatever it says.
        folder: must not exist.
        layout: of plain text, as for `documents.read_documents`.
        columns: of tables, likewise.
        segmenter: "jieba" to have Chinese characters joined to words, for masking whole words; None: each is a word.
        processes: that tokenize; None: half of the cores, at most 8. The corpus does not depend on it.
        held_out: the part of the documents that is not trained on, drawn by a hash of their text, so that equal ones
            are on the same side; at least one of several documents, unless it is 0.

    Raises:
        InputError: a file cannot be read, `folder` exists, there is no document with a token, or an argument is wrong.
    """
    from kbert.data.encoding import document_encoders

    folder, paths = Path(folder), [Path(file) for file in files]
    processes = _default_processes() if processes is None else processes
    _check_arguments(folder, paths, layout, segmenter, processes, held_out)
    sources: list[dict[str, Any]] = []
    documents = _divided(_read(paths, layout, columns, sources), held_out)
    settings = {
        "layout": layout,
        "text_column": columns.text,
        "pair_column": columns.pair,
        "segmenter": segmenter,
        "held_out": held_out,
    }
    encoders = document_encoders(tokenizer.vocabulary, tokenizer.config, segmenter, processes)
    try:
        with ExitStack() as stack:
            partial = stack.enter_context(new_folder(folder))
            writers = {part: stack.enter_context(ShardWriter(partial, part, SHARD_TOKENS)) for part in PARTS}
            encoded, bar = stack.enter_context(encoders), stack.enter_context(_progress())
            for block, tokens in encoded((block, block.documents) for block in _blocks(documents)):
                writers[block.part].append(tokens)
                bar.update(block.characters)
            shards = {part: writer.close() for part, writer in writers.items()}
            if not shards["train"]:
                raise InputError("the corpus leaves no token to train on: add documents, or hold out a smaller part")
            write_json(partial / MANIFEST, _manifest(sources, settings, tokenizer, shards))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from None
    return PreparedCorpus.open(folder, tokenizer)


def _check_arguments(
    folder: Path, paths: Sequence[Path], layout: str, segmenter: str | None, processes: int, held_out: float
) -> None:
    if layout not in LAYOUTS:
        raise InputError(f"prepare_corpus: `layout` must be one of {', '.join(LAYOUTS)}. Received: {layout!r}")
    if processes < 1:
        raise InputError(f"prepare_corpus: `processes` must be at least 1. Received: {processes}")
    if not 0 <= held_out < 1:
        raise InputError(f"prepare_corpus: `held_out` must be in [0, 1). Received: {held_out}")
    if not paths:
        raise InputError("prepare_corpus: there is no file to prepare")
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is a folder: name its files" if path.is_dir() else f"{path} does not exist")
    if folder.exists():
        raise InputError(f"{folder} exists: name another folder for the corpus, or remove it")
    if segmenter is not None:
        load_segmenter(segmenter)


def _default_processes() -> int:
    return max(1, min(_MOST_PROCESSES, (os.cpu_count() or 1) // 2))


def _progress() -> tqdm:
    return tqdm(desc="tokenizing", unit="char", unit_scale=True, file=sys.stderr, delay=2, leave=False)


# === Documents ===


@dataclass
class _Block:
    part: str
    documents: list[str] = field(default_factory=list)
    characters: int = 0


def _read(paths: Iterable[Path], layout: Layout, columns: Columns, sources: list[dict[str, Any]]) -> Iterator[str]:
    """The documents of files; adds to `sources` what the manifest says of each, while what it held is tokenized."""
    for path in paths:
        yield from read_documents([path], layout=layout, columns=columns)
        sources.append(file_entry(path))


def _divided(documents: Iterable[str], held_out: float) -> Iterator[tuple[str, str]]:
    """The part that each document is in, and the document.

    While all are on the same side, the one nearest to the other is kept back: it changes sides if it must.
    """
    limit = int(held_out * 2**64)
    if limit == 0:
        yield from (("train", document) for document in documents)
        return
    kept: tuple[int, str] | None = None
    number_of_documents = 0
    for document in documents:
        number_of_documents += 1
        this = int.from_bytes(hashlib.blake2b(document.encode(), digest_size=8).digest(), "big"), document
        if number_of_documents == 1:
            kept = this
            continue
        if kept is not None:
            if (this[0] < limit) != (kept[0] < limit):
                yield PARTS[kept[0] < limit], kept[1]
                kept = None
            elif abs(this[0] - limit) < abs(kept[0] - limit):
                kept, this = this, kept
        yield PARTS[this[0] < limit], this[1]
    if kept is not None:
        goes_out = kept[0] >= limit and number_of_documents > 1
        yield PARTS[goes_out], kept[1]


def _blocks(documents: Iterable[tuple[str, str]]) -> Iterator[_Block]:
    """Documents of a part together, until they are enough to tokenize."""
    begun = {part: _Block(part) for part in PARTS}
    for part, document in documents:
        block = begun[part]
        block.documents.append(document)
        block.characters += len(document)
        if block.characters >= _BLOCK:
            yield block
            begun[part] = _Block(part)
    yield from (block for block in begun.values() if block.documents)


# === Manifest ===


def _manifest(
    sources: list[dict[str, Any]],
    settings: dict[str, Any],
    tokenizer: BertTokenizer,
    shards: dict[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    entries = [entry for part in shards.values() for entry in part]
    return {
        "format": FORMAT,
        "sources": sources,
        "settings": settings,
        "tokenizer": _tokenizer_entry(tokenizer),
        **{count: sum(entry[count] for entry in entries) for count in COUNTS},
        "shards": shards,
    }


def _tokenizer_entry(tokenizer: BertTokenizer) -> dict[str, Any]:
    """What a tokenizer's ids depend on, and the ids of special tokens."""
    content = "".join(token + "\n" for token in tokenizer.vocabulary).encode()
    return {
        "config": tokenizer.config.to_dict(),
        "vocabulary_size": len(tokenizer.vocabulary),
        "vocabulary_sha256": hashlib.sha256(content).hexdigest(),
        "special_ids": {"cls": tokenizer.cls_id, "sep": tokenizer.sep_id, "pad": tokenizer.pad_id},
    }
