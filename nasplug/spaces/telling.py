"""A space, its table and the searches on it: for a terminal, as plain data, as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from nasplug import files
from nasplug.drawing import draw_ranks, save_png
from nasplug.report.paper import Grid
from nasplug.spaces.scoring import Bounded, Found, Scored
from nasplug.spaces.space import Space
from nasplug.spaces.table import TABLE, Table

__all__ = ["PICTURE", "SCORES", "best_grid", "plain", "scores_grid", "space_words", "write_scores"]

PICTURE = "architectures.png"
SCORES = "scores.json"
SHOWN = 5  # of the best architectures


def space_words(space: Space) -> Iterator[str]:
    """How large a space is, what trains it, and what is not as in the search."""
    yield (
        f"{space.architectures:,} architectures x {len(space.study.seed_list)} seeds = {space.networks:,} networks, in "
        f"{len(space.parts)} {'studies' if len(space.parts) > 1 else 'study'} in {space.folder}"
    )
    for part in space.parts:
        shapes = f" at each of {part.shapes} shapes" if part.shapes > 1 else ""
        yield f"  {part.config.study}: {part.architectures:,} architecture{'s' if part.architectures > 1 else ''}{shapes}"
    if space.different:
        yield f"Not as in the search: {'; '.join(space.different)}."


def _number(value: float) -> str:
    return f"{value:.4g}"


def best_grid(table: Table) -> Grid:
    """The best architectures by mean test error, and the worst."""
    frame = table.frame
    some = [*frame.head(SHOWN).to_dict("records"), *frame.iloc[max(SHOWN, len(frame) - 1) :].to_dict("records")]
    rows = [
        (
            False,
            [
                str(row["rank"]),
                str(row["hidden"]),
                str(row["architecture"]),
                f"{row['test_error']:.4g} ± {row['test_error_se']:.2g}",
                _number(row["valid_error"]),
                f"{row['parameters']:,.0f}",
            ],
        )
        for row in some
    ]
    headings = ["rank", "hidden", "architecture", "test error", "valid error", "parameters"]
    caption = f"The best of {len(frame):,} architectures by mean test error over {len(table.seeds)} seeds, and the worst"
    return Grid("architectures", caption, headings, rows)


def _tau(values: Bounded | None) -> str:
    return "" if values is None else f"{values.mean:.2f} [{values.low:.2f}, {values.high:.2f}]"


def scores_grid(table: Table, found: Sequence[Scored]) -> Grid:
    """One row per search, and what drawing at random comes to."""
    names = list(dict.fromkeys(name for one in found for name in one.tau))
    rows = [
        (
            False,
            [
                one.name,
                str(one.runs or ""),
                f"{one.regret.mean:.4g} [{one.regret.low:.4g}, {one.regret.high:.4g}]",
                _number(one.behind),
                f"{one.rank:.1f}",
                *(_tau(one.tau.get(name)) for name in names),
            ],
        )
        for one in found
    ]
    headings = ["search", "runs", "regret [90 %]", "behind the best", f"rank of {len(table.keys):,}"]
    headings += [f"tau of {name} [90 %]" for name in names]
    return Grid("scores", f"Searches, {table.unit}", headings, rows)


def plain(table: Table, found: Sequence[Scored]) -> dict[str, Any]:
    """Plain JSON: the space, its best architecture, and the scores."""
    best = table.frame.iloc[0]
    return {
        "folder": str(table.space.folder),
        "table": str(table.space.folder / TABLE),
        "architectures": len(table.keys),
        "networks": table.space.networks,
        "seeds": list(table.seeds),
        "different": list(table.space.different),
        "best": _finite(
            {
                name: best[name].item() if hasattr(best[name], "item") else best[name]
                for name in ("hidden", "architecture", "valid_error", "test_error", "test_error_se", "parameters")
            }
        ),
        "trivial_test_error": _finite(table.trivial),
        "searches": [_finite(one.plain()) for one in found],
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_scores(table: Table, searches: Sequence[Found], found: Sequence[Scored]) -> None:
    """`SCORES` and `PICTURE` into the folder of the space."""
    folder = table.space.folder
    files.write_json(folder / SCORES, plain(table, found))
    chosen = {one.name: one.chosen for one in searches}
    figure = draw_ranks(table.test, table.spread("test_error"), chosen, f"test error: {table.unit}")
    with files.beside(folder / PICTURE) as there:
        save_png(figure, there)
