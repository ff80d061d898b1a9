"""The corpus of a run: prepared once in its folder, then cut and masked epoch by epoch."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from kbert.data.masking import Masking, MaskTokens
from kbert.data.prepared import PreparedCorpus, prepare_corpus
from kbert.data.readers import Columns
from kbert.data.sequences import Sequences
from kbert.pretraining.batches import Feed, HeldOut, PretrainingData
from kbert.pretraining.settings import PretrainSettings
from kbert.tokenization.tokenizer import BertTokenizer
from kbert.training import strategies
from kbert.training.run_folder import has_begun, room_for

FOLDER = "corpus"
"""Name of the prepared corpus in the folder of a run."""
_HELD_OUT_SEED = 2**31 - 1  # the same words are guessed in all runs on a corpus, whatever their seed


def corpus_of(settings: PretrainSettings, tokenizer: BertTokenizer, strategy: tf.distribute.Strategy) -> PreparedCorpus:
    """The tokens of a run's corpus, made by one machine where they are not there yet.

    Raises:
        InputError: a file cannot be read, or has changed since its tokens were made.
    """
    folder = Path(settings.out) / FOLDER
    if strategies.is_chief(strategy):
        if folder.exists() and not has_begun(folder.parent):
            shutil.rmtree(folder)  # of other settings, perhaps
        if not folder.exists():
            with room_for(folder):
                _prepare(settings, tokenizer, folder)
    strategies.agree(strategy, "prepared")  # the others wait here
    corpus = PreparedCorpus.open(folder, tokenizer)
    corpus.check_sources(settings.corpus)
    return corpus


def _prepare(settings: PretrainSettings, tokenizer: BertTokenizer, folder: Path) -> None:
    layout: Any = settings.layout
    prepare_corpus(
        settings.corpus,
        tokenizer,
        folder,
        layout=layout,
        columns=Columns(settings.text_column or None, settings.pair_column or None),
        segmenter=settings.segmenter or None,
        processes=settings.processes or None,
        held_out=settings.held_out,
    )


def batches_of(
    settings: PretrainSettings, corpus: PreparedCorpus, tokenizer: BertTokenizer, padded: bool = False
) -> tuple[PretrainingData, HeldOut]:
    """What a run trains on, and what it is evaluated on: sequences as long as the run's longest.

    Args:
        settings: of the run.
        corpus: its tokens.
        tokenizer: that made them.
        padded: whether all rows are to have one length.

    Raises:
        InputError: one of the two is empty.
    """
    pairs: Any = None if settings.pairs == "none" else settings.pairs
    cut = functools.partial(Sequences.cut, across_documents=settings.across_documents, pairs=pairs, seed=settings.seed)

    @functools.lru_cache(maxsize=1)
    def training(length: int, epoch: int) -> Sequences:
        return cut(corpus.train, length, epoch=epoch)

    options = Masking(settings.mask_rate, settings.mask_unit)

    def feed(seed: int) -> Feed:
        return Feed(MaskTokens(options, tokenizer, seed), tokenizer.pad_id, settings.longest if padded else None)

    data = PretrainingData(
        # Pairs are drawn anew for each epoch; other sequences are the same in all.
        lambda length, epoch: training(length, epoch if pairs else 0),
        settings.stages,
        settings.batch_tokens,
        settings.seed,
        feed(settings.seed),
    )
    next(data.epochs())  # complains of an empty corpus before the run begins
    held_out = cut(corpus.held_out, settings.longest, seed=0)
    return data, HeldOut(held_out, settings.batch_tokens, feed(_HELD_OUT_SEED))
