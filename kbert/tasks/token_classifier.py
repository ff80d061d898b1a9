"""Entities in texts of any length: named entities, parts of speech."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from kbert.checkpoints import presets
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.config import TagConfig
from kbert.data import alignment
from kbert.data.batching import Rows, without_padding
from kbert.data.schemes import Span
from kbert.data.tag_scheme import TagScheme
from kbert.errors import InputError
from kbert.metrics.entities import entity_metrics, entity_report
from kbert.modeling.crf import CRF, allowed_only, viterbi
from kbert.modeling.encoder import BertEncoder, named_weights
from kbert.modeling.heads import TokenHead
from kbert.tasks.predicting import chunks
from kbert.tasks.spans import Units, entities, units_of
from kbert.tasks.task import Task
from kbert.tasks.task_model import Examples
from kbert.tokenization.spelling import SUFFIX
from kbert.tokenization.tokenizer import BertTokenizer
from kbert.tokenization.windows import default_stride, owned_tokens

_log = logging.getLogger(__name__)
# What BERT's learning rate is multiplied by for fresh layers, which would not get far at a rate that suits BERT.
_CRF_RATE, _BILSTM_RATE = 100.0, 20.0


class BertTokenClassifier(Task):
    """BERT with a tag for each word (Devlin et al. 2018, section 5.3), read as entities.

    A word is what the tokenizer cuts into pieces; its first piece carries its tag. Windows of `max_length` tokens
    slide over longer texts; every word is tagged in the window where more stands around it, and the tags of a text are
    decoded as one row: the best that its scheme allows, by the head's logits, and by the transitions of a CRF if the
    head has one.

    Args:
        encoder: gives `sequence_output` [B, T, D].
        tokenizer: makes the encoder's inputs.
        task: tags, head and longest row.

    Call arguments:
        inputs: the encoder's dict, int32 [B, T]. (`fit`, `evaluate` and `predict` take raw strings.)

    Returns:
        Logits, float [B, T, C].

    Example:
        ```python
        model = kbert.BertTokenClassifier.from_preset("minilm-l6-en", labels=["O", "B-LOC", "I-LOC"])
        model.fit(["Rain in Rome"], [[(8, 12, "LOC")]])
        model.predict(["Snow in Oslo"])["entity_text"]
        ```
    """

    task: TagConfig

    def __init__(self, encoder: BertEncoder, tokenizer: BertTokenizer, task: TagConfig, **kwargs: Any):
        super().__init__(encoder, tokenizer, task, **kwargs)
        self.scheme = TagScheme.from_labels(task.labels)
        self.stride = default_stride(task.max_length, is_pair=False)
        self._is_continuation = np.array([token.startswith(SUFFIX) for token in tokenizer.vocabulary])
        # === Layers ===
        self.head = TokenHead(encoder.config, len(task.labels), task.bilstm_units(encoder.config), name="head")
        self.crf = CRF(len(task.labels), name="crf") if task.has_crf else None
        self.build()

    def build(self, input_shape=None):
        self.head.build()
        if self.crf is not None:
            self.crf.build()

    def call(self, inputs):
        return self.head(self.encoder(inputs)["sequence_output"], inputs["padding_mask"])

    # === Training ===

    def features(self, text):
        return self.tokenizer.windows(text, max_length=self.task.max_length, stride=self.stride)

    def examples(self, columns, y):
        """`y` holds, for each text, its entities: `(start, end, label)` in characters, the end exclusive."""
        spans = _checked(_spans(y, len(columns[0])), columns[0], self.scheme)
        padded, targets, index = [], [], []
        found = []
        done = 0
        for (chunk,) in chunks(columns):
            features = self.features(tf.constant(chunk))
            tags, aligned = self._aligned(features, spans[done : done + len(chunk)])
            padded.append(features)
            targets.append(without_padding(tags, features["padding_mask"]))
            index.append(features["text_index"].numpy() + done)
            found.append(aligned)
            done += len(chunk)
        _report(found)
        rows = Rows.from_features(padded, self.tokenizer.pad_id)
        return Examples(rows, tf.concat(targets, axis=0), np.concatenate(index))

    def _aligned(self, features: Mapping[str, tf.Tensor], spans: Sequence[Sequence[Span]]) -> tuple[Any, Any]:
        """The tags of windows, int32 [W, T], -1 for all but the first pieces of words that a window owns."""
        units = self._units(features)
        shape = features["token_ids"].shape
        as_arrays = alignment.Units(
            starts=units.start.numpy(),
            ends=units.end.numpy(),
            row_splits=np.searchsorted(units.text.numpy(), np.arange(len(spans) + 1)),
            heads=np.ravel_multi_index(units.places.numpy().T, shape),
            num_pieces=shape.num_elements(),
        )
        aligned = alignment.align(spans, as_arrays, self.scheme)
        return as_arrays.piece_classes(aligned.classes).reshape(shape), aligned

    @property
    def has_softmax(self):
        return self.crf is None

    def head_rates(self):
        crf = [] if self.crf is None else self.crf.weights
        bilstm = [] if self.head.bilstm is None else self.head.bilstm.weights
        return {v.path: _CRF_RATE for v in crf} | {v.path: _BILSTM_RATE for v in bilstm}

    def default_loss(self):
        return None if self.crf is not None else keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def item_weights(self, y, sample_weight):
        """Items are words; with a CRF rows, which count as many words as they have."""
        words = tf.cast(y >= 0, tf.float32)
        if self.crf is not None:
            words = tf.reduce_sum(words, axis=1)
        return (
            words if sample_weight is None else words * tf.reshape(sample_weight, [-1, *[1] * (words.shape.rank - 1)])
        )

    def item_losses(self, y, y_pred):
        if self.crf is None:
            return super().item_losses(tf.maximum(y, 0), y_pred)
        if self.loss is not None:
            raise InputError("a CRF has a loss of its own, the likelihood of a row: leave `loss` away")
        words = tf.reduce_sum(tf.cast(y >= 0, tf.float32), axis=1)
        return -tf.math.divide_no_nan(self.crf.log_likelihood(y_pred, y, y >= 0), words)

    # === Answers ===

    def answers(self, outputs, features, text):
        """Entities as the text spells them: see `kbert.tasks.spans.entities`."""
        units = self._units(features)
        flat = tf.gather_nd(outputs, units.places)  # [U, C]
        count = tf.size(text, tf.int64)
        rows = tf.RaggedTensor.from_value_rowids(flat, tf.cast(units.text, tf.int64), count, validate=False)
        lengths = rows.row_lengths()
        logits = rows.to_tensor(shape=[None, None, len(self.task.labels)])  # [B, L, C], L the most words of a text
        mask = tf.sequence_mask(lengths, tf.shape(logits, tf.int64)[1])
        tags, probabilities = self._decode(logits, mask)
        types = [self.scheme.types[i] if i >= 0 else "" for i in self.scheme.type_index]
        return entities(
            text, units, tf.boolean_mask(tags, mask), tf.boolean_mask(probabilities, mask), self.scheme.joins, types
        )

    def _decode(self, logits: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The best tags int32 [B, L] that the scheme allows, and their probabilities float32 [B, L]."""
        scheme, crf = self.scheme, self.crf
        weights = (0.0, 0.0, 0.0) if crf is None else (crf.transitions.value, crf.start.value, crf.end.value)
        allowed = (scheme.allowed, scheme.allowed_start, scheme.allowed_end)
        tags, _ = viterbi(logits, mask, *(allowed_only(w, a) for w, a in zip(weights, allowed, strict=True)))
        probabilities = tf.nn.softmax(logits) if crf is None else crf.marginals(logits, mask)
        return tags, tf.gather(probabilities, tags, batch_dims=2)

    def _units(self, features: Mapping[str, tf.Tensor]) -> Units:
        owned = owned_tokens(features["token_starts"], features["text_index"], self.stride)
        return units_of(features, owned, tf.constant(self._is_continuation))

    def score(self, answers, y):
        """Precision, recall and F1 of entities: same characters and label, all types together."""
        found = spans_of_answers(answers)
        return entity_metrics(_tuples(y, len(found)), found)

    def judgements(self, answers, y):
        found = spans_of_answers(answers)
        expected = _tuples(y, len(found))
        rows = []
        for right, answer, scores in zip(expected, found, answers["entity_score"].tolist(), strict=True):
            wrong = [score for entity, score in zip(answer, scores, strict=False) if entity not in right]
            missed, invented = sorted(set(right) - set(answer)), sorted(set(answer) - set(right))
            rows.append({"expected": missed, "answer": invented, "score": max(wrong, default=0.0)})
        return entity_report(expected, found), rows

    def answer_rows(self, answers):
        names = ("text", "label", "start", "end", "score")
        for row in super().answer_rows(answers):
            columns = (row[f"entity_{name}"][: row["entity_count"]] for name in names)
            yield {"entities": [dict(zip(names, entity, strict=True)) for entity in zip(*columns, strict=True)]}

    def known_labels(self):
        return self.scheme.types

    # === Folders ===

    def head_weights(self):
        crf = {} if self.crf is None else {f"crf/{name}": v for name, v in named_weights(self.crf).items()}
        return super().head_weights() | crf

    @classmethod
    def from_preset(
        cls,
        preset: str | Checkpoint,
        labels: Sequence[str] | None = None,
        *,
        head: str | None = None,
        max_length: int | None = None,
        skip_padding: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a tagger, or an encoder to fine-tune into one.

        Args:
            preset: as in `BertEncoder.from_preset`; or a checkpoint, whose weights may be yet to be drawn.
            labels: tags, say `["O", "B-LOC", "I-LOC"]`, of any scheme. None takes those of the preset. Other tags, or
                another order, give a fresh head.
            head: "dense", "crf", "bilstm" or "bilstm-crf". None: as the preset says, else "dense".
            max_length: longest row in tokens. None: as the preset says, else 128 (or the encoder's own limit).
            skip_padding: as in `BertEncoder`.

        Raises:
            InputError: the preset does not exist or is damaged, or no tags are known or they are of no scheme.
        """
        checkpoint = presets.load(preset)
        saved = checkpoint.task if isinstance(checkpoint.task, TagConfig) else None
        if labels is None:
            if saved is None:
                raise InputError(f"{preset} has no tagging head: pass labels=[…], the tags")
            labels = saved.labels
        task = TagConfig(
            labels=tuple(labels),
            head=head or (saved.head if saved else "dense"),
            max_length=max_length
            if max_length is not None
            else min(saved.max_length if saved else 128, checkpoint.config.max_sequence_length),
        )
        return cls._from_checkpoint(checkpoint, task, skip_padding, **kwargs)

    def load_head(self, checkpoint):
        saved = checkpoint.task
        if (saved.labels, saved.head) == (self.task.labels, self.task.head):
            super().load_head(checkpoint)


def spans_of_answers(answers: Mapping[str, np.ndarray]) -> list[list[tuple[int, int, str]]]:
    """The entities of each text that `predict` has found: (start, end, label)."""
    columns = (answers["entity_start"].tolist(), answers["entity_end"].tolist(), answers["entity_label"].tolist())
    rows = zip(answers["entity_count"].tolist(), *columns, strict=True)
    return [list(zip(starts, ends, labels, strict=True))[:count] for count, starts, ends, labels in rows]


def _tuples(y: Any, texts: int) -> list[list[tuple[int, int, str]]]:
    return [[(span.start, span.end, span.label) for span in row] for row in _spans(y, texts)]


def _spans(y: Any, texts: int) -> list[list[Span]]:
    rows = [[span if isinstance(span, Span) else Span(*span) for span in row] for row in y]
    if len(rows) != texts:
        raise InputError(f"`x` and `y` must be equally many. Received: {texts} and {len(rows)}")
    return rows


def _checked(rows: list[list[Span]], texts: Sequence[str], scheme: TagScheme) -> list[list[Span]]:
    for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
        ordered = sorted(row)
        if any(not 0 <= span.start < span.end <= len(text) for span in row) or any(
            before.end > after.start for before, after in itertools.pairwise(ordered)
        ):
            raise InputError(f"`y`: the entities of text {i} are empty, lie outside of it, or overlap: {ordered}")
        for span in row:
            if span.label not in scheme.types:
                raise InputError(
                    f"`y` holds an entity of type {span.label!r}; the model knows {', '.join(scheme.types)}"
                )
    return rows


def _report(found: Sequence[alignment.Alignment]) -> None:
    """Say which entities cannot be learnt as they are; none is lost silently."""
    for name, what in (
        ("lost", "cannot be learnt, since the tokenizer drops their characters or another has their word"),
        ("inexact", "begin or end inside of a word, and are learnt with all of it"),
    ):
        if number := sum(getattr(part, name) for part in found):
            examples = next(e for part in found if (e := getattr(part, f"{name}_examples")))
            _log.warning(
                "%d of %d entities %s; one: %s", number, sum(part.spans for part in found), what, examples[0][1]
            )
