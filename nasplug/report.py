"""What a person looks at: the page, the pictures and the tables of a study, and a linear baseline to hold its network against.

Only validation scores choose, here too: test scores are shown.
"""

from __future__ import annotations

import inspect
import json
import math
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import yaml

from nasplug import results
from nasplug.compact import CompactNetwork
from nasplug.config import StudyConfig, scrub
from nasplug.drawing import (
    draw_curves,
    draw_cut,
    draw_front,
    draw_network,
    front_picture,
    network_picture,
    save_png,
    strengths,
    svg,
)
from nasplug.packs import HISTORIES, TABLE
from nasplug.plan import Axis, task_places
from nasplug.tasks import Task

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

__all__ = [
    "Baseline",
    "Finished",
    "Fit",
    "baseline",
    "choices_table",
    "compare",
    "front_picture",
    "front_table",
    "import_libraries",
    "network_picture",
    "write_report",
]

Array = npt.NDArray[np.float64]

MOST_SAMPLES = 20_000  # training samples; above this the baseline would take longer than many a study
MOST_CELLS = 4_000_000  # training samples x inputs x outputs, likewise
GRID = 20
LISTED = 30  # rows of the tables of what went wrong
ROWS = 30  # of the front in a terminal; the page has all
CURVES = 24  # networks whose training curves are drawn


class Finished(Protocol):
    """What a report reads of a study that has run."""

    config: StudyConfig

    @property
    def folder(self) -> Path: ...  # noqa: D102

    @property
    def axes(self) -> list[Axis]: ...  # noqa: D102

    @property
    def task(self) -> Task: ...  # noqa: D102

    @property
    def frame(self) -> pd.DataFrame: ...  # noqa: D102

    def task_of(self, replica: str) -> Task: ...  # noqa: D102

    def choices(self) -> pd.DataFrame: ...  # noqa: D102


# -- the baseline ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fit:
    """A linear model at one strength of its penalty.

    Attributes:
        strength: ``C`` of the logistic regression (larger: weaker penalty) or ``alpha`` of Lasso.
        edges: coefficients that are not zero.
        inputs: features with such a coefficient.
        parameters: edges plus the intercepts that are not zero.
        valid_error: share of wrong labels, or mean squared error of the standardised target.
        test_error: likewise; shown, never used to choose.
        converged: whether the solver met its tolerance.
    """

    strength: float
    edges: int
    inputs: int
    parameters: int
    valid_error: float
    test_error: float
    converged: bool


@dataclass(frozen=True, slots=True)
class Baseline:
    """scikit-learn's L1 logistic regression (labels) or Lasso (regression) on the study's own splits.

    Attributes:
        name: in words.
        best: the fit with the lowest validation error; of those that tie, the one with the fewest parameters.
        simplest: the smallest fit that is as good as the best within `nasplug.results.slack`: the rule that chooses a network.
        standard_error: of the test error of ``best``: ``sqrt(e (1 - e) / N)`` for labels, else the standard deviation of the
            squared errors over ``sqrt(N)``.
        test_samples: N.
        path: every fit, strongest penalty first.
    """

    name: str
    best: Fit
    simplest: Fit
    standard_error: float
    test_samples: int
    path: tuple[Fit, ...]


def _refusal(task: Task) -> str:
    """Why a task gets no baseline; empty where it gets one."""
    samples, cells = task.train.samples, task.train.samples * task.inputs * task.outputs
    if samples > MOST_SAMPLES:
        return f"the task has {samples:,} training samples; a baseline is fitted up to {MOST_SAMPLES:,}"
    if cells > MOST_CELLS:
        return f"training samples x inputs x outputs are {cells:,}; a baseline is fitted up to {MOST_CELLS:,}"
    if task.kind == "binary" and task.outputs != 1:
        return f"the task has {task.outputs} binary targets; the baseline predicts one"
    return ""


