"""Whether a linear model is as good: the chosen network against the study's linear ones, by the rule that chooses networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nasplug import files, results
from nasplug.config import Choose
from nasplug.plan import kind_words, task_places
from nasplug.report.finished import Finished
from nasplug.results import shown_error
from nasplug.tasks import Facts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LINEAR", "Verdict", "against_lines", "lines_of", "write_verdict"]

LINEAR = "linear.json"
SHOWN = ("valid_error", "test_error", "inputs", "edges", "parameters")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there is to say of the linear networks of a study.

    Attributes:
        sentence: in words.
        as_good: whether the rule that chooses would take one of them for as good as the best; None without any.
        line: the smallest of those that are as good, else the one that the rule would choose among linear ones; None without
            any.
    """

    sentence: str
    as_good: bool | None
    line: pd.Series[Any] | None


def lines_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The linear networks."""
    return frame[frame[results.METHOD] == "linear"] if results.METHOD in frame else frame.iloc[:0]


def against_lines(
    frame: pd.DataFrame,
    chosen: pd.Series[Any],
    facts_of: Callable[[str], Facts],
    rule: Choose = Choose(),  # noqa: B008
) -> Verdict:
    """The chosen network against the linear ones.

    A linear model is as good if the rule accepts one beside the best network of the study. Test errors are told, and decide
    nothing.
    """
    frame, error = results.judged(frame, facts_of, rule)
    lines = lines_of(frame)
    if results.front(lines, error).empty:
        return Verdict("This study has no linear networks to compare with (linear: false, or no table).", None, None)
    front = results.front(frame, error)
    best = front.iloc[int(front[error].argmin())]
    facts = facts_of(str(best["replica"]))
    near = results.as_good(results.front(lines, error), best, frame, error, facts, rule)
    line = results.choose(lines, facts_of, rule) if near.empty else near.iloc[0]
    return Verdict(_sentence(facts, chosen, line, as_good=not near.empty), not near.empty, line)


def _sentence(facts: Facts, chosen: pd.Series[Any], line: pd.Series[Any], *, as_good: bool) -> str:
    if chosen["method.use"] == "linear":
        return f"A linear model is as good: the chosen network is one ({_told(facts, chosen)})."
    pair = f"{_told(facts, line)}; the chosen network has {_told(facts, chosen)}"
    if as_good:
        larger = ", but larger" if int(line["parameters"]) > int(chosen["parameters"]) else ""
        return f"A linear model is as good{larger}: the linear network {line['replica']} has {pair}."
    return f"No linear model is as good: the best choice among the linear networks, {line['replica']}, has {pair}."


def _told(facts: Facts, row: pd.Series[Any]) -> str:
    errors = ", ".join(
        f"{words} error {shown_error(facts, float(row[f'{part}_error']))}"
        for part, words in (("valid", "validation"), ("test", "test"))
    )
    return f"{int(row['parameters'])} parameters, {errors}"


def write_verdict(study: Finished, chosen: pd.Series[Any]) -> Verdict:
    """Judge, and write ``linear.json``."""
    if swept := task_places(study.axes):
        words = f"the study has several {kind_words(swept)[1]} ({', '.join(swept)}), whose errors do not compare"
        verdict = Verdict(f"Linear networks are not compared: {words}.", None, None)
    else:
        verdict = against_lines(study.frame, chosen, study.facts_of, study.config.choose)
    plain: dict[str, Any] = {"sentence": verdict.sentence, "as_good": verdict.as_good}
    rows = {"chosen": chosen} | ({} if verdict.line is None else {"linear": verdict.line})
    plain |= {name: {"replica": str(row["replica"]), **{key: float(row[key]) for key in SHOWN}} for name, row in rows.items()}
    files.write_json(study.folder / LINEAR, plain)
    return verdict
