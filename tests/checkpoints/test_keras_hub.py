"""keras-hub folders: keras-hub's own outputs against a numpy forward pass with the tensors kbert read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy_bert import forward

from kbert.checkpoints import keras_hub as reader
from kbert.checkpoints import presets
from kbert.checkpoints.checkpoint import tensor_shapes
from kbert.config import BertConfig, ClassifyConfig
from kbert.errors import InputError

# Keras 3.15 saves weights in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

B, T, V, L, N, H, D, I, P, S, C = 7, 9, 19, 2, 3, 4, 12, 17, 11, 6, 5  # noqa: E741
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "中", "é", "c")


def backbone():
    import keras_hub

    model = keras_hub.models.BertBackbone(
        vocabulary_size=V,
        num_layers=L,
        num_heads=N,
        hidden_dim=D,
        intermediate_dim=I,
        max_sequence_length=P,
        num_segments=S,
        dropout=0.25,
    )
    randomise(model)
    return model


def randomise(model) -> None:
    """Fresh biases are all zero and fresh gammas all one: two of them swapped would not show."""
    random = np.random.default_rng(1)
    model.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in model.weights])


def tokenizer(**options):
    import keras_hub

    return keras_hub.models.BertTokenizer(vocabulary=list(VOCABULARY), **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model = backbone()
    model.save_to_preset(str(folder))
    tokenizer(lowercase=True).save_to_preset(str(folder))
    return folder, model


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    mask = np.arange(T) < random.integers(2, T + 1, size=(B, 1))
    return random.integers(0, V, size=(B, T)), random.integers(0, S, size=(B, T)), mask


def message_of(preset) -> str:
    with pytest.raises(InputError) as caught:
        reader.read(preset)
    message = str(caught.value)
    assert "\n" not in message
    assert str(preset) in message
    return message


def test_the_weights_compute_what_keras_hub_computes(saved):
    folder, model = saved
    checkpoint = presets.load(folder)
    assert {name: tensor.shape for name, tensor in checkpoint.tensors.items()} == tensor_shapes(checkpoint.config)
    token_ids, segment_ids, mask = inputs()
    theirs = model({"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": mask.astype("int32")})
    for row, length in enumerate(mask.sum(1)):
        sequence, pooled = forward(
            checkpoint.config, checkpoint.tensors, token_ids[row, :length], segment_ids[row, :length]
        )
        np.testing.assert_allclose(theirs["sequence_output"][row, :length], sequence, atol=2e-5)
        np.testing.assert_allclose(theirs["pooled_output"][row], pooled, atol=2e-5)


def test_config_and_vocabulary_without_weights(saved):
    checkpoint = presets.load(saved[0], weights=False)
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
        attention_dropout_rate=0.25,
        initializer_range=0.02,
        layer_norm_epsilon=1e-12,
    )
    assert checkpoint.vocabulary == VOCABULARY
    assert checkpoint.tensors == {}
    assert checkpoint.task is None


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
def test_the_tokenizer_keeps_accents_where_keras_hubs_does(saved, tmp_path, lowercase, strip_accents):
    saved[1].save_to_preset(str(tmp_path))
    theirs = tokenizer(lowercase=lowercase, strip_accents=strip_accents)
    theirs.save_to_preset(str(tmp_path))
    ours = reader.read(tmp_path, weights=False).tokenizer
    assert (ours.do_lower_case, ours.strip_accents, ours.tokenize_chinese_chars) == (lowercase, strip_accents, True)
    # What the two settings mean there: an accent is kept, and the piece found, unless stripped.
    assert VOCABULARY[int(theirs("é")[0])] == ("[UNK]" if strip_accents else "é")
    assert VOCABULARY[int(theirs("A")[0])] == ("a" if lowercase else "[UNK]")


def classifier(**options):
    import keras_hub

    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer(), sequence_length=T)
    model = keras_hub.models.BertTextClassifier(backbone(), preprocessor=preprocessor, **options)
    randomise(model)
    return model


def test_a_classifier_with_its_head(tmp_path):
    model = classifier(num_classes=C)
    model.save_to_preset(str(tmp_path))
    checkpoint = reader.read(tmp_path)
    labels = ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4")
    assert checkpoint.task == ClassifyConfig(labels=labels, max_length=T)
    token_ids, segment_ids, mask = inputs()
    theirs = model({"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": mask.astype("int32")})
    for row, length in enumerate(mask.sum(1)):
        _, pooled = forward(checkpoint.config, checkpoint.tensors, token_ids[row, :length], segment_ids[row, :length])
        logits = pooled @ checkpoint.tensors["classifier/kernel"] + checkpoint.tensors["classifier/bias"]
        np.testing.assert_allclose(logits, theirs[row], atol=5e-5)


@pytest.mark.parametrize("options", [{"num_classes": 1}, {"num_classes": C, "activation": "sigmoid"}])
def test_a_head_that_kbert_has_not(tmp_path, options):
    classifier(**options).save_to_preset(str(tmp_path))
    message = message_of(tmp_path)
    assert f"not {options['num_classes']} output(s) with activation {options.get('activation', 'linear')!r}" in message


def test_weights_saved_in_half_precision_arrive_as_float32(saved, tmp_path):
    saved[1].save_to_preset(str(tmp_path))
    tokenizer().save_to_preset(str(tmp_path))
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"name": "float32"', '"name": "bfloat16"'))
    assert {tensor.dtype for tensor in reader.read(tmp_path).tensors.values()} == {np.dtype("float32")}


def test_a_folder_that_is_incomplete_or_damaged(saved, tmp_path):
    saved[1].save_to_preset(str(tmp_path))
    assert "tokenizer.json" in message_of(tmp_path)
    tokenizer().save_to_preset(str(tmp_path))
    weights = tmp_path / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:3000])
    assert "cannot load a BERT" in message_of(tmp_path)
    (tmp_path / "assets" / "tokenizer" / "vocabulary.txt").write_text("\n".join([*VOCABULARY, *"defghijkl"]) + "\nm\n")
    weights.unlink()
    with pytest.raises(InputError, match=r"the vocabulary has 20 tokens, config\.json says 19"):
        reader.read(tmp_path, weights=False)


def test_a_tokenizer_that_does_not_split_words(saved, tmp_path):
    saved[1].save_to_preset(str(tmp_path))
    tokenizer(split=False).save_to_preset(str(tmp_path))
    assert "the tokenizer must split words itself" in message_of(tmp_path)


def test_another_architecture(tmp_path):
    import keras_hub

    keras_hub.models.DistilBertBackbone(
        vocabulary_size=V, num_layers=1, num_heads=N, hidden_dim=D, intermediate_dim=I, max_sequence_length=P
    ).save_to_preset(str(tmp_path))
    keras_hub.models.DistilBertTokenizer(vocabulary=list(VOCABULARY)).save_to_preset(str(tmp_path))
    assert "cannot load a BERT and its tokenizer" in message_of(tmp_path)


# === Kaggle ===

HANDLE = "kaggle://keras/bert/keras/toy/3"


def test_a_kaggle_handle_is_read_through_keras_hubs_loader(saved, monkeypatch):
    import kagglehub

    def model_download(handle, path):
        assert handle == "keras/bert/keras/toy/3"
        if not Path(saved[0], path).exists():
            raise ValueError(f"{path} is not present in the model files")
        return str(Path(saved[0], path))

    monkeypatch.setattr(kagglehub, "model_download", model_download)
    checkpoint = presets.load(HANDLE)
    for name, tensor in reader.read(saved[0]).tensors.items():
        np.testing.assert_array_equal(checkpoint.tensors[name], tensor, err_msg=name)


def test_without_a_connection_a_kaggle_handle_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert "is not cached and Kaggle cannot be reached" in message_of(HANDLE)


def test_a_malformed_kaggle_handle_is_one_line():
    assert "Unexpected Kaggle preset" in message_of("kaggle://toy")
