"""The form ``fixed``: one C99 header in whole numbers, for chips without floating point, and a program that checks it.

Every value is a whole number of ``2^-11``: features and neurons are limited to 16 bits, ``[-16, 16)``. A weight of a neuron is
a whole number of ``2^-s``, 16 bits, with ``s`` as large as keeps ``sum |w| 2^15 + |b| < 2^31``: no sum can leave 32 bits,
whatever is read. Numbers are shifted to the right with their sign, as all compilers of today do. Curved activations are tables
of 1/16 steps, straight between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nasplug.errors import ConfigError
from nasplug.export.c import Header, comment, vectors
from nasplug.export.compiling import compiled
from nasplug.export.program import Neuron, Program, Ran, short
from nasplug.export.rows import coded

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FUNCTIONS", "run", "scaled_weights", "written"]

BITS = 11  # behind the point, of every value
ONE = 1 << BITS
STEP = 4  # 2^-4 between the entries of a table
LARGEST = 2**31 - 1
MOST_SHIFT = 15
LOOSE = 0.05  # units of the output's scale that the test vectors may differ by
TURN, HALF, QUARTER = round(2 * math.pi * ONE), round(math.pi * ONE), round(math.pi / 2 * ONE)


class _Curve(NamedTuple):
    """An activation: ``whole`` of z, with ``t(u)`` for the table at ``u``; the table is of ``function`` on ``[0, until]``."""

    whole: str
    function: Callable[[float], float] | None = None
    until: float = 0.0
    end: float | None = None


def _normal(u: float) -> float:
    return 0.5 * math.erfc(u / math.sqrt(2.0))


CURVES: Mapping[str, _Curve] = {
    "identity": _Curve("z"),
    "relu": _Curve("z > 0 ? z : 0"),
    "leaky_relu": _Curve("z > 0 ? z : z / 100"),
    "tanh": _Curve("z < 0 ? -t(-z) : t(z)", math.tanh, 4.0, 1.0),
    "sigmoid": _Curve(f"{ONE // 2} + (z < 0 ? -t(-z) : t(z))", lambda u: 1 / (1 + math.exp(-u)) - 0.5, 8.0, 0.5),
    "elu": _Curve("z > 0 ? z : -t(-z)", lambda u: 1.0 - math.exp(-u), 8.0, 1.0),
    "silu": _Curve("z > 0 ? z - t(z) : -t(-z)", lambda u: u / (1 + math.exp(u)), 10.0, 0.0),
    "gelu": _Curve("z > 0 ? z - t(z) : -t(-z)", lambda u: u * _normal(u), 4.0, 0.0),
    "softplus": _Curve("z > 0 ? z + t(z) : t(-z)", lambda u: math.log1p(math.exp(-u)), 8.0, 0.0),
    "sin": _Curve("turned", math.sin, 26 / 16),
    "square": _Curve(f"z > {4 * ONE - 1} || z < {1 - 4 * ONE} ? 32767 : (z * z) >> {BITS}"),  # 4^2 is past the last number
}
FUNCTIONS = frozenset(CURVES)
BOUNDED = frozenset({"tanh", "sigmoid", "sin"})
SINE = f"""  int32_t u = z % {TURN}, sign = 1;
  if (u < 0) {{ u = -u; sign = -1; }}
  if (u >= {HALF}) {{ u -= {HALF}; sign = -sign; }}
  return sign * t(u > {QUARTER} ? {HALF} - u : u);"""


def scaled_weights(neuron: Neuron) -> tuple[int, int, list[int]]:
    """``s``, the bias as a whole number of ``2^-(11 + s)`` with the half that rounds, and the weights as those of ``2^-s``.

    Raises:
        ConfigError: for weights that no ``s >= 0`` fits.
    """
    for shift in range(MOST_SHIFT, -1, -1):
        weights = [round(w * 2.0**shift) for _, _, w in neuron.terms]
        bias = round(neuron.bias * 2.0 ** (BITS + shift)) + (1 << shift >> 1)
        if max(map(abs, weights), default=0) < 2**15 and (sum(map(abs, weights)) << 15) + abs(bias) <= LARGEST:
            return shift, bias, weights
    raise ConfigError("fixed: weights of a neuron sum to more than 2^16; take c, which has floating point")


def _read(made: Program) -> set[tuple[int, int]]:
    """Which features (layer 0) and neurons the answers read, as ``(layer, place)``: some weights are 0 in whole numbers."""
    last = len(made.layers)
    read = {(last, place) for place in range(len(made.layers[-1]))}
    for layer, neurons in reversed(list(enumerate(made.layers, start=1))):
        for place, neuron in enumerate(neurons):
            if (layer, place) in read:
                read |= {(at, source) for w, (at, source, _) in zip(scaled_weights(neuron)[2], neuron.terms, strict=True) if w}
    return read


def _functions(header: Header, read: set[tuple[int, int]]) -> Iterator[str]:
    hidden = [(at, neurons) for at, neurons in enumerate(header.made.layers[:-1], start=1)]
    names = sorted({neuron.activation for at, neurons in hidden for n, neuron in enumerate(neurons) if (at, n) in read})
    own = header.name
    if set(names) - BOUNDED:
        yield f"static inline int32_t {own}_limit(int32_t z) {{ return z > 32767 ? 32767 : z < -32768 ? -32768 : z; }}"
    tables = [name for name in names if CURVES[name].function is not None]
    if tables:
        yield "/* t[0], t[1], ... are 1/16 apart; straight between them, and the last beyond. */"
        yield f"static int32_t {own}_table(const int16_t *t, int32_t last, int32_t u) {{"
        yield f"  if (u >= last << {BITS - STEP}) return t[last];"
        yield f"  t += u >> {BITS - STEP};"
        half = 1 << (BITS - STEP - 1)
        yield f"  return t[0] + (((t[1] - t[0]) * (u & {(1 << BITS - STEP) - 1}) + {half}) >> {BITS - STEP});"
        yield "}"
    for name in names:
        curve = CURVES[name]
        if curve.function is None:
            if name != "identity":
                yield f"static inline int32_t {own}_{name}(int32_t z) {{ return {own}_limit({curve.whole}); }}"
            continue
        last = round(curve.until * 2**STEP)
        values = [round(curve.function(at / 2**STEP) * ONE) for at in range(last + 1)]
        if curve.end is not None:
            values[-1] = round(curve.end * ONE)
        yield f"static int32_t {own}_{name}(int32_t z) {{"
        yield f"  static const int16_t values[] = {{{', '.join(map(str, values))}}};"
        for line in (SINE if name == "sin" else f"  return {_limited(header, name, curve.whole)};").splitlines():
            yield line.replace(" t(", f" {own}_table(values, {last}, ").replace("-t(", f"-{own}_table(values, {last}, ")
        yield "}"


def _limited(header: Header, name: str, whole: str) -> str:
    return whole if name in BOUNDED else f"{header.name}_limit({whole})"


def _neuron(header: Header, name: str, neuron: Neuron) -> Iterator[str]:
    shift, bias, weights = scaled_weights(neuron)
    terms = [
        f"{'-' if w < 0 else '+'} {abs(w)} * {f'x{place}' if layer == 0 else f'h{layer}_{place}'}"
        for w, (layer, place, _) in zip(weights, neuron.terms, strict=True)
        if w
    ]
    total = " ".join([str(bias), *terms])
    total = f"({total}) >> {shift}" if shift else total
    about = f"/* weights in 2^-{shift} */"
    if name.startswith("z"):
        yield f"  z[{name[1:]}] = {total}; {about}"
    elif neuron.activation == "identity":
        yield f"  const int32_t {name} = {header.name}_limit({total}); {about}"
    else:
        yield f"  const int32_t {name} = {header.name}_{neuron.activation}({total}); {about}"


def _body(header: Header) -> Iterator[str]:
    made, name = header.made, header.name
    upper, inputs, outputs = name.upper(), len(made.features), len(made.outputs)
    yield from header.types()
    yield ""
    read = _read(made)
    yield from _functions(header, read)
    yield ""
    yield f"/* The network: x and z are whole numbers of 2^-{BITS}. z: {_sums(made)}. */"
    yield f"{upper}_API void {name}(const int16_t x[{max(inputs, 1)}], int32_t z[{outputs}]) {{"
    used = sorted(place for layer, place in read if layer == 0)
    yield from [] if used else ["  (void)x;"]
    yield from (f"  const int32_t x{at} = x[{at}]; /* {comment(made.features[at].name)} */" for at in used)
    for layer, neurons in enumerate(made.layers, start=1):
        last = layer == len(made.layers)
        for place, neuron in enumerate(neurons):
            if (layer, place) in read:
                yield from _neuron(header, f"z{place}" if last else f"h{layer}_{place}", neuron)
    yield "}"
    yield from _label(header)
    yield ""
    yield "/* With floating point, for those who have it: what is read, scaled, and what is answered. */"
    yield from header.helpers(header.linked)
    yield f"static inline int16_t {name}_whole(float h) {{"
    yield f"  const float q = floorf(h * {ONE}.0f + 0.5f);"
    yield "  return (int16_t)(q > 32767.0f ? 32767.0f : q > -32768.0f ? q : -32768.0f); /* so of NAN */"
    yield "}"
    yield f"static inline void {name}_read(const {name}_row *row, int16_t x[{max(inputs, 1)}]) {{"
    yield from [] if inputs else ["  (void)row; x[0] = 0;"]
    for at, ((value, about), feature) in enumerate(zip(header.inputs(), made.features, strict=True)):
        per = f"{about}: (v - {feature.shift:.9g}) * {ONE / feature.scale:.9g}"
        yield f"  x[{at}] = {name}_whole({value}); /* {per} */"
    yield "}"
    yield f"static inline void {name}_answer(const int32_t z[{outputs}], {header.real} y[{outputs}]) {{"
    yield from (f"  const float z{o} = (float)z[{o}] * {short(1 / ONE)}f;" for o in range(outputs))
    yield from header.answers()
    yield "}"


def _sums(made: Program) -> str:
    links = {"sigmoid": "log-odds", "softmax": "scores, of which the largest counts", "exp": "logarithms"}
    what = links.get(made.link, "answers, in units of their scale")
    return comment(f"{what}: {', '.join(made.outputs)}")


def _label(header: Header) -> Iterator[str]:
    made = header.made
    if not made.labels:
        return
    yield f"/* Which label: {comment(', '.join(f'{at} {label}' for at, label in enumerate(made.labels)))} */"
    yield f"{header.name.upper()}_API int {header.name}_label(const int32_t z[{len(made.outputs)}]) {{"
    if len(made.outputs) == 1:
        yield f"  return z[0] > {0 if made.link == 'sigmoid' else ONE // 2};"
    else:
        yield "  int best = 0;"
        yield f"  for (int at = 1; at < {len(made.outputs)}; at++) if (z[at] > z[best]) best = at;"
        yield "  return best;"
    yield "}"


def _call(header: Header) -> str:
    inputs, outputs, name = max(len(header.made.features), 1), len(header.made.outputs), header.name
    steps = f"{name}_read(&row, x); {name}(x, z); {name}_answer(z, y);"
    return f"int16_t x[{inputs}]; int32_t z[{outputs}]; {steps}"


def written(made: Program) -> dict[str, str]:
    """The header, and a program that checks it, by their names.

    Raises:
        ConfigError: for the activation of a plugin, and for weights that are too large.
    """
    made.known(FUNCTIONS, "fixed")
    header = Header(made, f"{made.name}_fixed")
    about = f"In whole numbers of 2^-{BITS}: {header.name}_read(&row, x), {header.name}(x, z), {header.name}_answer(z, y)."
    return {
        f"{header.name}.h": header.guarded(about, _body(header), includes=("math.h", "stdint.h")),
        f"{header.name}_test.c": vectors(header, _call(header), LOOSE),
    }


def run(folder: Path, made: Program, rows: pd.DataFrame) -> Ran:
    """The answers of the compiled header to rows of raw values.

    Raises:
        ConfigError: without a C compiler, for a header that it refuses, and for test vectors that fail.
    """
    header = Header(made, f"{made.name}_fixed")
    fill = " ".join(header.filled()) or "(void)v;"
    call = f"{fill} {header.real} y[{len(made.outputs)}]; {_call(header)}"
    return compiled(folder, made, header.name, call, "z", coded(made.columns, rows), rows.index)
