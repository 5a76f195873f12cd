"""`Program`: a compact network as columns, features, neurons and outputs in plain numbers: forms are written from it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nasplug.compact import CompactNetwork, digest_of
from nasplug.console import one_line
from nasplug.data.encoder import Column, Encoder
from nasplug.data.transforms import Transform
from nasplug.ensemble import Ensemble
from nasplug.errors import ConfigError
from nasplug.records import output_names
from nasplug.rows import MIDNIGHT, TRUTH, meanings

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FAR",
    "GAP_CODE",
    "GROUP",
    "UNKNOWN",
    "Feature",
    "Neuron",
    "Program",
    "Ran",
    "identifiers",
    "plain",
    "program",
    "short",
    "spellings",
]

UNKNOWN, GAP_CODE = -1, -2  # codes of a category's words that training did not see, and of gaps
FAR = 20.0  # spreads: a number whose mean is farther from 0 loses digits as a float32
GROUP = 40  # terms of a sum that stand in one bracket: compilers and databases bound how deep an expression may be


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of layer 0: ``(v - shift) / scale``, float64.

    Attributes:
        name: of the feature.
        column: place of its column in `Program.columns`.
        kind: what v is: ``value``, the number; ``ramp``, ``clip((x - low) / (high - low), 0, 1)``; ``word``, 1 where the word's
            code is `code`, else 0; ``gap``, 1 where the value is missing, else 0.
        shift, scale: of v.
        low, high: of a ramp.
        code: of a word its place among the column's; `UNKNOWN`: all that have none.
    """

    name: str
    column: int
    kind: Literal["value", "ramp", "word", "gap"]
    shift: float
    scale: float
    low: float = 0.0
    high: float = 1.0
    code: int = 0


@dataclass(frozen=True, slots=True)
class Neuron:
    """``f(bias + sum weight * value)``: terms are ``(layer, place, weight)``, layer 0 are the features."""

    activation: str
    bias: float
    terms: tuple[tuple[int, int, float], ...]

    def groups(self) -> Iterator[tuple[tuple[int, int, float], ...]]:
        """The terms, some at a time."""
        for at in range(0, len(self.terms), GROUP):
            yield self.terms[at : at + GROUP]


