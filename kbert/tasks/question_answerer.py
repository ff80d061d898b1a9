"""The part of a context of any length that answers a question."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from kbert.checkpoints import presets
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.config import AnswerConfig
from kbert.data.batching import Rows
from kbert.errors import InputError
from kbert.metrics.answers import cmrc2_metrics, cmrc_metrics, squad2_metrics, squad_metrics
from kbert.modeling.encoder import BertEncoder
from kbert.modeling.heads import SpanHead
from kbert.tasks.predicting import chunks
from kbert.tasks.task import Task
from kbert.tasks.task_model import Examples
from kbert.tokenization.tokenizer import BertTokenizer
from kbert.tokenization.windows import default_stride

_log = logging.getLogger(__name__)
_NEVER = -1e9
_CHINESE = re.compile("[\u4e00-\u9fff]")
# Whether the answers are Chinese, and whether every question has one.
_METRICS = {
    (False, True): squad_metrics,
    (False, False): squad2_metrics,
    (True, True): cmrc_metrics,
    (True, False): cmrc2_metrics,
}

Answers = Sequence[tuple[str, int]]
"""The answers to a question that count as right, each with the character of the context where it begins.

-1 stands for an answer that is not in the context word for word: it counts when answers are compared, and is not
learnt.
"""


class BertQuestionAnswerer(Task):
    """BERT with a score for each token to begin and to end the answer (Devlin et al. 2018, section 4.2).

    Windows slide over contexts that leave no room for the question in `max_length` tokens. The answer is the span of
    at most `max_answer_length` tokens with the highest sum of both scores in any window.

    Args:
        encoder: gives `sequence_output` [B, T, D].
        tokenizer: makes the encoder's inputs.
        task: longest row and longest answer, and whether a question may have none.

    Call arguments:
        inputs: the encoder's dict, int32 [B, T]. (`fit`, `evaluate` and `predict` take raw strings.)

    Returns:
        Logits of the beginning and of the end, float [B, T, 2].

    Example:
        ```python
        model = kbert.BertQuestionAnswerer.from_preset("minilm-l6-en")
        model.fit((["Where?"], ["Rain in Rome"]), [[("Rome", 8)]])
        model.predict((["Where?"], ["Snow in Oslo"]))["answer"]
        ```
    """

    task: AnswerConfig

    def __init__(self, encoder: BertEncoder, tokenizer: BertTokenizer, task: AnswerConfig, **kwargs: Any):
        super().__init__(encoder, tokenizer, task, **kwargs)
        self.stride = default_stride(task.max_length, is_pair=True)
        # === Layers ===
        self.head = SpanHead(encoder.config, name="head")
        self.build()

    def build(self, input_shape=None):
        self.head.build()

    def call(self, inputs):
        return self.head(self.encoder(inputs)["sequence_output"], inputs["padding_mask"])

    @property
    def input_names(self):
        return ("question", "context")

    # === Training ===

    def features(self, question, context):
        return self.tokenizer.windows(question, context, max_length=self.task.max_length, stride=self.stride)

    def examples(self, columns, y):
        """`y` holds the answers to each question, `(text, start)`: the first is learnt; none, where there is none."""
        answers = _checked(y, columns)
        padded, targets, index, lost = [], [], [], 0
        done = 0
        for chunk in chunks(columns):
            features = self.features(*map(tf.constant, chunk))
            arrays = {name: value.numpy() for name, value in features.items()}
            first = [_first(row) for row in answers[done : done + len(chunk[0])]]
            places = _places(arrays, np.array(first).reshape(-1, 2))
            padded.append(features)
            targets.append(places)
            index.append(arrays["text_index"] + done)
            learnable = np.unique(arrays["text_index"][places[:, 0] > 0])
            lost += sum(a != b for a, b in first) - len(learnable)
            done += len(chunk[0])
        if lost:
            _log.warning(
                "%d of %d answers are longer than a window or lie where the tokenizer drops all characters, and cannot "
                "be learnt",
                lost,
                len(answers),
            )
        rows = Rows.from_features(padded, self.tokenizer.pad_id)
        return Examples(rows, np.concatenate(targets), np.concatenate(index))

    def default_loss(self):
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def item_losses(self, y, y_pred):
        """The mean of the losses of beginning and end, [B]; windows without the answer point to their first token."""
        return tf.reduce_mean(super().item_losses(y, tf.transpose(y_pred, [0, 2, 1])), axis=1)

    # === Answers ===

    def answers(self, outputs, features, question, context):
        """`answer` string [B], `start` and `end` int32 [B] (characters, end exclusive), `score` float32 [B].

        The score is the probability of the span: of its beginning times of its end, over all windows. Where there is
        no answer it is that of none, the answer is "", and start and end are -1.
        """
        text, B = features["text_index"], tf.size(context)
        in_context = features["token_starts"] >= 0
        begin = tf.where(in_context, outputs[..., 0], _NEVER)  # [W, T]
        end = tf.where(in_context, outputs[..., 1], _NEVER)
        best, first, last = self._best_spans(begin, end)  # [W] each
        window = _best_window(best, text, B)  # [B]
        start_character = tf.gather_nd(features["token_starts"], tf.stack([window, tf.gather(first, window)], 1))
        end_character = tf.gather_nd(features["token_ends"], tf.stack([window, tf.gather(last, window)], 1))
        none = tf.math.unsorted_segment_min(outputs[:, 0, 0] + outputs[:, 0, 1], text, B)  # [B]
        value = tf.gather(best, window)
        total = _log_sum(begin, text, B) + _log_sum(end, text, B)
        exists = value > _NEVER
        if self.task.no_answer:
            exists &= value > none
            total = tf.reduce_logsumexp(tf.stack([total, none]), axis=0)
            value = tf.maximum(value, none)
        start = tf.where(exists, start_character, -1)
        stop = tf.where(exists, end_character, -1)
        # Bytes that are not UTF-8 count as one character each, as the tokenizer counts them.
        readable = tf.strings.unicode_transcode(context, "UTF-8", "UTF-8", errors="replace")
        length = tf.where(exists, stop - start, 0)
        return {
            "answer": tf.strings.substr(readable, tf.maximum(start, 0), length, unit="UTF8_CHAR"),
            "start": start,
            "end": stop,
            "score": tf.where(value > _NEVER, tf.exp(value - total), 0.0),
        }

    def _best_spans(self, begin: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The highest sum of a window's beginning and end, and the places of both; [W] each."""
        longest = self.task.max_answer_length
        ends = tf.pad(end, [[0, 0], [0, longest - 1]], constant_values=_NEVER)
        furthest = tf.nn.max_pool1d(ends[..., None], longest, strides=1, padding="VALID")[..., 0]  # [W, T]
        sums = begin + furthest
        first = tf.argmax(sums, axis=1, output_type=tf.int32)
        offsets = first[:, None] + tf.range(longest)[None, :]
        last = first + tf.argmax(tf.gather(ends, offsets, batch_dims=1), axis=1, output_type=tf.int32)
        return tf.maximum(tf.reduce_max(sums, axis=1), _NEVER), first, last

    def score(self, answers, y):
        """Exact match and F1 of SQuAD, in Chinese of CMRC 2018; where a question has no answer as in SQuAD 2.0."""
        expected, found = [[text for text, _ in row] for row in y], answers["answer"].tolist()
        is_chinese = [bool(_CHINESE.search(text)) for row in expected for text in row]
        metrics = _METRICS[sum(is_chinese) * 2 > len(is_chinese), all(expected)]
        return metrics(expected, found)

    def judgements(self, answers, y):
        found, scores = answers["answer"].tolist(), answers["score"].tolist()
        rows = []
        for row, answer, score in zip(y, found, scores, strict=True):
            right = [text for text, _ in row]
            is_right = answer in right or (not right and not answer)
            rows.append({"expected": answer if is_right else right or "", "answer": answer, "score": score})
        return None, rows

    # === Folders ===

    @classmethod
    def from_preset(
        cls,
        preset: str | Checkpoint,
        *,
        max_length: int | None = None,
        max_answer_length: int | None = None,
        no_answer: bool | None = None,
        skip_padding: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a question answerer, or an encoder to fine-tune into one.

        Args:
            preset: as in `BertEncoder.from_preset`; or a checkpoint, whose weights may be yet to be drawn.
            max_length: longest row in tokens. None: as the preset says, else 384 (or the encoder's own limit).
            max_answer_length: longest answer in tokens. None: as the preset says, else 30.
            no_answer: whether a question may have no answer in its context. None: as the preset says, else False.
            skip_padding: as in `BertEncoder`.

        Raises:
            InputError: the preset does not exist or is damaged.
        """
        checkpoint = presets.load(preset)
        saved = checkpoint.task if isinstance(checkpoint.task, AnswerConfig) else AnswerConfig()
        task = AnswerConfig(
            max_length=max_length
            if max_length is not None
            else min(saved.max_length, checkpoint.config.max_sequence_length),
            max_answer_length=saved.max_answer_length if max_answer_length is None else max_answer_length,
            no_answer=saved.no_answer if no_answer is None else no_answer,
        )
        return cls._from_checkpoint(checkpoint, task, skip_padding, **kwargs)


def _checked(y: Any, columns: Sequence[list[str]]) -> list[Answers]:
    rows: list[Answers] = [[(text, int(start)) for text, start in row] for row in y]
    questions, contexts = columns
    if len(rows) != len(questions):
        raise InputError(f"`x` and `y` must be equally many. Received: {len(questions)} and {len(rows)}")
    for i, (row, context) in enumerate(zip(rows, contexts, strict=True)):
        for text, start in row:
            if start >= 0 and context[start : start + len(text)] != text:
                raise InputError(f"`y`: the context of question {i} has no {text!r} at character {start}")
    return rows


def _first(answers: Answers) -> tuple[int, int]:
    """The characters of the first answer that is in the context; an empty stretch where there is none."""
    return next(((start, start + len(text)) for text, start in answers if start >= 0), (0, 0))


def _places(features: dict[str, np.ndarray], spans: np.ndarray) -> np.ndarray:
    """The places of the first and the last token of answers in windows, int32 [W, 2]; 0 where a window has not all.

    Args:
        features: of `BertTokenizer.windows`.
        spans: int [B, 2], the characters of each text's answer; an empty one is none.
    """
    start, end = spans[features["text_index"]].T  # [W] each
    covered = (features["window_starts"] <= start) & (features["window_ends"] >= end) & (start < end)
    starts, ends = features["token_starts"], features["token_ends"]
    inside = (starts >= 0) & (ends > start[:, None]) & (starts < end[:, None]) & covered[:, None]
    first = inside.argmax(1)
    last = inside.shape[1] - 1 - inside[:, ::-1].argmax(1)
    return np.where(inside.any(1)[:, None], np.stack([first, last], 1), 0).astype(np.int32)


def _best_window(best: tf.Tensor, text: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
    """The first of the windows of each text with the highest value, int32 [B]."""
    highest = tf.gather(tf.math.unsorted_segment_max(best, text, texts), text)
    W = tf.size(best)
    return tf.math.unsorted_segment_min(tf.where(best == highest, tf.range(W), W), text, texts)


def _log_sum(scores: tf.Tensor, text: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
    """The log of the sum of exp over all windows of each text: [W, T] -> [B]."""
    of_windows = tf.reduce_logsumexp(scores, axis=1)
    highest = tf.math.unsorted_segment_max(of_windows, text, texts)
    sums = tf.math.unsorted_segment_sum(tf.exp(of_windows - tf.gather(highest, text)), text, texts)
    return highest + tf.math.log(sums)
