"""A classifier for the tests of files for phones."""

from __future__ import annotations

import pytest
from mobile.cases import classifier


@pytest.fixture(scope="session")
def model(tiny_folder):
    return classifier(tiny_folder)
