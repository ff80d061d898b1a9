"""The README.md of a finished run: what the model is, from what, and how good."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from kbert.tasks.settings import FinetuneSettings

_PACKAGES = ("kbert", "tensorflow", "tensorflow-text", "keras")


def model_card(settings: FinetuneSettings, metrics: dict[str, Any], *, pair: bool) -> str:
    """A model card in Markdown.

    Args:
        settings: the run.
        metrics: what metrics.json holds.
        pair: whether the model reads pairs of texts.
    """
    versions = [f"{name} {version(name)}" for name in _PACKAGES]
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in metrics["dev"].items())
    labels = ", ".join(f"`{label}`" for label in metrics["labels"])
    reads, example = ("two texts", '(["…"], ["…"])') if pair else ("a text", '["…"]')
    return f"""# Text classifier

Fine-tuned from `{settings.model}` with kbert. Given {reads}, it answers one of: {labels}.

## Measured

On `{settings.dev}` ({metrics["dev_examples"]} examples), after {settings.epochs} epochs on `{settings.train}`
({metrics["train_examples"]} examples):

| metric | value |
|---|---|
{figures}

These figures hold for texts like those of the files above. How the model does on other texts has not been measured.

## How it was made

```
kbert finetune classify --config settings.toml
```

Python {platform.python_version()}, {", ".join(versions)}. Every setting stands in `settings.toml`, the checksums of the
data in `data.json`, every epoch in `history.csv`.

## Use

```python
import kbert

model = kbert.BertTextClassifier.from_preset("{settings.out}")
model.predict({example})
```

transformers opens this folder as well: `AutoModelForSequenceClassification.from_pretrained("{settings.out}")`.
"""
