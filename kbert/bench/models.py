"""The model that all contenders open."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras


@contextmanager
def classifier_folder(preset: str, size: str = "", num_classes: int = 2) -> Iterator[str]:
    """A Hugging Face folder of a classifier with a head drawn afresh, as long as the block lasts.

    Args:
        preset: The encoder and its vocabulary.
        size: One of `kbert.config.SIZES`: an encoder of that size, drawn afresh too; "": the preset's own.
        num_classes: Labels, whose names are "0", "1", ….
    """
    import kbert

    labels = [str(i) for i in range(num_classes)]
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        if size:
            preset = _random_encoder(preset, size, Path(folder, "encoder"))
        model = kbert.BertTextClassifier.from_preset(preset, labels=labels)
        target = Path(folder, "classifier")
        model.save_to_preset(target)
        yield str(target)


def _random_encoder(preset: str, size: str, folder: Path) -> str:
    from kbert.checkpoints import huggingface, presets
    from kbert.checkpoints.checkpoint import Checkpoint
    from kbert.config import BertConfig
    from kbert.modeling.encoder import BertEncoder, named_weights

    known = presets.load(preset, weights=False)
    config = BertConfig.of_size(size, len(known.vocabulary))
    tensors = {name: weight.numpy() for name, weight in named_weights(BertEncoder(config)).items()}
    huggingface.write(folder, Checkpoint(config, known.tokenizer, known.vocabulary, tensors))
    return str(folder)
