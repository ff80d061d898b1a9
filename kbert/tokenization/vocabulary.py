"""A vocabulary is its tokens in the order of their ids: what it must have, and how a new one begins."""

from __future__ import annotations

from collections.abc import Sequence

from kbert.config import TokenizerConfig
from kbert.errors import InputError

_NUM_UNUSED = 99
NUM_FIRST_TOKENS = _NUM_UNUSED + 5


def first_tokens(config: TokenizerConfig) -> list[str]:
    """The tokens that a new vocabulary begins with, each where Google's vocabularies have it.

    [PAD] is 0, [unused0] to [unused98] follow, which a later task may give a meaning, then [UNK], [CLS], [SEP], [MASK].
    """
    pad, *others = config.special_tokens
    return [pad, *(f"[unused{i}]" for i in range(_NUM_UNUSED)), *others]


def token_ids(vocabulary: Sequence[str], config: TokenizerConfig) -> dict[str, int]:
    """The id of each token, after checking that the tokens can serve as a BERT vocabulary.

    Args:
        vocabulary: The tokens; a token's place is its id.
        config: Names the special tokens. Only the mask token may be missing.

    Returns:
        Token -> id.

    Raises:
        InputError: A token stands twice, or a special token is missing.
    """
    ids: dict[str, int] = {}
    for i, token in enumerate(vocabulary):
        if not isinstance(token, str):
            raise InputError(f"Vocabulary: tokens must be strings. Received at id {i}: {token!r}")
        if token in ids:
            raise InputError(f"Vocabulary: tokens must differ from each other, but {token!r} has ids {ids[token]}, {i}")
        ids[token] = i
    for name in ("pad_token", "unk_token", "cls_token", "sep_token"):
        token = getattr(config, name)
        if token not in ids:
            raise InputError(
                f"Vocabulary: `{name}` {token!r} is not among the {len(ids)} tokens; "
                "add it, or name the right one in TokenizerConfig"
            )
    return ids
