"""What a pretraining run may be told."""

from __future__ import annotations

import dataclasses

import pytest

from kbert.config import SIZES
from kbert.errors import InputError
from kbert.pretraining.settings import PretrainSettings
from kbert.pretraining.stages import stages_of


@pytest.fixture
def settings():
    return PretrainSettings(corpus=("a.txt", "b.txt"), vocab="vocab.txt", size="tiny", out="run")


@pytest.mark.parametrize(
    ("lengths", "steps", "expected"),
    [
        ("128", 7, [(128, 7)]),
        ("128:0.9,512:0.1", 10, [(128, 9), (512, 1)]),
        ("16:0.33,32:0.33,64:0.34", 10, [(16, 3), (32, 4), (64, 3)]),
    ],
)
def test_stages(lengths, steps, expected):
    assert stages_of(lengths, steps) == expected


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ("", "must be like 128"),
        ("long", "must be like 128"),
        ("128:0.9", "adding up to 1"),
        ("128:0.5,512:0.6", "adding up to 1"),
        ("4", "must be 8 tokens or more"),
        ("128:0.999,512:0.001", "leaves no step of 100 for length 512"),
        ("128:1.5,512:-0.5", "leaves no step of 100 for length 512"),
    ],
)
def test_lengths_that_are_none(lengths, message):
    with pytest.raises(InputError, match=message):
        stages_of(lengths, 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": ()}, "--corpus is missing"),
        ({"out": ""}, "--out is missing"),
        ({"vocab": ""}, "--vocab is missing"),
        ({"size": ""}, "--size is missing"),
        ({"size": "huge"}, "--size must be one of tiny, mini, small, medium, base, large, or FILE.json"),
        ({"model": "bert-base-uncased"}, "leave --vocab and --size away"),
        ({"steps": 0}, "--steps must be more than 0. Received: 0"),
        ({"batch_tokens": 100}, "--batch-tokens must be at least the longest of --lengths"),
        ({"evaluation_steps": 0}, "--evaluation-steps must be more than 0"),
        ({"keep_checkpoints": 0}, "--keep-checkpoints must be more than 0"),
        ({"checkpoint_steps": -1}, "--checkpoint-steps must be 0 or more"),
        ({"learning_rate": float("nan")}, "--learning-rate must be 0 or more"),
        ({"learning_rate": float("inf")}, "--learning-rate must be a finite number"),
        ({"warmup_rate": 1.5}, r"--warmup-rate must be in \[0, 1\]"),
        ({"weight_decay": -1.0}, "--weight-decay must be 0 or more"),
        ({"clip_norm": 0.0}, "--clip-norm must be more than 0"),
        ({"held_out": 0.0}, "--held-out must be more than 0 and less than 1"),
        ({"mask_rate": 1.0}, "--mask-rate must be more than 0 and less than 1"),
        ({"mask_unit": "letter"}, "--mask-unit must be one of"),
        ({"pairs": "both"}, "--pairs must be one of none, nsp, sop"),
        ({"pairs": "nsp", "across_documents": True}, "--pairs and --across-documents do not go together"),
        ({"decay": "steps"}, "--decay must be one of linear, cosine"),
        ({"layout": "pages"}, "--layout must be one of documents, lines"),
        ({"devices": "tpu"}, "--devices must be cpu"),
        ({"xla": "on", "gradient_accumulation_steps": 2}, "do not go together"),
    ],
)
def test_settings_that_make_no_run(settings, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(settings, **changes)


def test_settings_survive_toml(settings, tmp_path):
    odd = dataclasses.replace(settings, corpus=('a "b".txt', "列.jsonl"), across_documents=True, decay="cosine")
    (tmp_path / "a.toml").write_text(odd.to_toml(), encoding="utf8")
    assert PretrainSettings.from_toml(tmp_path / "a.toml") == odd
    (tmp_path / "a.toml").write_text('corpus = "a.txt"')
    with pytest.raises(InputError, match="corpus must be of type list of str"):
        PretrainSettings.from_toml(tmp_path / "a.toml")


def test_the_learning_rate_suits_the_size(settings):
    rates = {size: settings.peak_rate(hidden_dim) for size, (_, hidden_dim) in SIZES.items()}
    assert rates == dict.fromkeys(("tiny", "mini", "small", "medium"), 5e-4) | {"base": 1e-4, "large": 1e-4}
    assert dataclasses.replace(settings, learning_rate=0.5).peak_rate(1024) == 0.5
    assert dataclasses.replace(settings, vocab="", size="", model="m").peak_rate(128) == 5e-5
