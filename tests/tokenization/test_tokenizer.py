"""Tokens and offsets are those of Hugging Face's BERT tokenizer, for every text, in Python and in a graph."""

from __future__ import annotations

import gzip
import itertools
import random
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tokenizers.normalizers import BertNormalizer

from kbert.config import TokenizerConfig
from kbert.errors import InputError
from kbert.tokenization.tokenizer import BertTokenizer

from .reference import FUZZ_ALPHABETS, SETTINGS, contexts, differences, fuzz, reference_tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Words, pieces, and nearly every character that the random strings are made of, so that [UNK] hides little; without
# the digits and a few letters, so that [UNK] occurs.
CHARACTERS = sorted({c for text in FUZZ_ALPHABETS for c in (text + text.lower()) if c.isprintable()} - set("0123q中й "))
WORDS = ["hello", "world", "un", "##aff", "##able", "cafe", "naïve", "don't", "中文", "##", "ab", "##cab"]
JAMO = ["\u1112", "##\u1161", "##\u11ab"]
VOCABULARY = list(dict.fromkeys([*SPECIAL, *CHARACTERS, *("##" + c for c in CHARACTERS), *WORDS, *JAMO]))
# TF Serving has it since 2.13. It asks ICU for white space and punctuation, but meets no character that versions class
# differently.
ALLOWED_TEXT_OPS = {"FastWordpieceTokenizeWithOffsets"}


@pytest.fixture(scope="module")
def uncased():
    return BertTokenizer(VOCABULARY)


@pytest.fixture(scope="module", params=SETTINGS)
def pair(request):
    """A tokenizer and its reference, in each setting."""
    config = SETTINGS[request.param]
    return BertTokenizer(VOCABULARY, config), reference_tokenizer(VOCABULARY, config)


def assert_no_difference(tokenizer, reference, texts):
    counts = differences(tokenizer, reference, texts)
    assert (counts["different_ids"], counts["different_offsets"]) == (0, 0), counts["first"]
    assert counts["texts"] > 0


# === Equality with the reference ===


def test_random_strings(pair):
    assert_no_difference(*pair, fuzz(11, 1500))


def test_code_points_in_context(pair):
    sample = random.Random(5).sample([c for c in range(0x20000) if not 0xD800 <= c < 0xE000], 1000)
    assert_no_difference(*pair, itertools.chain.from_iterable(contexts(chr(c)) for c in sample))


def test_marks_that_stay_are_put_in_canonical_order(pair):
    rng = random.Random(3)
    marks = "\u1b44\u302e\U0001d165\U0001d16d\u0301\u0334\u05b0\ufe0f\u093c\U0001d15eé가\u0344"
    assert_no_difference(*pair, ("a" + "".join(rng.choices(marks, k=rng.randint(1, 7))) + "b" for _ in range(500)))


def test_the_limit_of_a_word_counts_characters(pair):
    words = [letter * count for letter in "aéж中한" for count in (33, 34, 50, 99, 100, 101, 300)]
    assert_no_difference(
        *pair, [text for word in words for text in (word, f"a {word} b", f"{word}.{word}", f"a{word}")]
    )


def test_special_tokens_in_text_are_plain_by_default(uncased):
    assert uncased.mask_id not in uncased.tokenize("hello [MASK]").flat_values.numpy()


def test_special_tokens_in_text_on_request():
    rng = random.Random(2)
    typed = [*SPECIAL, "[mask]", "[SEP", "[[CLS]]", "\U0010ff00", "\U0010ff04"]

    def texts():
        for text in fuzz(4, 1000):
            for _ in range(rng.randint(0, 3)):
                place = rng.randint(0, len(text))
                text = text[:place] + rng.choice(typed) + text[place:]
            yield text

    tokenizer = BertTokenizer(VOCABULARY, parse_special_tokens=True)
    reference = reference_tokenizer(VOCABULARY, tokenizer.config, parse_special_tokens=True)
    assert_no_difference(tokenizer, reference, texts())
    assert tokenizer.tokenize("hello[MASK]s").to_list() == [[VOCABULARY.index(t) for t in ("hello", "[MASK]", "s")]]


def test_only_the_special_tokens_that_are_asked_for():
    tokenizer = BertTokenizer(VOCABULARY, parse_special_tokens=["[MASK]"])
    assert tokenizer.tokenize("hello[MASK]").to_list() == [[VOCABULARY.index("hello"), tokenizer.mask_id]]
    assert tokenizer.sep_id not in tokenizer.tokenize("[SEP]").flat_values.numpy()
    with pytest.raises(InputError, match=r"may hold \[PAD\], .* Received: 'hello'"):
        BertTokenizer(VOCABULARY, parse_special_tokens=["hello"])


