"""`kbert serve` and `kbert ask`."""

from __future__ import annotations

import argparse
import contextlib
import signal
from pathlib import Path

from kbert.commands.terminal import load_tensorflow, print_json
from kbert.errors import InputError


def serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="FOLDER", type=Path, help="folder of exported models")
    parser.add_argument("--grpc-port", type=int, default=8500, help="port for gRPC (default: 8500)")
    parser.add_argument("--rest-port", type=int, default=8501, help="port for REST (default: 8501)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")


def serve(args: argparse.Namespace) -> None:
    load_tensorflow()
    from kbert.serving.server import ModelServer

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    server = ModelServer(args.root, args.grpc_port, args.rest_port, args.host)
    # Either signal ends the wait; leaving the block lets the requests in flight finish.
    with server, contextlib.suppress(KeyboardInterrupt):
        server.wait()


def ask_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the served model")
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="texts to ask about")
    parser.add_argument("--pair", action="append", help="second text, once for each TEXT, for a model of text pairs")
    parser.add_argument("--target", default="localhost:8500", help="HOST:PORT, or http://HOST:PORT for REST")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the answer (default: 10)")


def ask(args: argparse.Namespace) -> None:
    inputs = {"text": args.texts}
    if args.pair is not None:
        if len(args.pair) != len(args.texts):
            raise InputError(f"give --pair once for each text. Received: {len(args.pair)} for {len(args.texts)} texts")
        inputs["text_pair"] = args.pair
    if not args.target.startswith("http://"):
        load_tensorflow()  # the stubs of the gRPC protocol import it
    from kbert.serving.client import Client, rows

    with Client(args.target, args.timeout) as client:
        for text, row in zip(args.texts, rows(client.predict(args.name, inputs)), strict=True):
            print_json({"text": text, **row})
