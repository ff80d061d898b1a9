"""Fine-tune a BERT folder on SST-2 with transformers' own Trainer; print one JSON line.

The recipe is the one `kbert finetune classify` uses by default (sst2.py runs both and prints the table).
"""

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
import torch
import transformers


class Sentences(torch.utils.data.Dataset):
    """SST-2 rows as token ids; the collator pads each batch to its longest row."""

    def __init__(self, path: Path, tokenizer):
        with path.open(encoding="utf8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        self.ids = tokenizer([row["sentence"] for row in rows], truncation=True, max_length=128)["input_ids"]
        self.labels = [int(row["label"]) for row in rows]

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return {"input_ids": self.ids[i], "label": self.labels[i], "length": len(self.ids[i])}


class Collator:
    def __init__(self, tokenizer):
        self.pad = transformers.DataCollatorWithPadding(tokenizer)

    def __call__(self, rows):
        return self.pad([{k: row[k] for k in ("input_ids", "label")} for row in rows])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sampling", default="group_by_length", choices=["random", "group_by_length"])
    parser.add_argument("--out", default="sst2-transformers")
    args = parser.parse_args()

    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    transformers.set_seed(args.seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2)
    train, dev = Sentences(args.data / "train.tsv", tokenizer), Sentences(args.data / "dev.tsv", tokenizer)
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=args.out,
            num_train_epochs=1,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=32,
            learning_rate=2e-5,
            weight_decay=0.01,
            warmup_steps=0.1,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            train_sampling_strategy=args.sampling,
            length_column_name="length",
            remove_unused_columns=False,
            use_cpu=True,
            seed=args.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=100,
        ),
        train_dataset=train,
        eval_dataset=dev,
        data_collator=Collator(tokenizer),
        compute_metrics=lambda p: {"accuracy": float(np.mean(p.predictions.argmax(-1) == p.label_ids))},
    )
    begin = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - begin
    accuracy = trainer.evaluate()["eval_accuracy"]
    print(
        json.dumps(
            {
                "system": "transformers",
                "seed": args.seed,
                "accuracy": accuracy,
                "seconds": seconds,
                "examples_per_second": len(train) / seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
