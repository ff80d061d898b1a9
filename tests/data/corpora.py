"""Made-up corpora of the words of the tests' vocabulary, and some that it does not know."""

from __future__ import annotations

import numpy as np

ENGLISH = "good bad film films plot was the a not very dull finely unfine xylophone".split()
CHINESE = "我爱电影不好看鑫"


def sentence(random: np.random.Generator) -> str:
    """English or Chinese, of 1 to 12 words."""
    length = int(random.integers(1, 13))
    if random.random() < 0.3:
        return "".join(random.choice(list(CHINESE), length)) + str(random.choice(["。", "！"]))
    words = " ".join(random.choice(ENGLISH, length))
    return words.capitalize() + str(random.choice([".", "!", "?"]))


def document(random: np.random.Generator, longest: int = 30) -> str:
    """Sentences on lines of their own."""
    return "\n".join(sentence(random) for _ in range(random.integers(1, longest + 1)))


def corpus(documents: int, seed: int = 0, longest: int = 30) -> list[str]:
    """Documents, the same for the same seed."""
    random = np.random.default_rng(seed)
    return [document(random, longest) for _ in range(documents)]