def _logistic(x: Array, y: Array) -> tuple[Any, str, list[float]]:
    from sklearn.linear_model import LogisticRegression

    named = inspect.signature(LogisticRegression).parameters
    old = "penalty" in named and named["penalty"].default == "l2"  # before scikit-learn 1.8 the norm went by name
    norm: dict[str, Any] = {"penalty": "l1"} if old else {"l1_ratio": 1.0}
    if len(np.unique(y)) == 2:
        # liblinear is exact and fast, but penalises the intercept; scaling makes that penalty weak
        model = LogisticRegression(**norm, solver="liblinear", intercept_scaling=10.0, max_iter=1000, random_state=0)
    else:
        model = LogisticRegression(**norm, solver="saga", max_iter=300, tol=1e-3, warm_start=True, random_state=0)
    shares = (y[:, None] == np.unique(y)).astype(np.float64)
    steepest = np.abs((x - x.mean(0)).T @ shares).max()  # of the loss, where every coefficient is zero
    least = 1.0 / max(float(steepest), 1e-12)  # below this they all stay zero
    return model, "C", [float(c) for c in least * np.logspace(0.05, 3.5, GRID)]


def _lasso(x: Array, y: Array) -> tuple[Any, str, list[float]]:
    from sklearn.linear_model import Lasso

    centred = (x - x.mean(0)).T @ (y - y.mean(0)) / len(x)
    most = max(float(np.abs(centred).max()), 1e-12)  # above this every coefficient is zero
    return Lasso(max_iter=10_000, warm_start=True), "alpha", [float(a) for a in most * np.logspace(-0.02, -4.0, GRID)]


