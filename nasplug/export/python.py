"""The form ``python``: one file that needs nothing but `math`, with a function from a row's raw values to named answers."""

from __future__ import annotations

import runpy
import textwrap
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasplug.console import one_line
from nasplug.data.encoder import Column
from nasplug.data.transforms import LARGEST
from nasplug.export.program import GAP_CODE, UNKNOWN, Feature, Neuron, Program, Ran, identifiers, plain, short
from nasplug.rows import meanings
from nasplug.tasks import FURTHEST

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FUNCTIONS", "run", "written"]

WIDTH = 120  # of a line

FUNCTIONS: Mapping[str, str] = {
    "identity": "z",
    "relu": "max(0.0, z)",
    "leaky_relu": "z if z > 0.0 else 0.01 * z",
    "tanh": "math.tanh(z)",
    "sigmoid": "1.0 / (1.0 + math.exp(-z)) if z > -700.0 else 0.0",
    "elu": "z if z > 0.0 else math.expm1(z)",
    "silu": "z / (1.0 + math.exp(-z)) if z > -700.0 else 0.0",
    "gelu": "0.5 * z * (1.0 + math.erf(z / math.sqrt(2.0)))",
    "softplus": "max(0.0, z) + math.log1p(math.exp(-abs(z)))",
    "sin": "math.sin(z)",
    "square": "z * z",
}
"""Activations and `sigmoid` of the link, of z."""

NUMBER = '''

def _number(row, name, kind="number", fill=None, codes=()):
    """A raw value as a float; a gap (None, NaN, blank text or a code) as NaN, which `fill` stands for later."""
    if name not in row:
        raise KeyError(f"column {name!r} is missing; needed: {', '.join(map(repr, COLUMNS))}")
    value = row[name]
    if _is_gap(value) or _is_code(value, codes):
        if fill is None:
            raise ValueError(f"column {name!r} has a gap; needed: a value")
        return math.nan
    text = str(value).strip().lower().replace("\\u2212", "-")
    try:
        if kind == "date":
            found = _seconds(text)
        else:
            found = {"true": 1.0, "false": 0.0}[text] if text in ("true", "false") else float(text)
    except (ValueError, IndexError):
        raise ValueError(f"column {name!r}: {value!r} is not a {kind}") from None
    if not math.isfinite(found):
        raise ValueError(f"column {name!r}: {value!r} is not finite")
    if kind == "boolean" and found not in (0.0, 1.0):
        raise ValueError(f"column {name!r}: {value!r} is not true or false")
    return found


def _is_gap(value):
    """Whether a value is None, NaN, pandas' NA or blank."""
    return value is None or str(value).strip() in ("", "<NA>") or value != value


def _is_code(value, codes):
    """Whether a value is one of those that mean that there is none."""
    if not codes:
        return False
    text = str(value).strip()
    if text in map(str, codes):
        return True
    try:
        return not isinstance(value, bool) and float(text) in [code for code in codes if not isinstance(code, str)]
    except ValueError:
        return False
'''
WORD = '''

def _word(row, name, words, meant, gap=None, codes=()):
    """A raw value as the place of its word: UNKNOWN for one that training did not see, GAP for none."""
    if name not in row:
        raise KeyError(f"column {name!r} is missing; needed: {', '.join(map(repr, COLUMNS))}")
    value = row[name]
    if _is_gap(value) or _is_code(value, codes):
        if gap is None:
            raise ValueError(f"column {name!r} has a gap; needed: a word")
        return gap
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    if text in words:
        return words.index(text)
    return meant.get(_meaning(text), UNKNOWN)


def _meaning(text):
    """A word as programs write it: true is True, a day is its midnight, 01 is 1."""
    if text.lower() in ("true", "false"):
        return text.lower()
    rest = text[10:].removesuffix("Z").removesuffix("+00:00").removesuffix("+0000")
    if text[4:5] + text[7:8] == "--" and rest[:1] in (" ", "T"):
        if rest[1:6] == "00:00" and rest[6:9] in ("", ":00") and not rest[9:].removeprefix(".").strip("0"):
            return text[:10]
    try:
        return float(text) if text.isascii() and "_" not in text and text.lower() != "nan" else text
    except ValueError:
        return text
'''
SECONDS = '''

def _seconds(text):
    """Seconds since 1970-01-01 UTC of 2024-12-31, 2024-12-31T23:59:59.5 or 2024-12-31 23:59+01:00."""
    text = text.upper().replace("Z", "+00:00")
    day, clock = text[:10], text[11:]
    year, month, date = int(day[:4]), int(day[5:7]), int(day[8:10])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day[4] + day[7] != "--" or not 1 <= month <= 12 or text[10:11] not in ("", " ", "T"):
        raise ValueError(text)
    if not 1 <= date <= (28 + leap if month == 2 else 31) - (month in (4, 6, 9, 11)):
        raise ValueError(text)
    before = year - (month <= 2)  # years begin in March: the leap day is their last
    days = 365 * before + before // 4 - before // 100 + before // 400 + (153 * ((month - 3) % 12) + 2) // 5 + date - 719469
    zone = 0
    for sign in "+-":
        if sign in clock:
            clock, _, away = clock.partition(sign)
            if len(away.replace(":", "")) not in (2, 4):
                raise ValueError(text)
            zone = (60 * int(away[:2]) + int(away[2:].lstrip(":") or 0)) * (60 if sign == "+" else -60)
    hour, minute, second = (clock.split(":") + ["0", "0"])[:3] if clock else ("0", "0", "0")
    if not (0 <= int(hour) <= 23 and 0 <= int(minute) <= 59 and 0.0 <= float(second) < 60.0):
        raise ValueError(text)
    return 86400.0 * days + 3600.0 * int(hour) + 60.0 * int(minute) + float(second) - zone
'''
RANK = '''

def _between(t, scores, values):
    """The value at a normal score: straight between knots, constant beyond."""
    found = values[0]
    for place in range(len(values) - 1):
        ramp = (t - scores[place]) / (scores[place + 1] - scores[place])
        found += min(1.0, max(0.0, ramp)) * (values[place + 1] - values[place])
    return found
'''