def test_invalid_utf8_counts_as_replacement_characters(uncased):
    rng = random.Random(6)
    bytes_ = [
        0x61,
        0x20,
        0x2E,
        0xE4,
        0xB8,
        0xAD,
        0xF0,
        0x9F,
        0x98,
        0x80,
        0xED,
        0xA0,
        0xC0,
        0xC3,
        0xA9,
        0xF4,
        0x90,
        0xFF,
    ]
    texts = [bytes(rng.choices(bytes_, k=rng.randint(0, 14))) for _ in range(3000)]
    reference = reference_tokenizer(VOCABULARY, uncased.config)
    expected = reference.encode_batch([text.decode("utf-8", "replace") for text in texts])
    ids, starts, ends = (ragged.to_list() for ragged in uncased.tokenize_with_offsets(texts))
    assert ids == [encoding.ids for encoding in expected]
    assert [list(zip(*spans, strict=True)) for spans in zip(starts, ends, strict=True)] == [e.offsets for e in expected]


def test_a_vocabulary_without_suffixes_and_mask():
    vocabulary = ["[CLS]", "a", "[SEP]", "[PAD]", "中", "[UNK]"]
    tokenizer = BertTokenizer(vocabulary)
    assert tokenizer.mask_id is None
    assert_no_difference(tokenizer, reference_tokenizer(vocabulary, TokenizerConfig()), ["a ab 中 # ##a", "aa"])


def lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", "utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return list(itertools.islice(file, 700))


@pytest.mark.parametrize(
    "path", ["sst2/dev.tsv", "chnsenticorp/dev.tsv", "wikitext2/valid.txt", "zh_peoples_daily_199801/199801.txt.gz"]
)
def test_lines_of_public_texts(pair, real_data, path):
    assert_no_difference(*pair, lines(real_data(path)))


# === Properties ===


def test_a_text_has_the_same_tokens_in_any_batch(uncased):
    texts = [*fuzz(8, 150), "plain text", ""]
    alone = [[ragged[0].numpy().tolist() for ragged in uncased.tokenize_with_offsets(text)] for text in texts]
    together = zip(*(ragged.to_list() for ragged in uncased.tokenize_with_offsets(texts)), strict=True)
    assert [list(row) for row in together] == alone
    assert uncased.tokenize(texts).to_list() == [ids for ids, _, _ in alone]


def test_shards_leave_no_trace(uncased):
    texts = list(fuzz(12, 3000))
    texts[5:5] = ["plain text " * 9000, "é " * 40_000, ""]  # each longer than a shard
    assert sum(len(text.encode()) for text in texts) > 300_000
    parts = [uncased.tokenize_with_offsets(texts[i : i + 100]) for i in range(0, len(texts), 100)]
    for whole, part in zip(uncased.tokenize_with_offsets(texts), zip(*parts, strict=True), strict=True):
        assert whole.to_list() == tf.concat(part, 0).to_list()


def test_offsets_cut_out_what_the_token_came_from(uncased):
    normalize = BertNormalizer().normalize_str
    # Hugging Face's offsets of marks that stay, but move, are not theirs.
    texts = [text for text in fuzz(9, 1000) if not {"\u302e", "\U0001d165", "\U0001d16d"} & set(text)]
    rows = zip(texts, *(ragged.to_list() for ragged in uncased.tokenize_with_offsets(texts)), strict=True)
    spans = [(text, *token) for text, *tokens in rows for token in zip(*tokens, strict=True)]
    known = [span for span in spans if span[1] != uncased.unk_id]
    assert len(spans) > len(known) > 1000
    for text, token, start, end in known:
        assert uncased.id_to_token(token).removeprefix("##") in normalize(text[start:end])
    assert all(0 <= start < end <= len(text) for text, _, start, end in spans)


