"""The settings of the local server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from kbert.errors import InputError

_MAY_BE_ZERO = ("batch_timeout_ms", "grace_seconds")


@dataclass(frozen=True)
class ServerOptions:
    """How much the local server takes on at once, and how long it waits.

    Raises:
        InputError: a setting is out of its range.
    """

    max_batch_size: int = 32
    """Rows that are computed together; 1 computes each request alone. A larger request is computed alone, whole."""
    batch_timeout_ms: float = 0.0
    """Milliseconds that the first request of a batch waits for others. While a batch is computed the next one gathers
    anyway, so zero costs no throughput under load."""
    max_queue: int = 32
    """Rows that may wait, for each model; a request beyond them is refused at once. It bounds the time that an
    accepted request waits: for the batch that is being computed, by default."""
    batch_threads: int = 1
    """Batches of a model that are computed at the same time; TensorFlow has threads of its own inside each."""
    max_connections: int = 256
    """By REST, idle ones among them; more are refused at once."""
    max_body_bytes: int = 64 * 2**20
    """Of one request, and of one input tensor."""
    request_timeout: float = 30.0
    """Seconds in which a REST request is answered, as TF Serving's `--rest_api_timeout_in_ms`; gRPC's requests bring
    their own deadline."""
    read_timeout: float = 30.0
    """Seconds in which a REST request, once begun, must have come in, and its answer be taken."""
    idle_timeout: float = 60.0
    """Seconds after which a REST connection without a request is closed."""
    poll_seconds: float = 1.0
    """Between looks at the folder for new versions."""
    grace_seconds: float = 30.0
    """That requests in flight have to finish when the server stops."""

    @property
    def requests_per_model(self) -> int:
        """As many as are computed or wait, if each has one row: gRPC refuses more before it reads them, which costs
        much less than to find the queue full."""
        return self.max_queue + self.max_batch_size * self.batch_threads

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _MAY_BE_ZERO:
                if value < 0:
                    raise InputError(f"ServerOptions: `{field.name}` must not be negative. Received: {value}")
            elif value <= 0:
                raise InputError(f"ServerOptions: `{field.name}` must be above zero. Received: {value}")
