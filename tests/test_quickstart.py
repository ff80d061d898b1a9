"""The quickstart, with fewer epochs than a user's: every step, on the real weights."""

from __future__ import annotations

import dataclasses

from kbert import quickstart


def test_quickstart(tmp_path, monkeypatch, minilm_folder):
    demo = dataclasses.replace(quickstart._DEMOS["en"], epochs=2)
    monkeypatch.setitem(quickstart._DEMOS, "en", demo)
    for version in ("1", "2"):  # the second time nothing is trained, and a new version exported
        *steps, first, second, third = quickstart.quickstart("en", tmp_path / "runs", tmp_path / "saved_models")
        assert [step["step"] for step in steps] == ["finetune", "evaluate", "export"]
        assert steps[1]["examples"] == 90
        assert steps[1]["accuracy"] > 0.656  # the best bag of words
        assert steps[2]["folder"] == str(tmp_path / "saved_models" / "quickstart-en" / version)
        assert [answer["text"] for answer in (first, second, third)] == list(demo.questions)
        assert {"label", "score"} <= first.keys()
