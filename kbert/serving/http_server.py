"""HTTP connections, each with a thread of its own: how many there may be, and how long each may take.

What a slow or a broken client can hold is bounded: connections, the bytes of a body, and the time from the first byte
of a request to its last. What the paths mean is in `rest_server`.
"""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import sys
import threading
import time
from abc import abstractmethod
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kbert.serving.calls import Code, ServingError, logger
from kbert.serving.options import ServerOptions

STOP_POLL_SECONDS = 0.05
REFUSAL = json.dumps({"error": "the server has as many connections as it takes: ask again later"}).encode()


class HttpError(ServingError):
    """An error that only HTTP has.

    Args:
        status: of the answer.
        message: as in ServingError.
    """

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(Code.INVALID_ARGUMENT, message)
        self._status = status

    @property
    def http_status(self) -> int:
        return int(self._status)


class HttpServer(ThreadingHTTPServer):
    """One thread per connection; connections are kept alive between requests.

    Args:
        address: host and port.
        handler: answers requests.
        options: the limits.
    """

    daemon_threads = True  # a request that outlasts the grace time does not keep the process alive
    allow_reuse_port = False  # two servers would share a port without an error
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[HttpHandler], options: ServerOptions):
        self.options = options
        self.is_stopping = False
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(address, handler)

    def stop(self, seconds: float) -> None:
        """Take no more connections, answer the requests in flight within the time given, close the port."""
        self.is_stopping = True
        self.shutdown()
        with self._changed:
            for connection in self._connections:
                try:
                    # Ends the wait for a next request; an answer can still be sent.
                    connection.shutdown(socket.SHUT_RD)
                except OSError:
                    logger.debug("a client closed its connection while the server stopped")
            self._changed.wait_for(lambda: not self._connections, seconds)
            if self._connections:
                logger.warning("%d REST requests were not answered in time", len(self._connections))
        self.server_close()

    def process_request(self, request, client_address) -> None:
        with self._changed:
            is_full = len(self._connections) >= self.options.max_connections
            if not is_full:
                self._connections.add(request)
        if is_full:
            _refuse(request)
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def server_close(self) -> None:
        """Close the port; the base class would wait for every thread."""
        self.socket.close()

    def handle_error(self, request, client_address) -> None:
        """Log what escaped a handler, where the base class prints a traceback."""
        error = sys.exc_info()[1]
        has_left = isinstance(error, OSError)
        logger.log(
            logging.DEBUG if has_left else logging.ERROR,
            "REST connection from %s ended: %s",
            client_address,
            error,
            exc_info=not has_left,
        )


class HttpHandler(BaseHTTPRequestHandler):
    """Reads requests, and writes answers of JSON or text."""

    server: HttpServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: the second would wait for an acknowledgement

    @abstractmethod
    def answer(self) -> None:
        """Answer the request of `command`, `path` and `headers`."""

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def setup(self) -> None:
        super().setup()
        self.rfile.close()  # it would wait for each byte anew
        self._raw = _TimedReader(self.connection)
        self.rfile = io.BufferedReader(self._raw)

    def handle_one_request(self) -> None:
        options = self.server.options
        self._raw.wait(options.idle_timeout, options.read_timeout)
        super().handle_one_request()

    def read_body(self) -> bytes:
        """The body of the request.

        Raises:
            HttpError: its length is not given, or too large, or less has come.
        """
        length = self.headers.get("Content-Length", "0" if self.command == "GET" else "")
        limit = self.server.options.max_body_bytes
        if not re.fullmatch("[0-9]{1,15}", length) or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise HttpError(HTTPStatus.BAD_REQUEST, "the request needs a Content-Length, in bytes")
        if int(length) > limit:
            self.close_connection = True
            raise HttpError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has {length} bytes; at most {limit} are read"
            )
        try:
            body = self.rfile.read(int(length))
        except TimeoutError:
            self.close_connection = True
            raise HttpError(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time") from None
        except OSError as error:
            self.close_connection = True
            raise ServingError(Code.CANCELLED, f"the client has left: {error.strerror}") from None
        if len(body) < int(length):
            self.close_connection = True
            raise HttpError(HTTPStatus.BAD_REQUEST, f"the body has {len(body)} of {length} bytes")
        return body

    def send(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        """Send an answer."""
        self.close_connection = self.close_connection or self.server.is_stopping
        self.connection.settimeout(self.server.options.read_timeout)
        self.send_response_only(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class answers to a broken request line or an unknown method, as JSON."""
        self.close_connection = True
        self.send(code, error_body(message or HTTPStatus(code).phrase))

    def log_message(self, format: str, *args: Any) -> None:
        """The base class's own notes: a connection that timed out, a request line it could not read."""
        logger.debug(format, *args)


class _TimedReader(io.RawIOBase):
    """Reads a socket with a limit on the whole request: a byte now and then does not make a client any quicker."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._limit = 0.0
        self._seconds = 0.0
        self._has_begun = False

    def wait(self, idle_seconds: float, seconds: float) -> None:
        """A request may begin within `idle_seconds`, and must be there `seconds` after it began."""
        self._limit, self._seconds, self._has_begun = time.monotonic() + idle_seconds, seconds, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._limit - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the request did not come in time")
        self._connection.settimeout(remaining)
        received = self._connection.recv_into(buffer)
        if not self._has_begun:
            self._limit, self._has_begun = time.monotonic() + self._seconds, True
        return received


def error_body(message: str) -> bytes:
    """An error as TF Serving's REST has it."""
    return json.dumps({"error": message}).encode()


def _refuse(connection: socket.socket) -> None:
    status = HTTPStatus.TOO_MANY_REQUESTS
    head = (
        f"HTTP/1.1 {int(status)} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(REFUSAL)}\r\nConnection: close\r\n\r\n"
    )
    try:
        connection.settimeout(0)  # it fits into the socket's buffer; nothing is waited for
        connection.sendall(head.encode() + REFUSAL)
    except OSError:
        logger.debug("a client left before it was refused")
