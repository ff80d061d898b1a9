"""Prometheus, its alerts and Grafana's board: they parse, and they ask for metrics that TF Serving has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "serving" / "monitoring"
BOARD = json.loads((FOLDER / "grafana" / "dashboards" / "tensorflow-serving.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))

# Metric -> labels, from the sources of TF Serving (servables/tensorflow/util.cc, batching/batching_session.cc) and
# TensorFlow (core/framework/metrics.cc, cc/saved_model/loader.cc). The exporter turns "/" into ":".
COUNTERS = {
    ":tensorflow:serving:request_count": {"model_name", "status"},
    ":tensorflow:serving:batching_session:wrapped_run_count": set(),
    ":tensorflow:core:graph_run_time_usecs": set(),
    ":tensorflow:cc:saved_model:load_attempt_count": {"model_path", "status"},
    "up": set(),
}
HISTOGRAMS = {
    ":tensorflow:serving:request_latency": {"model_name", "API", "entrypoint"},
    ":tensorflow:serving:runtime_latency": {"model_name", "API", "runtime"},
    ":tensorflow:serving:batching_session:queuing_latency": {"thread_pool_name"},
}
METRICS = COUNTERS | {
    name + suffix: labels | ({"le"} if suffix == "_bucket" else set())
    for name, labels in HISTOGRAMS.items()
    for suffix in ("_bucket", "_sum", "_count")
}
EVERYWHERE = {"instance", "job"}


def board_expressions():
    return [(panel["title"], target["expr"]) for panel in BOARD["panels"] for target in panel["targets"]]


def alert_expressions():
    return [(rule["alert"], rule["expr"]) for group in ALERTS["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(("title", "expression"), board_expressions() + alert_expressions())
def test_it_asks_for_what_tf_serving_has(title, expression):
    names = re.findall(r":tensorflow:[\w:]+|\bup\b", expression)
    assert names
    for name in names:
        assert name in METRICS
    labels = re.findall(r"(\w+)(?:=~|!=|=)\"", expression)
    for group in re.findall(r"by \(([^)]*)\)", expression):
        labels += group.split(", ")
    assert set(labels) <= set.union(EVERYWHERE, *(METRICS[name] for name in names))


def test_the_board_shows_what_to_watch():
    used = {name for _, expression in board_expressions() for name in re.findall(r":tensorflow:[\w:]+", expression)}
    for metric in (
        "request_count",
        "request_latency_bucket",
        "runtime_latency_bucket",
        "batching_session:queuing_latency_bucket",
        "batching_session:wrapped_run_count",
    ):
        assert f":tensorflow:serving:{metric}" in used
    quantiles = {
        quantile for _, text in board_expressions() for quantile in re.findall(r"histogram_quantile\((.*?),", text)
    }
    assert quantiles == {"0.5", "0.99"}


def test_the_board_is_whole():
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    (variable,) = BOARD["templating"]["list"]
    assert variable["name"] == "model"
    sources = {target["datasource"]["uid"] for panel in panels for target in panel["targets"]}
    provisioned = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    assert sources == {source["uid"] for source in provisioned["datasources"]}
    boards = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/boards.yaml").read_text())
    compose = yaml.safe_load((FOLDER.parent / "docker-compose.yaml").read_text())
    folder = boards["providers"][0]["options"]["path"]
    assert f"./monitoring/grafana/dashboards:{folder}:ro" in compose["services"]["grafana"]["volumes"]


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")


@needs_promtool
def test_prometheus_reads_its_configuration_and_the_alerts():
    subprocess.run(["promtool", "check", "config", FOLDER / "prometheus.yaml"], check=True, capture_output=True)


@needs_promtool
def test_every_expression_of_the_board_is_promql(tmp_path):
    rules = [
        {"record": f"board:{i}", "expr": text.replace("$__rate_interval", "1m").replace("$model", ".*")}
        for i, (_, text) in enumerate(board_expressions())
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run(["promtool", "check", "rules", path], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout


@needs_promtool
def test_the_alerts_on_numbers(tmp_path):
    """One request in ten fails, and one in fifty takes 2 s: two alerts; a server that is up and a model that loads."""
    series = {
        ':tensorflow:serving:request_count{model_name="m", status="OK"}': "0+90x30",
        ':tensorflow:serving:request_count{model_name="m", status="INTERNAL"}': "0+10x30",
        ':tensorflow:serving:request_latency_bucket{model_name="m", le="18000"}': "0+98x30",
        ':tensorflow:serving:request_latency_bucket{model_name="m", le="2000000"}': "0+100x30",
        ':tensorflow:serving:request_latency_bucket{model_name="m", le="+Inf"}': "0+100x30",
        'up{job="tensorflow-serving", instance="a"}': "1x30",
        ':tensorflow:cc:saved_model:load_attempt_count{model_path="/models/m/1", status="success"}': "1x30",
    }
    expected = {"ModelErrors": [{"model_name": "m"}], "ModelSlow": [{"model_name": "m"}]}
    annotations = {rule["alert"]: rule["annotations"]["summary"] for rule in ALERTS["groups"][0]["rules"]}
    tests = [
        {
            "eval_time": "20m",
            "alertname": name,
            "exp_alerts": [
                {
                    "exp_labels": labels,
                    "exp_annotations": {"summary": summary.replace("{{ $labels.model_name }}", labels["model_name"])},
                }
                for labels in expected.get(name, [])
            ],
        }
        for name, summary in annotations.items()
    ]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    case = {
        "rule_files": [str(FOLDER / "alerts.yaml")],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": inputs, "alert_rule_test": tests}],
    }
    path = tmp_path / "case.yaml"
    path.write_text(yaml.safe_dump(case), encoding="utf-8")
    done = subprocess.run(["promtool", "test", "rules", path], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