@dataclass(frozen=True, slots=True)
class Program:
    """A network in plain numbers.

    Attributes:
        name: an identifier: what files and functions are called.
        columns: of the user's table that are read.
        features: layer 0.
        layers: the hidden layers and last the outputs, whose activation is ``identity``.
        link: of the outputs: ``identity``, ``sigmoid``, ``softmax`` or ``exp``.
        scale, shift: of what the link gives: ``y = link(z) * scale + shift``, one per output.
        transform: that is undone then, or None.
        outputs: what each is called (`nasplug.records.output_names`).
        labels: of a classification; empty for quantities.
        network: that it is of.
        digest: of the network, SHA-256.
    """

    name: str
    columns: tuple[Column, ...]
    features: tuple[Feature, ...]
    layers: tuple[tuple[Neuron, ...], ...]
    link: str
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    transform: Transform | None
    outputs: tuple[str, ...]
    labels: tuple[str, ...]
    network: CompactNetwork
    digest: str

    @property
    def record(self) -> dict[str, Any]:
        """Of the network."""
        return self.network.record

    @property
    def activations(self) -> list[str]:
        """Names of the hidden layers' functions, sorted."""
        return sorted({neuron.activation for layer in self.layers[:-1] for neuron in layer})

    @property
    def edges(self) -> int:
        """How many weights are not 0."""
        return sum(len(neuron.terms) for layer in self.layers for neuron in layer)

    @property
    def answers(self) -> list[str]:
        """Names of what is answered, as in `nasplug.compact.CompactNetwork.predict`."""
        if not self.labels:
            return list(self.outputs)
        first = [f"P({self.labels[0]})"] if len(self.outputs) == 1 and self.link == "sigmoid" else []
        return ["label", *first, *self.outputs]

    @property
    def title(self) -> str:
        """One line that says what it is."""
        targets = ", ".join(self.labels or self.outputs)
        what = f"{self.edges} weights from {len(self.columns)} columns to {targets}"
        return one_line(f"{self.name}: {what[:200]}; network {self.digest[:12]}, written by nasplug")

    def known(self, functions: Collection[str], form: str) -> None:
        """Refuse activations that a form has no words for.

        Raises:
            ConfigError: naming one.
        """
        if odd := [name for name in self.activations if name not in functions]:
            raise ConfigError(f"{form}: activation {odd[0]!r} is a plugin's, of which only torch knows what it does; take pt2")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a form said of rows.

    Attributes:
        answers: as `nasplug.compact.CompactNetwork.predict`.
        microseconds: that it took per row.
        figures: what else was measured: ``flash_bytes``, ``ram_bytes``.
    """

    answers: pd.DataFrame
    microseconds: float
    figures: Mapping[str, int] = field(default_factory=dict)


def program(network: CompactNetwork | Ensemble, name: str) -> Program:
    """The plain numbers of a network; ``name`` becomes an identifier.

    Raises:
        ConfigError: for an ensemble, and for a network behind a stem.
    """
    if isinstance(network, Ensemble):
        raise ConfigError("an ensemble is several networks; only pt2 has it as one. Export a member: FOLDER/ensemble/member-00")
    if network.stem is not None:
        raise ConfigError("a network behind a stem of convolutions: only pt2 has these")
    record = network.record
    columns, features = _features(network)
    names = tuple(output_names(record))
    kinds = len(record["targets"]) == 2 and len(names) == 1
    return Program(
        name=identifiers([name], lower=True)[0],
        columns=columns,
        features=features,
        layers=_layers(network),
        link=str(record["link"]),
        scale=tuple(network.get_buffer("output_scale").tolist()),
        shift=tuple(network.get_buffer("output_shift").tolist()),
        transform=network.transform,
        outputs=names,
        labels=tuple(map(str, record["targets"])) if kinds or record["link"] == "softmax" else (),
        network=network,
        digest=digest_of(network),
    )


def _features(network: CompactNetwork) -> tuple[tuple[Column, ...], tuple[Feature, ...]]:
    record = network.record
    encoder = Encoder.from_plain(record["encoder"]) if record.get("encoder") else Encoder.of_numbers(record["features"])
    groups, names = encoder.groups, encoder.names
    read = sorted({groups[feature] for feature in record["kept_inputs"]})
    starts = [groups.index(group) for group in read]
    shifts, scales = (network.get_buffer(f"input_{end}").tolist() for end in ("shift", "scale"))
    found = []
    for feature, shift, scale in zip(record["kept_inputs"], shifts, scales, strict=True):
        at = read.index(groups[feature])
        column, place = encoder.columns[read[at]], feature - starts[at]
        if column.gap and place == column.width - 1:
            found.append(Feature(names[feature], at, "gap", shift, scale))
        elif column.kind == "category":
            code = place if place < len(column.words) else UNKNOWN
            found.append(Feature(names[feature], at, "word", shift, scale, code=code))
        elif place == 0:
            found.append(Feature(names[feature], at, "value", shift, scale))
        else:
            low, high = column.knots[place - 1 : place + 1]
            found.append(Feature(names[feature], at, "ramp", shift, scale, low, high))
    return tuple(encoder.columns[group] for group in read), tuple(found)


def _layers(network: CompactNetwork) -> tuple[tuple[Neuron, ...], ...]:
    layers, last = [], len(network.widths) - 1
    for to in range(1, last + 1):
        names = ["identity"] * network.widths[to]
        if to < last:
            names = [name for name, count in network.activations[to - 1] for _ in range(count)]
        biases = network.get_parameter(f"bias_{to}").tolist()
        terms: list[list[tuple[int, int, float]]] = [[] for _ in names]
        for source in (source for end, source in network.edges if end == to):
            for m, row in enumerate(network.weight(to, source).tolist()):
                terms[m] += [(source, place, w) for place, w in enumerate(row) if w != 0.0]
        layers.append(tuple(Neuron(n, b, tuple(t)) for n, b, t in zip(names, biases, terms, strict=True)))
    return tuple(layers)


def spellings(words: Sequence[str]) -> dict[str, int]:
    """Texts that other programs write for words, each with its word's place: 1.0 for 1, true for True, a midnight for a day.

    Also letters with accents as files of some systems have them (NFD of Unicode).
    """
    found = {word: place for place, word in enumerate(words)}
    for meaning, place in meanings(words).items():
        word = words[place]
        forms = [word.lower(), word.capitalize(), word.upper()] if meaning in TRUTH else []
        if isinstance(meaning, float):
            whole = [f"{meaning:.0f}"] if meaning.is_integer() and abs(meaning) < 2**53 else []
            forms = [repr(meaning), *whole]
        elif isinstance(meaning, str) and MIDNIGHT.fullmatch(word):
            forms = [meaning, *(f"{meaning}{middle}00:00:00{end}" for middle in " T" for end in ("", "Z", "+00:00", "+00"))]
        for form in forms:
            found.setdefault(form, place)
    for word, place in list(found.items()) if not "".join(words).isascii() else ():
        found.setdefault(unicodedata.normalize("NFD", word), place)
    return found


def short(weight: float) -> str:
    """The shortest decimal number that is this float32."""
    return plain(float(str(np.float32(weight))))


def plain(value: float) -> str:
    """A float64 as C, Python and SQL read it: with all its digits, and never as a whole number."""
    text = repr(float(value))
    return text if "." in text or "e" not in text else text.replace("e", ".0e")


def identifiers(names: Collection[str], taken: Collection[str] = (), *, lower: bool = False) -> list[str]:
    """A distinct identifier of ASCII letters, digits and ``_`` for each name, that C, Python and SQL all accept."""
    used, found = {word.lower() for word in taken} | FORBIDDEN, []
    for place, name in enumerate(names):
        text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        text = re.sub(r"\W+", "_", text).strip("_")[:40] or f"column_{place}"
        text = text.lower() if lower else text
        # What begins as our own names do, x0 or h1_2, gets something before it.
        text = f"c_{text}" if text[0].isdigit() or re.fullmatch(r"[hopqxz]\d+(_\d+)?", text.lower()) else text
        base, number = text, 2
        while text.lower() in used:
            text, number = f"{base}_{number}", number + 1
        used.add(text.lower())
        found.append(text)
    return found


WORDS = """
    and as assert async await break class continue def del elif else except false finally for from global if import in is lambda
    none nonlocal not or pass raise return true try while with auto case char const default do double enum extern float goto
    inline int long register restrict short signed sizeof static struct switch typedef union unsigned void volatile
    bool catch class complex constexpr delete explicit friend imaginary mutable namespace new nullptr operator private protected
    public template this throw api typename typeof using virtual
    row out math nan infinity predict columns answers main x y z h v test index signal time clock unix linux errno stdin stdout
    stderr printf puts exit free malloc calloc atol fread fwrite size_t float_t double_t int16_t int32_t
    other missing unknown gap values powers total most label isinstance str max min sum
    isnan isinf isfinite isnormal signbit fpclassify gamma j0 j1 jn y0 y1 yn
"""
MATHS = """
    abs acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh div erf erfc exp exp2 expm1 fabs fdim floor fma fmax
    fmin fmod frexp hypot ilogb labs ldexp lgamma llrint llround log log10 log1p log2 logb lrint lround modf nearbyint nextafter
    nexttoward pow remainder remquo rint round scalbln scalbn sin sinh sqrt tan tanh tgamma trunc
"""
FORBIDDEN = frozenset(WORDS.split()) | {f"{name}{end}" for name in MATHS.split() for end in ("", "f", "l")}
"""Words of Python, C and C++, functions of the C library, and what our own code calls things."""
