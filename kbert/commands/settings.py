"""The flags of a run: those of its settings, and a file that holds them."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from kbert.training.run_settings import RunSettings, flag, read_toml

Settings = TypeVar("Settings", bound=RunSettings)


def settings_arguments(parser: argparse.ArgumentParser, kind: type[RunSettings]) -> None:
    """A flag for each field; a field of several values takes the arguments that no flag precedes."""
    parser.add_argument("--config", type=Path, help="TOML file with any of these settings; flags win over it")
    parser.set_defaults(kind=kind)
    for field in dataclasses.fields(kind):
        default = "" if field.default in ("", False, ()) else f" (default: {field.default})"
        options: dict[str, Any] = {"help": field.metadata["help"] + default, "default": argparse.SUPPRESS}
        if isinstance(field.default, tuple):
            parser.add_argument(field.name, nargs="*", metavar=field.name.upper(), **options)
            continue
        if isinstance(field.default, bool):
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"], options["metavar"] = type(field.default), type(field.default).__name__.upper()
        parser.add_argument(f"--{flag(field.name)}", **options)


def settings_from(args: argparse.Namespace, kind: type[Settings]) -> Settings:
    """What the flags say, and the file of --config where they say nothing."""
    settings = read_toml(args.config, kind) if args.config else {}
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(kind) if hasattr(args, field.name)}
    settings |= {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return kind(**settings)