def baseline(task: Task) -> Baseline | None:
    """A linear model with an L1 penalty: fitted on the training split at 20 strengths, chosen on the validation split.

    None where the task is too large for it (`MOST_SAMPLES`, `MOST_CELLS`).
    """
    from sklearn.exceptions import ConvergenceWarning

    if _refusal(task):
        return None
    labels = task.kind != "regression"
    splits: dict[str, tuple[Array, Array]] = {}
    for part in ("train", "valid", "test"):
        split = getattr(task, part)
        y = split.y.detach().cpu().double().numpy()
        splits[part] = split.x.detach().cpu().double().numpy().T, y.reshape(-1) if labels else y.T
    model, knob, grid = (_logistic if labels else _lasso)(*splits["train"])

    def wrong(part: str) -> Array:
        """A number a sample: 0 or 1 for labels, else the squared error, mean over targets."""
        x, y = splits[part]
        guess = model.predict(x)
        if labels:
            return np.asarray(guess != y, dtype=np.float64)
        square: Array = np.square(guess.reshape(y.shape) - y).mean(1)
        return square

    path, of_test = [], []
    for strength in grid:
        setattr(model, knob, strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told by `converged` instead
            model.fit(*splits["train"])
        weights = np.atleast_2d(model.coef_)
        edges = int((weights != 0).sum())
        of_test.append(wrong("test"))
        path.append(
            Fit(
                strength=strength,
                edges=edges,
                inputs=int((weights != 0).any(0).sum()),
                parameters=edges + int((np.atleast_1d(model.intercept_) != 0).sum()),
                valid_error=float(wrong("valid").mean()),
                test_error=float(of_test[-1].mean()),
                converged=bool(np.max(model.n_iter_) < model.max_iter),
            )
        )
    best = min(path, key=lambda fit: (fit.valid_error, fit.parameters))
    most = best.valid_error + results.slack(task, best.valid_error)
    simplest = min((fit for fit in path if fit.valid_error <= most), key=lambda fit: (fit.edges, fit.valid_error))
    n = task.test.samples
    spread = float(of_test[path.index(best)].std() / np.sqrt(n))
    error = task.standard_error(best.test_error, task.test) if labels else spread
    name = "L1 logistic regression" if labels else "Lasso"
    return Baseline(name, best, simplest, error, n, tuple(path))


def _shown_error(task: Task, value: float) -> str:
    return f"{value:.4g}" if task.kind == "regression" else f"{100 * value:.2f} %"


def compare(task: Task, chosen: pd.Series[Any], linear: Baseline) -> str:
    """The chosen network against the baseline, in one sentence."""
    mine, parameters, its = float(chosen["test_error"]), int(chosen["parameters"]), linear.best
    within = mine - its.test_error <= linear.standard_error
    what = "test error" if task.kind != "regression" else "test mean squared error"
    return (
        f"chosen network: {what} {_shown_error(task, mine)} ({parameters} parameters); "
        f"{linear.name}: {_shown_error(task, its.test_error)} ({its.parameters} parameters); "
        f"within one standard error of it ({_shown_error(task, linear.standard_error)}, "
        f"N = {linear.test_samples}): {'yes' if within else 'no'}"
    )


def _write_baseline(study: Finished, task: Task, chosen: pd.Series[Any]) -> tuple[Baseline | None, str]:
    """Fit it, write ``baseline.json``, and return it with its sentence (or why there is none)."""
    swept = task_places(study.axes)
    why = (
        f"the study varies its task ({', '.join(swept)}), and errors of different tasks do not compare"
        if swept
        else _refusal(task)
    )
    linear = None if why else baseline(task)
    sentence = f"No linear baseline: {why}." if linear is None else compare(task, chosen, linear)
    plain: dict[str, Any] = {"sentence": sentence, "task": task.name, "digest": task.digest}
    if linear is not None:
        plain |= {
            **asdict(linear),
            "chosen": {name: float(chosen[name]) for name in ("valid_error", "test_error")}
            | {name: int(chosen[name]) for name in ("edges", "parameters")},
            "within_one_standard_error": bool(float(chosen["test_error"]) - linear.best.test_error <= linear.standard_error),
            "versions": {"scikit-learn": version("scikit-learn")},
        }
    (study.folder / "baseline.json").write_text(json.dumps(plain, indent=1) + "\n")
    return linear, sentence


# -- tables ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of the front: its heading, what that means, how a row shows it."""

    heading: str
    meaning: str
    cell: Callable[[Any], str]


def _heading(axis: Axis, axes: Sequence[Axis]) -> str:
    """``penalties.0.level`` as ``level`` where there is only one, ``train.lr`` as ``lr``; other places as they are."""
    if axis.path == "train.lr":
        return "lr"
    if axis.path.startswith("temperature."):
        return "tau " + axis.path.removeprefix("temperature.")
    place, _, last = axis.path.rpartition(".")
    rivals = [other for other in axes if other is not axis and other.path.rpartition(".")[2] == last]
    if place.startswith(("penalties.", "method", "train")) and not rivals:
        return last
    return axis.path


def _number(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.3g}"
    return str(value)


def _columns(study: Finished, task: Task, frame: pd.DataFrame) -> list[Column]:
    """The columns of a table of networks; ``task`` is that of all of them, or of one where the study varies its task."""
    axes, labels = study.axes, task.kind != "regression"  # data sets of one study are of one kind
    swept = bool(task_places(axes))

    def error(part: str) -> Callable[[Any], str]:
        def cell(row: Any) -> str:
            value = float(row[f"{part}_error"])
            if not labels:
                return f"{value:.4g}"
            own = study.task_of(str(row["replica"])) if swept else task  # each data set has its own N
            return f"{100 * value:.2f} ± {100 * own.standard_error(value, getattr(own, part)):.2f}"

        return cell

    def samples(part: str, words: str) -> str:
        return f"{words} samples of its data set" if swept else f"{getattr(task, part).samples:,} {words} samples"

    def plain(name: str) -> Callable[[Any], str]:
        return lambda row: _number(row[name])

    def whole(name: str) -> Callable[[Any], str]:
        return lambda row: f"{int(row[name]):,}"

    unit = "% wrong labels ± one standard error, sqrt(e (1 - e) / N)" if labels else "mean squared error, standardised target"
    found = [
        Column("edges", "weights on a path from an input to an output", whole("edges")),
        Column("neurons", "hidden neurons", whole("neurons")),
        Column("inputs", "features in use" + ("" if swept else f", of {task.inputs}"), whole("inputs")),
        Column("params", "edges plus biases that are not zero", whole("parameters")),
        Column("valid error" + (" %" if labels else ""), f"{unit}, {samples('valid', 'validation')}", error("valid")),
        Column(
            "test error" + (" %" if labels else ""),
            f"{unit}, {samples('test', 'test')}; never used to choose",
            error("test"),
        ),
    ]
    if "test_r2" in frame.columns:
        found.append(Column("test R²", "1 - mean squared error / variance of the target", plain("test_r2")))
    found += [Column(_heading(a, axes), f"varied: {a.path}", plain(a.path)) for a in axes if a.path in frame.columns]
    found.append(Column("seed", "of initial weights and noise", lambda row: str(int(row["seed"]))))
    found.append(Column("replica", "pack/row: its name in every table", plain("replica")))
    return found


def front_table(study: Finished) -> Table:
    """The front for a terminal, smallest network first; the chosen one is marked."""
    from rich.table import Table

    frame = study.frame
    front, chosen = results.front(frame), str(results.choose(frame, study.task_of)["replica"])
    shown = _thinned(front, chosen, ROWS)
    rest = "" if len(shown) == len(front) else f"{len(shown)} of {len(front)} networks; all are in {study.folder / 'front.csv'}"
    table = Table(title=f"Front of {study.config.study!r}: no network is both smaller and better (▶ chosen)", caption=rest)
    columns = _columns(study, study.task_of(chosen), frame)
    table.add_column("")
    for column in columns:
        table.add_column(column.heading, justify="left" if column.heading == "replica" else "right", no_wrap=True)
    for _, row in shown.iterrows():
        mark = row["replica"] == chosen
        table.add_row("▶" if mark else "", *(c.cell(row) for c in columns), style="bold" if mark else "")
    return table


def _listed(frame: pd.DataFrame, columns: Sequence[Column], chosen: str) -> list[tuple[bool, list[str]]]:
    """Rows of a table of networks, the chosen one marked."""
    return [(row["replica"] == chosen, [column.cell(row) for column in columns]) for _, row in frame.iterrows()]


def choices_table(study: Finished) -> Table:
    """The chosen network of each data set for a terminal."""
    from rich.table import Table

    each = study.choices().sort_values(task_places(study.axes), kind="stable")
    rest = "" if len(each) <= ROWS else f"{ROWS} of {len(each)} data sets; all are in {study.folder / 'choices.csv'}"
    table = Table(title="Each data set's own: errors of different data sets do not compare", caption=rest)
    columns = _columns(study, study.task, each)
    for column in columns:
        table.add_column(column.heading, justify="left" if column.heading == "replica" else "right", no_wrap=True)
    for _, cells in _listed(each.head(ROWS), columns, ""):
        table.add_row(*cells)
    return table


def _thinned(front: pd.DataFrame, chosen: str, most: int) -> pd.DataFrame:
    """At most ``most`` rows, evenly over the front; its ends and the chosen network stay."""
    if len(front) <= most:
        return front
    kept = {int(i) for i in np.linspace(0, len(front) - 1, most - 1).round()}
    kept |= {int(i) for i in np.flatnonzero((front["replica"] == chosen).to_numpy())}
    return front.iloc[sorted(kept)]


# -- the page ----------------------------------------------------------------------------------------------------------


def import_libraries() -> None:
    """Import what `write_report` needs, which takes a second or two: at a moment when the driver waits anyway."""
    for name in ("matplotlib.figure", "sklearn.linear_model", "pandas"):
        import_module(name)


def write_report(study: Finished, seconds: float | None = None) -> Path:
    """Write ``report.html`` (one file, no network), ``front.png``, ``network.png``, ``front.csv`` and ``baseline.json``.

    Args:
        study: one that has run.
        seconds: how long this run took; None when the report is made later.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    began = None if seconds is None else time.time() - seconds  # now: fits and pictures take time too
    config, folder, frame, axes = study.config, study.folder, study.frame, study.axes
    front, best = results.front(frame), results.choose(frame, study.task_of)
    chosen = str(best["replica"])
    task = study.task_of(chosen)
    network = results.network(folder, chosen, task)
    slack = results.slack(task, float(front["valid_error"].min()))
    linear, sentence = _write_baseline(study, task, best)
    colour = next(((a.path, _heading(a, axes)) for a in axes if a.row and a.path in frame.columns), None)
    if colour is not None and colour[1] == "level":
        colour = (colour[0], "penalty level λ")
    steps = [(float(f.edges), f.valid_error) for f in _pareto(linear.path)] if linear else []
    figures = {
        "front": draw_front(
            frame, front, chosen, slack=slack, colour=colour, baseline=(linear.name, steps) if linear else None
        ),
        "network": draw_network(network),
        "cut": draw_cut(front, chosen),
        "curves": draw_curves(_histories(folder, front, chosen), chosen),
    }
    for name in ("front", "network"):
        save_png(figures[name], folder / f"{name}.png")  # type: ignore[arg-type]
    front.drop(columns="owners", errors="ignore").to_csv(folder / "front.csv", index=False)
    columns = _columns(study, task, frame)
    places = task_places(axes)
    each = study.choices() if places else None
    if each is not None:
        each.drop(columns="owners", errors="ignore").to_csv(folder / "choices.csv", index=False)
    environment = Environment(loader=PackageLoader("nasplug"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.get_template("report.html").render(
        config=config,
        task=task,
        pictures={name: Markup(svg(figure, name)) for name, figure in figures.items() if figure is not None},
        facts=_facts(study, task, frame, seconds, began),
        verdict=_verdict(task, best, network),
        rule=_rule(task, slack),
        columns=columns,
        rows=_listed(front, columns, chosen),
        each=None if each is None else _listed(each.sort_values(places, kind="stable"), columns, chosen),
        chosen=best,
        strengths=strengths(network),
        linear=linear,
        sentence=sentence,
        error=lambda value: _shown_error(task, float(value)),
        cut=_cut(frame, best),
        stages=list(_stages(frame)),
        retrain="retrained_valid_loss" in frame.columns,
        certificate=_certificate(results.certificate(folder, chosen), frame),
        finetune=config.train.finetune if isinstance(config.train.finetune, int) else None,
        owners=_owners(frame),
        versions=_versions(folder),
        yaml=yaml.safe_dump(scrub(config.plain()), sort_keys=False),
        troubles=_troubles(frame, axes),
        snippets=_snippets(folder, network, chosen),
        written=time.strftime("%Y-%m-%d %H:%M"),
    )
    path = folder / "report.html"
    beside = path.with_suffix(".tmp")
    beside.write_text(page, encoding="utf-8")
    beside.replace(path)
    return path


def _pareto(path: Sequence[Fit]) -> list[Fit]:
    found: list[Fit] = []
    for fit in sorted(path, key=lambda f: (f.edges, f.valid_error)):
        if not found or fit.valid_error < found[-1].valid_error:
            found.append(fit)
    return found


def _histories(folder: Path, front: pd.DataFrame, chosen: str) -> pd.DataFrame:
    """Curves of the front's networks (evenly thinned to `CURVES`, the chosen one always among them)."""
    import pyarrow.parquet as pq

    names = [str(name) for name in _thinned(front, chosen, CURVES)["replica"]]
    there = set(pq.read_schema(folder / TABLE).names)
    columns = ["replica", "edges", *(f"history_{name}" for name in ("step", *HISTORIES) if f"history_{name}" in there)]
    table: pd.DataFrame = pq.read_table(folder / TABLE, columns=columns, filters=[("replica", "in", names)]).to_pandas()
    return table.sort_values("edges", kind="stable")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _facts(
    study: Finished, task: Task, frame: pd.DataFrame, seconds: float | None, began: float | None
) -> list[tuple[str, str]]:
    """What the study was, in pairs of name and value; ``task`` is the chosen network's."""
    config, swept = study.config, task_places(study.axes)
    counts = frame["status"].value_counts()
    packs = frame["replica"].str.partition("/")[0]
    found = [
        (
            "task of the chosen network" if swept else "task",
            f"{task.name} ({task.kind}, loss {task.loss}): {_count(task.inputs, 'input')}, {_count(task.outputs, 'output')}",
        ),
        ("data", task.source or "not said"),
        ("samples", f"{task.train.samples:,} train, {task.valid.samples:,} validation, {task.test.samples:,} test"),
        ("method", config.method.use + _options(config.method.options)),
        ("penalties", ", ".join(p.use for p in config.penalties) or "none"),
        ("discretizers", ", ".join(d.use for d in config.discretizers) or "none"),
        ("networks", f"{len(frame):,} in {_count(packs.nunique(), 'pack')}"),
        ("finished", f"{int(counts.get('finished', 0)):,}"),
        ("diverged", f"{int(counts.get('diverged', 0)):,}"),
        ("failed", f"{int(counts.get('failed', 0)):,}"),
    ]
    if swept:
        found.insert(0, ("data sets", f"{len(frame[swept].drop_duplicates()):,} ({', '.join(swept)})"))
    found += [(f"data: {name}", words) for name, words in task.notes.items()]
    work = _pack_seconds(study.folder)
    if seconds is not None and began is not None:
        files = {p: study.folder / "packs" / p / TABLE for p in packs.unique()}
        fresh = {p for p, file in files.items() if file.exists() and file.stat().st_mtime >= began - 1.0}
        made = int(packs.isin(fresh).sum())
        found.append(("time of this run", _duration(seconds)))
        if made == len(frame):
            found.append(("networks per second", f"{made / max(seconds, 1e-9):,.1f}"))
        else:
            found.append(("made in this run", f"{made:,} of {len(frame):,} networks; the others were there or have failed"))
            if made:
                found.append(("networks per second", f"{made / max(seconds, 1e-9):,.1f} (those of this run)"))
    if work:
        found.append(("time inside packs", f"{_duration(work)} in all"))
    return found


def _options(options: dict[str, Any]) -> str:
    return f" ({', '.join(f'{key}: {value}' for key, value in options.items())})" if options else ""


def _packs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted((folder / "packs").glob("*/pack.json"))]


