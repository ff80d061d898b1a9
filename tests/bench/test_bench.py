"""`kbert bench`: what it computes of times, prints and draws; the times themselves are no test's matter."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from kbert.bench import timing
from kbert.bench.entries import Entry, chosen
from kbert.bench.models import classifier_folder
from kbert.bench.report import table, write_chart
from kbert.bench.timing import Contender, Measurement, compare
from kbert.bench.worker import start
from kbert.checkpoints import presets
from kbert.config import BertConfig
from kbert.errors import InputError


def test_rates_and_ratios_leave_the_first_round_out(monkeypatch):
    clock = [0.0]
    durations = {"peer": iter([9.0, 4.0, 5.0, 8.0]), "kbert": iter([9.0, 2.0, 1.0, 4.0])}
    calls = []

    def run(name: str) -> None:
        calls.append(name)
        clock[0] += next(durations[name])

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    contenders = [Contender(name, lambda name=name: run(name), note=name.upper()) for name in durations]
    peer, own = compare(contenders, amount=20, unit="MB/s", rounds=3, description="")
    assert calls == ["peer", "kbert"] * 4
    assert peer == Measurement("peer", "MB/s", 5.0, 4.0, "peer", 1.0, 1.0, "PEER")
    assert own == Measurement("kbert", "MB/s", 20.0, 10.0, "peer", 4.0, 2.5, "KBERT")


def test_contenders_may_do_different_amounts_of_work(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    contenders = [Contender("peer", lambda: None), Contender("kbert", lambda: None, amount=30.0)]
    assert [m.best for m in compare(contenders, amount=20, unit="MB/s", rounds=1, description="")] == [20, 30]


ENTRIES = (
    Entry("peer", "m:f", needs=("json",)),
    Entry("other", "m:g", needs=("json", "no_such_package")),
    Entry("kbert", "m:h"),
)


def test_who_takes_part():
    assert [entry.name for entry in chosen(ENTRIES, ())] == ["peer", "kbert"]
    assert [entry.name for entry in chosen(ENTRIES, ["kbert"])] == ["kbert"]
    with pytest.raises(InputError, match="--only names 'kbart'; the contenders are peer, other, kbert"):
        chosen(ENTRIES, ["kbert", "kbart"])
    with pytest.raises(InputError, match="other needs no_such_package: install it, or leave it out of --only"):
        chosen(ENTRIES, ["other"])


def test_a_model_of_a_size_drawn_at_random(tiny_folder, tiny_vocabulary):
    with classifier_folder(str(tiny_folder), "tiny", num_classes=3) as folder:
        checkpoint = presets.load(folder)
    assert not Path(folder).exists()
    assert checkpoint.config == BertConfig.of_size("tiny", len(tiny_vocabulary))
    assert checkpoint.vocabulary == tiny_vocabulary
    assert checkpoint.tensors["classifier/kernel"].shape == (128, 3)
    assert checkpoint.tensors["layer_1/attention/output/kernel"].std() == pytest.approx(0.0176, abs=5e-4)


@pytest.fixture
def measurements():
    return [
        Measurement("peer <1>", "MB/s", 5.0, 4.0, "peer <1>", 1.0, 1.0),
        Measurement("kbert", "MB/s", 20.0, 10.0, "peer <1>", 4.0, 2.5, "no offsets"),
    ]


def test_the_table_lines_up(measurements):
    header, peer, own = table(measurements).split("\n")
    assert "MB/s" in header
    assert peer.split() == ["peer", "<1>", "5.00", "4.00", "1.00", "1.00"]
    assert own.split() == ["kbert", "20.00", "10.00", "4.00", "2.50", "no", "offsets"]
    assert own.index("20.00") + 5 == peer.index("5.00") + 4


def test_the_table_shows_details(measurements):
    peer, own = (
        dataclasses.replace(m, details={"p50_ms": value, "failures": 3})
        for m, value in zip(measurements, (1.25, 2000), strict=True)
    )
    header, *rows = (line.split() for line in table([peer, own]).split("\n"))
    assert header[:5] == ["best", "MB/s", "median", "p50_ms", "failures"]
    assert rows[0][:6] == ["peer", "<1>", "5.00", "4.00", "1.2", "3.0"]
    assert rows[1][:5] == ["kbert", "20.00", "10.00", "2000.0", "3.0"]


def test_bars_are_as_long_as_the_medians(measurements, tmp_path):
    write_chart(tmp_path / "new" / "chart.html", "A & B", {"texts": measurements})
    page = (tmp_path / "new" / "chart.html").read_text("utf-8").removeprefix("<!DOCTYPE html>")
    rows = ElementTree.fromstring(page.replace('<meta charset="utf-8">', "").replace("<br>", "")).findall(".//tr")[1:]
    assert [(row.get("class"), row.find(".//div").get("style")) for row in rows] == [
        ("peer", "width: 40.0%"),
        ("own", "width: 100.0%"),
    ]
    assert rows[0].find("td").text == "peer <1>"


def test_a_worker_works_on_demand_and_says_what_went_wrong(tiny_folder, tmp_path):
    import kbert

    kbert.BertTextClassifier.from_preset(tiny_folder, labels=["a", "b"]).save_to_preset(tmp_path / "model")
    work = {"folder": str(tmp_path / "model"), "texts": ["good film", "我"], "batch_size": 1, "engine": None}
    with contextlib.ExitStack() as stack:
        worker = start(stack, "kbert.bench.classifying:kbert_predict", work, threads=1)
        for _ in range(2):
            worker.run()
    with contextlib.ExitStack() as stack, pytest.raises(InputError, match=r"kbert_predict failed: .*nowhere"):
        start(stack, "kbert.bench.classifying:kbert_predict", {**work, "folder": str(tmp_path / "nowhere")}, threads=1)


def test_the_command_times_every_contender(tiny_folder, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("a good film!\n\n我不爱 unfineds\n", "utf-8")
    command = [sys.executable, "-m", "kbert.cli", "bench", "tokenize", texts, "--model", tiny_folder, "--rounds", "1"]
    done = subprocess.run([*command, "--chart", tmp_path / "c.html"], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["name"] for row in rows][-2:] == ["kbert", "kbert with offsets"]
    assert len(rows) == 5
    assert all(row["best"] >= row["median"] > 0 and row["unit"] == "MB/s" for row in rows)
    assert "kbert with offsets" in done.stderr
    assert (tmp_path / "c.html").stat().st_size > 1000


def test_the_command_takes_contenders_and_sizes(tiny_folder, tmp_path):
    (tmp_path / "texts.txt").write_text("a good film!\n我不爱\n", "utf-8")
    command = [sys.executable, "-m", "kbert.cli", "bench", "predict", tmp_path / "texts.txt", "--model", tiny_folder]
    options = ["--rounds", "1", "--size", "tiny", "--only", " kbert,"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == ["kbert"]
    assert "size tiny" in done.stderr
