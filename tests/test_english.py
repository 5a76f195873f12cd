"""Plain English: "one row per network", never the distributive article that a stranger reads twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLACES = (".", "benchmarks", "configs", "docker", "docs", "nasplug", "plugins", "tests")
TEXTS = {".py", ".md", ".yaml", ".html", ".toml"}


def either(words: str) -> str:
    """Words with spaces between them, as a pattern for any of them."""
    return "|".join(words.split())


BOTH = either("""
    activation alpha autoencoder axis band batch beta block branch buffer byte call candidate category cell channel
    character child class code column configuration curve decoder depth dot draw driver edge encoder entry epoch error
    eigenvalue factor feature field file fold folder forward frame front function gate generation generator gradient group
    head histogram image inch index input interval key kernel label latent layer leaf level line loss machine mapping mask
    method metric mixture model module move name network neuron node number observer opponent option order output pack pair
    panel parameter part path penalty permutation piece pixel place plugin pool process property rate record regularizer
    replica report resample row sample scale schedule score scoring seed site slice space split state stem step stream study
    sum table tag target task teacher temperature tensor thread tick token trial tuple unit value version weight window word
    worker
""")
"""What is counted, and what it may be counted by."""

COUNTED = either("""
    batches branches categories choice choices classes copies counts digest digests entries indices losses masks matrices
    penalties point points properties set sets studies b kb mb gb ns us ms s seconds minutes hours nanoseconds microseconds
    milliseconds once twice one two three four same faster slower
""")
PER = r"change|data set|\*?(?:distinct|different)\*? \w+|(?:failed|finished|hidden|ray) \w+|\(\w+, \w+\)"

HEAD = re.compile(rf"(?:\b(?:(?:{BOTH})s?|{COUNTED}|child runs?)|[^(`]`{{1,2}}|\d\)?)(?: \([^()]*\))?$")
"""What stands before the article: one row, 3 ms, `Report`, a number >= 0, tolerance (0.1)."""
VERBS = r"at a time|can|could|has|is|may|must|never|was|will|[a-z]+(?:[^s]s|ed)"
TAIL = re.compile(rf"(?:{BOTH}|{PER})(?!\w)(?! (?:{VERBS})\b)")
"""What stands behind it; a verb that follows means "the numbers (that) a network has", which is plain."""
ARTICLE = re.compile(r" an? (?=[a-z(*])")
EACH = re.compile(r"\ban? [a-z]+(?: (?!at|by|for|from|in|of|to|with)[a-z]+)? each(?= ?[.,;:()|\"'`]|$)")
MARKS = re.compile(r"""\s*["']?\s*\n\s*(?:#+:?\s|>\s|\*\s|[rbf]{0,2}["'])?\s*""")
"""The end of a line and what the next one begins with: comment signs, the quotes of a string that goes on."""


def texts(place: str) -> Iterator[Path]:
    """Every text of a folder but this file; of the root only what lies there itself."""
    files = (ROOT / place).iterdir() if place == "." else (ROOT / place).rglob("*")
    return (path for path in files if path.suffix in TEXTS and path != Path(__file__))


def found(text: str) -> list[str]:
    """Every place in ``text`` that has the distributive article, with some words around it."""
    plain = MARKS.sub(" ", text).lower()
    hits = [
        each
        for each in ARTICLE.finditer(plain)
        if TAIL.match(plain, each.end()) and HEAD.search(plain[max(0, each.start() - 40) : each.start()])
    ]
    return [plain[max(0, hit.start() - 30) : hit.end() + 30] for hit in [*hits, *EACH.finditer(plain)]]


@pytest.mark.parametrize("place", PLACES)
def test_no_article_stands_for_per(place: str) -> None:
    """Say "one row per network", "3 ms per step", "one name per column"."""
    there = sorted(texts(place))
    assert there, f"no text in {place}"
    wrong = [f"{path.relative_to(ROOT)}: ...{words}..." for path in there for words in found(path.read_text(encoding="utf-8"))]
    assert not wrong, "say 'one row per network' in\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "words",
    [
        "a row a network",
        "one number a network, (K,)",
        "a name a column",
        "it takes 0.13 ms a network",
        "a generator a (seed, stream): the data",
        "a pack a Ray trial",
        "``(K, N)``, a seed a row, drawn once",
        "`Report` an interval",
        "1,000 networks a depth, 56 a neuron",
        "a number >= 0 a candidate",
        "a tolerance (0.1) a layer",
        "# a line a\n# label",
        'f"needed: one value a "\n    "network"',
        "called once a layer.",
        "One a network; empty",
        "the table, a row each, with names",
        "| a neuron each |",
    ],
)
def test_the_article_is_found(words: str) -> None:
    assert found(words), words


@pytest.mark.parametrize(
    "words",
    [
        "one row per network",
        "the numbers a network has",
        "how many rows a pack takes",
        "what a network is, and a layer too",
        "one row at a time",
        "create table a (b integer)",
        "for a class as a whole, a task gives a name",
        "each of the two has one output each",
    ],
)
def test_plain_words_are_left_alone(words: str) -> None:
    assert not found(words), words
