"""A local server that speaks TF Serving's protocol: for development, for tests, and where its image does not run.

It runs the same SavedModels and answers in the same form, with batching, warm-up, hot reload, metrics and bounded
queues, but in Python: without TLS, version labels, version policies or a configuration of models. Production is the
tensorflow/serving container (the folder `serving/` of the repository).
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import grpc

from kbert.errors import InputError
from kbert.serving import grpc_server, rest_server
from kbert.serving.calls import logger
from kbert.serving.http_server import STOP_POLL_SECONDS
from kbert.serving.metrics import Metrics
from kbert.serving.options import ServerOptions
from kbert.serving.store import ModelStore


class ModelServer:
    """Serve a folder of SavedModels by gRPC and REST, the way TF Serving does.

    The highest version of a model answers, and no other. New versions and models are loaded while the server runs. Use
    it as a context manager, or call `start` and `stop`.

    Args:
        root: holds `NAME/VERSION/saved_model.pb`; or is one model's folder, which holds `VERSION/saved_model.pb`.
        grpc_port: 0 picks a free one.
        rest_port: 0 picks a free one.
        host: the IPv4 address or name to listen on; there is no TLS and no authentication, so mind who reaches it.
        options: batches, queues, limits and times.

    Raises:
        InputError: there is no model below `root`, or a port is not a number from 0 to 65535.
    """

    def __init__(
        self,
        root: Path,
        grpc_port: int = 8500,
        rest_port: int = 8501,
        host: str = "127.0.0.1",
        *,
        options: ServerOptions | None = None,
    ):
        for name, port in (("grpc_port", grpc_port), ("rest_port", rest_port)):
            if not 0 <= port <= 65535:
                raise InputError(f"ModelServer: `{name}` must be from 0 to 65535. Received: {port}")
        self._options = options or ServerOptions()
        self._metrics = Metrics()
        self._store = ModelStore(Path(root), self._options, self._metrics)
        self._host = host
        self._grpc_port = grpc_port
        self._rest_port = rest_port
        self._grpc: grpc.Server | None = None
        self._rest: rest_server.RestServer | None = None
        self._rest_thread: threading.Thread | None = None
        self._stopped = threading.Event()

    @property
    def grpc_port(self) -> int:
        """The port asked for; after `start`, the port held."""
        return self._grpc_port

    @property
    def rest_port(self) -> int:
        """The port asked for; after `start`, the port held."""
        return self._rest_port

    def start(self) -> None:
        """Take both ports, load the highest version of every model, and answer.

        Raises:
            InputError: a port is taken, or a model does not load.
        """
        self._stopped.clear()
        try:
            # Ports first: a taken one is then told at once, not after the models have been loaded.
            settings = (self._options, self._metrics)
            self._rest = rest_server.bind(self._store, self._host, self._rest_port, *settings)
            self._rest_port = self._rest.server_port
            self._grpc, self._grpc_port = grpc_server.bind(self._store, self._host, self._grpc_port, *settings)
            versions = self._store.start()
        except BaseException:
            self.stop()
            raise
        self._rest_thread = threading.Thread(
            target=self._rest.serve_forever, args=(STOP_POLL_SECONDS,), name="kbert-rest", daemon=True
        )
        self._rest_thread.start()
        self._grpc.start()
        logger.info(
            "development server (for production, run the tensorflow/serving container): "
            "gRPC %s:%d, REST http://%s:%d, models %s",
            self._host,
            self._grpc_port,
            self._host,
            self._rest_port,
            ", ".join(f"{version.name} version {version.number}" for version in versions),
        )

    def stop(self) -> None:
        """Take no more requests, answer those in flight within the grace time, and free the ports and the models."""
        end = time.monotonic() + self._options.grace_seconds
        grpc_stopped = None
        if self._grpc is not None:
            if self._rest_thread is None:
                self._grpc.start()  # gRPC frees the port only of a server that has run
            grpc_stopped = self._grpc.stop(self._options.grace_seconds)
        if self._rest is not None:
            if self._rest_thread is None:
                self._rest.server_close()
            else:
                self._rest.stop(max(end - time.monotonic(), 0))
                self._rest_thread.join()
        if grpc_stopped is not None:
            grpc_stopped.wait()
        self._store.stop()
        self._grpc = self._rest = self._rest_thread = None
        self._stopped.set()

    def wait(self) -> None:
        """Block until another thread calls `stop`."""
        self._stopped.wait()

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
