"""What a form is, and those that there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nasplug.compact import CompactNetwork
from nasplug.ensemble import Ensemble
from nasplug.export import c, fixed, formula, graph, onnx, python, sql
from nasplug.export.program import Program, Ran, identifiers, program

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMS", "Form", "Network"]

Network = CompactNetwork | Ensemble


@dataclass(frozen=True, slots=True)
class Form:
    """One way for a network to leave nasplug.

    Attributes:
        name: after ``--to``.
        what: it is, in words.
        write: network and name -> file name -> content. It refuses with a ConfigError what it cannot say.
        run: a folder with these files, network, name and raw rows -> the answers of the files themselves.
        exact: whether answers may differ by rounding alone; else the score decides.
    """

    name: str
    what: str
    write: Callable[[Network, str], Mapping[str, str | bytes]]
    run: Callable[[Path, Network, str, pd.DataFrame], Ran]
    exact: bool = True


def _of_program(
    name: str,
    what: str,
    write: Callable[[Program], Mapping[str, str | bytes]],
    run: Callable[[Path, Program, pd.DataFrame], Ran],
    *,
    exact: bool = True,
) -> Form:
    """A form that is written from a `Program`."""
    return Form(
        name,
        what,
        lambda network, called: write(program(network, called)),
        lambda folder, network, called, rows: run(folder, program(network, called), rows),
        exact,
    )


def _graph(network: Network, name: str) -> Mapping[str, bytes]:
    return graph.written(network, identifiers([name], lower=True)[0])


def _run_graph(folder: Path, network: Network, name: str, rows: pd.DataFrame) -> Ran:
    first = network if isinstance(network, CompactNetwork) else next(iter(network.members))
    assert isinstance(first, CompactNetwork)  # for the type checker
    return graph.run(folder, network, identifiers([name], lower=True)[0], torch.from_numpy(first.features(rows)))


FORMS: Mapping[str, Form] = {
    form.name: form
    for form in (
        Form("pt2", "a graph of torch, on encoded features", _graph, _run_graph),
        _of_program("onnx", "a graph for ONNX Runtime and others, one input per column", onnx.written, onnx.run),
        _of_program("python", "a function of a dictionary; no import but math", python.written, python.run),
        _of_program("c", "a C99 header in float32, with test vectors", c.written, c.run),
        _of_program("fixed", "a C99 header in whole numbers, with test vectors", fixed.written, fixed.run, exact=False),
        _of_program("sql", "one SELECT, for SQLite and DuckDB", sql.written, sql.run),
        _of_program("formula", "text, LaTeX and sympy", formula.written, formula.run),
    )
}
"""By name, in the order in which they are written."""
