"""What a run begins with: an architecture and a vocabulary, or a pretrained model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kbert.checkpoints import presets
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.checkpoints.fresh import fresh_checkpoint
from kbert.config import FillMaskConfig
from kbert.errors import InputError
from kbert.pretraining.settings import PretrainSettings


def start_of(settings: PretrainSettings) -> Checkpoint:
    """The checkpoint that a run starts from; without tensors where its weights are to be drawn.

    Raises:
        InputError: there is no such file or preset, or it does not suit the run.
    """
    if settings.model:
        checkpoint, where = presets.load(settings.model), settings.model
    else:
        checkpoint = fresh_checkpoint(settings.size, Path(settings.vocab), settings.cased)
        where = settings.vocab
    if settings.model and settings.cased:
        raise InputError("--cased goes with --vocab: the model of --model says itself how it reads text")
    mask = checkpoint.tokenizer.mask_token
    if mask not in checkpoint.vocabulary:
        raise InputError(f"{where} has no token {mask}, which hides what is to be guessed: learn one with kbert vocab")
    if settings.longest > checkpoint.config.max_sequence_length:
        raise InputError(
            f"--lengths must be at most {checkpoint.config.max_sequence_length}, the rows of the model's position "
            f"table. Received: {settings.longest}"
        )
    task = checkpoint.task if isinstance(checkpoint.task, FillMaskConfig) else FillMaskConfig()
    return dataclasses.replace(checkpoint, task=dataclasses.replace(task, max_length=settings.longest))
