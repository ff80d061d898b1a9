"""Google TF1 folders: one written here with all dimensions different, and SimBERT-tiny as it is published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kbert.checkpoints import google, presets
from kbert.checkpoints.checkpoint import tensor_shapes
from kbert.config import BertConfig, TokenizerConfig
from kbert.errors import InputError

V, L, N, H, D, I, P, S, E = 13, 2, 3, 4, 12, 17, 11, 6, 5  # noqa: E741
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<S>", "a", "##b", "中", "é", "ℝ", ".", "c")
KEYS = {
    "vocab_size": V,
    "num_hidden_layers": L,
    "num_attention_heads": N,
    "hidden_size": D,
    "embedding_size": E,
    "intermediate_size": I,
    "max_position_embeddings": P,
    "type_vocab_size": S,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.25,
    "attention_probs_dropout_prob": 0.125,
    "initializer_range": 0.03,
}


def google_variables() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {
        "bert/embeddings/word_embeddings": (V, E),
        "bert/embeddings/position_embeddings": (P, E),
        "bert/embeddings/token_type_embeddings": (S, E),
        "bert/embeddings/LayerNorm/gamma": (E,),
        "bert/embeddings/LayerNorm/beta": (E,),
        "bert/encoder/embedding_hidden_mapping_in/kernel": (E, D),
        "bert/encoder/embedding_hidden_mapping_in/bias": (D,),
        "bert/pooler/dense/kernel": (D, D),
        "bert/pooler/dense/bias": (D,),
        "cls/predictions/output_bias": (V,),
    }
    for i in range(L):
        layer = f"bert/encoder/layer_{i}"
        for name, inputs, outputs in (
            ("attention/self/query", D, D),
            ("attention/self/key", D, D),
            ("attention/self/value", D, D),
            ("attention/output/dense", D, D),
            ("intermediate/dense", D, I),
            ("output/dense", I, D),
        ):
            shapes |= {f"{layer}/{name}/kernel": (inputs, outputs), f"{layer}/{name}/bias": (outputs,)}
        for name in ("attention/output/LayerNorm", "output/LayerNorm"):
            shapes |= {f"{layer}/{name}/gamma": (D,), f"{layer}/{name}/beta": (D,)}
    variables = {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    # As SimBERT has it: a double-precision table.
    variables["bert/embeddings/word_embeddings"] = random.normal(size=(V, E))
    # As Google's trainer leaves them.
    variables |= {f"{name}/adam_m": value * 0 for name, value in variables.items()}
    return variables | {"global_step": np.int64(7)}


def write_folder(folder: Path, variables=None, keys=KEYS, vocabulary=VOCABULARY) -> Path:
    import tensorflow as tf

    variables = google_variables() if variables is None else variables
    names = list(variables)
    tf.raw_ops.SaveV2(
        prefix=str(folder / "bert_model.ckpt"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[variables[name] for name in names],
    )
    (folder / "bert_config.json").write_text(json.dumps(keys))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf8")
    # The published file names a path of the machine it was written on.
    (folder / "checkpoint").write_text('model_checkpoint_path: "/gone/bert_model.ckpt"\n')
    return folder


def message_of(folder: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        google.read(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_config_tokenizer_and_vocabulary(tmp_path):
    checkpoint = google.read(write_folder(tmp_path), weights=False)
    assert checkpoint.config == BertConfig(
        vocabulary_size=V,
        num_layers=L,
        num_heads=N,
        hidden_dim=D,
        intermediate_dim=I,
        max_sequence_length=P,
        num_segments=S,
        activation="gelu_approximate",
        dropout_rate=0.25,
        attention_dropout_rate=0.125,
        initializer_range=0.03,
        layer_norm_epsilon=1e-12,
        embedding_dim=E,
    )
    assert checkpoint.tokenizer == TokenizerConfig(do_lower_case=True, strip_accents=None)
    assert checkpoint.vocabulary == VOCABULARY
    assert checkpoint.tensors == {}
    assert checkpoint.task is None


def test_every_variable_arrives_where_it_belongs(tmp_path):
    variables = google_variables()
    tensors = google.read(write_folder(tmp_path, variables)).tensors
    expected = {
        "embeddings/word/embeddings": variables["bert/embeddings/word_embeddings"].astype("float32"),
        "embeddings/position/embeddings": variables["bert/embeddings/position_embeddings"],
        "embeddings/segment/embeddings": variables["bert/embeddings/token_type_embeddings"],
        "embeddings/layer_norm/gamma": variables["bert/embeddings/LayerNorm/gamma"],
        "embeddings/layer_norm/beta": variables["bert/embeddings/LayerNorm/beta"],
        "embeddings/projection/kernel": variables["bert/encoder/embedding_hidden_mapping_in/kernel"],
        "embeddings/projection/bias": variables["bert/encoder/embedding_hidden_mapping_in/bias"],
        "pooler/kernel": variables["bert/pooler/dense/kernel"],
        "pooler/bias": variables["bert/pooler/dense/bias"],
    }
    for i in range(L):
        theirs = f"bert/encoder/layer_{i}"
        query, key, value = (f"{theirs}/attention/self/{part}" for part in ("query", "key", "value"))
        joined = f"layer_{i}/attention/query_key_value"
        expected[f"{joined}/kernel"] = np.hstack([variables[f"{name}/kernel"] for name in (query, key, value)])
        expected[f"{joined}/bias"] = np.hstack([variables[f"{name}/bias"] for name in (query, key, value)])
        for ours, name in (
            ("attention/output", "attention/output/dense"),
            ("feedforward/intermediate", "intermediate/dense"),
            ("feedforward/output", "output/dense"),
        ):
            for part in ("kernel", "bias"):
                expected[f"layer_{i}/{ours}/{part}"] = variables[f"{theirs}/{name}/{part}"]
        for ours, name in (("attention", "attention/output"), ("feedforward", "output")):
            for part in ("gamma", "beta"):
                expected[f"layer_{i}/{ours}/layer_norm/{part}"] = variables[f"{theirs}/{name}/LayerNorm/{part}"]
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(tensors[name], tensor, err_msg=name, strict=True)


def test_without_embedding_size_there_is_no_projection(tmp_path):
    variables = google_variables()
    for name, shape in tuple((name, value.shape) for name, value in variables.items() if name.startswith("bert/emb")):
        variables[name] = np.ones([*shape[:-1], D], "float32")
    keys = {name: value for name, value in KEYS.items() if name != "embedding_size"}
    checkpoint = google.read(write_folder(tmp_path, variables, keys))
    assert checkpoint.config.embedding_dim is None
    assert {name: tensor.shape for name, tensor in checkpoint.tensors.items()} == tensor_shapes(checkpoint.config)


@pytest.mark.parametrize(
    ("token", "lower"), [("##B", False), ("É", False), ("[unused1]", True), ("<T>", True), ("ß", True)]
)
def test_a_vocabulary_with_capitals_is_cased(tmp_path, token, lower):
    folder = write_folder(tmp_path, vocabulary=(*VOCABULARY[:-1], token))
    tokenizer = google.read(folder, weights=False).tokenizer
    assert (tokenizer.do_lower_case, tokenizer.strips_accents) == (lower, lower)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": V + 1}, "vocab.txt has 13 tokens, bert_config.json says 14"),
        ({"hidden_act": "tanh"}, "hidden_act must be one of ('gelu', 'relu'), not 'tanh'"),
        ({"intermediate_size": I + 1}, "asks for (12, 18): these files do not belong together"),
        ({"num_hidden_layers": L + 1}, "no tensor 'bert/encoder/layer_2/attention/self/query/kernel'"),
        ({"type_vocab_size": None}, "bert_config.json has no key 'type_vocab_size'"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, change, message):
    keys = {name: value for name, value in (KEYS | change).items() if value is not None}
    assert message in message_of(write_folder(tmp_path, keys=keys))


def test_missing_and_superfluous_files(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "bert_model.ckpt.index").rename(tmp_path / "a.index")
    assert "damaged" in message_of(tmp_path)  # the index finds no data file of its name
    (tmp_path / "b.index").touch()
    assert "exactly one checkpoint index (*.index); it holds a.index, b.index" in message_of(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    assert "vocab.txt does not exist" in message_of(tmp_path)


@pytest.mark.parametrize("file", ["bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index"])
@pytest.mark.parametrize("how", ["cut", "changed"])
def test_a_damaged_checkpoint_is_reported(tmp_path, file, how):
    write_folder(tmp_path)
    content = bytearray((tmp_path / file).read_bytes())
    # The last half of the data is the optimizer's, which is not read.
    content[len(content) // 4] ^= 255
    (tmp_path / file).write_bytes(content[: len(content) // 4] if how == "cut" else content)
    assert "the checkpoint is damaged" in message_of(tmp_path)


def test_simbert_tiny_as_published(simbert_folder):
    import tensorflow as tf

    checkpoint = presets.load("simbert-tiny-zh")
    config = checkpoint.config
    assert (config.num_layers, config.num_heads, config.hidden_dim, config.embedding_dim) == (4, 12, 312, 128)
    assert checkpoint.tokenizer.do_lower_case
    assert len(checkpoint.vocabulary) == 13685
    assert {name: tensor.shape for name, tensor in checkpoint.tensors.items()} == tensor_shapes(config)
    known = next(preset for preset in presets.PRESETS if preset.name == "simbert-tiny-zh")
    assert sum(tensor.size for tensor in checkpoint.tensors.values()) == known.parameters
    reader = tf.train.load_checkpoint(str(simbert_folder / "bert_model.ckpt"))
    np.testing.assert_array_equal(
        checkpoint.tensors["layer_3/attention/query_key_value/kernel"][:, 312:624],
        reader.get_tensor("bert/encoder/layer_3/attention/self/key/kernel"),
    )
    np.testing.assert_array_equal(
        checkpoint.tensors["embeddings/projection/kernel"],
        reader.get_tensor("bert/encoder/embedding_hidden_mapping_in/kernel"),
    )
