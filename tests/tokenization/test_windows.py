"""Windows over long texts: Hugging Face's overflowing tokens, with every character covered."""

from __future__ import annotations

import random

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from kbert.errors import InputError
from kbert.tokenization.tokenizer import BertTokenizer

from .reference import fuzz, reference_tokenizer
from .test_tokenizer import VOCABULARY


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(VOCABULARY, max_length=40)


@pytest.fixture(scope="module")
def reference(tokenizer):
    reference = reference_tokenizer(VOCABULARY, tokenizer.config)
    reference.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", tokenizer.cls_id), ("[SEP]", tokenizer.sep_id)],
    )
    return reference


def rows(windows: dict, sequence: int) -> list[tuple]:
    """Each window's text, ids, segments and offsets, without padding."""
    arrays = {name: value.numpy() for name, value in windows.items()}
    rows = []
    for i, mask in enumerate(arrays["padding_mask"].astype(bool)):
        offsets = list(zip(arrays["token_starts"][i][mask], arrays["token_ends"][i][mask], strict=True))
        rows.append(
            (arrays["text_index"][i], *(list(arrays[n][i][mask]) for n in ("token_ids", "segment_ids")), offsets)
        )
    return rows


def expected(reference: Tokenizer, texts: list, sequence: int) -> list[tuple]:
    rows = []
    for i, encoding in enumerate(reference.encode_batch(texts)):
        for window in [encoding, *encoding.overflowing]:
            offsets = [
                span if owner == sequence else (-1, -1)
                for span, owner in zip(window.offsets, window.sequence_ids, strict=True)
            ]
            rows.append((i, window.ids, window.type_ids, offsets))
    return rows


def long_texts(count: int) -> list[str]:
    rng = random.Random(8)
    return ["", " \t", "\u0301", *(" ".join(fuzz(rng.randrange(1000), rng.randint(0, 12))) for _ in range(count))]


@pytest.mark.parametrize(("max_length", "stride"), [(3, 0), (9, 6), (11, 3), (40, 37), (64, 16)])
def test_windows_of_texts_are_hugging_faces(tokenizer, reference, max_length, stride):
    reference.enable_truncation(max_length, stride=stride)
    texts = long_texts(60)
    windows = tokenizer.windows(texts, max_length=max_length, stride=stride)
    assert rows(windows, 0) == expected(reference, texts, 0)


@pytest.mark.parametrize(("max_length", "stride"), [(12, 1), (33, 10)])
def test_windows_of_pairs_are_hugging_faces_over_the_second_text(tokenizer, reference, max_length, stride):
    reference.enable_truncation(max_length, stride=stride, strategy="only_second")
    contexts = long_texts(60)
    questions = (["hello 中文", "", "ab."] * 30)[: len(contexts)]
    windows = tokenizer.windows(questions, contexts, max_length=max_length, stride=stride)
    assert rows(windows, 1) == expected(reference, list(zip(questions, contexts, strict=True)), 1)


def test_a_long_first_text_leaves_half_of_the_room(tokenizer):
    windows = tokenizer.windows("a " * 50, "b c d e f g h", max_length=12, stride=2)
    ids = windows["token_ids"].numpy()
    a = tokenizer.token_to_id("a")
    assert (ids == a).sum(axis=1).tolist() == [4] * len(ids)
    assert windows["token_starts"].numpy()[:, 6:].max() == 12


@pytest.mark.parametrize("is_pair", [False, True])
def test_windows_cover_every_character(tokenizer, is_pair):
    texts = [text.encode() for text in long_texts(80)] + [b"a\xffb \xe4\xb8" * 30]
    windows = tokenizer.windows(*([["ab"] * len(texts)] if is_pair else []), texts, max_length=20, stride=4)
    windows = {name: value.numpy() for name, value in windows.items()}
    covered = [np.zeros(len(text.decode("utf-8", "replace")), int) for text in texts]
    for i, start, end in zip(*(windows[n] for n in ("text_index", "window_starts", "window_ends")), strict=True):
        covered[i][start:end] += 1
    assert all(counts.all() for counts in covered)
    # A window covers the characters of its own tokens.
    has_offset = windows["token_starts"] >= 0
    assert (windows["token_starts"] >= windows["window_starts"][:, None])[has_offset].all()
    assert (windows["token_ends"] <= windows["window_ends"][:, None])[has_offset].all()
    assert has_offset.any(axis=1).sum() > len(texts)


def test_windows_in_a_graph_and_of_no_texts(tokenizer):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def graph(text):
        return tokenizer.windows(text, max_length=7, stride=1)["text_index"]

    assert graph(["a b c d e f g", "a"]).numpy().tolist() == [0, 0, 1]
    empty = tokenizer.windows(np.array([], str))
    assert all(value.shape[0] == 0 for value in empty.values())


@pytest.mark.parametrize(("text_pair", "max_length", "stride"), [(None, 12, 10), ("b", 12, 5), (None, 12, -1)])
def test_a_row_without_room_for_the_stride(tokenizer, text_pair, max_length, stride):
    with pytest.raises(InputError, match=r"`stride` must be in \[0, \d+\) where rows have 12 tokens"):
        tokenizer.windows("a", text_pair, max_length=max_length, stride=stride)
