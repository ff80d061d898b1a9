"""Fine-tune a BERT folder with transformers on what `kbert finetune` reads, with its recipe; print one JSON line.

    python tests/benchmarks/tasks_transformers.py TASK MODEL TRAIN TEST [--epochs 3 --learning-rate 5e-5 --seed 0 ...]

TASK is tag, classify or regression. Metrics are those of the libraries that define them: seqeval, scikit-learn, scipy.
Needs the extra `parity`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import Any

import numpy as np
import torch
import transformers

from kbert.data.readers import read_texts
from kbert.data.schemes import label_names, tags_of_spans
from kbert.data.tags import read_tags

IGNORED = -100


def words_of(text: str, tokenizer: Any) -> list[tuple[str, tuple[int, int]]]:
    """The words of BERT's basic tokenizer; each carries a label, as in kbert."""
    return tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)


def tag(tokenizer: Any, train: str, test: str, max_length: int) -> tuple[Any, list[dict], list[dict], Any]:
    """Token classification on words; the first piece of each is labelled."""
    from seqeval.metrics import f1_score

    labels = label_names(read_tags(train).types(), "BIO")

    def examples(path: str) -> list[dict]:
        records, rows = read_tags(path), []
        for text, spans in zip(records.texts, records.spans, strict=True):
            words = words_of(text, tokenizer)
            of_words = [
                type(span)(
                    min(i for i, (_, (_, e)) in enumerate(words) if e > span.start),
                    1 + max(i for i, (_, (s, _)) in enumerate(words) if s < span.end),
                    span.label,
                )
                for span in spans
            ]
            tags = tags_of_spans(of_words, len(words), "BIO")
            encoded = tokenizer([w for w, _ in words], is_split_into_words=True, truncation=True, max_length=max_length)
            seen: set[int | None] = {None}
            row = []
            for word in encoded.word_ids():
                row.append(IGNORED if word in seen else labels.index(tags[word]))
                seen.add(word)
            rows.append({"input_ids": encoded["input_ids"], "labels": row})
        return rows

    def score(logits: np.ndarray, gold: list[list[int]]) -> dict[str, float]:
        found = [row.argmax(-1)[: len(ids)] for row, ids in zip(logits, gold, strict=True)]
        kept = [
            [(f, g) for f, g in zip(fs, gs, strict=True) if g != IGNORED] for fs, gs in zip(found, gold, strict=True)
        ]
        names = [[[labels[pair[side]] for pair in row] for row in kept] for side in (0, 1)]
        return {"f1": f1_score(names[1], names[0])}

    model = transformers.AutoModelForTokenClassification
    return (model, {"num_labels": len(labels)}), examples(train), examples(test), score


def classify(tokenizer: Any, train: str, test: str, max_length: int) -> tuple[Any, list[dict], list[dict], Any]:
    """One label for a text or a pair."""
    from sklearn.metrics import matthews_corrcoef

    labels = sorted(set(read_texts(train).labels))

    def score(logits: np.ndarray, gold: list[int]) -> dict[str, float]:
        found = logits.argmax(-1)
        return {"accuracy": float(np.mean(found == gold)), "matthews": float(matthews_corrcoef(gold, found))}

    make = (transformers.AutoModelForSequenceClassification, {"num_labels": len(labels)})
    rows = [_texts(tokenizer, read_texts(path), max_length, labels.index) for path in (train, test)]
    return make, *rows, score


def regression(tokenizer: Any, train: str, test: str, max_length: int) -> tuple[Any, list[dict], list[dict], Any]:
    """A number for a text or a pair."""
    from scipy.stats import pearsonr, spearmanr

    def score(logits: np.ndarray, gold: list[float]) -> dict[str, float]:
        found = logits[:, 0]
        return {"pearson": float(pearsonr(found, gold)[0]), "spearman": float(spearmanr(found, gold)[0])}

    make = (transformers.AutoModelForSequenceClassification, {"num_labels": 1, "problem_type": "regression"})
    rows = [_texts(tokenizer, read_texts(path, labels="number"), max_length, float) for path in (train, test)]
    return make, *rows, score


def _texts(tokenizer: Any, records: Any, max_length: int, label: Any) -> list[dict]:
    texts = (records.texts,) if records.pairs is None else (records.texts, records.pairs)
    encoded = tokenizer(*texts, truncation=True, max_length=max_length)
    return [
        {"input_ids": ids, "token_type_ids": types, "labels": label(y)}
        for ids, types, y in zip(encoded["input_ids"], encoded["token_type_ids"], records.labels, strict=True)
    ]


TASKS = {"tag": tag, "classify": classify, "regression": regression}


def collate(tokenizer: Any, rows: list[dict]) -> dict[str, torch.Tensor]:
    """Pad to the longest row; labels of tokens with what the loss ignores."""
    length = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, filling: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filling] * (length - len(row[name])) for row in rows])

    batch = {"input_ids": padded("input_ids", tokenizer.pad_token_id)}
    batch["attention_mask"] = (torch.arange(length) < torch.tensor([[len(row["input_ids"])] for row in rows])).long()
    if "token_type_ids" in rows[0]:
        batch["token_type_ids"] = padded("token_type_ids", 0)
    by_token = isinstance(rows[0]["labels"], list)
    batch["labels"] = padded("labels", IGNORED) if by_token else torch.tensor([row["labels"] for row in rows])
    return batch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("model")
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    (cls, options), train, test, score = TASKS[args.task](tokenizer, args.train, args.test, args.max_length)
    transformers.set_seed(args.seed)
    model = cls.from_pretrained(args.model, **options)
    for row in train:
        row["length"] = len(row["input_ids"])
    with tempfile.TemporaryDirectory() as scratch:
        settings = transformers.TrainingArguments(
            output_dir=scratch,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            weight_decay=0.01,
            warmup_ratio=0.1,
            seed=args.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            train_sampling_strategy="group_by_length",
        )
        trainer = transformers.Trainer(
            model=model, args=settings, train_dataset=train, data_collator=lambda rows: collate(tokenizer, rows)
        )
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin
    model.eval()
    logits = []
    with torch.inference_mode():
        for i in range(0, len(test), 32):
            logits += list(model(**collate(tokenizer, test[i : i + 32])).logits.numpy())
    gold = [row["labels"] for row in test]
    metrics = score(logits if args.task == "tag" else np.array(logits), gold)
    print(json.dumps({"system": "transformers", "seed": args.seed, **metrics, "seconds": seconds}))


if __name__ == "__main__":
    main()
