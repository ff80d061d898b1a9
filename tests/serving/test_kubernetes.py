"""The Job that fine-tunes on several machines: what Kubernetes, the shell and kbert make of it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from kbert.cli import _parser
from kbert.training import strategies

FOLDER = Path(__file__).parents[2] / "serving" / "kubernetes"
SERVICE, JOB, CLAIM = yaml.safe_load_all((FOLDER / "finetune-job.yaml").read_text(encoding="utf-8"))
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.mark.parametrize("resource", [SERVICE, JOB, CLAIM], ids=lambda resource: resource["kind"])
def test_it_fits_the_schemas_of_kubernetes(resource):
    """Every name and type, against the API's own schemas."""
    schemas = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    for version in ("1.31", schemas.latest_version()):
        schemas.validate(resource, version, strict=True)
    with pytest.raises(schemas.ValidationError, match="Additional properties are not allowed"):
        schemas.validate({**resource, "spec": {**resource["spec"], "completion": 2}}, version, strict=True)


def test_its_parts_name_each_other():
    assert SERVICE["spec"]["clusterIP"] == "None"
    assert SERVICE["spec"]["selector"] == {"job-name": JOB["metadata"]["name"]}
    assert POD["subdomain"] == SERVICE["metadata"]["name"]
    assert POD["volumes"][0]["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]
    labels = JOB["spec"]["template"]["metadata"]["labels"]
    assert POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == labels
    (mount,) = CONTAINER["volumeMounts"]
    paths = [argument.partition("=")[2] for argument in CONTAINER["args"] if "=/" in argument]
    assert len(paths) == 3
    assert all(path.startswith(f"{mount['mountPath']}/") for path in paths)
    assert mount["name"] == POD["volumes"][0]["name"]


@pytest.mark.parametrize(("machines", "index"), [(2, 0), (2, 1), (3, 2)])
def test_each_machine_gets_its_tf_config(tmp_path, monkeypatch, machines, index):
    """The container's command, with another program in the place of kbert."""
    program = tmp_path / "kbert"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$TF_CONFIG" "$@"\n')
    program.chmod(0o755)
    (machines_setting,) = CONTAINER["env"]
    assert int(machines_setting["value"]) == JOB["spec"]["completions"] == JOB["spec"]["parallelism"] == 2
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        machines_setting["name"]: str(machines),
        "JOB_COMPLETION_INDEX": str(index),
    }
    command = [*CONTAINER["command"], *CONTAINER["args"]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    tf_config, *arguments = done.stdout.splitlines()

    # An Indexed Job's pods are called JOB-INDEX, and found below the Service.
    job, service, port = JOB["metadata"]["name"], SERVICE["metadata"]["name"], SERVICE["spec"]["ports"][0]["port"]
    workers = [f"{job}-{i}.{service}:{port}" for i in range(machines)]
    assert json.loads(tf_config) == {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
    assert CONTAINER["ports"] == [{"containerPort": port}]
    monkeypatch.setenv("TF_CONFIG", tf_config)
    assert strategies._machines() == machines
    settings = _parser().parse_args(arguments)
    assert (settings.model, settings.out) == ("minilm-l6-en", "/shared/runs/mine")
