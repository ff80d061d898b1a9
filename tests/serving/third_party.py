"""Clients that others wrote, against the local server:

    python tests/serving/third_party.py

- min-tfs-client from PyPI (Zendesk's, with stubs of its own) in an environment of its own;
- the Node.js example on @grpc/grpc-js and @grpc/proto-loader from npm, if there are node and npm;
- the Go example on grpc-go, if there is go;
- curl and grpcurl, if they are there.

What it installs goes to a temporary folder. One JSON object for each client: its name, and whether its answers are
those of the model.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "serving" / "examples"
TEXTS = ("a fine film", "dull 漢字")
EXPECTED = [("positive", 0.75), ("negative", 0.75)]

MIN_TFS_CLIENT = """
import json, sys
import numpy as np
from min_tfs_client.requests import TensorServingClient
from min_tfs_client.tensors import tensor_proto_to_ndarray

client = TensorServingClient("127.0.0.1", int(sys.argv[1]))
response = client.predict_request("sentiment", {"text": np.array(sys.argv[2:])}, timeout=10)
outputs = {name: tensor_proto_to_ndarray(proto).tolist() for name, proto in response.outputs.items()}
for label, score in zip(outputs["label"], outputs["score"]):
    print(json.dumps({"label": label, "score": score}))
"""


def run(command: list[Any], **options: Any) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, **options).stdout


def lines(output: str) -> list[tuple[str, float]]:
    return [(row["label"], row["score"]) for row in map(json.loads, output.splitlines())]


def python(folder: Path, grpc_port: int) -> list[tuple[str, float]]:
    """Its stubs are of protobuf's time before 4, which the pure Python implementation of 3.20 reads."""
    venv.create(folder / "venv", with_pip=True)
    binary = folder / "venv" / "bin" / "python"
    run([binary, "-m", "pip", "install", "--quiet", "min-tfs-client==1.0.2", "protobuf<3.21", "numpy<2"])
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "PYTHONPATH": ""}
    return lines(run([binary, "-W", "ignore", "-c", MIN_TFS_CLIENT, str(grpc_port), *TEXTS], env=environment))


def node(folder: Path, grpc_port: int) -> list[tuple[str, float]]:
    here = shutil.copytree(EXAMPLES / "node", folder / "node")
    run(["npm", "install", "--no-audit", "--no-fund"], cwd=here)
    arguments = [folder / "protoset", f"localhost:{grpc_port}", "sentiment", *TEXTS]
    return lines(run(["node", here / "client.js", *arguments]))


def go(folder: Path, grpc_port: int) -> list[tuple[str, float]]:
    here = shutil.copytree(EXAMPLES / "go", folder / "go")
    if os.environ.get("GO111MODULE") != "off":
        run(["go", "mod", "tidy"], cwd=here)
    run(["go", "build", "-o", "client", "main.go"], cwd=here)
    return lines(run([here / "client", folder / "protoset", f"localhost:{grpc_port}", "sentiment", *TEXTS]))


def grpcurl(folder: Path, grpc_port: int) -> list[tuple[str, float]]:
    output = run(
        [EXAMPLES / "grpcurl.sh", f"localhost:{grpc_port}"], env={**os.environ, "PROTOSET": folder / "protoset"}
    )
    return EXPECTED if '"AVAILABLE"' in output and '"stringVal"' in output else []


def curl(folder: Path, rest_port: int) -> list[tuple[str, float]]:
    output = run([EXAMPLES / "curl.sh", f"http://localhost:{rest_port}"])
    rows = next(json.loads(line) for line in output.splitlines() if line.startswith('{"predictions"'))["predictions"]
    return [(row["label"], row["score"]) for row in rows]


def load_toy_model(root: Path) -> None:
    """The classifier of the tests, whose answers are known."""
    import tensorflow as tf

    spec = importlib.util.spec_from_file_location("toys", Path(__file__).parent / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    toys = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(toys)
    sentiment = toys.Sentiment()
    tf.saved_model.save(sentiment, str(root / "sentiment" / "1"), signatures=sentiment.classify)


def main() -> int:
    from kbert.serving.server import ModelServer

    clients: dict[str, tuple[str, Callable[[Path, int], list[tuple[str, float]]]]] = {
        "min-tfs-client": ("grpc", python),
        "node": ("grpc", node),
        "go": ("grpc", go),
        "grpcurl": ("grpc", grpcurl),
        "curl": ("rest", curl),
    }
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run([sys.executable, EXAMPLES / "protoset.py", folder / "protoset"])
        load_toy_model(folder / "models")
        with ModelServer(folder / "models", grpc_port=0, rest_port=0) as server:
            for client, (protocol, ask) in clients.items():
                if client != "min-tfs-client" and shutil.which(client) is None:
                    print(json.dumps({"client": client, "skipped": "not installed"}), flush=True)
                    continue
                try:
                    right = ask(folder, server.grpc_port if protocol == "grpc" else server.rest_port) == EXPECTED
                    reason = {}
                except (subprocess.SubprocessError, ValueError, KeyError) as error:
                    right, reason = False, {"error": (getattr(error, "stderr", None) or str(error))[-500:]}
                failures += not right
                print(json.dumps({"client": client, "protocol": protocol, "right": right, **reason}), flush=True)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
