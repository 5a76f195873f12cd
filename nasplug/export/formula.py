"""The form ``formula``: text, LaTeX and sympy's own notation, with the digits that a network has (`nasplug.explain` rounds)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug.errors import ConfigError
from nasplug.explain import Formula, formula
from nasplug.export.program import Program, Ran
from nasplug.records import answers

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["run", "written"]

DIGITS, ALL = 9, 17  # significant: of a float32, and of a float64
MOST = 20_000  # terms of the expression with every neuron written out


def _exact(made: Program) -> Formula:
    """The formula; ends of ramps need all digits."""
    ramps = any(feature.kind == "ramp" for feature in made.features)
    return formula(made.network, ALL if ramps else DIGITS)


def _checked(made: Program) -> dict[str, Any]:
    """Expressions of sympy by output.

    Raises:
        ConfigError: for what has no closed form, or one that is too long, and without sympy.
    """
    sizes: list[list[int]] = [[1] * len(made.features)]
    for layer in made.layers:
        sizes.append([1 + sum(sizes[source][place] for source, place, _ in neuron.terms) for neuron in layer])
    if sum(sizes[-1]) > MOST:
        raise ConfigError(
            f"formula: written out it has {sum(sizes[-1]):,} terms, more than {MOST:,}; take python, which names neurons"
        )
    found = _exact(made).sympy()
    from sympy.core.function import AppliedUndef

    if unknown := sorted({str(part.func) for one in found.values() for part in one.atoms(AppliedUndef)}):
        what = "the rank transform of the target" if "value_of_normal_score" in unknown else f"activation {unknown[0]!r}"
        raise ConfigError(f"formula: {what} has no closed form; take python, or pt2")
    return found


def written(made: Program) -> dict[str, str]:
    """The files, by their names.

    Raises:
        ConfigError: for what has no closed form, or one that is too long, and without sympy.
    """
    expressions = _checked(made)
    from sympy import srepr

    told = _exact(made)
    lines = [f"# {made.title}", *(f"{name!r}: {srepr(one)}" for name, one in expressions.items())]
    return {
        f"{made.name}_formula.txt": told.text() + "\n",
        f"{made.name}_formula.tex": told.latex() + "\n",
        f"{made.name}_sympy.txt": "\n".join(lines) + "\n",
    }


def run(folder: Path, made: Program, rows: pd.DataFrame) -> Ran:
    """What sympy's expressions, compiled to numpy, give for rows of raw values."""
    import sympy

    expressions, atoms = _checked(made), _exact(made).atoms
    features = made.network.features(rows)
    values = {}
    for atom in atoms:
        if atom.kind == "word":
            values[f"{atom.column} = {atom.word}"] = features[:, atom.place]
        elif atom.kind == "gap":
            values[f"{atom.column} is missing"] = features[:, atom.place]
        else:
            values[atom.column] = features[:, atom.number if atom.kind == "ramp" else atom.place]
    symbols = [sympy.Symbol(name, real=True) for name in values]
    with sympy.evaluate(False):  # else each ramp is simplified again, for minutes
        compiled = sympy.lambdify(symbols, list(expressions.values()), modules=["scipy", "numpy"], cse=True, dummify=True)
    start = time.perf_counter()
    with np.errstate(all="ignore"):  # branches that are not taken overflow
        found = compiled(*values.values())
    seconds = time.perf_counter() - start
    outputs = np.stack([np.broadcast_to(np.asarray(one, dtype=np.float64), len(rows)) for one in found], axis=1)
    return Ran(answers(made.record, outputs, rows.index), 1e6 * seconds / len(rows))
