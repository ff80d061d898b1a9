"""`kbert serve` and `kbert ask`."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import signal
from pathlib import Path

from kbert.commands.terminal import load_tensorflow, positive, print_json
from kbert.errors import InputError


def serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="FOLDER", type=Path, help="folder of exported models")
    parser.add_argument("--grpc-port", type=int, default=8500, help="port for gRPC (default: 8500)")
    parser.add_argument("--rest-port", type=int, default=8501, help="port for REST (default: 8501)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    batches = parser.add_argument_group("batches and queues, for each model")
    batches.add_argument(
        "--max-batch-size", type=positive, default=32, help="rows computed together; 1: no batches (default: 32)"
    )
    batches.add_argument(
        "--batch-timeout-ms",
        type=float,
        default=0.0,
        help="milliseconds that a request waits for others, while nothing else is computed (default: 0)",
    )
    batches.add_argument(
        "--batch-threads", type=positive, default=1, help="batches computed at the same time (default: 1)"
    )
    batches.add_argument(
        "--max-queue", type=positive, default=32, help="rows that may wait; more are refused at once (default: 32)"
    )
    running = parser.add_argument_group("running")
    running.add_argument("--poll-seconds", type=float, default=1.0, help="between looks for new versions (default: 1)")
    running.add_argument(
        "--grace-seconds", type=float, default=30.0, help="for requests in flight when stopped (default: 30)"
    )
    running.add_argument("--log-format", choices=["plain", "json"], default="plain", help="lines of text, or of JSON")
    running.add_argument("--log-requests", action="store_true", help="write a line for each request")


def serve(args: argparse.Namespace) -> None:
    _set_up_logging(args.log_format, args.log_requests)
    load_tensorflow()
    from kbert.serving.options import ServerOptions
    from kbert.serving.server import ModelServer

    options = ServerOptions(
        max_batch_size=args.max_batch_size,
        batch_timeout_ms=args.batch_timeout_ms,
        batch_threads=args.batch_threads,
        max_queue=args.max_queue,
        poll_seconds=args.poll_seconds,
        grace_seconds=args.grace_seconds,
    )

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    # What was imported stays. A full collection that looked through all of it would hold every request up for 0.2 s.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGTERM, stop)
    server = ModelServer(args.root, args.grpc_port, args.rest_port, args.host, options=options)
    # Either signal ends the wait; leaving the block lets the requests in flight finish.
    with server, contextlib.suppress(KeyboardInterrupt):
        server.wait()


def _set_up_logging(log_format: str, with_requests: bool) -> None:
    from kbert.serving.calls import logger
    from kbert.serving.logs import JsonFormatter

    if log_format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
    if with_requests:
        logger.setLevel(logging.DEBUG)


def ask_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the served model")
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="texts to ask about")
    seconds = parser.add_mutually_exclusive_group()
    seconds.add_argument("--pair", action="append", help="second text, once for each TEXT, for a model of text pairs")
    seconds.add_argument(
        "--question", action="append", help="what TEXT is to answer, once for each, for a model that answers questions"
    )
    parser.add_argument(
        "--target",
        default="localhost:8500",
        help="HOST:PORT, or http://HOST:PORT for REST; with TLS grpcs://HOST:PORT or https://HOST:PORT",
    )
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the answer (default: 10)")
    parser.add_argument(
        "--retries", type=int, default=3, help="further attempts while the server takes no request (default: 3)"
    )
    parser.add_argument(
        "--tls-ca", metavar="FILE", help="PEM file of the authority that signed the server's certificate"
    )


def ask(args: argparse.Namespace) -> None:
    inputs = {"text": args.texts}
    for flag, others in (("--pair", args.pair), ("--question", args.question)):
        if others is not None and len(others) != len(args.texts):
            raise InputError(f"give {flag} once for each text. Received: {len(others)} for {len(args.texts)} texts")
    if args.pair is not None:
        inputs["text_pair"] = args.pair
    elif args.question is not None:
        inputs = {"question": args.question, "context": args.texts}
    if not args.target.startswith(("http://", "https://")):
        load_tensorflow()  # the stubs of the gRPC protocol import it
    from kbert.serving.client import Client, rows

    with Client(args.target, args.timeout, retries=args.retries, root_certificates=args.tls_ca) as client:
        answers = rows(client.predict(args.name, inputs))
    for texts, row in zip(zip(*inputs.values(), strict=True), answers, strict=True):
        print_json(dict(zip(inputs, texts, strict=True)) | row)
