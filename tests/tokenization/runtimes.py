"""Runs an exported tokenizer in another version of TensorFlow, and counts the texts whose tokens differ.

    python tests/tokenization/runtimes.py write FOLDER
    OTHER_PYTHON tests/tokenization/runtimes.py check FOLDER

OTHER_PYTHON needs tensorflow and tensorflow-text alone: 2.12.1 has the kernels of TF Serving 2.13 to 2.19.1, 2.20 those
of TF Serving 2.20. The texts: every assigned code point in six contexts, and 200,000 random strings.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import tensorflow as tf
import tensorflow_text

BATCH = 4096
PRESETS = ("minilm-l6-en", "m3e-small-zh")


def batches(texts: list[str]):
    """Texts as string tensors."""
    return (tf.constant(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH))


def answers(serve, texts: list[str]):
    """Ids, starts, ends and row lengths of each batch of texts."""
    for batch in batches(texts):
        answer = serve(text=batch)
        yield [answer[name].numpy().tolist() for name in ("ids", "starts", "ends", "lengths")]


def graph(tokenizer):
    """The tokenizer as a function of the signature of a SavedModel."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def serve(text):
        ids, starts, ends = tokenizer.tokenize_with_offsets(text)
        flat = {"ids": ids.flat_values, "starts": starts.flat_values, "ends": ends.flat_values}
        return {**flat, "lengths": ids.row_lengths()}

    return serve


def write(folder: Path) -> None:
    """Export a tokenizer per vocabulary, with texts and what becomes of them here."""
    from compare import every_code_point
    from reference import fuzz

    from kbert.tokenization.tokenizer import BertTokenizer

    folder.mkdir(parents=True)
    texts = [*every_code_point(assigned_only=True), *fuzz(21, 200_000)]
    (folder / "texts.json").write_text(json.dumps(texts), "utf-8")
    for preset in PRESETS:
        serve = graph(BertTokenizer.from_preset(preset))
        module = tf.Module()
        module.serve = serve
        tf.saved_model.save(module, str(folder / preset), signatures=serve.get_concrete_function())
        with (folder / f"{preset}.jsonl").open("w") as file:
            for answer in answers(serve, texts):
                file.write(json.dumps(answer) + "\n")


def check(folder: Path) -> int:
    """Compare what this TensorFlow makes of the texts; the number of batches that differ."""
    texts = json.loads((folder / "texts.json").read_text("utf-8"))
    differing = 0
    for preset in PRESETS:
        serve = tf.saved_model.load(str(folder / preset)).signatures["serving_default"]
        with (folder / f"{preset}.jsonl").open() as file:
            wrong = sum(answer != json.loads(line) for answer, line in zip(answers(serve, texts), file))  # noqa: B905
        counts = {"vocabulary": preset, "texts": len(texts), "batches": -(-len(texts) // BATCH), "different": wrong}
        versions = {"tensorflow": tf.__version__, "tensorflow_text": tensorflow_text.__version__}
        print(json.dumps({**versions, **counts}), flush=True)
        differing += wrong
    return differing


if __name__ == "__main__":
    action, target = sys.argv[1:]
    sys.exit(bool(check(Path(target)) if action == "check" else write(Path(target))))
