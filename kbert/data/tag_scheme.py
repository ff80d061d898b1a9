"""The classes of a tagger as arrays: which may follow which, and where entities begin.

Legend: C classes, Y types of entities, U units (tagged stretches of text) of all rows together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kbert.data.schemes import BEGINNING, CLOSING, CONTINUING, LETTERS, OUTSIDE, continues, misfit, narrow, split_tag
from kbert.errors import InputError

# Classes that checkpoints have beside their tags; they stand outside of entities.
_FILLER = re.compile(r"\[.*\]|<.*>|PAD|X")
# Which tag the only, first, middle and last unit of an entity gets: the first of these letters that its type has.
_PREFERRED = ("SUBIMEL", "BIMSUEL", "IMELBSU", "ELIMBSU")


@dataclass(frozen=True, eq=False)
class TagScheme:
    """The classes of a tagger."""

    labels: tuple[str, ...]
    """The classes by index."""
    scheme: str
    """A key of `LETTERS`."""
    types: tuple[str, ...]
    """The types of entities, sorted."""
    outside: int
    """The class "O"; -1: there is none."""
    type_index: np.ndarray
    """int32 [C]: the type of each class; -1: outside of entities."""
    begins: np.ndarray
    """bool [C]: B-X, S-X, U-X and X, which always begin an entity."""
    continues: np.ndarray
    """bool [C]: I-X, M-X, E-X and L-X, which go on with an entity of their type, and begin one where there is none."""
    closes: np.ndarray
    """bool [C]: E-X, L-X, S-X, U-X and X, behind which an entity never goes on."""
    allowed: np.ndarray
    """bool [C, C]: whether class j (second) may stand behind class i (first)."""
    allowed_start: np.ndarray
    """bool [C]: whether a row may begin with a class."""
    allowed_end: np.ndarray
    """bool [C]: whether a row may end with a class."""
    label_ids: np.ndarray
    """int32 [Y, 2, 4]: the classes of the only, first, middle and last unit of an entity; second row: of an entity
    that touches one of the same type."""

    @classmethod
    def from_labels(cls, labels: Sequence[str], scheme: str | None = None) -> TagScheme:
        """Read the classes of a tagger, in any order, of any scheme, with or without "O".

        A tag that the scheme needs and `labels` lack is not waited for: without B-X, I-X may begin an entity, and
        without E-X every tag may end one.

        Args:
            labels: The classes.
            scheme: A key of `LETTERS`; None: the one that the labels have. A full set of IOB1 looks like BIO; it is
                IOB1 where a type has I-X without B-X.

        Raises:
            InputError: A label is there twice, or the labels are of no scheme.
        """
        labels = tuple(labels)
        if not labels or len(set(labels)) < len(labels):
            raise InputError(f"TagScheme: `labels` must be one or more, all different. Received: {labels}")
        if scheme is not None and scheme not in LETTERS:
            raise InputError(f"TagScheme: `scheme` must be one of {', '.join(LETTERS)}. Received: {scheme!r}")
        is_prefixed = any(split_tag(label)[0] not in ("", OUTSIDE) for label in labels)
        tags = [OUTSIDE if is_prefixed and _FILLER.fullmatch(label) else label for label in labels]
        scheme = scheme or _scheme(tags)
        letters, names = zip(*map(split_tag, tags), strict=True)
        types = tuple(sorted({name for name in names if name}))
        type_index = np.array([types.index(name) if name else -1 for name in names], np.int32)
        allowed, start, end = _transitions(letters, type_index, scheme)
        return cls(
            labels,
            scheme,
            types,
            labels.index(OUTSIDE) if OUTSIDE in labels else -1,
            type_index,
            np.array([letter in BEGINNING for letter in letters], bool),
            np.array([letter in CONTINUING for letter in letters], bool),
            np.array([letter in CLOSING for letter in letters], bool),
            allowed,
            start,
            end,
            _label_ids(letters, type_index, len(types), scheme),
        )

    @property
    def joins(self) -> np.ndarray:
        """bool [C, C]: whether class j (second) goes on with the entity of class i (first)."""
        same_type = self.type_index[:, None] == self.type_index[None, :]
        return same_type & self.continues[None, :] & ~self.closes[:, None]

    def entity_starts(self, classes: np.ndarray, is_row_start: np.ndarray) -> np.ndarray:
        """Where entities begin in rows of classes; each reaches to the next beginning, "O" or end of the row.

        Args:
            classes: int [U], -1: none.
            is_row_start: bool [U].

        Returns:
            bool [U].
        """
        before = np.roll(classes, 1)
        goes_on = self.joins[before, classes] & (before >= 0) & ~is_row_start
        return (classes >= 0) & (self.type_index[classes] >= 0) & ~goes_on


def _scheme(tags: Sequence[str]) -> str:
    fitting = list(LETTERS)
    for tag in tags:
        remaining = narrow(fitting, tag)
        if not remaining:
            raise InputError(f"TagScheme: {misfit(fitting, tag)}. Received: {tuple(tags)}")
        fitting = remaining
    types = {letter: {name for other, name in map(split_tag, tags) if other == letter} for letter in "BI"}
    return "IOB1" if fitting[0] == "BIO" and types["I"] - types["B"] else fitting[0]


def _transitions(
    letters: Sequence[str], type_index: np.ndarray, scheme: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`allowed`, `allowed_start` and `allowed_end`."""
    same_type = type_index[:, None] == type_index[None, :]  # [C, C], as is the next
    goes_on = same_type & [[continues(letter, before) for letter in letters] for before in letters]

    def with_others(index: int, wanted: str) -> bool:
        return any(letter in wanted for letter, same in zip(letters, same_type[index], strict=True) if letter and same)

    needs_more = [
        letter not in CLOSING and letter != OUTSIDE and with_others(i, "EL") for i, letter in enumerate(letters)
    ]
    needs_begun = [
        letter in CONTINUING and scheme != "IOB1" and with_others(i, "B") for i, letter in enumerate(letters)
    ]
    allowed = goes_on | ~(np.array(needs_more)[:, None] | np.array(needs_begun)[None, :])
    return allowed, ~np.array(needs_begun), ~np.array(needs_more)


def _label_ids(letters: Sequence[str], type_index: np.ndarray, num_types: int, scheme: str) -> np.ndarray:
    table = np.zeros((num_types, 2, len(_PREFERRED)), np.int32)
    for type in range(num_types):
        classes = {letter: i for i, letter in enumerate(letters) if type_index[i] == type}
        for place, preferred in enumerate(_PREFERRED):
            touching = next(classes[letter] for letter in ("", *preferred) if letter in classes)
            table[type, :, place] = classes.get("I", touching) if scheme == "IOB1" else touching
            table[type, 1, place] = touching
    return table
