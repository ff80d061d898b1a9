"""Documents to token ids, a block of them at a time, in one process or several."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from kbert.config import TokenizerConfig
from kbert.data.segmenting import word_insides
from kbert.data.sentences import split_documents
from kbert.data.shards import Encoded
from kbert.errors import InputError
from kbert.tokenization.spelling import SUFFIX

T = TypeVar("T")
_THREADS = 2  # that tokenize in a single process; one more, its own, splits, for Python runs in one at a time


class DocumentEncoder:
    """Splits documents into sentences and these into token ids; special tokens that a text spells out are plain text.

    Args:
        vocabulary: the tokens; a token's place is its id.
        config: the normalization.
        segmenter: what joins Chinese characters to words, of `segmenting.SEGMENTERS`; None: each is a word.
    """

    def __init__(self, vocabulary: Sequence[str], config: TokenizerConfig, segmenter: str | None = None):
        from kbert.tokenization.tokenizer import BertTokenizer

        self._tokenizer = BertTokenizer(vocabulary, config)
        self._segmenter = segmenter
        self._begins_word = np.array([not token.startswith(SUFFIX) or token == SUFFIX for token in vocabulary])
        self._dtype = np.uint16 if len(vocabulary) <= 2**16 else np.int32

    def __call__(self, documents: Sequence[str]) -> Encoded:
        """The token ids of documents; one that gives no token is left out."""
        return self.encode(*split_documents(documents))

    def encode(self, sentences: list[str], numbers: np.ndarray) -> Encoded:
        """The token ids of documents that `split_documents` has split."""
        ids, lengths, inside = self._tokenized(sentences)
        filled = lengths > 0
        starts = (np.cumsum(lengths) - lengths)[filled]
        begins_document = np.diff(numbers[filled], prepend=-1) > 0
        word_starts = self._begins_word.take(ids) & ~inside
        word_starts[starts] = True
        unknown = int(np.count_nonzero(ids == self._tokenizer.unk_id))
        return Encoded(ids.astype(self._dtype), word_starts, starts, starts[begins_document], unknown)

    def _tokenized(self, sentences: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray | np.bool_]:
        """Ids [tokens], tokens of each sentence, and whether a token lies inside a word, [tokens]."""
        if not sentences:
            return np.zeros(0, np.int32), np.zeros(0, np.int64), np.False_
        if self._segmenter is None:
            ids = self._tokenizer.tokenize(sentences)
            return ids.flat_values.numpy(), ids.row_lengths().numpy(), np.False_
        ids, starts, _ = self._tokenizer.tokenize_with_offsets(sentences)
        lengths = ids.row_lengths().numpy()
        characters = np.array([len(sentence) for sentence in sentences])
        places = starts.flat_values.numpy() + np.repeat(np.cumsum(characters) - characters, lengths)
        return ids.flat_values.numpy(), lengths, word_insides(sentences, self._segmenter)[places]


@contextmanager
def document_encoders(
    vocabulary: Sequence[str], config: TokenizerConfig, segmenter: str | None, processes: int
) -> Iterator[Callable[[Iterable[tuple[T, Sequence[str]]]], Iterator[tuple[T, Encoded]]]]:
    """Yield a function that encodes the documents of blocks, each with something that goes along, in their order.

    A few blocks are in work at the same time, so that memory does not grow with their number.

    Args:
        vocabulary: as `DocumentEncoder` takes it, as are the next two.
        config: the normalization.
        segmenter: what joins Chinese characters.
        processes: 1: this one, whose tokenizer runs on all cores; more: new ones beside it, which share them.

    Raises:
        InputError: a process is stopped from outside, as for want of memory.
    """
    settings = (vocabulary, config, segmenter)
    pool: Executor
    if processes == 1:
        encoder = DocumentEncoder(*settings)
        pool, workers = ThreadPoolExecutor(_THREADS), _THREADS
    else:
        encoder = None
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(processes, spawn, initializer=_start, initargs=(processes, *settings))
        workers = processes

    def submit(documents: Sequence[str]) -> Future[Encoded]:
        if encoder is None:
            return pool.submit(_encode, documents)
        return pool.submit(encoder.encode, *split_documents(documents))

    def encoded(blocks: Iterable[tuple[T, Sequence[str]]]) -> Iterator[tuple[T, Encoded]]:
        begun: deque[tuple[T, Future[Encoded]]] = deque()
        for with_it, documents in blocks:
            begun.append((with_it, submit(documents)))
            if len(begun) >= 2 * workers:
                first, future = begun.popleft()
                yield first, future.result()
        for with_it, future in begun:
            yield with_it, future.result()

    try:
        yield encoded
    except BrokenProcessPool:
        raise InputError(
            "a process that tokenizes was stopped, perhaps for want of memory: give fewer `processes`; a script that "
            "gives several needs `if __name__ == '__main__':` around what it runs"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_own_encoder: DocumentEncoder | None = None  # of a process that does nothing else


def _start(processes: int, *settings) -> None:
    global _own_encoder
    import os

    import tensorflow as tf

    threads = max(1, (os.cpu_count() or 1) // processes)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.set_visible_devices([], "GPU")
    _own_encoder = DocumentEncoder(*settings)


def _encode(documents: Sequence[str]) -> Encoded:
    assert _own_encoder is not None
    return _own_encoder(documents)
