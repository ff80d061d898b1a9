"""The table of code points says what Hugging Face's normalizer does."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers.normalizers import BertNormalizer

from kbert.config import TokenizerConfig
from kbert.tokenization.code_points import ALONE, LETTER, SPACE, build_table

from .reference import SETTINGS

ONLY_LOWER = TokenizerConfig(strip_accents=False)
ONLY_STRIP = TokenizerConfig(do_lower_case=False, strip_accents=True)


UNSPLIT = build_table(TokenizerConfig(tokenize_chinese_chars=False))


def outcome(table, character: str) -> str:
    """What the table makes of a character, Chinese set apart."""
    value = int(table.output[ord(character)])
    values = table.expansions[-value] if value < 0 else [value]
    text = "".join(chr(c) for c in values if c)
    is_set_apart = table.kind[ord(character)] == ALONE and UNSPLIT.kind[ord(character)] == LETTER
    return f" {text} " if is_set_apart else text


@pytest.mark.parametrize("config", [*SETTINGS.values(), ONLY_STRIP], ids=[*SETTINGS, "accents stripped"])
def test_a_code_point_becomes_what_the_reference_makes_of_it(config):
    table = build_table(config)
    reference = BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.tokenize_chinese_chars,
        strip_accents=config.strip_accents,
        lowercase=config.do_lower_case,
    )
    characters = [chr(c) for c in range(0x30000) if (c < 0x3000 or c % 7 == 0) and not 0xD800 <= c < 0xE000]
    different = [c for c in characters if outcome(table, c) != reference.normalize_str(c)]
    assert different == []


@pytest.mark.parametrize(
    ("config", "character", "expected"),
    [
        (TokenizerConfig(), "É", "e"),
        (TokenizerConfig(), "İ", "i"),
        (ONLY_LOWER, "İ", "i\u0307"),
        (ONLY_STRIP, "É", "E"),
        (TokenizerConfig(), "한", "\u1112\u1161\u11ab"),
        (TokenizerConfig(do_lower_case=False), "한", "한"),
        (TokenizerConfig(), "\u0301", ""),
        (TokenizerConfig(), "\u3000", " "),
        (TokenizerConfig(), "\ufffd", ""),
        (TokenizerConfig(), "ﬁ", "ﬁ"),
    ],
)
def test_known_outcomes(config, character, expected):
    assert outcome(build_table(config), character) == expected


def test_kinds():
    table = build_table(TokenizerConfig())
    assert [table.kind[ord(c)] for c in "a中。$ \u3000"] == [LETTER, ALONE, ALONE, ALONE, SPACE, SPACE]
    assert UNSPLIT.kind[ord("中")] == LETTER


@pytest.mark.parametrize("config", SETTINGS.values(), ids=SETTINGS)
def test_the_kind_of_a_code_point_is_the_kind_of_what_it_becomes(config):
    table = build_table(config)
    simple = np.flatnonzero(table.output > 0)
    # Chinese characters are set apart before they are decomposed, punctuation is split off after.
    is_chinese = (table.kind == ALONE) & (UNSPLIT.kind == LETTER)
    assert np.array_equal(is_chinese[simple], is_chinese[table.output[simple]])
    assert np.all(table.kind[table.expansions[table.expansions > 0]] == LETTER)
