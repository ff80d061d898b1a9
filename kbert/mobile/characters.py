"""Texts as MediaPipe and Task Library tokenize them, and how to have them read by kbert's own tokenizer all the same.

Both libraries cut a text at white space and around punctuation, lower-case ASCII letters, and look words up in the
file's vocabulary by longest match. They keep accents, and capitals beyond ASCII: a word that has one is unknown to an
uncased vocabulary. With a vocabulary of single characters they hand on the text itself, and the graph does the rest.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from kbert.mobile.text_graph import ALONE, SPACE, TextGraph
from kbert.tokenization.tokenizer import BertTokenizer

IDS = {"ids": "token_ids", "mask": "padding_mask", "segment_ids": "segment_ids"}
"""The inputs of a file of ids, named as MediaPipe and Task Library ask, and the encoder's."""
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
"""What both libraries take for granted, the first of them as 0."""
_CHARACTERS_OF_TOKEN = 6  # of an input of characters, for each token of a row
_PRIVATE = range(0xE000, 0xF900)
# Punctuation and Chinese characters as MediaPipe's bert_tokenizer.h lists them.
_ALONE = (
    r"[!-/]|[:-@]|[\[-`]|[{-~]|[\p{P}]|[\x{4E00}-\x{9FFF}]|[\x{3400}-\x{4DBF}]|[\x{20000}-\x{2A6DF}]|"
    r"[\x{2A700}-\x{2B73F}]|[\x{2B740}-\x{2B81F}]|[\x{2B820}-\x{2CEAF}]|[\x{F900}-\x{FAFF}]|[\x{2F800}-\x{2FA1F}]"
)


def phone_tokenizer(vocabulary: Sequence[str]) -> Callable[[Sequence[str]], tf.RaggedTensor]:
    """The tokenizer of MediaPipe and Task Library: texts to ids, int64 [B, (tokens)]."""
    ids = tf.lookup.KeyValueTensorInitializer(list(vocabulary), np.arange(len(vocabulary)))
    table = tf.lookup.StaticVocabularyTable(ids, num_oov_buckets=1)
    pieces = tf_text.WordpieceTokenizer(table, unknown_token=SPECIAL_TOKENS[1], token_out_type=tf.int64)
    lower = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

    def read(texts: Sequence[str]) -> tf.RaggedTensor:
        words = tf_text.regex_split([text.translate(lower) for text in texts], rf"\s+|{_ALONE}", _ALONE)
        return pieces.tokenize(words).merge_dims(1, 2)

    return read


class CharacterGraph:
    """A vocabulary of single characters, and a graph that makes a model's input of their ids.

    Args:
        tokenizer: What the model reads texts with.
    """

    def __init__(self, tokenizer: BertTokenizer):
        self._graph = TextGraph(tokenizer)
        code_points = np.arange(0x21, 0x10000)
        values = self._graph.values(code_points).numpy()
        unknown = int(code_points[values == ALONE][0])  # a word by itself that no token holds
        known = (values <= 0) | (values >= SPACE)  # a mere LETTER or ALONE is in no token
        known &= (code_points < 0xD800) | (code_points > _PRIVATE[-1])
        letters = code_points[known].tolist()
        further = [c for c in letters if values[c - 0x21] <= 0 or values[c - 0x21] % 4 != ALONE]
        self.vocabulary = [*SPECIAL_TOKENS, *map(chr, letters), *(f"##{chr(c)}" for c in further)]
        """The tokens of the file, one a line."""
        # By id: a space before what begins a word, and the character; of special tokens the unknown one is a word.
        pairs = [(0, 0), (ord(" "), unknown), (0, 0), (0, 0)]
        pairs += [(ord(" "), c) for c in letters] + [(0, c) for c in further]
        self._code_points = np.array(pairs, np.int32)

    @staticmethod
    def length(max_length: int) -> int:
        """How many characters are read for a row of tokens."""
        return _CHARACTERS_OF_TOKEN * max_length

    def __call__(self, ids: tf.Tensor, mask: tf.Tensor, max_length: int) -> dict[str, tf.Tensor]:
        """Ids of characters, int32 [1, N], to a model's input, int32 [1, T]; runs in a graph."""
        pairs = tf.gather(self._code_points, ids[0] * mask[0])  # [N, 2]
        return self._graph.rows([tf.reshape(pairs, [-1])], max_length)

    def row(self, ids: Sequence[int], max_length: int) -> dict[str, np.ndarray]:
        """Ids as MediaPipe puts them in a row: the inputs of the file, int32 [1, N]."""
        N = self.length(max_length)
        cls, sep = map(SPECIAL_TOKENS.index, ("[CLS]", "[SEP]"))
        whole = [cls, *ids[: N - 2], sep]
        row, mask = np.zeros((1, N), np.int32), np.zeros((1, N), np.int32)
        row[0, : len(whole)], mask[0, : len(whole)] = whole, 1
        return {"ids": row, "mask": mask, "segment_ids": np.zeros_like(row)}