def _pack_seconds(folder: Path) -> float:
    return sum(float(pack["seconds"].get(part, 0.0)) for pack in _packs(folder) for part in ("build", "train", "harden"))


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def _verdict(task: Task, best: pd.Series[Any], network: CompactNetwork) -> str:
    size = (
        f"The chosen network reads {int(best['inputs'])} of {_count(task.inputs, 'input')} and has "
        f"{_count(int(best['neurons']), 'hidden neuron')}, {_count(int(best['edges']), 'edge')} and "
        f"{_count(network.parameter_count, 'parameter')}."
    )
    error, n = float(best["test_error"]), task.test.samples
    if task.kind == "regression":
        r2 = f"its R² is {float(best['test_r2']):.4f}"
        return f"{size} On {n:,} test samples {r2} (mean squared error {error:.4g} of the standardised target)."
    share = f"{100 * error:.2f} % ± {100 * task.standard_error(error, task.test):.2f} (one standard error)"
    return f"{size} It is wrong on {round(error * n):,} of {n:,} test samples: {share}."


def _rule(task: Task, slack: float) -> str:
    why = "1 % of the target's variance" if task.kind == "regression" else "one standard error of the best, Breiman's rule"
    return (
        "Chosen is the smallest network of the front whose validation error is at most "
        f"{_shown_error(task, slack)} above the best ({why}). Test scores choose nothing."
    )


