"""What a file for phones takes: ids of tokens, ids of characters, or text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.errors import InputError
from kbert.mobile.characters import IDS, CharacterGraph, phone_tokenizer
from kbert.mobile.choices import INPUT_KINDS
from kbert.mobile.forms import MobileForm
from kbert.mobile.metadata import TensorInfo
from kbert.mobile.text_graph import TextGraph
from kbert.tasks.task import Task

Rows = list[dict[str, np.ndarray]]
"""The inputs of a file by name, for each row."""
_DESCRIPTIONS = {
    "ids": "Ids of the tokens, [CLS] first, [SEP] behind each text, then padding.",
    "mask": "1 for a token, 0 for padding.",
    "segment_ids": "1 for the tokens of a second text, else 0.",
}


class IdInputs:
    """Ids of the model's own tokens: `ids`, `mask` and `segment_ids`, int32 [1, T].

    Args:
        model: Reads them.
        form: What the file gives.

    Raises:
        InputError: A file of that form cannot take these inputs.
    """

    def __init__(self, model: Task, form: MobileForm):
        self.model = model
        # No text meets a token that is empty or holds white space; the line of an empty one would be passed over, and
        # all ids behind it would be wrong.
        tokens = enumerate(model.tokenizer.vocabulary)
        self.vocabulary: Sequence[str] = [token if token.split() == [token] else f"[{i}]" for i, token in tokens]
        """What the app's tokenizer must know; none where the app has none."""

    @property
    def signature(self) -> list[tf.TensorSpec]:
        """The inputs' names, shapes and dtypes."""
        return [tf.TensorSpec([1, self.model.task.max_length], tf.int32, name) for name in IDS]

    @property
    def infos(self) -> list[TensorInfo]:
        """The inputs' names and what they are."""
        return [TensorInfo(spec.name, _DESCRIPTIONS[spec.name]) for spec in self.signature]

    def features(self, *inputs: tf.Tensor) -> Mapping[str, tf.Tensor]:
        """The inputs to the encoder's, int32 [1, T]; runs in a graph."""
        return dict(zip(IDS.values(), inputs, strict=True))

    def rows(self, columns: Sequence[Sequence[str]]) -> Rows:
        """Texts, a list for each of the model's inputs, as the file's."""
        return self.of_features(self.model.features(*(tf.constant(column) for column in columns)))

    def of_features(self, features: Mapping[str, Any]) -> Rows:
        """Each row of the encoder's inputs, int32 [B, any length], as the file's."""
        T, padding = self.model.task.max_length, {"token_ids": self.model.tokenizer.pad_id}
        padded = {}
        for name, feature in IDS.items():
            values = np.asarray(features[feature])
            width = [(0, 0), (0, T - values.shape[1])]
            padded[name] = np.pad(values, width, constant_values=padding.get(feature, 0))
        return [{name: values[i : i + 1] for name, values in padded.items()} for i in range(len(padded["ids"]))]


class CharacterInputs(IdInputs):
    """Ids of characters, as `IdInputs` but longer: what MediaPipe reads with a vocabulary of single characters."""

    def __init__(self, model, form):
        super().__init__(model, form)
        if not form.reads_text or not form.apps():
            raise InputError(
                "a file of characters is for MediaPipe, which gives one text to a classifier or an embedder: export "
                "with --inputs ids or text"
            )
        self._graph = CharacterGraph(model.tokenizer)
        self.vocabulary = self._graph.vocabulary

    @property
    def signature(self):
        length = self._graph.length(self.model.task.max_length)
        return [tf.TensorSpec([1, length], tf.int32, name) for name in IDS]

    def features(self, *inputs):
        ids, mask, _ = inputs
        return self._graph(ids, mask, self.model.task.max_length)

    def rows(self, columns):
        (texts,) = columns
        ids = phone_tokenizer(self.vocabulary)(texts).to_list()
        return [self._graph.row(row, self.model.task.max_length) for row in ids]


class TextInputs(IdInputs):
    """A text, or two: uint8 [1, N] each, UTF-8 and zeros behind it or not."""

    def __init__(self, model, form):
        super().__init__(model, form)
        if not form.reads_text:
            raise InputError(
                f"{model.task.task} answers with parts of the text, for which an app must know the tokens: export with "
                "inputs of ids (--inputs ids)"
            )
        self._graph = TextGraph(model.tokenizer)
        self.vocabulary = ()

    @property
    def signature(self):
        return [tf.TensorSpec([1, None], tf.uint8, name) for name in self.model.input_names]

    @property
    def infos(self):
        return [TensorInfo(name, "A text in UTF-8, zeros behind it.") for name in self.model.input_names]

    def features(self, *inputs):
        return self._graph(list(inputs), self.model.task.max_length)

    def rows(self, columns):
        names = self.model.input_names
        data = [[text.encode("utf8", "replace") or b"\0" for text in column] for column in columns]
        return [
            {name: np.frombuffer(text, np.uint8)[None] for name, text in zip(names, texts, strict=True)}
            for texts in zip(*data, strict=True)
        ]


INPUTS_OF_KIND: dict[str, type[IdInputs]] = dict(zip(INPUT_KINDS, (IdInputs, CharacterInputs, TextInputs), strict=True))
