"""Fine-tune a BERT folder with transformers on what `kbert finetune` reads, with its recipe; print one JSON line.

    python tests/benchmarks/tasks_transformers.py TASK MODEL TRAIN NAME=TEST... [--epochs 3 --learning-rate 5e-5 ...]

TASK is tag, classify, regression or answer. Metrics are those of the libraries that define them: seqeval, scikit-learn,
scipy; of answers, SQuAD's or CMRC's as `kbert.metrics` has them, which equal the official scripts. Needs the extra
`parity`.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers

from kbert.data.answers import read_answers
from kbert.data.readers import read_texts
from kbert.data.schemes import label_names, tags_of_spans
from kbert.data.tags import read_tags
from kbert.metrics.answers import cmrc_metrics, squad_metrics

IGNORED = -100


def words_of(text: str, tokenizer: Any) -> list[tuple[str, tuple[int, int]]]:
    """The words of BERT's basic tokenizer, each ideograph one of them; each carries a label, as in kbert."""
    return [
        (part[0], (start + part.start(), start + part.end()))
        for word, (start, _) in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
        for part in re.finditer(r"[\u3400-\u9fff\uf900-\ufaff]|[^\u3400-\u9fff\uf900-\ufaff]+", word)
    ]


@dataclass(frozen=True)
class Twin:
    """A task as transformers computes it."""

    architecture: Any
    options: dict[str, Any]
    """Of the model's config."""
    rows: Callable[[str], list[dict]]
    """Of a file: what `collate` takes, and what `score` wants besides."""
    score: Callable[[list[Any], list[dict]], dict[str, float]]
    """Of the logits of each row, and the rows."""


def tag(tokenizer: Any, train: str, max_length: int) -> Twin:
    """Token classification on words; the first piece of each is labelled."""
    from seqeval.metrics import f1_score

    labels = label_names(read_tags(train).types(), "BIO")

    def rows(path: str) -> list[dict]:
        records, found = read_tags(path), []
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
            found.append({"input_ids": encoded["input_ids"], "labels": row})
        return found

    def score(logits: list[torch.Tensor], rows: list[dict]) -> dict[str, float]:
        gold = [row["labels"] for row in rows]
        found = [of_row.argmax(-1)[: len(ids)].tolist() for of_row, ids in zip(logits, gold, strict=True)]
        kept = [
            [(f, g) for f, g in zip(fs, gs, strict=True) if g != IGNORED] for fs, gs in zip(found, gold, strict=True)
        ]
        names = [[[labels[pair[side]] for pair in row] for row in kept] for side in (0, 1)]
        return {"f1": f1_score(names[1], names[0])}

    return Twin(transformers.AutoModelForTokenClassification, {"num_labels": len(labels)}, rows, score)


def classify(tokenizer: Any, train: str, max_length: int) -> Twin:
    """One label for a text or a pair."""
    from sklearn.metrics import matthews_corrcoef

    labels = sorted(set(read_texts(train).labels))

    def rows(path: str) -> list[dict]:
        return _texts(tokenizer, read_texts(path), max_length, labels.index)

    def score(logits: list[torch.Tensor], rows: list[dict]) -> dict[str, float]:
        gold, found = [row["labels"] for row in rows], [int(of_row.argmax()) for of_row in logits]
        return {
            "accuracy": float(np.mean(np.equal(found, gold))),
            "matthews_correlation": float(matthews_corrcoef(gold, found)),
        }

    return Twin(transformers.AutoModelForSequenceClassification, {"num_labels": len(labels)}, rows, score)


def regression(tokenizer: Any, train: str, max_length: int) -> Twin:
    """A number for a text or a pair."""
    from scipy.stats import pearsonr, spearmanr

    def rows(path: str) -> list[dict]:
        return _texts(tokenizer, read_texts(path, labels="number"), max_length, float)

    def score(logits: list[torch.Tensor], rows: list[dict]) -> dict[str, float]:
        gold, found = [row["labels"] for row in rows], [float(of_row[0]) for of_row in logits]
        return {"pearson": float(pearsonr(found, gold)[0]), "spearman": float(spearmanr(found, gold)[0])}

    options = {"num_labels": 1, "problem_type": "regression"}
    return Twin(transformers.AutoModelForSequenceClassification, options, rows, score)


def _texts(tokenizer: Any, records: Any, max_length: int, label: Any) -> list[dict]:
    texts = (records.texts,) if records.pairs is None else (records.texts, records.pairs)
    encoded = tokenizer(*texts, truncation=True, max_length=max_length)
    return [
        {"input_ids": ids, "token_type_ids": types, "labels": label(y)}
        for ids, types, y in zip(encoded["input_ids"], encoded["token_type_ids"], records.labels, strict=True)
    ]


