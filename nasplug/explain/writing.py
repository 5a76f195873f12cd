"""Writes a formula: text, LaTeX, sympy. All three go through the same terms, so that they say the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from nasplug.console import one_line
from nasplug.errors import ConfigError
from nasplug.explain.terms import Atom, Sum, Terms

__all__ = ["latex", "sympy", "text"]

WIDTH = 100  # of a line of text
PLAIN = re.compile(r"(?!h\d+$)[^\W\d]\w*")  # h1 is a neuron
ESCAPED = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX = {"tanh": r"\tanh", "sin": r"\sin", "sigmoid": r"\sigma"}


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}g}"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _joined(parts: Sequence[tuple[float, str]]) -> list[str]:
    """Signed terms: ``2``, ``- 3*x``, ``+ y``; `parts` are values and how their absolute value is written."""
    found = []
    for place, (value, words) in enumerate(parts):
        sign = ("-" if place == 0 else "- ") if value < 0 else ("" if place == 0 else "+ ")
        found.append(sign + words)
    return found or ["0"]


# -- text --------------------------------------------------------------------------------------------------------------


def _name(name: str) -> str:
    """As it is, or between backquotes where it is more than one word or called as a neuron is."""
    return name if PLAIN.fullmatch(name) else f"`{one_line(name)}`"


def _atom(atom: Atom) -> str:
    name = _name(atom.column)
    if atom.kind == "word":
        return f"[{name} = {atom.word!r}]"
    if atom.kind == "gap":
        return f"[{name} is missing]"
    if atom.kind == "ramp":
        return f"ramp({name}, {atom.low:.15g}, {atom.high:.15g})"
    if atom.kind == "date":
        return f"days({_date(atom.centre)}, {name})"
    if atom.centre:
        return f"({name} {'-' if atom.centre > 0 else '+'} {abs(atom.centre):.15g})"
    return name


def text(made: Terms) -> str:
    """See `nasplug.explain.formula.Formula.text`."""
    neurons, outputs = made.sums
    names, own = made.activations, made.shared

    def terms(one: Sum) -> list[str]:
        parts = [(one.constant, _number(abs(one.constant), made.digits))] if one.constant or not one.terms else []
        for w, atom, m in one.terms:
            what = _atom(atom) if atom is not None else neuron(m)
            size = _number(abs(w), made.digits)
            parts.append((w, what if size == "1" else f"{size}*{what}"))
        return _joined(parts)

    def neuron(m: int) -> str:
        return f"h{m + 1}" if m in own else f"{names[m]}({' '.join(terms(neurons[m]))})"

    lines = [_line(f"h{m + 1}", [f"{names[m]}({' '.join(terms(neurons[m]))})"]) for m in sorted(own)]
    lines += [_line(name, terms(one)) for name, one in zip(_sum_names(made), outputs, strict=True)]
    return "\n".join([*lines, *_links(made)])


def _line(name: str, terms: Sequence[str]) -> str:
    """On one line, or one term per line where that is too long."""
    whole = f"{name} = {' '.join(terms)}"
    if len(whole) <= WIDTH or len(terms) < 2:
        return whole
    return f"{name} =\n    " + "\n    ".join(terms)


def _sum_names(made: Terms) -> list[str]:
    """What the sums are called, on the left."""
    targets, link = [str(t) for t in made.record["targets"]], made.record["link"]
    if link == "sigmoid":
        return [f"log-odds of {_name(targets[1])}"]
    if link == "softmax":
        return [f"score of {_name(t)}" for t in targets]
    if link == "exp":
        return [f"log of {_name(t)}" for t in targets]
    if "transform" in made.record:
        what = "log" if made.record["transform"]["use"] == "log" else "normal score"
        return [f"{what} of {_name(t)}" for t in targets]
    return [one_line(name) if name.startswith("score of ") else _name(name) for name in made.record["outputs"]]


def _links(made: Terms) -> list[str]:
    """What is served, of the sums; and what ramps and days are."""
    targets, link = [str(t) for t in made.record["targets"]], made.record["link"]
    found = []
    if link == "sigmoid":
        found.append(f"P({one_line(targets[1])}) = 1 / (1 + exp(-log-odds))")
    elif link == "softmax":
        found.append("P(label) = exp(its score) / sum of exp(all scores)")
    elif link == "exp":
        for place, target in enumerate(targets):
            shift = float(made.record["output_shift"][place])
            rest = "" if shift == 0 else f" {'+' if shift > 0 else '-'} {_number(abs(shift), made.digits)}"
            found.append(f"{_name(target)} = exp(log of {_name(target)}){rest}")
    elif "transform" in made.record:
        back = "exp(its log)" if made.record["transform"]["use"] == "log" else "the value of that normal score (see the record)"
        found += [f"{_name(target)} = {back}" for target in targets]
    kinds = {atom.kind for atom in made.atoms}
    if "ramp" in kinds:
        found.append("where ramp(x, a, b) = min(1, max(0, (x - a) / (b - a)))")
    if "date" in kinds:
        found.append("where days(d, x) is the days from d (UTC) to x")
    return found


# -- LaTeX -------------------------------------------------------------------------------------------------------------


def _escaped(name: str) -> str:
    return r"\text{" + "".join(ESCAPED.get(c, c) for c in one_line(name)) + "}"


def _power(value: float, digits: int) -> str:
    lead, _, exponent = _number(value, digits).partition("e")
    if not exponent:
        return lead
    return (rf"{lead} \cdot " if lead != "1" else "") + f"10^{{{int(exponent)}}}"


def _latex_atom(atom: Atom) -> str:
    name = _escaped(atom.column)
    if atom.kind == "word":
        return rf"[{name} = {_escaped(atom.word)}]"
    if atom.kind == "gap":
        return rf"[{name}\ \text{{missing}}]"
    if atom.kind == "ramp":
        return rf"\operatorname{{ramp}}_{{{atom.low:.15g}}}^{{{atom.high:.15g}}}({name})"
    if atom.kind == "date":
        return rf"\operatorname{{days}}_{{\text{{{_date(atom.centre)}}}}}({name})"
    if atom.centre:
        return rf"({name} {'-' if atom.centre > 0 else '+'} {abs(atom.centre):.15g})"
    return name


def latex(made: Terms) -> str:
    """See `nasplug.explain.formula.Formula.latex`."""
    neurons, outputs = made.sums
    names, own = made.activations, made.shared

    def body(one: Sum) -> str:
        parts = [(one.constant, _power(abs(one.constant), made.digits))] if one.constant or not one.terms else []
        for w, atom, m in one.terms:
            what = _latex_atom(atom) if atom is not None else f"h_{{{m + 1}}}" if m in own else applied(m)
            size = _power(abs(w), made.digits)
            parts.append((w, what if size == "1" else rf"{size}\, {what}"))
        return " ".join(_joined(parts))

    def applied(m: int) -> str:
        inside = body(neurons[m])
        if names[m] == "relu":
            return rf"\max(0, {inside})"
        head = LATEX.get(names[m]) or r"\operatorname{" + names[m].replace("_", r"\_") + "}"
        return rf"{head}\left({inside}\right)"

    lines = [rf"h_{{{m + 1}}} &= {applied(m)}" for m in sorted(own)]
    for place, one in enumerate(outputs):
        lines.append(rf"{_left(made, place)} &= {body(one)}")
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def _left(made: Terms, place: int) -> str:
    """What stands left of a sum."""
    targets, link = [str(t) for t in made.record["targets"]], made.record["link"]
    if link == "sigmoid":
        return rf"\operatorname{{logit}} P({_escaped(targets[1])})"
    if link == "softmax":
        return rf"\log P({_escaped(targets[place])}) + c"
    if link == "exp" or made.record.get("transform", {}).get("use") == "log":
        return rf"\log {_escaped(targets[place])}"
    if "transform" in made.record:
        return rf"\operatorname{{score}}({_escaped(targets[place])})"
    return _escaped(str(made.record["outputs"][place]))


# -- sympy -------------------------------------------------------------------------------------------------------------


def _exp(s: Any, z: Any, sign: int = 1) -> Any:
    """``e^z`` or ``e^-z`` as it stands: sympy makes a product of powers of it, which float64 may not hold."""
    return s.exp(z if sign > 0 else s.Mul(s.Integer(-1), z, evaluate=False), evaluate=False)


def _largest(s: Any, z: Any) -> Any:
    """``max(0, z)`` as it stands: sympy takes seconds to find that it cannot be simplified."""
    return s.Max(0, z, evaluate=bool(z.is_number))


def _activations(s: Any) -> dict[str, Callable[[Any], Any]]:
    return {
        "identity": lambda z: z,
        "relu": lambda z: _largest(s, z),
        "leaky_relu": lambda z: 0.01 * z + 0.99 * _largest(s, z),  # sympy folds conditions of conditions together: none
        "tanh": s.tanh,
        "sigmoid": lambda z: 1 / (1 + _exp(s, z, -1)),
        "elu": lambda z: _largest(s, z) + _exp(s, s.Min(0, z, evaluate=bool(z.is_number))) - 1,
        "silu": lambda z: z / (1 + _exp(s, z, -1)),
        "gelu": lambda z: z * (1 + s.erf(z / s.sqrt(2))) / 2,
        "softplus": lambda z: s.log(1 + _exp(s, z)),
        "sin": s.sin,
        "square": lambda z: z**2,
    }


def _sympy_atom(s: Any, atom: Atom) -> Any:
    if atom.kind == "word":
        return s.Symbol(f"{atom.column} = {atom.word}", real=True)
    if atom.kind == "gap":
        return s.Symbol(f"{atom.column} is missing", real=True)
    x = s.Symbol(atom.column, real=True)
    if atom.kind == "ramp":
        part = (x - atom.low) / (atom.high - atom.low)
        return s.Min(1, _largest(s, part), evaluate=False)
    return (x - atom.centre) / atom.unit if atom.centre or atom.unit != 1.0 else x


def sympy(made: Terms) -> dict[str, Any]:
    """See `nasplug.explain.formula.Formula.sympy`."""
    try:
        import sympy as s
    except ImportError:
        raise ConfigError("sympy is not installed; install it (pip install sympy), or take text() or latex()") from None
    neurons, outputs = made.sums
    names = made.activations
    functions = _activations(s)
    values: list[Any] = []
    atom_of = cache(lambda atom: _sympy_atom(s, atom))

    def total(one: Sum) -> Any:
        read = [(w, atom_of(atom) if atom is not None else values[m]) for w, atom, m in one.terms]
        # A difference stays one: written out it would lose digits. What is a number alone becomes one.
        parts = [s.Mul(s.Float(w), value, evaluate=bool(value.is_number)) for w, value in read]
        return s.Add(s.Float(one.constant), *parts)

    for m, one in enumerate(neurons):
        value = (functions.get(names[m]) or s.Function(names[m]))(total(one))
        values.append(value.evalf(17) if value.is_number else value)
    sums = [total(one) for one in outputs]
    link = made.record["link"]
    if link == "sigmoid":
        sums = [1 / (1 + _exp(s, z, -1)) for z in sums]
    elif link == "softmax":
        powers = [_exp(s, z) for z in sums]
        sums = [power / s.Add(*powers) for power in powers]
    elif link == "exp":
        sums = [_exp(s, z) + shift for z, shift in zip(sums, made.record["output_shift"], strict=True)]
    elif "transform" in made.record:
        logs, back = made.record["transform"]["use"] == "log", s.Function("value_of_normal_score")
        sums = [_exp(s, z) if logs else back(z) for z in sums]
    return dict(zip(made.record["outputs"], sums, strict=True))
