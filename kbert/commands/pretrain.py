"""`kbert pretrain`."""

from __future__ import annotations

import argparse

from kbert.commands.settings import settings_arguments, settings_from
from kbert.commands.terminal import load_tensorflow, print_json
from kbert.pretraining.settings import PretrainSettings


def pretrain_arguments(parser: argparse.ArgumentParser) -> None:
    settings_arguments(parser, PretrainSettings)


def pretrain(args: argparse.Namespace) -> None:
    settings = settings_from(args, PretrainSettings)
    load_tensorflow()
    from kbert.pretraining.run import pretrain

    print_json(pretrain(settings))
