"""A tiny BERT that learns a few sentences by heart in seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def steady_folder(tiny_folder, tmp_path_factory) -> Path:
    """The tiny encoder without dropout, which leaves it too little to learn from."""
    folder = tmp_path_factory.mktemp("steady") / "encoder"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf8")
    return folder
