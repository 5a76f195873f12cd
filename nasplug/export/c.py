"""The form ``c``: one C99 header in float32 that needs nothing but ``math.h``, and a program with test vectors for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nasplug.console import one_line
from nasplug.data.encoder import Column
from nasplug.data.transforms import LARGEST
from nasplug.export.compiling import compiled
from nasplug.export.program import FAR, GAP_CODE, UNKNOWN, Feature, Neuron, Program, Ran, identifiers, plain, short
from nasplug.export.rows import coded, made_up, reference
from nasplug.tasks import FURTHEST

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FUNCTIONS", "Header", "comment", "run", "vectors", "written"]

FUNCTIONS: Mapping[str, str] = {
    "identity": "z",
    "relu": "z < 0.0f ? 0.0f : z",  # NaN stays NaN
    "leaky_relu": "z < 0.0f ? 0.01f * z : z",
    "tanh": "tanhf(z)",
    "sigmoid": "1.0f / (1.0f + expf(-z))",
    "elu": "z > 0.0f ? z : expm1f(z)",
    "silu": "z / (1.0f + expf(-z))",
    "gelu": "0.5f * z * (1.0f + erff(z * 0.70710678f))",
    "softplus": "(z > 0.0f ? z : 0.0f) + log1pf(expf(-fabsf(z)))",
    "sin": "sinf(z)",
    "square": "z * z",
}
"""Activations and links of z."""
VECTORS = 8
UNKNOWN_WORD = "any other word"


def comment(text: str) -> str:
    """Text inside a comment, which it cannot end, without trigraphs."""
    return re.sub(r"\?(?=\?)", "? ", one_line(text).replace("*/", "* /").replace("/*", "/ *"))


def _far(shift: float, scale: float) -> bool:
    """Whether a float32 loses digits of what is ``scale`` around ``shift``: far from 0, or near the ends of a float32."""
    return abs(shift) > FAR * scale or not 1e-30 < scale < 1e30


@dataclass(frozen=True)
class Header:
    """What the headers of a network share: a row, its scaled numbers, and what is answered.

    Attributes:
        made: the network.
        name: what its functions begin with.
    """

    made: Program
    name: str

    @cached_property
    def fields(self) -> list[str]:
        """Names of the row's members."""
        return identifiers([column.name for column in self.made.columns], lower=True)

    @cached_property
    def doubles(self) -> list[bool]:
        """Of each column whether a float32 would lose its digits."""
        found = [False] * len(self.made.columns)
        for feature in self.made.features:
            if feature.kind == "value":
                found[feature.column] |= _far(feature.shift, feature.scale)
            elif feature.kind == "ramp":
                found[feature.column] |= _far(max(abs(feature.low), abs(feature.high)), feature.high - feature.low)
        return found

    @property
    def real(self) -> str:
        """The type of answers."""
        if self.made.transform is not None and self.made.transform.values:
            return "double"  # a steep piece of it makes much of little
        far = any(_far(shift, scale) for shift, scale in zip(self.made.shift, self.made.scale, strict=True))
        return "double" if far else "float"

    def types(self) -> Iterator[str]:
        """The row, codes of words, and labels."""
        upper, made = self.name.upper(), self.made
        used: list[str] = []
        for field, column in zip(self.fields, made.columns, strict=True):
            if column.kind == "category":
                words = identifiers([f"{field} {word}" for word in column.words], used, lower=True)
                used += words  # the word b_c of a column a, and the word c of a column a_b
                codes = [f"{upper}_{word.upper()} = {at}" for at, word in enumerate(words)]
                yield f"enum {{ {', '.join(codes)} }};"
        if made.columns and any(column.kind == "category" for column in made.columns):
            yield f"enum {{ {upper}_OTHER = {UNKNOWN}, {upper}_MISSING = {GAP_CODE} }}; /* {UNKNOWN_WORD}; no word */"
        if made.labels:
            labels = identifiers(made.labels, [word.removeprefix("is_") for word in used])
            yield f"enum {{ {', '.join(f'{upper}_IS_{label.upper()} = {at}' for at, label in enumerate(labels))} }};"
        yield ""
        yield "typedef struct {"
        for field, column, double in zip(self.fields, made.columns, self.doubles, strict=True):
            yield f"  {self._kind(column, double=double)} {field}; /* {self._about(column)} */"
        if not made.columns:
            yield "  char nothing; /* it reads nothing: it always says the same */"
        yield f"}} {self.name}_row;"

    @staticmethod
    def _kind(column: Column, *, double: bool) -> str:
        whole = column.kind in ("category", "boolean") and column.fill is None
        return "int" if whole else "double" if double else "float"

    def _about(self, column: Column) -> str:
        words = {"number": "", "boolean": ": 0 or 1", "date": ": seconds since 1970-01-01 UTC"}
        if column.kind == "category":
            known = ", ".join(f"{at} {word}" for at, word in enumerate(column.words))
            gap = f", {GAP_CODE} missing" if column.gap or column.word is not None else ""
            return comment(f"{column.name}: {known}, {UNKNOWN} {UNKNOWN_WORD}{gap}")
        return comment(f"{column.name}{words[column.kind]}{'; NAN where it is missing' if column.fill is not None else ''}")

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Of each feature how it comes from ``row``, scaled, and what it is called."""
        for feature in self.made.features:
            field, column = self.fields[feature.column], self.made.columns[feature.column]
            yield self._scaled(feature, column, field, double=self.doubles[feature.column]), comment(feature.name)

    def _scaled(self, feature: Feature, column: Column, field: str, *, double: bool) -> str:
        def number(value: float) -> str:
            return plain(value) if double else f"{short(value)}f"

        value = f"row->{field}"
        if feature.kind == "value" and self._kind(column, double=double) == "int":
            value = f"(float){value}"
        if column.fill is not None:
            value = f"(isnan({value}) ? {number(column.fill)} : {value})"
        if column.word is not None and not column.gap:
            value = f"({value} == {GAP_CODE} ? {column.words.index(column.word)} : {value})"
        if feature.kind in ("word", "gap"):
            test = f"{value} == {feature.code if feature.kind == 'word' else GAP_CODE}"
            test = f"isnan(row->{field})" if feature.kind == "gap" and column.kind != "category" else test
            low, high = (0.0 - feature.shift) / feature.scale, (1.0 - feature.shift) / feature.scale
            return f"{test} ? {short(high)}f : {short(low)}f"
        if feature.kind == "ramp":
            away = f"({value} - {number(feature.low)}) / {number(feature.high - feature.low)}"
            away = f"{self.name}_ramp({f'(float)({away})' if double else away})"
            return f"({away} - {short(feature.shift)}f) * {short(1.0 / feature.scale)}f"
        scaled = f"({value} - {number(feature.shift)}) * {number(1.0 / feature.scale)}"
        return f"(float)({scaled})" if double else scaled

    def helpers(self, names: set[str]) -> Iterator[str]:
        """Functions of these activations, and what inputs and answers need."""
        for name in sorted(names - {"identity"}):
            yield f"static inline float {self.name}_{name}(float z) {{ return {FUNCTIONS[name]}; }}"
        if any(feature.kind == "ramp" for feature in self.made.features):
            yield f"static inline float {self.name}_ramp(float z) {{ return z < 0.0f ? 0.0f : z > 1.0f ? 1.0f : z; }}"
        if self.made.transform is not None and self.made.transform.values:
            real = self.real
            yield f"static inline {real} {self.name}_between({real} t, const {real} *score, const {real} *value, int knots) {{"
            yield f"  {real} found = value[0];"
            yield "  for (int at = 0; at + 1 < knots; at++) {"
            yield f"    const {real} ramp = (t - score[at]) / (score[at + 1] - score[at]);"
            yield "    found += (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp) * (value[at + 1] - value[at]);"
            yield "  }"
            yield "  return found;"
            yield "}"

    @property
    def linked(self) -> set[str]:
        """Helpers that answers need."""
        return {"sigmoid"} if self.made.link == "sigmoid" else set()

    def answers(self) -> Iterator[str]:
        """From sums ``z0``, ``z1``, ... to answers ``y[0]``, ``y[1]``, ..."""
        made, real = self.made, self.real
        places = range(len(made.layers[-1]))
        linked = [f"z{o}" for o in places]
        if made.link == "sigmoid":
            linked = [f"{self.name}_sigmoid({z})" for z in linked]
        elif made.link == "exp":
            linked = [f"expf({z} > {FURTHEST}f ? {FURTHEST}f : {z})" for z in linked]
        elif made.link == "softmax":
            yield "  float most = z0, total = 0.0f;"
            yield from (f"  if (z{o} > most) most = z{o};" for o in places[1:])
            yield from (f"  total += expf(z{o} - most);" for o in places)
            linked = [f"expf({z} - most) / total" for z in linked]

        def number(value: float) -> str:
            return plain(value) if real == "double" else f"{short(value)}f"

        for o, value, scale, shift in zip(places, linked, made.scale, made.shift, strict=True):
            scaled = value if (scale, shift) == (1.0, 0.0) else f"{value} * {number(scale)} + {number(shift)}"
            if made.transform is not None and made.transform.use == "log":
                exp, most = ("exp", plain(LARGEST)) if real == "double" else ("expf", "88.0f")
                yield f"  const {real} t{o} = {scaled};"
                scaled = f"{exp}(t{o} > {most} ? {most} : t{o})"
            elif made.transform is not None:
                yield from _constants(f"score{o}", real, [number(v) for v in made.transform.scores[o]])
                yield from _constants(f"value{o}", real, [number(v) for v in made.transform.values[o]])
                scaled = f"{self.name}_between({scaled}, score{o}, value{o}, {len(made.transform.scores[o])})"
            yield f"  y[{o}] = {scaled}; /* {comment(made.outputs[o])} */"

    def label(self) -> Iterator[str]:
        """The function that says which label it is; none for quantities."""
        if not self.made.labels:
            return
        yield f"/* Which label: {comment(', '.join(f'{at} {label}' for at, label in enumerate(self.made.labels)))} */"
        yield f"{self.name.upper()}_API int {self.name}_label(const {self.real} y[]) {{"
        if len(self.made.outputs) == 1:
            yield "  return y[0] > 0.5f;"
        else:
            yield "  int best = 0;"
            yield f"  for (int at = 1; at < {len(self.made.outputs)}; at++) if (y[at] > y[best]) best = at;"
            yield "  return best;"
        yield "}"

    def filled(self) -> Iterator[str]:
        """A row of coded numbers ``v`` as the members of ``row``."""
        for at, (field, column, double) in enumerate(zip(self.fields, self.made.columns, self.doubles, strict=True)):
            yield f"row.{field} = ({self._kind(column, double=double)})v[{at}];"

    def guarded(self, about: str, body: Iterator[str], *, includes: tuple[str, ...] = ("math.h",)) -> str:
        """A whole header."""
        guard = f"{self.name.upper()}_H"
        head = [f"/* {comment(self.made.title)}. {about} */", f"#ifndef {guard}", f"#define {guard}", ""]
        head += [f"#include <{include}>" for include in includes]
        head += ["", f"#ifndef {self.name.upper()}_API", f"#define {self.name.upper()}_API static inline", "#endif", ""]
        return "\n".join([*head, *body, "", "#endif", ""])


def _constants(name: str, real: str, values: list[str]) -> Iterator[str]:
    yield f"  static const {real} {name}[] = {{{', '.join(values)}}};"


def _term(layer: int, place: int, weight: float) -> str:
    return f"{'-' if weight < 0 else '+'} {short(abs(weight))}f * {f'x{place}' if layer == 0 else f'h{layer}_{place}'}"


def _neuron(header: Header, name: str, neuron: Neuron) -> str:
    total = " ".join([f"{short(neuron.bias)}f", *(_term(*term) for term in neuron.terms)])
    value = total if neuron.activation == "identity" else f"{header.name}_{neuron.activation}({total})"
    return f"  const float {name} = {value};"


def _body(header: Header) -> Iterator[str]:
    made, name = header.made, header.name
    yield from header.types()
    yield ""
    yield from header.helpers(set(made.activations) | header.linked)
    yield ""
    yield f"/* {comment('; '.join(f'y[{o}]: {output}' for o, output in enumerate(made.outputs)))} */"
    yield f"{name.upper()}_API void {name}(const {name}_row *row, {header.real} y[{len(made.outputs)}]) {{"
    if not made.features:
        yield "  (void)row;"
    used = {place for layer in made.layers for neuron in layer for source, place, _ in neuron.terms if source == 0}
    for at, (value, about) in enumerate(header.inputs()):
        yield f"  const float x{at} = {value}; /* {about} */" if at in used else f"  /* x{at}, {about}: nothing reads it */"
    for layer, neurons in enumerate(made.layers, start=1):
        last = layer == len(made.layers)
        for place, neuron in enumerate(neurons):
            yield _neuron(header, f"z{place}" if last else f"h{layer}_{place}", neuron)
    yield from header.answers()
    yield "}"
    yield from header.label()


def written(made: Program) -> dict[str, str]:
    """The header, and a program that checks it, by their names.

    Raises:
        ConfigError: for the activation of a plugin.
    """
    made.known(FUNCTIONS, "c")
    header = Header(made, made.name)
    about = f"A row to answers in float32: {made.name}(&row, y)."
    call = f"{made.name}(&row, y);"
    return {
        f"{made.name}.h": header.guarded(about, _body(header)),
        f"{made.name}_test.c": vectors(header, call, 1e-5),
    }


def vectors(header: Header, call: str, most: float) -> str:
    """A program that checks a header on a few rows that are made up; its status is 0 if answers differ by at most ``most``.

    Differences are in units of the output's scale; of a log-transformed target of the answer itself.
    """
    made = header.made
    rows = made_up(made, VECTORS, seed=1)
    given, wanted = coded(made.columns, rows), reference(made.network, rows)
    outputs = wanted.shape[1]
    scale = np.broadcast_to(np.asarray(made.scale), wanted.shape)
    if made.link == "exp":
        scale = np.maximum(scale, np.abs(wanted))
    if made.transform is not None:
        scale = (
            np.abs(wanted) * max(1.0, *made.scale)
            if made.transform.use == "log"
            else np.ptp(wanted, axis=0) + 1e-3 * np.abs(wanted)
        )
    cells = "\n".join(f"  {{{', '.join(_cell(v) for v in row) or '0'}}}," for row in given)
    answers = "\n".join(f"  {{{', '.join(map(plain, row))}}}," for row in wanted)
    room = "\n".join(f"  {{{', '.join(plain(most * max(float(v), 1e-300)) for v in row)}}}," for row in scale)
    fill = " ".join(header.filled()) or "(void)v; row.nothing = 0;"
    return f"""/* Checks {header.name}.h on rows that are made up: cc {header.name}_test.c -lm && ./a.out */