@pytest.mark.parametrize("unit", ["é", "中", "\0", "a ", "\u302e\u0334"])
def test_a_huge_text_takes_time_in_proportion(uncased, unit):
    def seconds(count: int) -> float:
        start = time.perf_counter()
        uncased.tokenize_with_offsets([unit * count, "é", *["a é"] * 50])
        uncased.tokenize([unit * count, "é", *["a é"] * 50])
        return time.perf_counter() - start

    seconds(1000)
    assert seconds(1_000_000 // len(unit)) < 20  # what is not linear takes hours, or all memory


def test_inputs_of_every_kind(uncased):
    expected = [[VOCABULARY.index("hello")], [VOCABULARY.index("un"), VOCABULARY.index("##aff")]]
    texts = ["hello", "unaff"]
    for batch in (texts, tuple(texts), np.array(texts), np.array(texts, object), tf.constant(texts)):
        assert uncased.tokenize(batch).to_list() == expected
    assert uncased.tokenize("hello").to_list() == expected[:1]
    assert uncased.tokenize(np.array([], str)).to_list() == []
    with pytest.raises(InputError, match=r"strings \[B\]"):
        uncased.tokenize([["hello"]])
    for wrong in (["hello", None], np.arange(600).reshape(300, 2), "\ud800"):
        with pytest.raises(InputError, match=r"strings \[B\]") as caught:
            uncased.tokenize(wrong)
        assert "\n" not in str(caught.value)


def test_names_and_ids(uncased):
    assert (uncased.pad_id, uncased.unk_id, uncased.cls_id, uncased.sep_id, uncased.mask_id) == (0, 1, 2, 3, 4)
    assert uncased.vocabulary_size() == len(VOCABULARY)
    assert uncased.id_to_token(uncased.token_to_id("##able")) == "##able"
    for wrong in (lambda: uncased.token_to_id("absent"), lambda: uncased.id_to_token(-1)):
        with pytest.raises(InputError):
            wrong()


def test_detokenize_joins_pieces_and_leaves_the_frame_out(uncased):
    assert uncased.detokenize(uncased(["Hello unaffable world", "cafés"])["token_ids"]) == [
        "hello unaffable world",
        "cafes",
    ]
    assert uncased.detokenize([VOCABULARY.index("hello"), uncased.mask_id]) == ["hello [MASK]"]
    assert uncased.detokenize([]) == []


# === Presets ===


def test_a_saved_tokenizer_is_hugging_faces(uncased, tmp_path):
    from tokenizers import Tokenizer

    uncased.save_to_preset(tmp_path / "new")
    reloaded = Tokenizer.from_file(str(tmp_path / "new" / "tokenizer.json"))
    text = "hello café, 中 文x"
    assert reloaded.encode(text).ids == uncased(text)["token_ids"][0].numpy().tolist()


def test_a_preset_gives_vocabulary_settings_and_length(tmp_path):
    (tmp_path / "bert_config.json").write_text(
        '{"vocab_size": 7, "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 5,'
        ' "max_position_embeddings": 9, "type_vocab_size": 3, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,'
        ' "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02}'
    )
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "a", "##b"]) + "\n")
    tokenizer = BertTokenizer.from_preset(tmp_path)
    assert tokenizer.vocabulary == (*SPECIAL, "a", "##b")
    assert tokenizer.max_length == 9
    assert BertTokenizer.from_preset(tmp_path, max_length=4)("ab ab ab")["token_ids"].shape == (1, 4)


# === The graph ===


def exported(tokenizer, folder):
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.string)])
        def serve(self, first, second):
            _, starts, ends = tokenizer.tokenize_with_offsets(first)
            windows = {f"window_{k}": v for k, v in tokenizer.windows(first, second, max_length=9, stride=1).items()}
            return {**tokenizer(first, second, 16), **windows, "starts": starts.to_tensor(), "ends": ends.to_tensor()}

    module = Module()
    tf.saved_model.save(module, folder, signatures=module.serve)
    return tf.saved_model.load(folder).signatures["serving_default"]


def test_the_exported_graph_has_only_ops_that_every_server_has(tmp_path):
    function = exported(BertTokenizer(VOCABULARY, parse_special_tokens=True), str(tmp_path))
    definition = function.graph.as_graph_def()
    ops = {node.op for node in definition.node}
    ops |= {node.op for library in definition.library.function for node in library.node_def}
    text_ops = {
        op for op in ops if "Tokenize" in op or "Normalize" in op or "CaseFold" in op or op.startswith("TFText")
    }
    assert text_ops == ALLOWED_TEXT_OPS
    assert not {op for op in ops if "PyFunc" in op or op in ("UnicodeTranscode", "UnicodeScript")}
    lower = [n for library in definition.library.function for n in library.node_def if n.op == "StringLower"]
    assert lower
    assert {node.attr["encoding"].s for node in lower} == {b""}  # ASCII alone, without ICU


def test_an_exported_graph_gives_the_same(uncased, tmp_path):
    function = exported(uncased, str(tmp_path))
    first, second = ["Café, unaffable!", "中 文", ""], ["hello", "a b c d e f g h i j k l m", "éé"]
    answer = function(first=tf.constant(first), second=tf.constant(second))
    for name, values in uncased(first, second, 16).items():
        np.testing.assert_array_equal(answer[name], values, err_msg=name)
    np.testing.assert_array_equal(answer["ends"], uncased.tokenize_with_offsets(first)[2].to_tensor())
    for name, values in uncased.windows(first, second, max_length=9, stride=1).items():
        np.testing.assert_array_equal(answer[f"window_{name}"], values, err_msg=name)


def test_traced_first_inside_a_dataset_and_used_again_outside():
    tokenizer = BertTokenizer(VOCABULARY)
    texts = ["hello wörld", "un 中", "a", "b c", "ж"]
    data = tf.data.Dataset.from_tensor_slices(texts).batch(3).map(tokenizer.tokenize)
    inside = [row for batch in data for row in batch.to_list()]
    assert inside == tokenizer.tokenize(texts).to_list()
