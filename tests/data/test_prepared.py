"""Corpora on disk: the ids of other tokenizers, the same bytes always, and nothing half or changed taken for whole."""

from __future__ import annotations

import errno
import gzip
import hashlib
import itertools
import json
import subprocess
import sys
import types

import numpy as np
import pytest
from tokenization.reference import reference_tokenizer

from kbert.config import TokenizerConfig
from kbert.data import prepared, segmenting
from kbert.data.prepared import MANIFEST, PreparedCorpus, prepare_corpus
from kbert.data.readers import Columns
from kbert.data.sentences import split_sentences
from kbert.errors import InputError
from kbert.tokenization.tokenizer import BertTokenizer

from .corpora import corpus


@pytest.fixture(scope="module")
def tokenizer(tiny_vocabulary):
    return BertTokenizer(tiny_vocabulary)


@pytest.fixture(scope="module")
def documents():
    return corpus(150)


@pytest.fixture(scope="module")
def files(documents, tmp_path_factory):
    """Two files of plain text."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "a.txt").write_text("\n\n".join(documents[:100]), encoding="utf8")
    (folder / "b.txt.gz").write_bytes(gzip.compress("\n\n".join(documents[100:]).encode()))
    return [folder / "a.txt", folder / "b.txt.gz"]


@pytest.fixture
def small_pieces(monkeypatch):
    """So that a small corpus has several blocks and shards."""
    monkeypatch.setattr(prepared, "_BLOCK", 1000)
    monkeypatch.setattr(prepared, "SHARD_TOKENS", 2500)


@pytest.fixture(scope="module")
def ready(files, tokenizer, tmp_path_factory):
    return prepare_corpus(files, tokenizer, tmp_path_factory.mktemp("ready") / "corpus", processes=1, held_out=0.1)


def read_back(part):
    """The ids of each sentence of each document."""
    found = []
    for shard in part.shards:
        ids, sentences = np.asarray(shard.token_ids), shard.sentence_starts()
        rows = [row.tolist() for row in np.split(ids, sentences[1:])]
        borders = np.searchsorted(sentences, shard.document_starts())
        assert (sentences[borders] == shard.document_starts()).all()
        found += [rows[i:j] for i, j in zip(borders, [*borders[1:], len(rows)], strict=True)]
    return found


def joined(document):
    return list(itertools.chain.from_iterable(document))


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


# === What it holds ===


def test_ids_are_those_of_hugging_face(ready, documents, tiny_vocabulary):
    reference = reference_tokenizer(tiny_vocabulary, TokenizerConfig())
    expected = {"train": [], "held_out": []}
    for part, text in prepared._divided(documents, 0.1):
        expected[part].append([reference.encode(sentence).ids for sentence in split_sentences(text)])
    assert read_back(ready.train) == expected["train"]
    assert read_back(ready.held_out) == expected["held_out"]
    assert 1 < ready.held_out.num_documents < 40


def test_sentences_do_not_change_the_ids(ready, documents, tokenizer):
    whole = sorted(row for row in tokenizer.tokenize(documents).to_list())
    found = [joined(document) for document in read_back(ready.train) + read_back(ready.held_out)]
    assert sorted(found) == whole


def test_words_begin_where_a_piece_has_no_marks(ready, tiny_vocabulary):
    for part in (ready.train, ready.held_out):
        places = np.arange(part.num_tokens)
        tokens = [tiny_vocabulary[i] for i in part.token_ids(places)]
        assert part.word_starts(places).tolist() == [not token.startswith("##") for token in tokens]
        assert part.num_words == sum(not token.startswith("##") for token in tokens) < part.num_tokens
        assert part.num_unknown_tokens == tokens.count("[UNK]") > 0


def test_the_manifest_counts(ready, documents):
    manifest = json.loads((ready.folder / MANIFEST).read_text(encoding="utf8"))
    assert manifest == ready.manifest
    assert manifest["documents"] == len(documents)
    assert manifest["sentences"] == sum(len(split_sentences(text)) for text in documents)
    for name, part in (("tokens", "num_tokens"), ("words", "num_words"), ("unknown_tokens", "num_unknown_tokens")):
        assert manifest[name] == getattr(ready.train, part) + getattr(ready.held_out, part)
    assert [source["name"] for source in manifest["sources"]] == ["a.txt", "b.txt.gz"]
    ready.check_content()


def test_shards_are_mapped_and_ids_small(ready):
    shard = PreparedCorpus.open(ready.folder).train.shards[0]
    assert isinstance(shard.token_ids, np.memmap)
    assert shard.token_ids.dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        shard.token_ids[0] = 1


def test_a_large_vocabulary_has_wide_ids(tmp_path, tiny_vocabulary):
    large = BertTokenizer([*(f"[u{i}]" for i in range(70_000)), *tiny_vocabulary])
    (tmp_path / "a.txt").write_text("good film")
    made = prepare_corpus([tmp_path / "a.txt"], large, tmp_path / "corpus", processes=1)
    shard = made.train.shards[0]
    assert shard.token_ids.dtype == np.int32
    assert shard.token_ids.tolist() == large.tokenize("good film").to_list()[0]


def test_special_tokens_in_texts_are_plain(tmp_path, tiny_vocabulary):
    (tmp_path / "a.txt").write_text("good [SEP] film")
    parsing = BertTokenizer(tiny_vocabulary, parse_special_tokens=True)
    made = prepare_corpus([tmp_path / "a.txt"], parsing, tmp_path / "corpus", processes=1)
    assert parsing.sep_id not in made.train.shards[0].token_ids


def test_tables_and_lines(tmp_path, tokenizer):
    (tmp_path / "a.jsonl").write_text('{"body": "good film"}\n{"body": "the plot"}\n')
    (tmp_path / "b.txt").write_text("very dull\nnot bad")
    columns = Columns("body")
    files = [tmp_path / "a.jsonl", tmp_path / "b.txt"]
    made = prepare_corpus(files, tokenizer, tmp_path / "c", layout="lines", columns=columns, processes=1, held_out=0.0)
    texts = tokenizer.detokenize([joined(document) for document in read_back(made.train)])
    assert texts == ["good film", "the plot", "very dull", "not bad"]
    assert made.held_out.num_documents == 0


# === The same bytes ===


def test_the_same_bytes_with_any_number_of_processes(files, tokenizer, tmp_path, small_pieces):
    one = prepare_corpus(files, tokenizer, tmp_path / "one", processes=1, held_out=0.1)
    two = prepare_corpus(files, tokenizer, tmp_path / "two", processes=2, held_out=0.1)
    assert contents(one.folder) == contents(two.folder)
    assert len(one.train.shards) > 2
    assert len(one.held_out.shards) == 1
    places = np.random.default_rng(0).permutation(one.train.num_tokens)
    joined = np.concatenate([shard.token_ids for shard in one.train.shards])
    np.testing.assert_array_equal(one.train.token_ids(places), joined[places])


def test_shards_do_not_change_what_is_read(files, tokenizer, ready, tmp_path, small_pieces):
    again = prepare_corpus(files, tokenizer, tmp_path / "again", processes=1, held_out=0.1)
    assert read_back(again.train) == read_back(ready.train)
    assert read_back(again.held_out) == read_back(ready.held_out)


# === Held out ===


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
@pytest.mark.parametrize("seed", range(6))
def test_neither_part_of_several_documents_is_empty(seed, fraction):
    texts = [f"{seed} {i}" for i in range(2 + seed)]
    divided = list(prepared._divided(texts, fraction))
    assert sorted(text for _, text in divided) == texts
    parts = [part for part, _ in divided]
    assert min(parts.count("held_out"), parts.count("train")) == 1
    assert len(set(parts)) == 2


@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.3])
def test_the_part_that_is_held_out(fraction):
    texts = [str(i) for i in range(3000)]
    divided = list(prepared._divided(texts, fraction))
    assert sorted(text for _, text in divided) == sorted(texts)
    share = [part for part, _ in divided].count("held_out") / len(texts)
    assert share == pytest.approx(fraction, abs=0.03 * fraction**0.5)
    assert list(prepared._divided(texts, fraction)) == divided
    trained = [int(text) for part, text in divided if part == "train"]
    assert sum(a > b for a, b in itertools.pairwise(trained)) <= (12 if fraction else 0)


@pytest.mark.parametrize("fraction", [0.0, 0.005, 0.999])
def test_a_lone_document_is_trained_on(fraction):
    assert list(prepared._divided(["one"], fraction)) == [("train", "one")]
    assert list(prepared._divided([], fraction)) == []


# === What is refused ===


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"layout": "pages"}, "`layout` must be one of documents, lines"),
        ({"processes": 0}, "`processes` must be at least 1. Received: 0"),
        ({"held_out": 1.0}, r"`held_out` must be in \[0, 1\). Received: 1.0"),
        ({"segmenter": "scissors"}, "there is no segmenter 'scissors'; known are jieba"),
        ({"files": []}, "there is no file to prepare"),
        ({"files": ["none.txt"]}, "none.txt does not exist"),
        ({"files": ["/tmp"]}, "/tmp is a folder: name its files"),
    ],
)
def test_bad_arguments(files, tokenizer, tmp_path, arguments, complaint):
    arguments = {"files": files, "tokenizer": tokenizer, "folder": tmp_path / "corpus", **arguments}
    with pytest.raises(InputError, match=complaint):
        prepare_corpus(**arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "a.txt is empty"),
        (b"good\n\nf\xfcr", "a.txt:3: byte 0xfc is not UTF-8"),
        ("\u200b\n\n\u200b".encode(), "the corpus leaves no token to train on"),
    ],
)
def test_bad_files_leave_nothing(tokenizer, tmp_path, content, complaint):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        prepare_corpus([tmp_path / "a.txt"], tokenizer, tmp_path / "corpus", processes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_exists_stays(files, tokenizer, ready):
    before = contents(ready.folder)
    with pytest.raises(InputError, match="exists: name another folder"):
        prepare_corpus(files, tokenizer, ready.folder)
    assert contents(ready.folder) == before


def test_a_full_disk_leaves_nothing(files, tokenizer, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("kbert.data.shards._GrowingArray.append", full)
    with pytest.raises(InputError, match="corpus cannot be written: No space left on device"):
        prepare_corpus(files, tokenizer, tmp_path / "corpus", processes=1)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_killed_leaves_no_corpus(files, tiny_folder, tmp_path):
    program = (
        "import os, sys; from kbert.data import prepared\n"
        "from kbert.tokenization.tokenizer import BertTokenizer\n"
        "tokenizer = BertTokenizer.from_preset(sys.argv[1])\n"
        "prepared._manifest = lambda *_: os.kill(os.getpid(), 9)\n"
        "prepared.prepare_corpus(sys.argv[3:], tokenizer, sys.argv[2], processes=1)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, tiny_folder, tmp_path / "corpus", *files])
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".corpus.")
    with pytest.raises(InputError, match="is no prepared corpus"):
        PreparedCorpus.open(left)


def test_a_folder_without_a_manifest_is_no_corpus(ready, tmp_path):
    for path in ready.folder.iterdir():
        if path.name != MANIFEST:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="is no prepared corpus: it has no manifest.json"):
        PreparedCorpus.open(tmp_path)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(InputError, match="is not of this version of kbert"):
        PreparedCorpus.open(tmp_path)


def test_damaged_shards(ready, tmp_path):
    for path in ready.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = tmp_path / "train-00000.token_ids.npy"
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"token_ids.npy is damaged: prepare the corpus anew"):
        PreparedCorpus.open(tmp_path).check_content()
    shard.write_bytes(content[:-2])
    with pytest.raises(InputError, match=rf"token_ids.npy is damaged \({len(content) - 2} bytes, not {len(content)}\)"):
        PreparedCorpus.open(tmp_path)
    shard.unlink()
    with pytest.raises(InputError, match="token_ids.npy is missing"):
        PreparedCorpus.open(tmp_path)


def test_another_tokenizer(ready, tokenizer, tiny_vocabulary):
    assert PreparedCorpus.open(ready.folder, tokenizer).manifest == ready.manifest
    for other in (
        BertTokenizer(tiny_vocabulary, TokenizerConfig(do_lower_case=False)),
        BertTokenizer([*tiny_vocabulary[:-2], tiny_vocabulary[-1], tiny_vocabulary[-2]]),
    ):
        with pytest.raises(InputError, match="was prepared with another vocabulary or normalization"):
            PreparedCorpus.open(ready.folder, other)


def test_changed_sources(ready, files, tmp_path):
    ready.check_sources(files)
    copies = [tmp_path / file.name for file in files]
    ready.check_sources(copies)  # not there: nothing to compare
    content = files[0].read_bytes()
    for changed in (content + b" ", content[:-1] + b"?"):
        copies[0].write_bytes(changed)
        with pytest.raises(InputError, match=r"a\.txt: a corpus file changed since the manifest"):
            ready.check_sources(copies)
    for others in (files[:1], files[::-1], [*files, tmp_path / "c.txt"]):
        with pytest.raises(InputError, match=r"was prepared from other files \(a\.txt, b\.txt\.gz\)"):
            ready.check_sources(others)


# === Segmenters ===


@pytest.fixture
def fresh_segmenters():
    """What a test puts in place of a segmenter is not kept."""
    segmenting.load_segmenter.cache_clear()
    yield
    segmenting.load_segmenter.cache_clear()


def of_words(tokenizer, made):
    """The words of a corpus of one sentence a document."""
    shard = made.train.shards[0]
    starts = np.flatnonzero(shard.word_starts)
    return [tokenizer.detokenize([ids])[0].replace(" ", "") for ids in np.split(shard.token_ids, starts)[1:]]


def test_a_segmenter_joins_characters(tokenizer, tmp_path, monkeypatch, fresh_segmenters):
    words = ["Films", "，", "我", "爱", "不好", "的", "电影", " ", "finely", "电影看", "！"]
    fake = types.SimpleNamespace(cut=lambda text: iter(words), setLogLevel=lambda level: None)
    monkeypatch.setitem(sys.modules, "jieba", fake)
    (tmp_path / "a.txt").write_text("".join(words), encoding="utf8")
    made = prepare_corpus([tmp_path / "a.txt"], tokenizer, tmp_path / "corpus", segmenter="jieba", processes=1)
    expected = ["films", "[UNK]", "我", "爱", "不好", "[UNK]", "电影", "finely", "电影看", "[UNK]"]
    assert of_words(tokenizer, made) == expected
    assert made.manifest["words"] == len(expected)


def test_jieba(tokenizer, tmp_path):
    pytest.importorskip("jieba", reason="needs the extra `jieba`", exc_type=ImportError)
    (tmp_path / "a.txt").write_text("我爱电影不好看", encoding="utf8")
    made = prepare_corpus([tmp_path / "a.txt"], tokenizer, tmp_path / "corpus", segmenter="jieba", processes=1)
    assert of_words(tokenizer, made) == ["我", "爱", "电影", "不", "好看"]


def test_a_segmenter_that_is_not_installed(files, tokenizer, tmp_path, monkeypatch, fresh_segmenters):
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(InputError, match=r"jieba is not installed: pip install 'kbert\[jieba\]'"):
        prepare_corpus(files, tokenizer, tmp_path / "corpus", segmenter="jieba")