def written(made: Program) -> dict[str, str]:
    """The file, by its name.

    Raises:
        ConfigError: for the activation of a plugin.
    """
    made.known(FUNCTIONS, "python")
    names = identifiers([column.name for column in made.columns], [f"_{name}" for name in FUNCTIONS])
    return {f"{made.name}.py": "\n".join([*_head(made), *_functions(made), "", "", *_body(made, names)]) + "\n"}


def _accented(made: Program) -> bool:
    return not "".join(column.name for column in made.columns).isascii()


def _head(made: Program) -> Iterator[str]:
    yield f'"""{_quoted(made.title)}.'
    yield ""
    yield f"from {made.name} import predict"
    yield "predict({...})  # one row: the value of each of COLUMNS; None where it is missing"
    yield '"""'
    yield ""
    yield "import math"
    if _accented(made):
        yield "import unicodedata"
    yield ""
    yield f"COLUMNS = {_tuple([column.name for column in made.columns])}"
    yield f"ANSWERS = {_tuple(made.answers)}"
    kinds = {column.kind for column in made.columns}
    if "category" in kinds:
        yield f"UNKNOWN, GAP = {UNKNOWN}, {GAP_CODE}"


def _functions(made: Program) -> Iterator[str]:
    kinds = {column.kind for column in made.columns}
    if kinds:
        yield (NUMBER if kinds != {"category"} else "\n\ndef _is_gap" + NUMBER.partition("def _is_gap")[2]).rstrip("\n")
    if "category" in kinds:
        yield WORD.rstrip("\n")
    if "date" in kinds:
        yield SECONDS.rstrip("\n")
    needed = {*made.activations, *({"sigmoid"} if made.link == "sigmoid" else ())}
    for name in sorted(needed - {"identity"}):
        yield f"\n\ndef _{name}(z):\n    return {FUNCTIONS[name]}"
    if made.transform is not None and made.transform.values:
        yield RANK.rstrip("\n")


def _body(made: Program, names: list[str]) -> Iterator[str]:
    yield "def predict(row):"
    yield '    """Named answers of one row: a mapping of column names to raw values, as a file has them."""'
    if _accented(made):
        yield "    # an accent may be a character of its own"
        yield '    known = {unicodedata.normalize("NFC", name): name for name in COLUMNS}'
        yield '    row = {**{known.get(unicodedata.normalize("NFC", str(k)), k): value for k, value in row.items()}, **row}'
    for at, (column, name) in enumerate(zip(made.columns, names, strict=True)):
        yield f"    {name} = {_read(column)}"
        if column.kind != "category" and column.gap:
            yield f"    o{at} = float(math.isnan({name}))  # whether it is missing"
        if column.fill is not None:
            yield f"    {name} = {plain(column.fill)} if math.isnan({name}) else {name}"
    for place, feature in enumerate(made.features):
        scaled = _scaled(feature, made.columns[feature.column], names[feature.column])
        yield f"    x{place} = {scaled}  # {one_line(feature.name)}"
    for layer, neurons in enumerate(made.layers[:-1], start=1):
        yield f"    # hidden layer {layer}"
        for place, neuron in enumerate(neurons):
            yield from _neuron(f"h{layer}_{place}", neuron)
    yield "    # outputs"
    for place, neuron in enumerate(made.layers[-1]):
        yield from _neuron(f"z{place}", neuron)
    yield from _answers(made)


def _read(column: Column) -> str:
    codes = f", codes={_tuple(column.codes)}" if column.codes else ""
    name = repr(column.name)
    if column.kind != "category":
        fill = "" if column.fill is None else f", fill={plain(column.fill)}"
        kind = "" if column.kind == "number" else f", kind={column.kind!r}"
        return f"_number(row, {name}{kind}{fill}{codes})"
    gap = ""
    if column.gap or column.word is not None:
        gap = f", gap={GAP_CODE if column.gap or column.word is None else column.words.index(column.word)}"
    return f"_word(row, {name}, {_tuple(column.words)}, {_meant(column.words)}{gap}{codes})"


