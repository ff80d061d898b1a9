"""The whole main job on a small task of our own: fetch, fine-tune, evaluate, export, serve, ask."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbert.data.readers import Columns
from kbert.export.saved_model import export_saved_model, next_version
from kbert.serving.client import Client, rows
from kbert.serving.server import ModelServer
from kbert.tasks.finetuning import finetune
from kbert.tasks.running import evaluate_file, load_task
from kbert.tasks.settings import ClassifySettings

_log = logging.getLogger(__name__)
DEMO_DATA = Path(__file__).parent / "data" / "demo"


@dataclass(frozen=True)
class _Demo:
    """What the quickstart does in one language."""

    preset: str
    learning_rate: float
    epochs: int
    questions: tuple[str, ...]


_DEMOS = {
    "en": _Demo(
        "minilm-l6-en",
        1e-4,
        6,
        (
            "My bank shows two withdrawals for the same order.",
            "Ten days on, the box still has not turned up.",
            "Honestly the best support I have had anywhere, you made my week.",
        ),
    ),
    "zh": _Demo(
        "simbert-tiny-zh",
        2e-4,
        12,
        (
            "同一笔订单怎么从我卡里扣了两回？",
            "等了十天，包裹还没影儿。",
            "客服小姐姐太有耐心了，必须给个好评。",
        ),
    ),
}


def quickstart(language: str, out: Path, models: Path = Path("saved_models")) -> Iterator[dict[str, Any]]:
    """Run every step, on a CPU, in a few minutes; yields one dict per step, then one per answer.

    The task: to which desk of an online shop does a customer's message go? The data are the package's own
    (`kbert/data/demo`), the weights come from the package index.

    Args:
        language: "en" or "zh".
        out: folder of the run; a run that was stopped goes on.
        models: folder of exported models; the model is exported there as `quickstart-LANGUAGE`.
    """
    demo = _DEMOS[language]
    dev = DEMO_DATA / f"{language}.dev.tsv"
    run = out / language
    _log.info("1/5 fine-tuning %s on %s", demo.preset, DEMO_DATA / f"{language}.train.tsv")
    metrics = finetune(
        ClassifySettings(
            model=demo.preset,
            train=str(DEMO_DATA / f"{language}.train.tsv"),
            dev=str(dev),
            out=str(run),
            epochs=demo.epochs,
            learning_rate=demo.learning_rate,
            batch_size=16,
            max_length=64,
        )
    )
    yield {"step": "finetune", "folder": str(run), "train_examples": metrics["train_examples"]}

    _log.info("2/5 evaluating on the held-out texts")
    yield {"step": "evaluate", **evaluate_file(str(run), dev, Columns())}

    name = f"quickstart-{language}"
    _log.info("3/5 exporting with the tokenizer in the graph")
    folder = export_saved_model(load_task(str(run)), models / name, next_version(models / name), source=run)
    yield {"step": "export", "folder": str(folder)}

    _log.info("4/5 serving %s on this machine", models)
    with (
        ModelServer(models / name, grpc_port=0, rest_port=0) as server,
        Client(f"127.0.0.1:{server.grpc_port}") as client,
    ):
        _log.info("5/5 asking over gRPC")
        answers = rows(client.predict(name, {"text": list(demo.questions)}))
    for question, answer in zip(demo.questions, answers, strict=True):
        yield {"text": question, "label": answer["label"], "score": round(answer["score"], 4)}

    _log.info(
        "\nWhat next:\n"
        "  kbert serve %s                      # then, from another shell:\n"
        '  kbert ask %s "%s"\n'
        "  kbert finetune classify --model %s --train YOUR.tsv --dev YOUR_DEV.tsv --out runs/mine\n"
        "  kbert presets --language %s         # other pretrained models",
        models,
        name,
        demo.questions[0],
        demo.preset,
        language,
    )
