"""Documents to token ids, a block of them at a time, in one process or several."""

from __future__ import annotations

import itertools
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
from kbert.data.sentences import split_sentences
from kbert.data.shards import Encoded
from kbert.errors import InputError
from kbert.tokenization.spelling import SUFFIX

T = TypeVar("T")
_THREADS = 2  # in a single process: Python splits one block into sentences while the graph tokenizes another


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
        self._is_suffix = np.array([token.startswith(SUFFIX) and token != SUFFIX for token in vocabulary])
        self._dtype = np.uint16 if len(vocabulary) <= 2**16 else np.int32

    def __call__(self, documents: Sequence[str]) -> Encoded:
        """The token ids of documents; one that gives no token is left out."""
        split = [split_sentences(document) for document in documents]
        sentences = list(itertools.chain.from_iterable(split))
        ids, lengths, inside = self._tokenized(sentences)
        filled = lengths > 0
        starts = (np.cumsum(lengths) - lengths)[filled]
        numbers = np.repeat(np.arange(len(split)), [len(part) for part in split])[filled]
        begins_document = np.diff(numbers, prepend=-1) > 0
        word_starts = ~self._is_suffix[ids] & ~inside
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
        encode: Callable[[Sequence[str]], Encoded] = DocumentEncoder(*settings)
        pool, at_once = ThreadPoolExecutor(_THREADS), _THREADS + 1
    else:
        encode, at_once = _encode, 2 * processes
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(processes, spawn, initializer=_start, initargs=(processes, *settings))

    def encoded(blocks: Iterable[tuple[T, Sequence[str]]]) -> Iterator[tuple[T, Encoded]]:
        begun: deque[tuple[T, Future[Encoded]]] = deque()
        for with_it, documents in blocks:
            begun.append((with_it, pool.submit(encode, documents)))
            if len(begun) >= at_once:
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
