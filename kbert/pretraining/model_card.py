"""The README.md of a pretrained model: what it is, from what, and how good."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from kbert.checkpoints.checkpoint import Checkpoint
from kbert.pretraining.settings import PretrainSettings

_PACKAGES = ("kbert", "tensorflow", "tensorflow-text", "keras")


def model_card(settings: PretrainSettings, metrics: dict[str, Any], checkpoint: Checkpoint) -> str:
    """A model card in Markdown.

    Args:
        settings: the run.
        metrics: what metrics.json holds.
        checkpoint: what was trained.
    """
    config = checkpoint.config
    versions = [f"{name} {version(name)}" for name in _PACKAGES]
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in metrics["held_out"].items())
    began = f"pretrained further from `{settings.model}`" if settings.model else "pretrained from random weights"
    corpus = ", ".join(f"`{file}`" for file in settings.corpus)
    limit = ""
    if settings.longest < config.max_sequence_length and not settings.model:
        limit = (
            f"\nNo sequence was longer than {settings.longest} tokens, so the embeddings of the positions from there "
            f"to {config.max_sequence_length} have not been trained: keep texts within {settings.longest} tokens.\n"
        )
    return f"""# Masked language model

A BERT of {config.num_layers} layers, {config.hidden_dim} wide, with {len(checkpoint.vocabulary)} tokens, {began} with
kbert: it guesses the words that `[MASK]` hides, and is a start for fine-tuning.
{limit}
## Measured

On the {settings.held_out:.1%} of the documents that were held out of {corpus}, with {settings.mask_rate:.0%} of the
tokens to guess, after step {metrics["step"]}:

| metric | value |
|---|---|
{figures}

These figures hold for texts like those of the corpus. How the model does on other texts has not been measured. What a
corpus says, a model that has learnt it by heart may repeat.

## How it was made

```
kbert pretrain --config settings.toml
```

{metrics["steps"]} steps over {metrics["tokens"]} tokens. Python {platform.python_version()}, {", ".join(versions)}.
Every setting stands in `settings.toml`, the architecture and the checksum of the vocabulary in `data.json`, every
evaluation in `history.csv`.

## Use

```
kbert finetune classify --model {settings.out} --train FILE --dev FILE --out DIR
```

```python
import kbert

model = kbert.BertMaskedLM.from_preset("{settings.out}")
model.predict(["… [MASK] …"])
```

transformers opens this folder as well: `AutoModelForMaskedLM.from_pretrained("{settings.out}")`.
"""
