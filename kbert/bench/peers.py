"""The same work done by other libraries; each function runs in a worker of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MAX_LENGTH = 128


def transformers_predict(
    folder: str, texts: Sequence[str], batch_size: int, sort: bool, threads: int
) -> Callable[[], np.ndarray]:
    """transformers on PyTorch, each batch padded to its longest text."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def logits(batch: list[str]) -> np.ndarray:
        with torch.inference_mode():
            features = tokenizer(batch, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
            return model(**features).logits.numpy()

    return lambda: _in_batches(logits, texts, batch_size, sort)


def onnxruntime_predict(
    folder: str, texts: Sequence[str], batch_size: int, int8: bool, threads: int
) -> Callable[[], np.ndarray]:
    """ONNX Runtime on the graph of transformers' model, texts sorted by length; int8 is its dynamic quantization."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "model.onnx")
        _export_onnx(folder, path)
        if int8:
            quantize_dynamic(path, path.with_name("int8.onnx"), weight_type=QuantType.QInt8)
            path = path.with_name("int8.onnx")
        session = onnxruntime.InferenceSession(path.read_bytes(), options)

    def logits(batch: list[str]) -> np.ndarray:
        features = tokenizer(batch, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="np")
        names = [i.name for i in session.get_inputs()]
        return session.run(None, {name: features[name].astype(np.int64) for name in names})[0]

    return lambda: _in_batches(logits, texts, batch_size, sort=True)


def _export_onnx(folder: str, path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    # The plain attention: the exporter writes the mask of the fused one in a form that quantization cannot read.
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.ones((2, 9), dtype=torch.int64)
    torch.onnx.export(
        model,
        (ids, ids, ids * 0),
        str(path),
        input_names=names,
        output_names=["logits"],
        dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
        dynamo=False,
        opset_version=17,
    )


def keras_hub_predict(folder: str, texts: Sequence[str], batch_size: int, threads: int) -> Callable[[], np.ndarray]:
    """keras-hub's classifier with its own preprocessor."""
    import keras_hub

    model = _keras_hub_classifier(keras_hub, folder, num_classes=2)
    model.compile()
    return lambda: model.predict(list(texts), batch_size=batch_size, verbose=0)


def keras_hub_train(
    folder: str, texts: Sequence[str], labels: Sequence[int], batch_size: int, threads: int
) -> Callable[[], Any]:
    """keras-hub's `fit` on strings, as it comes."""
    import keras
    import keras_hub

    model = _keras_hub_classifier(keras_hub, folder, num_classes=max(labels) + 1)
    optimizer = keras.optimizers.AdamW(2e-5, weight_decay=0.01, global_clipnorm=1.0)
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), optimizer=optimizer, metrics=["accuracy"]
    )
    return lambda: model.fit(list(texts), np.array(labels), batch_size=batch_size, verbose=0)


def _keras_hub_classifier(keras_hub: Any, folder: str, num_classes: int) -> Any:
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        keras_hub.models.BertTokenizer(vocabulary=str(Path(folder, "vocab.txt")), lowercase=True),
        sequence_length=MAX_LENGTH,
    )
    backbone = keras_hub.models.BertBackbone.from_preset(folder)
    return keras_hub.models.BertTextClassifier(backbone, num_classes=num_classes, preprocessor=preprocessor)


def transformers_train(
    folder: str, texts: Sequence[str], labels: Sequence[int], batch_size: int, group_by_length: bool, threads: int
) -> Callable[[], Any]:
    """transformers' Trainer with dynamic padding."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    ids = tokenizer(list(texts), truncation=True, max_length=MAX_LENGTH)["input_ids"]
    examples = [{"input_ids": row, "labels": label, "length": len(row)} for row, label in zip(ids, labels, strict=True)]
    pad = transformers.DataCollatorWithPadding(tokenizer)

    def collate(rows: list[dict]) -> Any:
        return pad([{name: row[name] for name in ("input_ids", "labels")} for row in rows])

    with tempfile.TemporaryDirectory() as scratch:
        settings = transformers.TrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,
            per_device_train_batch_size=batch_size,
            learning_rate=2e-5,
            weight_decay=0.01,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            train_sampling_strategy="group_by_length" if group_by_length else "random",
        )
    trainer = transformers.Trainer(model=model, args=settings, train_dataset=examples, data_collator=collate)
    return trainer.train


def fastapi_server(folder: str, port: int, threads: int) -> Callable[[], Any]:
    """A plain web service around transformers' classifier, which speaks the part of TF Serving's REST that is asked."""
    import threading
    import time

    import fastapi
    import torch
    import uvicorn
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from kbert.bench.serving import PATH

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    app = fastapi.FastAPI()

    @app.post(PATH)
    def predict(body: dict[str, list[str]]) -> dict[str, Any]:
        with torch.inference_mode():
            features = tokenizer(
                body["instances"], padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
            )
            probabilities = model(**features).logits.softmax(-1)
        scores, labels = probabilities.max(-1)
        names = [model.config.id2label[label] for label in labels.tolist()]
        columns = zip(names, scores.tolist(), probabilities.tolist(), strict=True)
        return {"predictions": [{"label": n, "score": s, "probabilities": p} for n, s, p in columns]}

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    return lambda: server


def _in_batches(
    logits: Callable[[list[str]], np.ndarray], texts: Sequence[str], batch_size: int, sort: bool
) -> np.ndarray:
    """The rows of all texts in their own order, computed longest first where `sort` is asked for."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i])) if sort else list(range(len(texts)))
    parts = list(_chunks([texts[i] for i in order], batch_size))
    rows = np.concatenate([logits(part) for part in parts])
    restored = np.empty_like(rows)
    restored[order] = rows
    return restored


def _chunks(items: list[str], size: int) -> Iterator[list[str]]:
    return (items[i : i + size] for i in range(0, len(items), size))
