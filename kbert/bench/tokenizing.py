"""How quick the tokenizer is, beside its peers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
import tensorflow_text as tf_text
import tokenizers

from kbert.bench.timing import Contender, Measurement, compare
from kbert.checkpoints.huggingface import write_tokenizer
from kbert.tokenization.tokenizer import BertTokenizer

_BATCH = 4096  # texts handed over at once: kbert's own data preparation takes as many


def compare_tokenizers(texts: Sequence[str], preset: str, rounds: int) -> list[Measurement]:
    """Time kbert's tokenizer, the `tokenizers` library and tf-text's FastBertTokenizer on the same texts.

    All start from Python strings; what they make of them stays in the form in which each of them gives it.

    Args:
        texts: The texts, repeated until a run is long enough to be timed.
        preset: Whose vocabulary to use.
        rounds: Timed runs of each.
    """
    size = sum(len(text.encode()) for text in texts)
    texts = list(texts) * max(1, 1_000_000 // max(size, 1))
    batches = [texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH)]
    own = BertTokenizer.from_preset(preset)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), own.vocabulary, own.config, own.max_length)
        peer = tokenizers.Tokenizer.from_file(str(Path(folder, "tokenizer.json")))
    contenders = [
        _contender("tokenizers encode_batch", lambda b: peer.encode_batch(b, add_special_tokens=False), batches),
        _contender(
            "tokenizers encode_batch_fast",
            lambda b: peer.encode_batch_fast(b, add_special_tokens=False),
            batches,
            "no offsets",
        ),
        _contender("tf-text FastBertTokenizer", _tf_text(own), batches, "other tokens for some texts; no offsets"),
        _contender("kbert", own.tokenize, batches, "no offsets"),
        _contender("kbert with offsets", own.tokenize_with_offsets, batches),
    ]
    amount = sum(len(text.encode()) for text in texts) / 1e6
    return compare(contenders, amount, "MB/s", rounds, "tokenizing")


def _contender(name: str, tokenize: Callable, batches: list[list[str]], note: str = "") -> Contender:
    return Contender(name, lambda: [tokenize(batch) for batch in batches], note)


def _tf_text(own: BertTokenizer) -> Callable:
    """tf-text's own BERT tokenizer, as a graph."""
    tokenizer = tf_text.FastBertTokenizer(
        vocab=list(own.vocabulary),
        lower_case_nfd_strip_accents=own.config.do_lower_case,
        token_out_type=tf.int32,
        unknown_token=own.config.unk_token,
    )
    return tf.function(tokenizer.tokenize, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