#include <stdio.h>
#include "{header.name}.h"

static const double rows[{VECTORS}][{max(given.shape[1], 1)}] = {{
{cells}
}};
static const double answers[{VECTORS}][{outputs}] = {{
{answers}
}};
static const double room[{VECTORS}][{outputs}] = {{
{room}
}};

int main(void) {{
  int wrong = 0;
  for (int at = 0; at < {VECTORS}; at++) {{
    const double *v = rows[at];
    {header.name}_row row;
    {header.real} y[{outputs}];
    {fill}
    {call}
    for (int o = 0; o < {outputs}; o++) {{
      if (!(fabs((double)y[o] - answers[at][o]) <= room[at][o])) {{
        printf("row %d, output %d: %.9g, not %.9g\\n", at, o, (double)y[o], answers[at][o]);
        wrong++;
      }}
    }}
  }}
  printf(wrong ? "%d answers differ\\n" : "%d answers differ: all is well\\n", wrong);
  return wrong != 0;
}}
"""


def _cell(value: float) -> str:
    return "NAN" if np.isnan(value) else plain(value)


def run(folder: Path, made: Program, rows: pd.DataFrame) -> Ran:
    """The answers of the compiled header to rows of raw values.

    Raises:
        ConfigError: without a C compiler, for a header that it refuses, and for test vectors that fail.
    """
    header = Header(made, made.name)
    fill = " ".join(header.filled()) or "(void)v;"
    call = f"{fill} {header.real} y[{len(made.outputs)}]; {made.name}(&row, y);"
    return compiled(folder, made, header.name, call, "y", coded(made.columns, rows), rows.index)
