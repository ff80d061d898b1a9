"""Token ids on disk: shards of plain .npy files, which numpy maps into memory."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kbert.errors import InputError

SHARD_TOKENS = 2**25  # 96 MiB of ids and word starts; a billion tokens are 30 shards
COUNTS = ("documents", "sentences", "words", "tokens", "unknown_tokens")


class Encoded(NamedTuple):
    """Documents as token ids, one after another; each has a token at least, and so has each sentence."""

    token_ids: np.ndarray
    """uint16 or int32 [tokens]."""
    word_starts: np.ndarray
    """bool [tokens]: whether a word begins with the token."""
    sentence_starts: np.ndarray
    """int64 [sentences]: the token that each begins with."""
    document_starts: np.ndarray
    """int64 [documents]: the token that each begins with."""
    unknown_tokens: int = 0
    """How many tokens stand for a word that the vocabulary cannot spell."""

    def counts(self) -> dict[str, int]:
        """How many there are of each of `COUNTS`."""
        words = int(np.count_nonzero(self.word_starts))
        numbers = (len(self.document_starts), len(self.sentence_starts), words, len(self.token_ids))
        return dict(zip(COUNTS, (*numbers, self.unknown_tokens), strict=True))


ARRAYS = ("token_ids", "word_starts", "sentence_starts", "document_starts")


class ShardWriter:
    """Writes documents as the shards of one part of a corpus, in files that grow: memory holds none of them.

    Args:
        folder: where the files go.
        part: the first word of their names.
        shard_tokens: a shard ends with the first piece that fills it so far.
    """

    def __init__(self, folder: Path, part: str, shard_tokens: int = SHARD_TOKENS):
        self._folder = folder
        self._part = part
        self._shard_tokens = shard_tokens
        self._files: dict[str, _GrowingArray] = {}
        self._counts = dict.fromkeys(COUNTS, 0)
        self._entries: list[dict[str, Any]] = []

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            file.abandon()

    def append(self, encoded: Encoded) -> None:
        """Add documents behind those that are there."""
        if not len(encoded.token_ids):
            return
        name = f"{self._part}-{len(self._entries):05d}"
        if not self._files:
            self._files = {array: _GrowingArray(self._folder / f"{name}.{array}.npy") for array in ARRAYS}
        begin = self._counts["tokens"]
        self._files["token_ids"].append(encoded.token_ids)
        self._files["word_starts"].append(encoded.word_starts)
        self._files["sentence_starts"].append(encoded.sentence_starts + begin)
        self._files["document_starts"].append(encoded.document_starts + begin)
        self._counts = {count: self._counts[count] + number for count, number in encoded.counts().items()}
        if self._counts["tokens"] >= self._shard_tokens:
            self._end_shard()

    def close(self) -> list[dict[str, Any]]:
        """End the last shard; returns what the manifest says of each: its counts, and its files with their hashes."""
        if self._files:
            self._end_shard()
        return self._entries

    def _end_shard(self) -> None:
        files = {array: file.close() for array, file in self._files.items()}
        self._entries.append({**self._counts, "files": files})
        self._files = {}
        self._counts = dict.fromkeys(COUNTS, 0)


class _GrowingArray:
    """A .npy file whose only axis grows; the header, for which numpy leaves room, comes again when it is closed."""

    def __init__(self, path: Path):
        self._path = path
        self._file = path.open("wb+")
        self._dtype: np.dtype | None = None
        self._length = 0

    def append(self, values: np.ndarray) -> None:
        if self._dtype is None:
            self._dtype = values.dtype
            self._write_header()
        self._file.write(np.ascontiguousarray(values).data)
        self._length += len(values)

    def close(self) -> dict[str, Any]:
        """The name, size and hash of the file."""
        self._file.seek(0)
        self._write_header()
        self._file.close()
        return file_entry(self._path)

    def abandon(self) -> None:
        """Close the file, which is not whole and need not be."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _write_header(self) -> None:
        assert self._dtype is not None
        header = {"descr": self._dtype.newbyteorder("<").str, "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def file_entry(path: Path) -> dict[str, Any]:
    """What a manifest says of a file."""
    with path.open("rb") as file:
        return {
            "name": path.name,
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


@dataclass(frozen=True)
class Shard:
    """A piece of a corpus; its arrays are those of `Encoded`, mapped into memory when they are first looked at."""

    folder: Path
    entry: Mapping[str, Any]

    @functools.cached_property
    def token_ids(self) -> np.ndarray:
        """uint16 or int32 [tokens]."""
        return self._mapped("token_ids")

    @functools.cached_property
    def word_starts(self) -> np.ndarray:
        """bool [tokens]."""
        return self._mapped("word_starts")

    def sentence_starts(self) -> np.ndarray:
        """int64 [sentences]."""
        return self._mapped("sentence_starts")

    def document_starts(self) -> np.ndarray:
        """int64 [documents]."""
        return self._mapped("document_starts")

    def check_sizes(self) -> None:
        """Raise InputError unless the files are there and as long as they were."""
        for file in self.entry["files"].values():
            path = self.folder / file["name"]
            if not path.exists():
                raise InputError(f"{path} is missing: prepare the corpus anew")
            if path.stat().st_size != file["bytes"]:
                raise InputError(
                    f"{path} is damaged ({path.stat().st_size} bytes, not {file['bytes']}): prepare the corpus anew"
                )

    def check_content(self) -> None:
        """Raise InputError unless the files hold what was written; this reads all of them."""
        self.check_sizes()
        for file in self.entry["files"].values():
            if file_entry(self.folder / file["name"]) != file:
                raise InputError(f"{self.folder / file['name']} is damaged: prepare the corpus anew")

    def _mapped(self, array: str) -> np.ndarray:
        return np.load(self.folder / self.entry["files"][array]["name"], mmap_mode="r", allow_pickle=False)


class CorpusPart:
    """The training documents of a corpus, or those held out: a stream of tokens.

    Args:
        folder: where the shards are.
        entries: what the manifest says of them.
        special_ids: the ids of "cls", "sep" and "pad".
    """

    def __init__(self, folder: Path, entries: Sequence[Mapping[str, Any]], special_ids: Mapping[str, int]):
        self.shards = tuple(Shard(folder, entry) for entry in entries)
        self.offsets = np.cumsum([0, *(entry["tokens"] for entry in entries)], dtype=np.int64)
        """int64 [shards + 1]: the place in the stream at which each shard begins, and its end."""
        self.special_ids = dict(special_ids)
        counts = {count: sum(entry[count] for entry in entries) for count in COUNTS}
        self.num_documents: int = counts["documents"]
        self.num_sentences: int = counts["sentences"]
        self.num_words: int = counts["words"]
        self.num_tokens: int = counts["tokens"]
        self.num_unknown_tokens: int = counts["unknown_tokens"]

    def token_ids(self, places: np.ndarray) -> np.ndarray:
        """The ids at int64 [N] places of the stream: int32 [N]."""
        return self._gathered(places, "token_ids", np.int32)

    def word_starts(self, places: np.ndarray) -> np.ndarray:
        """Whether a word begins at int64 [N] places of the stream: bool [N]."""
        return self._gathered(places, "word_starts", np.bool_)

    def _gathered(self, places: np.ndarray, array: str, dtype: type) -> np.ndarray:
        numbers = np.searchsorted(self.offsets, places, side="right") - 1
        values: np.ndarray = np.empty(len(places), dtype)
        for number in np.unique(numbers):
            chosen = numbers == number
            values[chosen] = getattr(self.shards[number], array)[places[chosen] - self.offsets[number]]
        return values
