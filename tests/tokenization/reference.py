"""The tokenizer that kbert's must equal: Hugging Face's normalizer, pre-tokenizer and WordPiece, put together."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from kbert.config import TokenizerConfig
from kbert.tokenization.tokenizer import BertTokenizer

BATCH = 4096
SETTINGS = {
    "uncased": TokenizerConfig(),
    "cased": TokenizerConfig(do_lower_case=False),
    "accents kept": TokenizerConfig(strip_accents=False),
    "Chinese not split": TokenizerConfig(tokenize_chinese_chars=False),
}
FUZZ_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "àéîõüßçñøåæœÀÉÎÕÜİıŁłﬁﬂÅℵΣσςПриветщЩ",
    "中文字符测试你好世界豈更㐀𠀀𫝀𫠠𫤠。，！？「」《》",
    "日本語カタカナひらがなﾊﾝｶｸ한국어글자",
    "\u0300\u0301\u0308\u0327\u0334\u0345\u05b0\u064b\u093c\u094d\u0e38\u0f71\u3099\u302e\u1ace\U0001d165\U0001d16d",
    " \t\n\r\u00a0\u1680\u2003\u2028\u3000\u200b\u0085\u000b\u000c",
    "\u0000\u0001\u001f\u007f\u00ad\u200d\ufeff\ufffd\ue000\uf8ff\U000f0000\U0010fffd\U0010ff00\u0378",
    "😀👍🏽👨‍👩‍👧🇨🇭❤️①②ⅷ½℃™",
    "אבגשׁ ابجدهوز अआइकखगकि กขค",
    "ﾐＡｂｃ１２３＃。ｱ",
)


def reference_tokenizer(
    vocabulary: Sequence[str], config: TokenizerConfig, parse_special_tokens: bool = False
) -> Tokenizer:
    """Hugging Face's tokenizer for a vocabulary, special tokens in text plain unless asked."""
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token=config.unk_token, max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.tokenize_chinese_chars,
        strip_accents=config.strip_accents,
        lowercase=config.do_lower_case,
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    if parse_special_tokens:
        tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in config.special_tokens if t in ids])
    return tokenizer


def every_character_vocabulary() -> list[str]:
    """A token and a suffix for each character of the first two planes: no [UNK] can hide a difference."""
    characters = [chr(c) for c in range(1, 0x20000) if not 0xD800 <= c < 0xE000 and chr(c).isprintable()]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *("##" + c for c in characters)]


def contexts(character: str) -> tuple[str, ...]:
    """A character alone, between letters, doubled, after a space, before a mark, beside a Chinese character."""
    return (character, f"a{character}b", character * 2, f"a {character}b", f"{character}\u0301b", f"中{character}a")


def fuzz(seed: int, count: int, longest: int = 40) -> Iterator[str]:
    """Random strings; each mixes characters of a few alphabets, at times with one from anywhere in Unicode."""
    rng = random.Random(seed)
    for _ in range(count):
        alphabets = [*rng.sample(FUZZ_ALPHABETS, rng.randint(1, 4)), " abcdefgh"]
        characters = []
        for _ in range(rng.randint(0, longest)):
            if rng.random() < 0.03:
                characters.append(chr(rng.choice((rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)))))
            else:
                characters.append(rng.choice(rng.choice(alphabets)))
        yield "".join(characters)


def split(values: list, like) -> list[list]:
    """Flat values as the rows of a ragged tensor."""
    splits = like.row_splits.numpy().tolist()
    return [values[start:end] for start, end in itertools.pairwise(splits)]


def rows_of(ragged) -> list[list[int]]:
    """A ragged tensor as lists; `to_list` takes several times as long."""
    return split(ragged.flat_values.numpy().tolist(), ragged)


def differences(tokenizer: BertTokenizer, reference: Tokenizer, texts: Iterable[str]) -> dict:
    """How many texts there are, and in how many ids or offsets differ; the first such text."""
    counts: dict = {"texts": 0, "different_ids": 0, "different_offsets": 0, "first": None}
    texts = iter(texts)
    while batch := list(itertools.islice(texts, BATCH)):
        got_ids, starts, ends = tokenizer.tokenize_with_offsets(batch)
        offsets = list(zip(starts.flat_values.numpy().tolist(), ends.flat_values.numpy().tolist(), strict=True))
        rows = list(zip(rows_of(tokenizer.tokenize(batch)), rows_of(got_ids), split(offsets, got_ids), strict=True))
        expected = reference.encode_batch(batch, add_special_tokens=False)
        for text, want, (plain, ids, spans) in zip(batch, expected, rows, strict=True):
            wrong_ids, wrong_offsets = not want.ids == ids == plain, want.offsets != spans
            counts["different_ids"] += wrong_ids
            counts["different_offsets"] += wrong_offsets
            if (wrong_ids or wrong_offsets) and counts["first"] is None:
                counts["first"] = [text, want.ids, plain, ids, want.offsets, spans]
        counts["texts"] += len(batch)
    return counts
