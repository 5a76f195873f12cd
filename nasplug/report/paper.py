"""What a page is made of: tables with names, and templates filled in; one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as within
from typing import Any

from nasplug.console import visible

__all__ = ["Grid", "render"]

SECTION = re.compile(r'<h2 id="([^"]*)">(.*?)</h2>', re.DOTALL)
PLACE = "<!-- sections -->"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of a page.

    Attributes:
        name: its id, unique on the page.
        caption: what it is, in words; it also names the box that the table scrolls in.
        headings: of its columns.
        rows: whether one is marked as the chosen network, and its cells.
        head: the place of the cell that is its row's name; -1 for none.
        text: whether cells are words that may break, not numbers.
        sortable: whether a reader may want another order.
        meanings: what columns mean, where their headings do not say it.
        looks: of each row and cell its class in the style sheet, where cells have colours.
    """

    name: str
    caption: str
    headings: Sequence[str]
    rows: Sequence[tuple[bool, Sequence[str]]]
    head: int = 0
    text: bool = False
    sortable: bool = False
    meanings: Sequence[tuple[str, str]] = ()
    looks: Sequence[Sequence[str]] = ()


def render(template: str, **values: Any) -> str:
    """A page from a template of ``templates/``: text is escaped, control characters are written out.

    The page's script is allowed by its digest, any other is not. Its list of sections is made of its headings.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("nasplug"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,  # names of columns and labels; not Markup
    )
    script = within("nasplug").joinpath("templates/page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template(template).render(
        **values, script=Markup(script), allowed=Markup(f"sha256-{digest}"), sections=Markup(PLACE + "\n")
    )
    links = [f'<li><a href="#{name}">{words}</a></li>' for name, words in SECTION.findall(page)]
    return page.replace(PLACE, "\n".join(links), 1)
