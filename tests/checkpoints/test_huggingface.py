"""Hugging Face folders: what is written is read back, and bad folders are named."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import safetensors.numpy

from kbert.checkpoints import huggingface
from kbert.checkpoints.checkpoint import Checkpoint, classifier_shapes, tensor_shapes
from kbert.checkpoints.huggingface_tokenizer import read_tokenizer_config
from kbert.config import ClassifyConfig, EmbedConfig, TokenizerConfig
from kbert.errors import InputError


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def change_json(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_a_folder_is_read_back_as_written(tiny_config, tiny_vocabulary, tmp_path):
    random = np.random.default_rng(0)
    shapes = tensor_shapes(tiny_config) | classifier_shapes(tiny_config, 4)
    tensors = {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    task = ClassifyConfig(labels=("a", "b", "差", "d"), pair=True, max_length=17)
    tokenizer = TokenizerConfig(do_lower_case=False, strip_accents=True, tokenize_chinese_chars=False)
    huggingface.write(tmp_path / "new", Checkpoint(tiny_config, tokenizer, tiny_vocabulary, tensors, task))
    read = huggingface.read(tmp_path / "new")
    assert (read.config, read.tokenizer, read.vocabulary, read.task) == (tiny_config, tokenizer, tiny_vocabulary, task)
    assert read.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read.tensors[name], tensor)


def test_a_folder_that_transformers_trained_anew_is_of_its_new_task(tiny_config, tiny_vocabulary, tmp_path):
    """transformers keeps the keys of ours that it does not know when it saves another head, or other labels."""
    shapes = tensor_shapes(tiny_config) | classifier_shapes(tiny_config, 2)
    tensors = {name: np.zeros(shape, "float32") for name, shape in shapes.items()}
    task = ClassifyConfig(labels=("a", "b"), pair=True, max_length=17)
    huggingface.write(tmp_path, Checkpoint(tiny_config, TokenizerConfig(), tiny_vocabulary, tensors, task))
    change_json(tmp_path / "config.json", id2label={"0": "x", "1": "y"}, label2id={"x": 0, "y": 1})
    assert huggingface.read(tmp_path).task.labels == ("x", "y")
    change_json(tmp_path / "config.json", architectures=["BertForTokenClassification"])
    assert huggingface.read(tmp_path, weights=False).task.task == "tag"
    change_json(tmp_path / "config.json", architectures=["BertModel"])
    assert huggingface.read(tmp_path, weights=False).task is None


def test_kernels_are_stored_as_pytorch_lays_them_out(tiny_folder, tiny_config):
    stored = safetensors.numpy.load_file(tiny_folder / "model.safetensors")
    ours = huggingface.read(tiny_folder).tensors
    D = tiny_config.hidden_dim
    joined = ours["layer_1/attention/query_key_value/kernel"]
    np.testing.assert_array_equal(stored["encoder.layer.1.attention.self.key.weight"], joined[:, D : 2 * D].T)
    assert stored["encoder.layer.0.intermediate.dense.weight"].shape == (tiny_config.intermediate_dim, D)


def test_the_vocabulary_may_come_from_tokenizer_json(folder, tiny_vocabulary):
    (folder / "vocab.txt").unlink()
    assert huggingface.read(folder).vocabulary == tiny_vocabulary


def test_tokenizer_settings_may_come_from_tokenizer_json(folder):
    (folder / "tokenizer_config.json").unlink()
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] |= {"lowercase": False, "strip_accents": True}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert read_tokenizer_config(folder) == TokenizerConfig(do_lower_case=False, strip_accents=True)


def test_names_of_the_first_pytorch_port_are_read(folder):
    stored = safetensors.numpy.load_file(folder / "model.safetensors")
    old = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for name, t in stored.items()
    }
    before = huggingface.read(folder).tensors
    safetensors.numpy.save_file(old, folder / "model.safetensors")
    after = huggingface.read(folder).tensors
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_half_precision_becomes_float32(folder):
    import ml_dtypes

    stored = safetensors.numpy.load_file(folder / "model.safetensors")
    for dtype in (np.float16, ml_dtypes.bfloat16):
        safetensors.numpy.save_file({n: t.astype(dtype) for n, t in stored.items()}, folder / "model.safetensors")
        tensor = huggingface.read(folder).tensors["pooler/kernel"]
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, stored["pooler.dense.weight"].T.astype(dtype).astype("float32"))


def test_sharded_weights_are_joined(folder):
    stored = safetensors.numpy.load_file(folder / "model.safetensors")
    names = sorted(stored)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in shards.items():
        safetensors.numpy.save_file({name: stored[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    before = huggingface.read(folder).tensors
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    after = huggingface.read(folder).tensors
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_missing_pooler_is_left_out(folder):
    stored = safetensors.numpy.load_file(folder / "model.safetensors")
    safetensors.numpy.save_file({n: t for n, t in stored.items() if "pooler" not in n}, folder / "model.safetensors")
    assert not any(name.startswith("pooler") for name in huggingface.read(folder).tensors)


def test_a_stop_while_writing_leaves_no_mixture(folder, monkeypatch):
    """An old folder that is written over fails to load, clearly, if the writer is stopped half-way."""
    checkpoint = huggingface.read(folder)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        huggingface.write(folder, checkpoint, extra=stop)
    assert huggingface.read(folder).config == checkpoint.config  # stopped before the first file moved
    import kbert.files

    monkeypatch.setattr(kbert.files.os, "replace", stop_after(2))
    with pytest.raises(KeyboardInterrupt):
        huggingface.write(folder, checkpoint)
    with pytest.raises(InputError, match=r"config.json does not exist"):
        huggingface.read(folder)


def stop_after(count):
    from os import replace

    calls = iter(range(count))

    def limited(*args):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        replace(*args)

    return limited


# === Bad folders ===


def test_truncated_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model.safetensors is damaged .*: fetch it again"):
        huggingface.read(folder)


def test_a_missing_tensor(folder):
    stored = safetensors.numpy.load_file(folder / "model.safetensors")
    del stored["encoder.layer.1.output.dense.weight"]
    safetensors.numpy.save_file(stored, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"hold no tensor 'encoder.layer.1.output.dense.weight'"):
        huggingface.read(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "kbert reads BERT models; this is model_type 'roberta'"),
        ({"position_embedding_type": "relative_key"}, "only absolute position embeddings"),
        ({"hidden_act": "swish"}, "hidden_act must be one of"),
        ({"num_attention_heads": 5}, "`num_heads` must divide `hidden_dim`"),
        ({"intermediate_size": 36}, r"gives shape \(12, 37\), the config asks for \(12, 36\)"),
        ({"vocab_size": 90}, "the vocabulary has 98 tokens, config.json says 90"),
        (
            {"kbert": None, "problem_type": "regression", "architectures": ["BertForSequenceClassification"]},
            "not regression with 2",
        ),
    ],
)
def test_a_config_that_does_not_fit(folder, changes, message):
    change_json(folder / "config.json", **changes)
    if changes.get("kbert", 0) is None:
        content = json.loads((folder / "config.json").read_text())
        del content["kbert"]
        (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        huggingface.read(folder)


def test_a_config_without_a_key(folder):
    content = json.loads((folder / "config.json").read_text())
    del content["hidden_size"]
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="has no key 'hidden_size'"):
        huggingface.read(folder)


def test_a_config_that_is_not_json(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is not readable JSON"):
        huggingface.read(folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file(folder, file):
    (folder / file).unlink()
    with pytest.raises(InputError, match=file):
        huggingface.read(folder)


def test_a_vocabulary_in_latin_1(folder):
    (folder / "vocab.txt").write_bytes("[PAD]\ncafé\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"vocab.txt is not UTF-8 \(byte 9\)"):
        huggingface.read(folder)


def test_pickled_weights_without_torch(folder, monkeypatch):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="pip install torch"):
        huggingface.read(folder)


@pytest.mark.parametrize(
    ("modes", "pooling"),
    [({"cls_token": True}, "cls"), ({"mean_tokens": True, "cls_token": False}, "mean"), ({"max_tokens": True}, None)],
)
def test_a_folder_of_sentence_transformers_says_how_it_pools(folder, modes, pooling):
    (folder / "1_Pooling").mkdir()
    modes = {f"pooling_mode_{name}": chosen for name, chosen in modes.items()}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 12, **modes}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 23}))
    config = json.loads((folder / "config.json").read_text())
    del config["kbert"]
    (folder / "config.json").write_text(json.dumps(config))
    task = huggingface.read(folder, weights=False).task
    assert task == (pooling and EmbedConfig(pooling=pooling, max_length=23))
