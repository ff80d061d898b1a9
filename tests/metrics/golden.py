"""What the reference implementations have answered; tests/golden/write_metrics.py writes it."""

from __future__ import annotations

import json
from pathlib import Path

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics.json").read_text(encoding="utf8"))


def assert_equal(got, expected):
    """Equal but for the last digits, which the order of a sum decides."""
    assert got.keys() == expected.keys()
    assert all(abs(got[name] - expected[name]) <= 1e-12 for name in expected), (got, expected)
