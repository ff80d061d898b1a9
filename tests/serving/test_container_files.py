"""The folder `serving/` at the top of the repository: what its files say, and that its README's requests work."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

FOLDER = Path(__file__).parents[2] / "serving"
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_models_config_is_tf_servings_own_message():
    text = (FOLDER / "models.config").read_text(encoding="utf-8")
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    models = config.model_config_list.config
    assert [(model.name, model.base_path, model.model_platform) for model in models] == [
        ("sentiment", "/models/sentiment", "tensorflow")
    ]


def test_compose_mounts_what_the_configuration_names():
    service = yaml.safe_load((FOLDER / "docker-compose.yaml").read_text(encoding="utf-8"))["services"][
        "tensorflow-serving"
    ]
    assert service["image"] == "tensorflow/serving:2.20.0"
    assert service["platform"] == "linux/amd64"
    mounts = {}
    for volume in service["volumes"]:
        source, target, mode = volume.split(":")
        assert mode == "ro"
        mounts[target] = (FOLDER / source).resolve()
    assert mounts["/models"] == FOLDER.parent / "saved_models"
    flags = dict(flag.removeprefix("--").split("=") for flag in service["command"])
    for flag in ("model_config_file", "monitoring_config_file"):
        target, name = flags[flag].rsplit("/", 1)
        assert (mounts[target] / name).is_file()
    assert int(flags["model_config_file_poll_wait_seconds"]) > 0
    assert {port.split(":")[-1] for port in service["ports"]} == {"8500", "8501"}


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


def test_readme_python(server, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert "localhost:8500" in program
    exec(program.replace("localhost:8500", f"127.0.0.1:{server.grpc_port}"), {})
    assert f"# {capsys.readouterr().out}" == program.splitlines(keepends=True)[-1]
