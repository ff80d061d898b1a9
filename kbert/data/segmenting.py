"""Chinese text to words, for masking whole words: each character is a token of its own, and does not say so."""

from __future__ import annotations

import functools
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from kbert.errors import InputError

SEGMENTERS = ("jieba",)
_IDEOGRAPHS = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]+")


def word_insides(texts: Sequence[str], segmenter: str) -> np.ndarray:
    """Which characters are ideographs that a word of ideographs does not begin with (Cui et al. 2019, section 2).

    Args:
        texts: any texts.
        segmenter: one of `SEGMENTERS`.

    Returns:
        bool [characters of all texts together].
    """
    cut = load_segmenter(segmenter)
    inside = np.zeros(sum(map(len, texts)), np.bool_)
    place = 0
    for text in texts:
        for word in cut(text):
            if len(word) > 1 and _IDEOGRAPHS.fullmatch(word):
                inside[place + 1 : place + len(word)] = True
            place += len(word)
    return inside


@functools.cache
def load_segmenter(name: str) -> Callable[[str], Iterable[str]]:
    """A function that cuts a text into words, which joined give the text.

    Raises:
        InputError: there is none of that name, or it is not installed.
    """
    if name not in SEGMENTERS:
        raise InputError(f"there is no segmenter {name!r}; known are {', '.join(SEGMENTERS)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its last release is of 2020, and newer Pythons find fault with it
            import jieba
    except ImportError:
        raise InputError("the segmenter jieba is not installed: pip install 'kbert[jieba]'") from None
    jieba.setLogLevel(logging.WARNING)
    return jieba.cut