@dataclass(frozen=True, slots=True)
class Certified:
    """What was certified of the chosen network, and how often which verdict was given."""

    verdict: str
    numbers: list[tuple[str, str, str]]  # name, the chosen network's, the median of all that finished
    headings: list[str]
    sites: list[list[str]]


def _certificate(found: Mapping[str, Any] | None, frame: pd.DataFrame) -> Certified | None:
    if found is None:
        return None
    finished = frame[frame["status"] == "finished"]
    numbers = [
        (name.replace("_", " "), _plain(value), _plain(float(finished[f"certificate_{name}"].median())))
        for name, value in found.items()
        if isinstance(value, int | float)
    ]
    sites = [site for site in found.get("sites", []) if isinstance(site, Mapping)]
    headings = list(dict.fromkeys(key for site in sites for key in site))
    cells = [[_plain(site.get(key, "")) for key in headings] for site in sites]
    return Certified(str(found["verdict"]), numbers, [heading.replace("_", " ") for heading in headings], cells)


def _plain(value: Any) -> str:
    """Any plain value in a cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return ", ".join(_plain(inner) for inner in value) if isinstance(value, list) else str(value)


STAGES = {
    "relaxed": "relaxed_valid",
    "cut": "cut_valid",
    "fine-tuned": "inherited_valid",
    "from scratch": "retrained_valid",
    "served": "valid",
}


def _stages(frame: pd.DataFrame) -> dict[str, str]:
    """What stages the study's networks went through, and how their columns begin."""
    if "retrained_valid_loss" in frame.columns:
        return STAGES
    return {"relaxed": "relaxed_valid", "cut": "cut_valid", "fine-tuned": "valid"}


