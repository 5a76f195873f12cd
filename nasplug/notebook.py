"""What a notebook shows: small tables as HTML, and one line that is written over. IPython is never imported here."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from html import escape
from typing import Any

from nasplug.console import visible

__all__ = ["Line", "facts", "in_notebook", "table"]


def _shell() -> Any:
    """The shell of the notebook's kernel, or None: a terminal's IPython has no kernel."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if callable(get_ipython) else None
    return shell if getattr(shell, "kernel", None) is not None else None


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this process."""
    return _shell() is not None


class Line:
    """One line of text below a cell; `show` replaces it, from any thread."""

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self._shown = False

    def show(self, text: str) -> None:
        """Write the line, the first time below the cell that runs now. Outside of a notebook nothing happens."""
        shell = _shell()
        if shell is not None:
            with suppress(Exception):  # what is shown must never stop a study
                shell.display_pub.publish({"text/plain": text}, transient={"display_id": self._id}, update=self._shown)
                self._shown = True


def facts(title: str, rows: Mapping[str, object]) -> str:
    """A heading, and a table of names and values as HTML."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows.items()
    )
    return f"<div><b>{_text(title)}</b><table>{cells}</table></div>"


def table(names: Sequence[str], rows: Sequence[Sequence[object]], marked: int = -1) -> str:
    """A table as HTML; the row ``marked`` is bold."""
    head = "".join(f"<th>{_text(name)}</th>" for name in names)
    body = ""
    for place, row in enumerate(rows):
        weight = " style='font-weight:bold'" if place == marked else ""
        body += f"<tr{weight}>{''.join(f'<td>{_text(value)}</td>' for value in row)}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(value: object) -> str:
    if isinstance(value, float):
        value = f"{value:.4g}"
    return escape(visible(str(value)))
