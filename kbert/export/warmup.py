"""Requests that TF Serving answers before it takes a model into service, so that no user waits for a first one.

TF Serving reads `assets.extra/tf_serving_warmup_requests`, TFRecords of PredictionLog, 1,000 at most; a request that
fails keeps the model from loading (its saved_model_warmup_util.cc).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from kbert.export.signatures import Signature
from kbert.tasks.task import Task
from kbert.tokenization.tokenizer import BertTokenizer

FILE = "tf_serving_warmup_requests"
BATCH_SIZES = (1, 8, 32)
_SHORT = 8  # tokens of a short row; a long one is as long as the model reads
_FIRST = 16  # words of a first text at most, as of a question about a context
_WORDS = 64  # of the vocabulary that are tried


def write_warmup(folder: Path, model_name: str, signatures: Mapping[str, Signature]) -> int:
    """Write `FILE` with a record for each signature, batch size, and a short and a long row.

    Args:
        folder: an existing one.
        model_name: the served model's.
        signatures: by name.

    Returns:
        The number of records.
    """
    count = 0
    with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
        for log in warmup_logs(model_name, signatures):
            writer.write(log.SerializeToString())
            count += 1
    return count


def warmup_logs(model_name: str, signatures: Mapping[str, Signature]) -> Iterator[prediction_log_pb2.PredictionLog]:
    """The records of `write_warmup`."""
    for name, signature in signatures.items():
        longest = signature.model.task.max_length
        for length in sorted({min(_SHORT, longest), longest}):
            for size in BATCH_SIZES:
                columns = [[text] * size for text in row_of(signature.model, length)]
                yield signature.log(model_name, name, columns)


def row_of(model: Task, length: int) -> list[str]:
    """A text for each of a model's inputs that together make a row of so many tokens.

    A first of two texts is short, as a question is.
    """
    count = len(model.input_names)
    room = max(length - 1 - count, 0)  # [CLS], and a [SEP] after each text
    first = [min(_FIRST, room // count)] * (count - 1)
    words = _single_tokens(model.tokenizer)
    return [
        " ".join(words[i % len(words)] for i in range(words_of_text)) for words_of_text in [*first, room - sum(first)]
    ]


def _single_tokens(tokenizer: BertTokenizer) -> list[str]:
    """Words that are one token each: first the mask, where the tokenizer reads it as such."""
    special = set(tokenizer.config.special_tokens)
    whole = (token for token in tokenizer.vocabulary if token not in special and token.isalpha())
    candidates = [tokenizer.config.mask_token, *(word for word, _ in zip(whole, range(_WORDS), strict=False))]
    lengths = tokenizer.tokenize(candidates).row_lengths().numpy()
    words = [word for word, length in zip(candidates, lengths, strict=True) if length == 1]
    return words or ["x"]  # one token in every vocabulary, be it the unknown one
