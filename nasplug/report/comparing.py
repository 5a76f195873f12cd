"""Several studies side by side: whether they may be compared, their fronts, the best network of each per budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from nasplug import results
from nasplug.config import flatten
from nasplug.errors import ConfigError
from nasplug.identity import decisive
from nasplug.plan import task_places
from nasplug.report.finished import Finished
from nasplug.report.paper import Grid
from nasplug.results import shown_error
from nasplug.tasks import Facts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Side", "budget_grid", "compare", "difference_grid", "study_grid"]

BUDGETS = tuple(base * 10**power for power in range(7) for base in (1, 3))
ERRORS = ("valid_error", "test_error")
Rows = Literal["same", "different", "unknown"]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the studies.

    Attributes:
        name: unique among them.
        study: it.
        facts: of its task.
        front: Pareto set of validation error and parameters, fewest first; errors in the first study's units.
        chosen: the row of its chosen network, in the same units.
        finished: how many networks finished.
    """

    name: str
    study: Finished
    facts: Facts
    front: pd.DataFrame
    chosen: pd.Series[Any]
    finished: int

    def within(self, budget: int) -> pd.Series[Any] | None:
        """The network with the smallest validation error and at most so many parameters."""
        small = self.front[self.front["parameters"] <= budget]
        return None if small.empty else small.iloc[-1]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Studies that may be compared.

    Attributes:
        sides: in the order that was given.
        rows: of ``valid`` and ``test`` whether all have the same raw rows.
        budgets: numbers of parameters between the smallest and the largest network of the fronts.
        differences: place in the config -> its value in each study, where they differ.
    """

    sides: list[Side]
    rows: Mapping[str, Rows]
    budgets: list[int]
    differences: Mapping[str, list[str]]

    @property
    def facts(self) -> Facts:
        """Of the first study: kind and units of all."""
        return self.sides[0].facts

    @property
    def words(self) -> list[str]:
        """Whether differences may come from the data, and who is ahead."""
        found = []
        for part, verb, n in (
            ("test", "tested", self.facts.samples["test"]),
            ("valid", "validated", self.facts.samples["valid"]),
        ):
            if self.rows[part] == "same":
                found.append(f"All were {verb} on the same {n:,} rows.")
            elif self.rows[part] == "different":
                found.append(f"WARNING: they were {verb} on different rows, so that differences may come from the rows alone.")
            else:
                found.append(f"WARNING: whether they were {verb} on the same rows is not known: one is of an earlier nasplug.")
        best = [self.winner(budget) for budget in self.budgets]
        counts = [f"{side.name} at {best.count(place)}" for place, side in enumerate(self.sides)]
        same = f", none alone at {best.count(None)}" if None in best else ""
        return [
            *found,
            f"Who has the smallest validation error at {len(best)} budgets of parameters: {', '.join(counts)}{same}.",
        ]

    def winner(self, budget: int) -> int | None:
        """The place of the study with the smallest validation error within a budget; None where two are equal."""
        rows = [side.within(budget) for side in self.sides]
        errors = [math.inf if row is None else float(row["valid_error"]) for row in rows]
        return errors.index(min(errors)) if errors.count(min(errors)) == 1 else None

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        names = ["replica", "parameters", "edges", "neurons", "inputs", *ERRORS]

        def row(found: pd.Series[Any] | None) -> dict[str, Any] | None:
            if found is None:
                return None
            return {name: value.item() if hasattr(value := found[name], "item") else value for name in names}

        return {
            "studies": [
                {
                    "name": side.name,
                    "folder": str(side.study.folder),
                    "finished": side.finished,
                    "chosen": row(side.chosen),
                    "front": [row(one) for _, one in side.front.iterrows()],
                }
                for side in self.sides
            ],
            "kind": self.facts.kind,
            "rows": dict(self.rows),
            "budgets": [
                {"parameters": budget, **{side.name: row(side.within(budget)) for side in self.sides}}
                for budget in self.budgets
            ],
            "config": dict(self.differences),
            "words": self.words,
        }


def compare(studies: Sequence[Finished]) -> Comparison:
    """Studies side by side.

    Raises:
        ConfigError: for fewer than two, a study that varies its task, and studies whose errors are not of one kind: of another
            kind of target, other targets, or several targets with other scales.
    """
    if len(studies) < 2:
        raise ConfigError("one study alone has nothing to be compared with; give two or more folders")
    chosen = []
    for study in studies:
        if places := task_places(study.axes):
            raise ConfigError(
                f"{study.folder} varies its task ({', '.join(places)}): it has no one front. Compare studies of one task each"
            )
        chosen.append(results.choose(study.frame, study.facts_of, study.config.choose))
    facts = [study.facts_of(str(row["replica"])) for study, row in zip(studies, chosen, strict=True)]
    factors = [_factor(one, facts[0], study) for one, study in zip(facts, studies, strict=True)]
    sides = []
    for name, study, fact, row, factor in zip(_names(studies), studies, facts, chosen, factors, strict=True):
        front = results.front(study.frame, size="parameters")
        front = front.assign(**{error: factor * front[error] for error in ERRORS})
        mine = row.copy()
        for error in ERRORS:
            mine[error] = factor * float(mine[error])
        sides.append(Side(name, study, fact, front, mine, int((study.frame["status"] == "finished").sum())))
    sizes = [int(n) for side in sides for n in side.front["parameters"]]
    enough = next((budget for budget in BUDGETS if budget >= max(sizes)), max(sizes))
    budgets = [*(budget for budget in BUDGETS if min(sizes) <= budget < enough), enough]
    rows: dict[str, Rows] = {part: _rows(facts, part) for part in ("valid", "test")}
    return Comparison(sides, rows, budgets, _differences(studies))


def _factor(one: Facts, first: Facts, study: Finished) -> float:
    """What turns errors of one task into those of the first: 1, or the ratio of the scales of a target, squared."""
    if (one.kind, one.targets) != (first.kind, first.targets):
        raise ConfigError(
            f"{study.folder} is about other targets ({one.kind}: {', '.join(one.targets[:6])}) than the first study "
            f"({first.kind}: {', '.join(first.targets[:6])}): their errors cannot be compared"
        )
    if one.kind != "regression":
        return 1.0
    if one.transform != first.transform:
        raise ConfigError(
            f"{study.folder} learns its target transformed in another way than the first study: errors have other units"
        )
    if torch.equal(one.output_scale, first.output_scale):
        return 1.0
    ratio = set((one.output_scale.double() / first.output_scale.double()).tolist())
    if len(ratio) > 1:
        raise ConfigError(
            f"{study.folder} scales its targets in another way than the first study: their mean errors cannot be compared"
        )
    return float(ratio.pop()) ** 2


def _names(studies: Sequence[Finished]) -> list[str]:
    """Names of studies; folders where two have one name."""
    names = [study.config.study for study in studies]
    found = [name if names.count(name) == 1 else str(study.folder) for name, study in zip(names, studies, strict=True)]
    if len(set(found)) < len(found):
        raise ConfigError("the same folder was given twice; give the folders of different studies")
    return found


def _rows(facts: Sequence[Facts], part: str) -> Rows:
    if len({one.digest for one in facts}) == 1:
        return "same"
    if part == "valid" and len({one.resamples for one in facts}) > 1:
        return "different"
    if any(one.origin is None for one in facts):
        return "unknown"
    return "same" if len({one.origin.splits[part] for one in facts if one.origin is not None}) == 1 else "different"


def _differences(studies: Sequence[Finished]) -> dict[str, list[str]]:
    plain = [flatten(decisive(study.config)) for study in studies]
    places = sorted(set().union(*plain))
    found = {place: [one.get(place, "") for one in plain] for place in places}
    return {place: values for place, values in found.items() if len(set(values)) > 1}


def _shown(facts: Facts, row: pd.Series[Any], part: str) -> str:
    error = float(row[f"{part}_error"])
    if facts.kind == "regression":
        return shown_error(facts, error)
    return f"{shown_error(facts, error)} ± {100 * facts.standard_error(error, part):.2f}"


def study_grid(found: Comparison) -> Grid:
    """One row per study: its size and its chosen network."""
    rows = []
    for side in found.sides:
        sizes = [f"{int(side.chosen[name]):,}" for name in ("parameters", "edges", "inputs")]
        errors = [_shown(side.facts, side.chosen, part) for part in ("valid", "test")]
        rows.append(
            (False, [side.name, f"{side.finished:,}", str(len(side.front)), str(side.chosen["replica"]), *sizes, *errors])
        )
    headings = ["study", "networks", "front", "chosen", "parameters", "edges", "inputs", "valid error", "test error"]
    return Grid("studies", "The chosen network of each study", headings, rows, sortable=True)


def budget_grid(found: Comparison) -> Grid:
    """One row per budget: the network of each study with the smallest validation error within it."""
    headings = ["at most", *(f"{side.name}: {what}" for side in found.sides for what in ("parameters", "valid", "test"))]
    two = len(found.sides) == 2
    rows = []
    for budget in found.budgets:
        best = [side.within(budget) for side in found.sides]
        cells = [f"{budget:,}"]
        for side, row in zip(found.sides, best, strict=True):
            told = (
                ["-"] * 3
                if row is None
                else [f"{int(row['parameters']):,}", *(_shown(side.facts, row, p) for p in ("valid", "test"))]
            )
            cells += told
        if two:
            cells.append(_gap(found, best))
        rows.append((False, cells))
    caption = "The smallest validation error within a number of parameters"
    if two:
        labels = found.facts.kind != "regression"
        headings.append("test, second less first" + (" (percentage points)" if labels else ""))
        caption += "; ± one standard error, of differences as if both had been tested on rows of their own" if labels else ""
    return Grid("budgets", caption, headings, rows)


def _gap(found: Comparison, best: Sequence[pd.Series[Any] | None]) -> str:
    first, second = best
    if first is None or second is None:
        return "-"
    gap = float(second["test_error"]) - float(first["test_error"])
    sign = "+" if gap > 0 else ""
    if found.facts.kind == "regression":
        return f"{sign}{gap:.4g}"
    spread = math.hypot(
        *(s.facts.standard_error(float(r["test_error"]), "test") for s, r in zip(found.sides, (first, second), strict=True))
    )
    return f"{sign}{100 * gap:.2f} ± {100 * spread:.2f}"


def difference_grid(found: Comparison) -> Grid | None:
    """One row per place where the configs differ; None where they are the same."""
    if not found.differences:
        return None
    rows = [(False, [place, *values]) for place, values in found.differences.items()]
    return Grid("configs", "What differs between the studies", ["place", *(side.name for side in found.sides)], rows, text=True)
