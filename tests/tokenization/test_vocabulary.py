"""What a vocabulary must have."""

from __future__ import annotations

import pytest

from kbert.config import TokenizerConfig
from kbert.errors import InputError
from kbert.tokenization.vocabulary import token_ids

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def test_ids_are_places_and_the_mask_token_may_be_missing():
    assert token_ids((*SPECIAL, "a", "##b"), TokenizerConfig())["##b"] == 5


@pytest.mark.parametrize("missing", SPECIAL)
def test_a_missing_special_token_is_named(missing):
    with pytest.raises(InputError) as caught:
        token_ids([token for token in SPECIAL if token != missing], TokenizerConfig())
    assert missing in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_special_token_by_another_name():
    config = TokenizerConfig(unk_token="<unk>")
    assert token_ids(("[PAD]", "<unk>", "[CLS]", "[SEP]"), config)["<unk>"] == 1


def test_a_token_that_stands_twice_is_named_with_both_ids():
    with pytest.raises(InputError, match=r"'a' has ids 4, 6"):
        token_ids((*SPECIAL, "a", "b", "a"), TokenizerConfig())


def test_a_token_that_is_no_string():
    with pytest.raises(InputError, match="at id 4: 7"):
        token_ids((*SPECIAL, 7), TokenizerConfig())
