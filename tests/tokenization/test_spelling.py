"""The private alphabet: one-to-one, and of characters that every ICU treats alike."""

from __future__ import annotations

import unicodedata

import pytest

from kbert.config import TokenizerConfig
from kbert.errors import InputError
from kbert.tokenization.spelling import spell

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def spelled(*tokens: str, **settings: bool) -> list[str]:
    return spell([*SPECIAL, *tokens], TokenizerConfig(**settings)).vocabulary[len(SPECIAL) :]


def test_ascii_stands_for_itself():
    assert spelled("token", "##izer", "#", ".", "7") == ["token", "##izer", "#", ".", "7"]


def test_other_letters_become_private_ones_throughout():
    first, second = spelled("жа", "##аж")
    assert first == second.removeprefix("##")[::-1]
    assert {unicodedata.category(c) for c in first} == {"Co"}


def test_a_word_of_one_character_becomes_an_ideograph():
    codes = spelled("中", "。", "、")
    assert len(set(codes)) == 3
    assert all("\u4e00" <= code <= "\u9fff" for code in codes)


def test_unsplit_chinese_is_made_of_letters():
    (code,) = spelled("中文", tokenize_chinese_chars=False)
    assert {unicodedata.category(c) for c in code} == {"Co"}


@pytest.mark.parametrize("token", ["", "##", "a.b", "##中", "a b", "x" * 101, "[MASK]"])
def test_a_token_that_no_text_can_meet_is_a_place_holder(token):
    assert spelled("a", token, "b") == ["a", "[5]", "b"]


def test_more_letters_than_the_first_planes_have_codes_for():
    letters = [chr(c) for c in range(0x3400, 0x3400 + 6592)] + [chr(c) for c in range(0x4E00, 0x4E00 + 20992)]
    codes = spelled(*letters, tokenize_chinese_chars=False)
    assert len(set(codes)) == len(letters)
    assert {unicodedata.category(c) for c in codes} == {"Co", "Lo"}
    assert max(codes) >= "\U000f0000"


def test_a_token_that_the_kernel_cannot_hold_is_named():
    with pytest.raises(InputError, match=r"token 5 is too long \(90 characters\)"):
        spelled("a", "ж" * 90)
