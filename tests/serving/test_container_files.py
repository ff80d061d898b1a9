"""The folder `serving/` at the top of the repository: what its files say, and that its README's requests work."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from serving.text_protos import BatchingParameters, MonitoringConfig, SSLConfig
from tensorflow_serving.config import model_server_config_pb2

FOLDER = Path(__file__).parents[2] / "serving"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((FOLDER / "docker-compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
SERVERS = [SERVICES["tensorflow-serving"], SERVICES["tensorflow-serving-gpu"]]


def read(name, message):
    return text_format.Parse((FOLDER / name).read_text(encoding="utf-8"), message)


def test_models_config_is_tf_servings_own_message():
    config = read("models.config", model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("sentiment", "/models/sentiment", "tensorflow")
    assert set(model.version_labels) == {"stable", "canary"}
    assert set(model.version_labels.values()) <= set(model.model_version_policy.specific.versions)


def test_batching_config():
    config = read("batching.config", BatchingParameters())
    # TF Serving does not start with sizes that do not ascend to the largest; with none, all are allowed.
    assert not config.allowed_batch_sizes
    assert not config.pad_variable_length_inputs
    assert config.max_batch_size.value >= 32  # what Client.predict_many sends by default
    assert 0 < config.batch_timeout_micros.value <= 10_000
    assert config.max_enqueued_batches.value >= config.num_batch_threads.value > 0


def test_monitoring_config_has_the_path_that_prometheus_reads():
    config = read("monitoring.config", MonitoringConfig()).prometheus_config
    prometheus = yaml.safe_load((FOLDER / "monitoring" / "prometheus.yaml").read_text(encoding="utf-8"))
    assert config.enable
    assert config.path == prometheus["scrape_configs"][0]["metrics_path"]


def test_the_example_of_tls_parses_and_holds_no_key():
    config = read("ssl.config.example", SSLConfig())
    assert config.server_key.startswith("-----BEGIN PRIVATE KEY-----\n(")
    assert config.server_cert.endswith("-----END CERTIFICATE-----\n")
    commented = "".join(re.findall(r"^# ((?:custom_ca|client_verify|  \").*)$", read_text("ssl.config.example"), re.M))
    config = text_format.Parse(commented, SSLConfig())
    assert config.client_verify
    assert config.custom_ca


def read_text(name):
    return (FOLDER / name).read_text(encoding="utf-8")


def test_no_secret_is_in_the_folder():
    ignored = (FOLDER / "certificates" / ".gitignore").read_text(encoding="utf-8").split()
    assert ignored == ["*", "!.gitignore"]
    for path in FOLDER.rglob("*"):
        if path.is_file() and path.parent.name != "certificates":
            assert not re.search(r"^\W*M[A-Za-z0-9+/]{40,}", path.read_text(encoding="utf-8"), re.M), path


def test_compose_fits_its_specification():
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.validate(COMPOSE, schema)
    wrong = {**COMPOSE, "services": {"a": {"image": "b", "profile": ["cpu"]}}}
    with pytest.raises(jsonschema.ValidationError, match="'profile'"):
        jsonschema.validate(wrong, schema)


def test_every_service_has_a_version_and_a_profile_and_is_watched():
    for service in SERVICES.values():
        assert re.search(r":v?\d+\.\d+\.\d+", service["image"])
        assert service["profiles"]
        assert service["healthcheck"]["test"][0] == "CMD"
        assert all(re.match(r"127\.0\.0\.1:|\$\{HTTPS_ADDRESS:-127\.0\.0\.1\}:", port) for port in service["ports"])


def mounts(service):
    found = {}
    for volume in service["volumes"]:
        source, target, *mode = volume.split(":")
        if source.startswith("."):
            assert mode == ["ro"]
            found[target] = (FOLDER / source).resolve()
            assert found[target].exists(), source
    return found


@pytest.mark.parametrize("service", SERVERS, ids=lambda service: service["profiles"][0])
def test_compose_mounts_what_the_configuration_names(service):
    assert service["image"].removesuffix("-gpu") == "tensorflow/serving:2.20.0"
    assert service["platform"] == "linux/amd64"
    places = mounts(service)
    assert places["/models"] == FOLDER.parent / "saved_models"
    flags = dict(flag.removeprefix("--").partition("=")[::2] for flag in service["command"])
    for flag in ("model_config_file", "monitoring_config_file", "batching_parameters_file"):
        target, name = flags[flag].rsplit("/", 1)
        assert (places[target] / name).is_file()
    assert flags["enable_batching"] == ""  # without which TF Serving refuses a batching_parameters_file
    assert int(flags["model_config_file_poll_wait_seconds"]) > 0
    assert flags["ssl_config_file"] == "${GRPC_SSL_CONFIG:-}"
    assert {port.split(":")[-1] for port in service["ports"]} == {"8500", "8501"}
    assert service["networks"]["default"]["aliases"] == ["tensorflow-serving"]


def test_compose_gives_the_others_their_files():
    for name in ("https", "prometheus", "grafana"):
        assert mounts(SERVICES[name])
    prometheus = read_text("monitoring/prometheus.yaml")
    assert "tensorflow-serving:8501" in prometheus
    assert SERVICES["https"]["environment"]["UPSTREAM"] == "tensorflow-serving:8501"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("model", "healthy"), [("sentiment", True), ("missing", False)])
def test_the_health_check_tells_a_loaded_model_from_none(server, model, healthy):
    mark, *command, script = SERVERS[0]["healthcheck"]["test"]
    assert (mark, command) == ("CMD", ["bash", "-c"])
    script = script.replace("$$", "$").replace("8501", str(server.rest_port)).replace("sentiment", model)
    assert (subprocess.run([*command, script], timeout=10, check=False).returncode == 0) is healthy


@pytest.mark.parametrize(("request_", "answer"), re.findall(r"```\ncurl (-d .*)\n```\n\n```json\n(.*)\n```", README))
def test_readme_posts(server, request_, answer):
    body, url = re.fullmatch(r"-d '(.*)' (\S+)", request_).groups()
    with urllib.request.urlopen(url.replace(":8501", f":{server.rest_port}"), body.encode(), timeout=10) as response:
        assert json.loads(response.read()) == json.loads(answer)


def test_readme_gets(server):
    urls = re.findall(r"^curl (http\S+)$", README, re.MULTILINE)
    answers = []
    for url in urls:
        with urllib.request.urlopen(url.replace(":8501", f":{server.rest_port}"), timeout=10) as response:
            answers.append(json.loads(response.read()))
    assert answers[0]["model_version_status"][0]["state"] == "AVAILABLE"
    assert "serving_default" in answers[1]["metadata"]["signature_def"]["signature_def"]


@pytest.mark.parametrize("program", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_readme_python(server, capsys, program):
    assert "localhost:8500" in program
    exec(program.replace("localhost:8500", f"127.0.0.1:{server.grpc_port}"), {})
    assert f"# {capsys.readouterr().out}" == program.splitlines(keepends=True)[-1]


def test_readme_names_every_file():
    files = {path for path in FOLDER.rglob("*") if path.is_file() and "node_modules" not in path.parts}
    for path in files:
        if path.name not in ("README.md", ".gitignore") and path.parent.name != "certificates":
            places = [path.relative_to(FOLDER), *path.relative_to(FOLDER).parents]
            assert any(str(place) in README for place in places[:-1]), path


def test_readme_canary_is_a_models_config():
    """The lines of the first step, in the place of those of models.config."""
    ((lines),) = re.findall(r"   ```\n(   model_version_policy.*?)   ```", README, re.DOTALL)
    text = f'model_config_list {{ config {{ name: "a" base_path: "/a" {lines} }} }}'
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert list(model.model_version_policy.specific.versions) == [1, 2]
    assert dict(model.version_labels) == {"stable": 1, "canary": 1}