def _meant(words: Sequence[str]) -> str:
    """What words mean, as Python reads it: 1e999 and inf are numbers too, which have no numeral."""
    without = {"inf": "math.inf", "-inf": "-math.inf"}
    known = meanings(words)
    twice = {unicodedata.normalize("NFD", word): place for word, place in known.items() if isinstance(word, str)}
    pairs = [(repr(meaning), place) for meaning, place in (twice | known).items()]
    return f"{{{', '.join(f'{without.get(told, told)}: {place}' for told, place in pairs)}}}"


def _scaled(feature: Feature, column: Column, name: str) -> str:
    if feature.kind == "word":
        value = f"(1.0 if {name} == {'UNKNOWN' if feature.code == UNKNOWN else feature.code} else 0.0)"
    elif feature.kind == "gap":
        value = f"(1.0 if {name} == GAP else 0.0)" if column.kind == "category" else f"o{feature.column}"
    elif feature.kind == "ramp":
        value = f"min(1.0, max(0.0, ({name} - {plain(feature.low)}) / {plain(feature.high - feature.low)}))"
    else:
        value = name
    return f"({value} - {plain(feature.shift)}) / {plain(feature.scale)}"


def _neuron(name: str, neuron: Neuron) -> Iterator[str]:
    groups = [" ".join(_term(*term) for term in group) for group in neuron.groups()]
    call, end = ("", "") if neuron.activation == "identity" else (f"_{neuron.activation}(", ")")
    if len(groups) < 2:
        yield from _wrapped(f"    {name} = ", call, f"{short(neuron.bias)} {''.join(groups)}".rstrip(), end)
        return
    yield f"    {name} = {short(neuron.bias)}"
    for group in groups:
        yield from _wrapped(f"    {name} += ", "", group.removeprefix("+ "), "")
    if call:
        yield f"    {name} = {call}{name}{end}"


def _wrapped(head: str, call: str, body: str, end: str) -> Iterator[str]:
    """On one line, or in brackets on several."""
    line = f"{head}{call}{body}{end}"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"{head}{call or '('}"
    yield textwrap.indent(textwrap.fill(body, WIDTH - 8, break_long_words=False, break_on_hyphens=False), " " * 8)
    yield f"    {end or ')'}"


def _term(layer: int, place: int, weight: float) -> str:
    value = f"x{place}" if layer == 0 else f"h{layer}_{place}"
    return f"{'-' if weight < 0 else '+'} {short(abs(weight))} * {value}"


def _answers(made: Program) -> Iterator[str]:
    last = range(len(made.layers[-1]))
    if made.link == "sigmoid":
        yield from (f"    y{o} = _sigmoid(z{o})" for o in last)
    elif made.link == "softmax":
        yield f"    powers = [math.exp(z - max({', '.join(f'z{o}' for o in last)}, -math.inf)) for z in ({_list('z', last)})]"
        yield "    total = sum(powers)"
        yield f"    {_list('y', last)} = [power / total for power in powers]"
    elif made.link == "exp":
        yield from (f"    y{o} = math.exp(min(z{o}, {FURTHEST}))" for o in last)
    else:
        yield from (f"    y{o} = z{o}" for o in last)
    for o, scale, shift in zip(last, made.scale, made.shift, strict=True):
        if (scale, shift) != (1.0, 0.0):
            yield f"    y{o} = y{o} * {plain(scale)} + {plain(shift)}"
    if made.transform is not None:
        for o in last:
            if made.transform.use == "log":
                yield f"    y{o} = math.exp(min(y{o}, {LARGEST}))"
            else:
                yield f"    y{o} = _between(y{o}, {_tuple(made.transform.scores[o])}, {_tuple(made.transform.values[o])})"
    given = [(name, f"y{o}") for o, name in enumerate(made.outputs)]
    if made.labels and len(given) == 1:
        label = f"{made.labels[1]!r} if y0 > 0.5 else {made.labels[0]!r}"
        first = [(f"P({made.labels[0]})", "1.0 - y0")] if made.link == "sigmoid" else []
        given = [("label", label), *first, *given]
    elif made.labels:
        yield f"    values = ({_list('y', last)})"
        given = [("label", f"{_tuple(made.labels)}[values.index(max(values))]"), *given]
    yield f"    return {{{', '.join(f'{name!r}: {value}' for name, value in given)}}}"


def _list(letter: str, places: range) -> str:
    return ", ".join(f"{letter}{o}" for o in places) + ("," if len(places) == 1 else "")


def _tuple(values: Any) -> str:
    return repr(tuple(values))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', "'")


def run(folder: Path, made: Program, rows: pd.DataFrame) -> Ran:
    """The answers of the file itself to rows of raw values."""
    import pandas as pd

    predict = runpy.run_path(str(folder / f"{made.name}.py"))["predict"]
    given = rows.to_dict("records")
    start = time.perf_counter()
    told = [predict(row) for row in given]
    seconds = time.perf_counter() - start
    return Ran(pd.DataFrame(told, columns=pd.Index(made.answers), index=rows.index), 1e6 * seconds / len(rows))
