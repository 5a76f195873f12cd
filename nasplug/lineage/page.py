"""A lineage as one HTML page that needs nothing else: stages from the data down, each with its facts, and the whole record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nasplug.console import one_line, visible
from nasplug.lineage.telling import Stage, name_of

__all__ = ["page"]

STYLE = """
:root { color-scheme: light dark; --line: #767676; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; }
ol { list-style: none; margin: 0; padding: 0; }
ol.way > li { border: 1px solid var(--line); border-radius: .4rem; padding: .6rem 1rem; margin-bottom: 1.6rem; }
ol.way > li { position: relative; }
ol.way > li:not(:last-child)::after { content: "\\2193"; position: absolute; left: 1.5rem; bottom: -1.6rem; }
h2 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
h2 span { font-weight: normal; }
ul { margin: .3rem 0 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
summary:focus-visible { outline: 2px solid; }
"""


def page(found: Sequence[Stage], record: Mapping[str, Any]) -> str:
    """The page; nothing in it is loaded from elsewhere, and no script runs."""
    name = _text(f"Lineage of {name_of(record)}")
    items = "\n".join(_item(stage) for stage in found)
    whole = escape(visible(json.dumps(record, indent=1, ensure_ascii=False)))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{name}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{name}</h1>
<ol class="way" aria-label="From the data to the network, in order">
{items}
</ol>
<details><summary>The whole record</summary>
<pre>{whole}</pre>
</details>
</main>
</body>
</html>
"""


def _item(stage: Stage) -> str:
    facts = "".join(f"<li>{_text(fact)}</li>" for fact in stage.facts)
    return f"<li><h2>{_text(stage.name)}: <span>{_text(stage.title)}</span></h2>{f'<ul>{facts}</ul>' if facts else ''}</li>"


def _text(words: str) -> str:
    return escape(one_line(words))
