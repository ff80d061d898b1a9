"""Serving on Kubernetes: what its files say, what they say about each other, and what kubectl makes of them."""

from __future__ import annotations

import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "serving"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((FOLDER / "docker-compose.yaml").read_text(encoding="utf-8"))
RESOURCES = {
    (resource["kind"], resource["metadata"]["name"]): resource
    for path in KUSTOMIZATION["resources"]
    for resource in yaml.safe_load_all((FOLDER / path).read_text(encoding="utf-8"))
}
DEPLOYMENT = RESOURCES["Deployment", "kbert-serving"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]


def check(resource):
    schemas = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    for version in ("1.31", schemas.latest_version()):
        schemas.validate(resource, version, strict=True)


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda resource: resource["kind"])
def test_it_fits_the_schemas_of_kubernetes(resource):
    check(resource)


def test_every_selector_finds_the_servers():
    labels = DEPLOYMENT["template"]["metadata"]["labels"]
    selectors = [
        DEPLOYMENT["selector"]["matchLabels"],
        POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        RESOURCES["PodDisruptionBudget", "kbert-serving"]["spec"]["selector"]["matchLabels"],
        *(RESOURCES["Service", name]["spec"]["selector"] for name in ("kbert-serving", "kbert-serving-each")),
    ]
    assert all(selector == labels for selector in selectors)
    target = RESOURCES["HorizontalPodAutoscaler", "kbert-serving"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in RESOURCES
    assert "replicas" not in DEPLOYMENT


def test_ports_are_those_that_tf_serving_opens():
    flags = dict(argument.removeprefix("--").partition("=")[::2] for argument in CONTAINER["args"])
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"grpc": int(flags["port"]), "http": int(flags["rest_api_port"])}
    for name in ("kbert-serving", "kbert-serving-each"):
        for port in RESOURCES["Service", name]["spec"]["ports"]:
            assert port["port"] == ports[port["targetPort"]]
    assert RESOURCES["Service", "kbert-serving-each"]["spec"]["clusterIP"] == "None"


def test_flags_name_files_that_are_mounted():
    generated = {item["name"]: item["files"] for item in KUSTOMIZATION["configMapGenerator"]}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    files = set()
    for mount in CONTAINER["volumeMounts"]:
        assert "subPath" not in mount  # would not follow a change of models.config
        if source := volumes[mount["name"]].get("configMap"):
            files |= {f"{mount['mountPath']}/{name}" for name in generated[source["name"]]}
    flags = [argument.partition("=")[2] for argument in CONTAINER["args"] if "_file=" in argument]
    assert set(flags) == files
    for names in generated.values():
        assert all((FOLDER / name).is_file() for name in names)
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert ("PersistentVolumeClaim", claim) in RESOURCES


def test_the_server_has_the_flags_of_compose():
    """But for places of files, TLS, and what only a cluster needs."""
    one = {flag.partition("=")[0] for flag in COMPOSE["services"]["tensorflow-serving"]["command"]}
    cluster = {flag.partition("=")[0] for flag in CONTAINER["args"]}
    assert one - cluster == {"--ssl_config_file"}
    assert cluster - one == {"--port", "--rest_api_port", "--grpc_channel_arguments"}
    assert CONTAINER["image"] == COMPOSE["services"]["tensorflow-serving"]["image"]


def test_only_a_change_that_servers_read_at_the_start_replaces_them():
    models, settings = KUSTOMIZATION["configMapGenerator"]
    assert models["files"] == ["models.config"]
    assert models["options"]["disableNameSuffixHash"] is True
    assert "options" not in settings
    assert DEPLOYMENT["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe"])
def test_probes_tell_a_loaded_model_from_none(server, probe):
    path = CONTAINER[probe]["httpGet"]["path"]
    url = f"http://127.0.0.1:{server.rest_port}{path}"
    with urllib.request.urlopen(url, timeout=10) as response:
        assert response.status == 200
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(url.replace("sentiment", "missing"), timeout=10)


def test_a_server_that_stops_has_time_for_its_requests():
    (pause,) = (int(word) for word in CONTAINER["lifecycle"]["preStop"]["exec"]["command"] if word.isdecimal())
    assert 10 < pause < POD["terminationGracePeriodSeconds"]
    ready = CONTAINER["readinessProbe"]
    assert pause >= ready["periodSeconds"] * ready["failureThreshold"]


needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")


def build(folder):
    done = subprocess.run(["kubectl", "kustomize", folder], check=True, capture_output=True, text=True)
    return {
        resource["kind"] + " " + resource["metadata"]["name"]: resource for resource in yaml.safe_load_all(done.stdout)
    }


@needs_kubectl
def test_kubectl_ties_it_together():
    built = build(FOLDER)
    assert len(built) == len(RESOURCES) + 2
    volumes = {
        volume["name"]: volume for volume in built["Deployment kbert-serving"]["spec"]["template"]["spec"]["volumes"]
    }
    assert volumes["models-config"]["configMap"]["name"] == "kbert-serving-models"
    settings = volumes["settings"]["configMap"]["name"]
    assert settings.startswith("kbert-serving-settings-")
    data = built[f"ConfigMap {settings}"]["data"]
    assert data == {name: (FOLDER / name).read_text(encoding="utf-8") for name in data}
    assert set(data) == {"batching.config", "monitoring.config"}
    for resource in built.values():
        check(resource)


@needs_kubectl
def test_models_that_come_with_an_image(tmp_path):
    folder = shutil.copytree(
        FOLDER, tmp_path / "serving", ignore=shutil.ignore_patterns("certificates", "node_modules")
    )
    text = (folder / "kustomization.yaml").read_text(encoding="utf-8")
    opened = text.replace("# components:\n#   - ", "components:\n  - ")
    assert opened != text
    (folder / "kustomization.yaml").write_text(opened, encoding="utf-8")
    built = build(folder)
    assert "PersistentVolumeClaim kbert-models" not in built
    pod = built["Deployment kbert-serving"]["spec"]["template"]["spec"]
    (source,) = pod["initContainers"]
    assert source["image"] == "registry.example.com/kbert-models:1"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["models"] == {"name": "models", "emptyDir": {}}
    assert source["volumeMounts"] == [{"name": "models", "mountPath": source["command"][-1]}]
    for resource in built.values():
        check(resource)
