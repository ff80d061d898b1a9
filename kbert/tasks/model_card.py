"""The README.md of a finished run: what the model is, from what, and how good."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any, NamedTuple

from kbert.checkpoints.huggingface_tasks import opens_in_transformers
from kbert.tasks.settings import FinetuneSettings
from kbert.tasks.task import Task

_PACKAGES = ("kbert", "tensorflow", "tensorflow-text", "keras")


class _Words(NamedTuple):
    title: str
    answers: str
    opens_as: str


_WORDS = {
    "classify": _Words("Text classifier", "it answers {one_of}{labels}", "AutoModelForSequenceClassification"),
    "tag": _Words("Tagger", "it finds entities of these types: {labels}", "AutoModelForTokenClassification"),
    "answer": _Words(
        "Question answerer", "it gives the part of the context that answers", "AutoModelForQuestionAnswering"
    ),
    "embed": _Words("Text embedder", "it gives a vector of length 1", "AutoModel"),
}

_ONE_OF = {"single_label": "one of ", "multi_label": "any of "}


def model_card(settings: FinetuneSettings, metrics: dict[str, Any], model: Task) -> str:
    """A model card in Markdown.

    Args:
        settings: the run.
        metrics: what metrics.json holds.
        model: what was trained.
    """
    versions = [f"{name} {version(name)}" for name in _PACKAGES]
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in metrics["dev"].items())
    words = _WORDS[settings.task]
    labels = ", ".join(f"`{label}`" for label in model.known_labels() or ())
    answers = words.answers.format(
        labels=labels or "a number", one_of=_ONE_OF.get(getattr(model.task, "problem", ""), "")
    )
    scratch = f"Trained from scratch with kbert (`{settings.model}`, vocabulary `{settings.vocab}`)"
    start = scratch if settings.vocab else f"Fine-tuned from `{settings.model}` with kbert"
    inputs = model.input_names
    example = '(["…"], ["…"])' if len(inputs) > 1 else '["…"]'
    opens = (
        f'transformers opens this folder as well: `{words.opens_as}.from_pretrained("{settings.out}")`.'
        if opens_in_transformers(model.encoder.config, model.task)
        else "transformers has no such model, and refuses this folder."
    )
    return f"""# {words.title}

{start}. Given {" and ".join(f"`{name}`" for name in inputs)}, {answers}.

## Measured

On `{settings.dev}` ({metrics["dev_examples"]} examples), after epoch {metrics["epoch"]} on `{settings.train}`
({metrics["train_examples"]} examples):

| metric | value |
|---|---|
{figures}

These figures hold for texts like those of the files above. How the model does on other texts has not been measured.

## How it was made

```
kbert finetune {settings.task} --config settings.toml
```

Python {platform.python_version()}, {", ".join(versions)}. Every setting stands in `settings.toml`, the checksums of the
data in `data.json`, every epoch in `history.csv`.

## Use

```python
import kbert

model = kbert.{type(model).__name__}.from_preset("{settings.out}")
model.predict({example})
```

{opens}
"""
