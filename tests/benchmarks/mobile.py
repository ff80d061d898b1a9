"""A classifier's files for phones beside its Keras model; print a table, and what MediaPipe answers.

Run on a quiet machine: times are of one thread at batch 1, each file in turns with the float32 one.

python tests/benchmarks/mobile.py RUN FILE --calibration TRAIN [--texts N] [--length T]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import kbert
from kbert.data.readers import read_texts
from kbert.mobile.characters import phone_tokenizer
from kbert.mobile.choices import QUANTIZATIONS
from kbert.mobile.export import export_mobile, mobile_file
from kbert.mobile.report import MobileFile, report


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run", help="folder of a classifier of single texts")
    parser.add_argument("file", help="labelled dev file")
    parser.add_argument("--calibration", required=True, help="texts for full-int8, of which 200 are used")
    parser.add_argument("--texts", type=int, help="take the first texts alone")
    parser.add_argument("--length", type=int, help="tokens of a row")
    args = parser.parse_args()
    model = kbert.BertTextClassifier.from_preset(args.run, max_length=args.length)
    records = read_texts(args.file)
    texts, labels = records.texts[: args.texts], records.labels[: args.texts]
    calibration = read_texts(args.calibration).texts
    plain = mobile_file(model)
    print(f"{len(texts)} texts, rows of {model.task.max_length} tokens")
    print("| file | MB | size | accuracy | Keras | other labels | largest difference | ms | time |")
    print("|---" * 9 + "|")
    for quantize in QUANTIZATIONS:
        content = plain if quantize == "none" else mobile_file(model, "ids", quantize, calibration)
        row(f"ids, {quantize}", content, plain, report(model, texts, labels, "ids", content, plain))
        if quantize in ("none", "int8"):
            mediapipe(model, texts, "ids", quantize)
    mediapipe(model, texts, "characters", "none")
    content = mobile_file(model, "text")
    row("text, none", content, plain, report(model, texts, labels, "text", content, content))
    same_as_ids(model, texts, plain, content)


def row(name, content, plain, result):
    size, ratio = len(content) / 1e6, len(content) / len(plain)
    found, keras = (100 * result[metrics]["accuracy"] for metrics in ("metrics", "model_metrics"))
    others = result["examples"] - result["same_answers"]
    cells = [f"{size:.1f}", f"{100 * ratio:.1f} %", f"{found:.2f}", f"{keras:.2f}", others]
    cells += [f"{result['largest_difference']:.2e}", result["latency_ms"], result["latency_ratio"]]
    print(f"| {name} | " + " | ".join(map(str, cells)) + " |", flush=True)


def same_as_ids(model, texts, ids_content, text_content):
    """Whether the file of text gives what the file of ids gives, to the last bit."""
    ids, text = MobileFile(ids_content, model, "ids"), MobileFile(text_content, model, "text")
    pairs = zip(ids.rows([texts]), text.rows([texts]), strict=True)
    apart = [np.abs(ids(a)["probability"] - text(b)["probability"]).max() for a, b in pairs]
    print(f"text and ids: {sum(a > 0 for a in apart)} of {len(apart)} texts differ, at most by {max(apart):.1e}")


def mediapipe(model, texts, inputs, quantize):
    try:
        from mediapipe.tasks.python import text as tasks
    except ImportError:
        print("MediaPipe is not installed (extra `mobile`)")
        return
    expected = model.predict(texts)
    with tempfile.TemporaryDirectory() as folder:
        path = export_mobile(model, Path(folder) / "model.tflite", inputs=inputs, quantize=quantize)
        with tasks.TextClassifier.create_from_model_path(str(path)) as classify:
            heads = [classify.classify(text).classifications[0].categories for text in texts]
    scores = [{category.category_name: category.score for category in head} for head in heads]
    found = np.array([[score[label] for label in model.task.labels] for score in scores])
    apart = np.abs(found - expected["probabilities"]).max(1)
    others = found.argmax(1) != expected["probabilities"].argmax(1)
    theirs, ours = (
        phone_tokenizer(model.tokenizer.vocabulary)(texts).to_list(),
        model.tokenizer.tokenize(texts).to_list(),
    )
    plain = np.array([a == b for a, b in zip(theirs, ours, strict=True)])
    print(
        f"MediaPipe, {inputs}, {quantize}: {others.sum()} other labels, largest difference {apart.max():.1e}; of the "
        f"{plain.sum()} texts whose ids it reads right {others[plain].sum()} and {apart[plain].max():.1e}",
        flush=True,
    )


if __name__ == "__main__":
    main()