def answer(tokenizer: Any, train: str, max_length: int) -> Twin:
    """A part of a context, in windows, as transformers' run_qa.py makes and reads them."""

    def rows(path: str) -> list[dict]:
        records = read_answers(path)
        encoded = tokenizer(
            records.questions,
            records.contexts,
            truncation="only_second",
            max_length=max_length,
            stride=max_length // 4,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        found = []
        for i, question in enumerate(encoded["overflow_to_sample_mapping"]):
            of_context = [side == 1 for side in encoded.sequence_ids(i)]
            offsets = encoded["offset_mapping"][i]
            span = next(((a.start, a.start + len(a.text)) for a in records.answers[question] if a.start >= 0), None)
            start, end = _tokens_of(span, offsets, of_context)
            found.append(
                {
                    "input_ids": encoded["input_ids"][i],
                    "token_type_ids": encoded["token_type_ids"][i],
                    "start_positions": start,
                    "end_positions": end,
                    "offsets": [offset if inside else None for offset, inside in zip(offsets, of_context, strict=True)],
                    "question": question,
                    "context": records.contexts[question],
                    "answers": [a.text for a in records.answers[question]],
                }
            )
        return found

    def score(logits: list[torch.Tensor], rows: list[dict]) -> dict[str, float]:
        best: dict[int, tuple[float, str]] = {}
        for of_row, row in zip(logits, rows, strict=True):
            candidate = _best_span(of_row.numpy(), row["offsets"], row["context"])
            best[row["question"]] = max(best.get(row["question"], candidate), candidate, key=lambda pair: pair[0])
        right = {row["question"]: row["answers"] for row in rows}
        is_chinese = any("\u4e00" <= character <= "\u9fff" for character in rows[0]["context"])
        return (cmrc_metrics if is_chinese else squad_metrics)(
            [right[q] for q in sorted(right)], [best[q][1] for q in sorted(right)]
        )

    return Twin(transformers.AutoModelForQuestionAnswering, {}, rows, score)


def _tokens_of(span: tuple[int, int] | None, offsets: list, of_context: list[bool]) -> tuple[int, int]:
    """First and last token of an answer; (0, 0) if a window has not all of it."""
    if span is None:
        return 0, 0
    inside = [i for i, (s, e) in enumerate(offsets) if of_context[i] and e > span[0] and s < span[1]]
    if not inside or offsets[inside[0]][0] > span[0] or offsets[inside[-1]][1] < span[1]:
        return 0, 0
    return inside[0], inside[-1]


def _best_span(logits: np.ndarray, offsets: list, context: str) -> tuple[float, str]:
    """The sum of the scores and the text of the best answer of a window, of at most 30 tokens."""
    best = (-np.inf, "")
    starts, ends = logits[: len(offsets)].T
    for s in np.argsort(-starts)[:20]:
        for e in np.argsort(-ends)[:20]:
            if offsets[s] is not None and offsets[e] is not None and s <= e < s + 30 and starts[s] + ends[e] > best[0]:
                best = (float(starts[s] + ends[e]), context[offsets[s][0] : offsets[e][1]])
    return best


TASKS = {"tag": tag, "classify": classify, "regression": regression, "answer": answer}


def collate(tokenizer: Any, rows: list[dict]) -> dict[str, torch.Tensor]:
    """Pad to the longest row; labels of tokens with what the loss ignores."""
    length = max(len(row["input_ids"]) for row in rows)
    fillings = {"input_ids": tokenizer.pad_token_id, "token_type_ids": 0, "labels": IGNORED}
    batch = {"attention_mask": (torch.arange(length) < torch.tensor([[len(row["input_ids"])] for row in rows])).long()}
    for name in ("input_ids", "token_type_ids", "labels", "start_positions", "end_positions"):
        values = [row[name] for row in rows if name in row]
        if values and isinstance(values[0], list):
            values = [row + [fillings[name]] * (length - len(row)) for row in values]
        if values:
            batch[name] = torch.tensor(values)
    return batch


def train(twin: Twin, tokenizer: Any, rows: list[dict], args: argparse.Namespace) -> tuple[Any, float]:
    """The trained model, and the seconds that took."""
    transformers.set_seed(args.seed)
    model = twin.architecture.from_pretrained(args.model, **twin.options)
    with tempfile.TemporaryDirectory() as scratch:
        settings = transformers.TrainingArguments(
            output_dir=scratch,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            weight_decay=0.01,
            warmup_steps=0.1,
            seed=args.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            train_sampling_strategy="group_by_length",
        )
        trainer = transformers.Trainer(
            model=model,
            args=settings,
            train_dataset=[row | {"length": len(row["input_ids"])} for row in rows],
            data_collator=lambda rows: collate(tokenizer, rows),
        )
        begin = time.perf_counter()
        trainer.train()
        return model.eval(), time.perf_counter() - begin


def logits_of(model: Any, tokenizer: Any, rows: list[dict]) -> list[torch.Tensor]:
    """Of each row; start and end side by side where the task is to answer."""
    found: list[torch.Tensor] = []
    with torch.inference_mode():
        for i in range(0, len(rows), 32):
            outputs = model(**collate(tokenizer, rows[i : i + 32]))
            if "logits" in outputs:
                found += outputs.logits
            else:
                found += torch.stack([outputs.start_logits, outputs.end_logits], -1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("model")
    parser.add_argument("train")
    parser.add_argument("tests", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    twin = TASKS[args.task](tokenizer, args.train, args.max_length)
    model, seconds = train(twin, tokenizer, twin.rows(args.train), args)
    metrics: dict[str, Any] = {"seconds": seconds}
    for name, path in (test.split("=", 1) for test in args.tests):
        rows = twin.rows(path)
        metrics[name] = twin.score(logits_of(model, tokenizer, rows), rows)
    print(json.dumps(metrics))


if __name__ == "__main__":
    main()
