"""Words of categories and labels: what counts as one word, in training and in rows that come later."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasplug.data.numerals import PLAIN

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MIDNIGHT", "TRUTH", "meanings", "places_of", "without_blanks", "word_of", "words_of"]

TRUTH = {"true": 1.0, "false": 0.0}
MIDNIGHT = re.compile(r"\d{4}-\d{2}-\d{2}([T ]00:00(:00(\.0+)?)?(Z|\+00:?00)?)?")


def word_of(value: object) -> str:
    """A value of a category as text: without spaces around it; a gap elsewhere in a file makes 1.0 of a label 1.

    Two values are one label where these are equal.
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = str(value).strip()
    return text.removesuffix(" 00:00:00") if isinstance(value, datetime) else text


def without_blanks(values: pd.Series[Any]) -> pd.Series[Any]:
    """A column of words with gaps where nothing is written, as in a file."""
    import pandas as pd

    distinct = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values.dropna().unique()
    blank = [value for value in distinct if isinstance(value, str) and not value.strip()]
    return values.mask(values.isin(blank)) if blank else values


def words_of(values: pd.Series[Any]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Distinct words, and for each row the place of its word; -1 for a gap, which an empty word is, too.

    Order: a categorical's own, else sorted.
    """
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, distinct = values.cat.codes.to_numpy().astype(np.int64), list(values.cat.categories)
        present = np.unique(codes[codes >= 0])
        ordered = [(place, word_of(distinct[place])) for place in present]
    else:
        codes, found = pd.factorize(values)
        ordered = [(place, word_of(value)) for place, value in enumerate(found)]
        try:
            ordered.sort(key=lambda pair: found[pair[0]])
        except TypeError:  # values of several types
            ordered.sort(key=lambda pair: pair[1])
    words: dict[str, int] = {}
    new = np.full(max((place for place, _ in ordered), default=-1) + 2, -1, dtype=np.int64)  # its last: gaps
    for place, word in ordered:
        if word:
            new[place] = words.setdefault(word, len(words))
    return list(words), new[codes]


def places_of(words: Sequence[str], known: Sequence[str], other: int) -> list[int]:
    """Of each word its place among the ``known`` ones, or ``other``.

    Of a word that is not known what it means decides, if one known word means the same.
    """
    places, meant = {word: place for place, word in enumerate(known)}, meanings(known)
    return [places[word] if word in places else meant.get(_meaning(word), other) for word in words]


def meanings(known: Sequence[str]) -> dict[object, int]:
    """What a word means -> its place among the ``known`` ones, where one of them alone means that."""
    found: dict[object, int] = {}
    several = set()
    for place, word in enumerate(known):
        meaning = _meaning(word)
        if meaning in found:
            several.add(meaning)
        found[meaning] = place
    return {meaning: place for meaning, place in found.items() if meaning not in several}


def _meaning(word: str) -> object:
    """A word as programs write it: ``true`` is True, ``2024-12-31`` is its midnight, ``01`` is 1."""
    if (truth := word.lower()) in TRUTH:
        return truth
    if MIDNIGHT.fullmatch(word):
        return word[:10]
    return float(word) if re.match(PLAIN, word) else word
