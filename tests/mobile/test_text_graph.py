"""The tokenizer of a file for phones gives the ids of the tokenizer itself, for every text."""

from __future__ import annotations

import random

import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.config import TokenizerConfig
from kbert.mobile.litert import convert
from kbert.mobile.text_graph import TextGraph
from kbert.mobile.trie import FIRST, SUFFIXES, build_trie

T = 61
VOCABULARY = (
    *(
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "a",
        "b",
        "ab",
        "##b",
        "##ab",
        "##c",
        "abc",
        "Ab",
        "##B",
        "é",
        "##é",
    ),
    *("我", "爱", ",", "#", "##", "[", "e", "##e", "##x" * 3, "i", "##\u0307", "ᄒ", "##ᅡ", "##ᆫ", "x" * 100, "##y"),
)
PLAIN = [
    "",
    " ",
    "a",
    "ab abc ababab",
    "abx a#b ##b [CLS] ##",
    "x" * 100,
    "x" * 101,
    "y " + "x" * 99 + "y",
    "abcbb," * 9,
]


def longest_match(word: str) -> list[str]:
    """BERT's own algorithm, word by word (google-research/bert, tokenization.py)."""
    pieces: list[str] = []
    while word:
        piece = next(
            (p for p in (("##" if pieces else "") + word[:n] for n in range(len(word), 0, -1)) if p in VOCABULARY), ""
        )
        if not piece:
            return ["[UNK]"]
        pieces.append(piece)
        word = word[len(piece.removeprefix("##")) :] if len(pieces) > 1 else word[len(piece) :]
    return pieces


def in_a_graph(tokenizer: kbert.BertTokenizer, num_texts: int = 1):
    graph = TextGraph(tokenizer)
    return tf.function(
        lambda *texts: graph(list(texts), T),
        input_signature=[tf.TensorSpec([1, None], tf.uint8)] * num_texts,
        autograph=False,
    )


def as_bytes(text: bytes) -> np.ndarray:
    return np.frombuffer(text or b"\0", np.uint8)[None]


def check(read, tokenizer: kbert.BertTokenizer, *texts: list[bytes]) -> None:
    expected = {name: rows.numpy() for name, rows in tokenizer(*texts, max_length=T).items()}
    for i, row in enumerate(zip(*texts, strict=True)):
        for name, values in read(*map(as_bytes, row)).items():
            padded = np.pad(expected[name][i], (0, T - expected[name].shape[1]))
            np.testing.assert_array_equal(values[0], padded, str(row))


def strange_texts() -> list[bytes]:
    """Every code point of most scripts and some of others; and bytes that are not UTF-8."""
    draw = random.Random(5)
    code_points = (
        [c for c in range(0x3400) if not 0xD800 <= c < 0xE000] + list(range(0x4DF0, 0x4E10)) + [0xAC00, 0xD55C]
    )
    code_points += [
        0xFFFD,
        0xFEFF,
        0xE000,
        0x1D15E,
        0x20000,
        0x1D7CE,
        0x2F800,
        0x1F600,
        0xE0001,
        0x10FFFF,
        0xFB01,
        0xFF21,
    ]
    texts = ["a".join(map(chr, code_points[i : i + 29])).encode() for i in range(0, len(code_points), 29)]
    marks = ["a", "é", "\u0301", "\u0323", "\u0315", "\u05ae", "\u3099", "\u09be", "\u0344", "\u1d165", "b", " "]
    texts += ["".join(draw.choices(marks, k=12)).encode() for _ in range(40)]
    pieces = b"aB ,\xc3\xa9\xe6\x88\x91\xf0\x9f\x98\x80\xed\xa0\xf4\x90\xff\xe0\x80\xc0\x00"
    return texts + [bytes(draw.choices(pieces, k=30)) for _ in range(100)]


@pytest.mark.parametrize(
    "config",
    [
        TokenizerConfig(),
        TokenizerConfig(do_lower_case=False),
        TokenizerConfig(do_lower_case=False, strip_accents=True),
        TokenizerConfig(strip_accents=False, tokenize_chinese_chars=False),
    ],
    ids=["uncased", "cased", "cased, without accents", "uncased, with accents"],
)
def test_ids_are_the_tokenizers(config):
    tokenizer = kbert.BertTokenizer(VOCABULARY, config)
    read = in_a_graph(tokenizer)
    check(read, tokenizer, [text.encode() for text in PLAIN] + strange_texts())


def test_pieces_are_berts():
    tokenizer = kbert.BertTokenizer(VOCABULARY)
    read = in_a_graph(tokenizer)
    for word in ["ab", "abc", "abcb", "ababab", "abq", "bab", "x" * 100]:
        row = read(as_bytes(word.encode()))
        ids = row["token_ids"][0].numpy()[: row["padding_mask"].numpy().sum()]
        assert [VOCABULARY[i] for i in ids[1:-1]] == longest_match(word)


def test_pairs_are_truncated_alike():
    tokenizer = kbert.BertTokenizer(VOCABULARY)
    read = in_a_graph(tokenizer, num_texts=2)
    counts = [(3, 4), (80, 2), (2, 80), (40, 15), (99, 99), (0, 0), (29, 29), (28, 30), (31, 29)]
    check(read, tokenizer, [b"a " * first for first, _ in counts], [b"b," * second for _, second in counts])


def test_zeros_behind_a_text_say_nothing():
    read = in_a_graph(kbert.BertTokenizer(VOCABULARY))
    text = "ab é 我".encode()
    for name, row in read(as_bytes(text)).items():
        np.testing.assert_array_equal(row, read(as_bytes(text + bytes(50)))[name])


@pytest.mark.filterwarnings("ignore:.*tf.lite:UserWarning")
def test_every_op_has_a_form_in_litert(tiny_folder):
    from ai_edge_litert.interpreter import Interpreter

    model = kbert.BertTextClassifier.from_preset(tiny_folder, labels=["a", "b"])
    graph = TextGraph(model.tokenizer)
    signature = [tf.TensorSpec([1, None], tf.uint8, "text")]
    content = convert(model, lambda text: graph([text], T), signature)
    run = Interpreter(model_content=content).get_signature_runner()
    texts = ["", "good film", "a very dull plot! 我不爱看", "unlyed good ? " * 29, "Gööd ﬁne"]
    check(lambda row: run(text=row), model.tokenizer, [text.encode() for text in texts] + strange_texts()[::10])


def test_a_trie_holds_what_was_put_in():
    draw = random.Random(3)
    words = {tuple(draw.choices(range(1, 9), k=draw.randint(1, 5))) for _ in range(300)}
    tokens = {(root, word): 10 * i + root for i, word in enumerate(sorted(words)) for root in (FIRST, SUFFIXES)}
    del tokens[FIRST, min(words)]
    trie = build_trie(tokens)
    assert trie.depth == max(map(len, words))

    def find(root: int, word: tuple[int, ...]) -> int:
        state = root
        for letter in word:
            following = trie.slots[state, 1] + letter
            if trie.slots[following, 0] != state:
                return -1
            state = following
        return trie.slots[state, 2]

    for root in (FIRST, SUFFIXES):
        for word in [*words, (9,), (1, 9), (2,) * 7]:
            assert find(root, word) == tokens.get((root, word), -1)