def _cut(frame: pd.DataFrame, best: pd.Series[Any]) -> list[list[str]]:
    """Validation loss and error by stage: the chosen network's and the median of all that finished."""
    finished = frame[frame["status"] == "finished"]
    found = []
    for what in ("loss", "error") if "valid_accuracy" in frame.columns else ("loss",):  # mean squared error is the loss
        for whose in ("chosen network", "median of all finished"):
            cells = []
            for prefix in _stages(frame).values():
                name = f"{prefix}_{what}"
                value = float(best[name]) if whose == "chosen network" else float(finished[name].median())
                cells.append("-" if math.isnan(value) else f"{value:.4g}")
            found.append([f"validation {what}, {whose}", *cells])
    return found


def _owners(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Place of the config and the plugin that stood there, for every combination that the study used."""
    found: dict[tuple[str, str], None] = {}
    if "owners" in frame.columns:
        for text in frame["owners"].dropna().unique():
            found |= dict.fromkeys(json.loads(text).items())
    return sorted(found)


def _versions(folder: Path) -> list[tuple[str, str]]:
    packs = _packs(folder)
    return [
        ("nasplug", version("nasplug")),
        ("torch", ", ".join(sorted({str(p.get("torch", "?")) for p in packs}))),
        ("device", ", ".join(sorted({str(p.get("device", "?")) for p in packs}))),
        ("Python", platform.python_version()),
    ]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Replicas that did not finish."""

    status: str
    count: int
    headings: list[str]
    rows: list[list[str]]


def _troubles(frame: pd.DataFrame, axes: Sequence[Axis]) -> list[Trouble]:
    found = []
    for status in ("failed", "diverged"):
        bad = frame[frame["status"] == status]
        if bad.empty:
            continue
        names = ["replica", "configuration", "seed", *(a.path for a in axes if a.path in frame.columns)]
        names += ["error"] if status == "failed" and "error" in frame.columns else []
        rows = [[_number(row[name]) for name in names] for _, row in bad.head(LISTED).iterrows()]
        found.append(Trouble(status, len(bad), names, rows))
    return found


def _snippets(folder: Path, network: CompactNetwork, chosen: str) -> list[tuple[str, str]]:
    inputs, outputs = network.record["inputs"], network.widths[-1]
    return [
        (
            "The chosen network, from its two files (network.json, weights.safetensors)",
            f"""from pathlib import Path

import torch
from nasplug.compact import load

network = load(Path({str(folder / "best")!r}))
x = torch.zeros(5, {inputs})  # (N, {inputs}): raw features, ordered as in network.record["features"]
print(network(x))  # (N, {outputs}): {"probabilities" if network.record["link"] != "identity" else "in the target's units"}
""",
        ),
        (
            "Any network of the study, as a graph that needs no nasplug",
            f"""import torch
from nasplug.compact import export
from nasplug.study import Study

network = Study.open({str(folder)!r}).network({chosen!r})
torch.export.save(export(network, torch.zeros(2, {inputs})), "network.pt2")
print(torch.export.load("network.pt2").module()(torch.zeros(5, {inputs})))
""",
        ),
    ]
