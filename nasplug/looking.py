"""A table before any study: what each column was taken for, what is wrong with it, and a study to start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasplug.config import parse, to_yaml
from nasplug.data.kinds import Decision
from nasplug.data.problems import told
from nasplug.data.recipe import TableFacts, recipe
from nasplug.data.survey import CONSTANT, ColumnFacts, decision_of, survey, warnings_of
from nasplug.data.tables import file_of, from_file, reading_of
from nasplug.data.validation import validation_of
from nasplug.errors import ConfigError, did_you_mean
from nasplug.plugins import load_plugins
from nasplug.tasks import READING, Task

if TYPE_CHECKING:
    from nasplug.data.reading import Table

__all__ = ["Look", "look", "write_study"]


@dataclass(frozen=True)
class Look:
    """What was seen.

    Attributes:
        path: of the file.
        rows: of the table.
        names: of all its columns.
        columns: the facts of those that could be read.
        notes: how the file was read, and what the task does about it.
        problems: what has to be decided before anything can be trained.
        target: what is to be predicted; empty where that was not said.
        kind: of the task, and why.
        warnings: what a person should know.
        study: plain data of a study to start from; empty without a target, or with problems.
        task: what that study learns from.
    """

    path: str
    rows: int
    names: Sequence[str]
    columns: Sequence[ColumnFacts]
    notes: Mapping[str, str]
    problems: Sequence[str]
    target: tuple[str, ...] = ()
    kind: Decision | None = None
    warnings: Sequence[str] = ()
    study: Mapping[str, Any] = field(default_factory=dict)
    task: Task | None = None

    def plain(self) -> dict[str, Any]:
        """Plain data, for `--json`."""
        return {
            "path": self.path,
            "rows": self.rows,
            "columns": [column.plain() for column in self.columns],
            "notes": {key.removeprefix(READING): text for key, text in self.notes.items()},
            "problems": list(self.problems),
            "target": list(self.target),
            "kind": None if self.kind is None else self.kind.kind,
            "why": None if self.kind is None else self.kind.why,
            "warnings": list(self.warnings),
            "study": dict(self.study) or None,
        }


def look(path: str, targets: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> Look:
    """Read a table, say what it is, and propose a study.

    Args:
        path: of a CSV or Parquet file.
        targets: the columns to predict; none: only look at the columns.
        options: of the task `table`, as they are written in a study.

    Raises:
        ConfigError: for options that are none, a target that is no column, or a file that is none.
    """
    from nasplug.data.reading import SUFFIXES, examine

    options, plugins = dict(options or {}), load_plugins()
    for key in ("use", "path", "target"):
        if key in options:
            raise ConfigError(f"{key}={options[key]}; needed: options of the task 'table' (--target names the target)")
    where = f"task 'table', {path}"
    given: dict[str, Any] = {"path": path, "target": list(targets) or ""} | options
    checked = plugins.options("task", "table", given, where)
    exclude, features = checked.get("exclude") or [], checked.get("features")
    aside = _aside(checked)

    def used(names: Sequence[str]) -> list[str]:
        for target in targets:
            if target not in names:
                raise ConfigError(f"{where}: target {target!r} is not a column.{did_you_mean(target, names)}")
        kept = [name for name in names if name not in exclude or name in aside]
        return kept if features is None else [name for name in kept if name in {*features, *targets, *aside}]

    table = examine(where, file_of(where, path, SUFFIXES), used, reading_of(checked))
    facts = {column.name: column for column in survey(table.frame)}
    odd = {problem.column for problem in table.problems}
    columns = [facts.get(name, ColumnFacts(name, "", 0, 0)) for name in table.names if name in facts or name in odd]
    found = Look(path, len(table.frame), table.names, columns, table.notes, told(table.problems), tuple(targets))
    if not targets or found.problems:
        return found
    return _proposed(found, table, options, plugins)


def _aside(options: Mapping[str, Any]) -> list[str]:
    """Columns that are no features: those that samples are weighted and validated by."""
    validation = validation_of(options.get("validation") or "auto")
    return [name for name in (options.get("weights"), validation.by) if name is not None]


def _proposed(found: Look, table: Table, options: Mapping[str, Any], plugins: Any) -> Look:
    """With the kind, the warnings and the study; what the task refuses is a problem."""
    frame, facts = table.frame, {column.name: column for column in found.columns}
    inputs = [name for name in facts if name not in {*found.target, *_aside(options)}]
    # a constant is left out by the task itself, which says so
    gone = [name for name in inputs if facts[name].left_out not in ("", CONSTANT) and "features" not in options]
    kept = [name for name in inputs if name not in gone]
    first = found.target[0]
    try:
        several = Decision("regression", "several targets")
        said = options.get("kind", "auto")
        decision = several if len(found.target) > 1 else decision_of(frame[first])
        decision = decision if said == "auto" else Decision(said, "as you say")
        warnings = warnings_of(frame, first, decision.kind, kept) if len(found.target) == 1 else []
        study = recipe(
            TableFacts(
                path=found.path,
                target=first if len(found.target) == 1 else list(found.target),
                kind=decision.kind,
                rows=found.rows,
                numbers=sum(facts[name].kind != "category" for name in kept),
                categories=sum(facts[name].kind == "category" for name in kept),
                classes=0 if decision.kind == "regression" else facts[first].distinct,
                gaps=any(facts[name].gaps for name in kept),
                open=any(facts[name].gaps for name in found.target),
                exclude=[*options.get("exclude", []), *gone],
                options={key: value for key, value in options.items() if key != "exclude"},
            )
        )
        checked = plugins.options("task", "table", {k: v for k, v in study["task"].items() if k != "use"}, "task")
        task = from_file(checked, table)  # of what was read above
        parse(study)
    except ConfigError as error:
        return Look(found.path, found.rows, found.names, found.columns, found.notes, [str(error)], found.target)
    return Look(
        found.path, found.rows, found.names, found.columns, task.notes, (), found.target, decision, warnings, study, task
    )


def write_study(found: Look, path: Path) -> None:
    """The proposed study as a YAML file.

    Raises:
        ConfigError: where there is none, or the file is there already.
    """
    if not found.study:
        why = "; ".join(found.problems) if found.problems else "no target was named: --target COLUMN"
        raise ConfigError(f"{path}: not written: {why}")
    about = f"# {found.path}: {found.rows} rows; {found.kind.kind}: {found.kind.why}.\n" if found.kind else ""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(about + to_yaml(found.study, compact=True))
    except FileExistsError:
        raise ConfigError(f"{path}: is there already, and is not overwritten; give another name, or remove it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
