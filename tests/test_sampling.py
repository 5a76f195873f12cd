"""Which configurations are tried, and that a resumed study tries the same ones."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nasplug import Study
from nasplug.config import Sampler, Sweep, parse
from nasplug.errors import ConfigError, PluginError
from nasplug.hookspecs import Register, hookimpl
from nasplug.plan import Axis, grid
from nasplug.plugins import Plugins, load_plugins
from nasplug.sampling import JOURNAL, Drawing, Generations, Outcome, drawing_of
from nasplug.study.course import Course

few = settings(max_examples=25, deadline=None)
DRAWING = ["random", "tpe", "nsga2"]
EVERY = [*DRAWING, "qmc", "gp", "nsga3"]
AXES = [
    Axis("train.lr", Sweep(log=(1e-4, 1e-1)), True),
    Axis("penalties.0.level", Sweep(uniform=(-1.0, 3.0)), True),
    Axis("method.act", Sweep(choice=["relu", "tanh", None, [1, 2]]), False),
]
CROSSED = Axis("method.hidden", Sweep(grid=[4, 8, 16]), False)


def drawn(use: str, found: list[Axis], **options: Any) -> Generations:
    if use in ("random", "qmc"):
        options.pop("generation", None)
    made = Sampler(use=use, **options)
    return Generations(made, found, drawing_of(made, load_plugins()))


def bowl(values: dict[str, Any]) -> dict[str, float]:
    """Two objectives that pull against each other."""
    return both(abs(math.log10(values["train.lr"]) + 2.5), 10.0 - 3.0 * values["penalties.0.level"])


def both(loss: float, edges: float) -> dict[str, float]:
    return {"valid_loss": loss, "edges": edges}


def played(
    generations: Generations,
    score: Callable[[dict[str, Any]], dict[str, float]] = bowl,
    lost: Callable[[int], bool] = lambda number: False,
) -> list[list[dict[str, Any]]]:
    """Every generation, each told before the next, as `nasplug.study` does; ``lost`` configurations never finish."""
    shown: list[list[dict[str, Any]]] = []
    outcome: dict[int, dict[str, float]] = {}
    first = 0
    for configurations in generations:
        shown.append(configurations)
        for number, values in enumerate(configurations, start=first):
            if not lost(number):
                outcome[number] = score(values)
        generations.tell(outcome, range(first, first + len(configurations)))
        first += len(configurations)
    return shown


# Grids.


@few
@given(lists=st.lists(st.lists(st.integers(), min_size=1, max_size=4, unique=True), max_size=4))
def test_a_grid_is_every_combination_the_last_axis_fastest(lists: list[list[int]]) -> None:
    found = [Axis(f"axis {n}", Sweep(choice=values), True) for n, values in enumerate(lists)]
    (only,) = played(Generations(Sampler(), found), score=lambda values: (0.0, 0.0))
    assert [tuple(row[axis.path] for axis in found) for row in only] == list(itertools.product(*lists))
    assert only == grid(found)
    assert Generations(Sampler(), found).sizes == [len(only)] == [math.prod(map(len, lists))]


def test_a_grid_over_a_range_needs_points() -> None:
    with pytest.raises(ConfigError, match=r"train.lr: .* in a grid; needed: points: N"):
        next(iter(Generations(Sampler(), [AXES[0]])))
    found = [Axis("train.lr", Sweep(log=(1e-3, 1e-1), points=3), True), Axis("tau", Sweep(uniform=(0.0, 1.0), points=2), True)]
    (only,) = Generations(Sampler(), found)
    assert [row["train.lr"] for row in only] == pytest.approx([1e-3, 1e-3, 1e-2, 1e-2, 1e-1, 1e-1])
    assert [row["tau"] for row in only] == [0.0, 1.0] * 3


def test_nothing_swept_is_one_configuration() -> None:
    for use in ("grid", *DRAWING):
        assert list(drawn(use, [])) == [[{}]]


# Draws.


@pytest.mark.parametrize("use", DRAWING)
def test_draws_respect_their_bounds(use: str) -> None:
    shown = played(drawn(use, AXES, trials=40, generation=10))
    flat = [values for generation in shown for values in generation]
    assert len(flat) == 40
    for values in flat:
        assert set(values) == {axis.path for axis in AXES}
        assert 1e-4 <= values["train.lr"] <= 1e-1
        assert -1.0 <= values["penalties.0.level"] <= 3.0
        assert values["method.act"] in ["relu", "tanh", None, [1, 2]]
    assert len({values["train.lr"] for values in flat}) > 20
    assert len({str(values["method.act"]) for values in flat}) == 4
    assert sum(values["train.lr"] < 10**-2.5 for values in flat) in range(8, 33)  # log: half of the draws below the middle


@pytest.mark.parametrize("use", DRAWING)
@pytest.mark.parametrize("trials", [1, 10, 23])
@pytest.mark.parametrize("crossed", [False, True])
def test_sizes_are_what_comes(use: str, trials: int, crossed: bool) -> None:
    found = [*AXES, CROSSED] if crossed else AXES
    generations = drawn(use, found, trials=trials, generation=10)
    shown = played(generations)
    assert [len(generation) for generation in shown] == generations.sizes
    assert sum(generations.sizes) == trials * (3 if crossed else 1)
    assert len(shown) == (1 if use == "random" else math.ceil(trials / 10))


@pytest.mark.parametrize("use", DRAWING)
def test_a_grid_axis_is_crossed_with_every_draw(use: str) -> None:
    shown = played(drawn(use, [*AXES, CROSSED], trials=12, generation=6))
    flat = [values for generation in shown for values in generation]
    for first in range(0, len(flat), 3):
        same = flat[first : first + 3]
        assert [values["method.hidden"] for values in same] == [4, 8, 16]
        assert len({values["train.lr"] for values in same}) == 1


@pytest.mark.parametrize("use", DRAWING)
def test_the_same_seed_and_outcomes_give_the_same_configurations(use: str) -> None:
    """So does a study that was stopped between two generations, or lost the same configurations."""
    found = [*AXES, CROSSED]

    def afresh(seed: int = 5) -> Generations:
        return drawn(use, found, trials=24, generation=6, seed=seed)

    def lost(number: int) -> bool:
        return number % 5 == 0 or 18 <= number < 24

    optuna.create_study(sampler=optuna.samplers.RandomSampler()).ask().suggest_float("elsewhere", 0, 1)
    assert played(afresh()) == played(afresh())
    assert played(afresh(), lost=lost) == played(afresh(), lost=lost)
    assert played(afresh())[0] != played(afresh(6))[0]


@pytest.mark.parametrize("use", ["tpe", "nsga2"])
def test_outcomes_matter(use: str) -> None:
    def away(values: dict[str, Any]) -> dict[str, float]:
        return both(-bowl(values)["valid_loss"], bowl(values)["edges"])

    one = played(drawn(use, AXES, trials=60, generation=15))
    other = played(drawn(use, AXES, trials=60, generation=15), score=away)
    assert one[0] == other[0]
    assert one[-1] != other[-1]


@pytest.mark.parametrize("use", ["tpe", "nsga2"])
def test_later_generations_are_better(use: str) -> None:
    def near(values: dict[str, Any]) -> dict[str, float]:
        distance = abs(math.log10(values["train.lr"]) + 2.0) + abs(values["penalties.0.level"] - 1.0)
        return both(distance, distance)

    shown = played(drawn(use, AXES, trials=120, generation=20), score=near)
    means = [sum(near(values)["edges"] for values in generation) / len(generation) for generation in shown]
    assert means[-1] < 0.7 * means[0]


# What is told.


def trials_of(generations: Generations) -> list[optuna.trial.FrozenTrial]:
    assert generations._study is not None
    return generations._study.get_trials()


@pytest.mark.parametrize("use", DRAWING)
def test_what_did_not_finish_is_told_as_failed(use: str) -> None:
    generations = drawn(use, AXES, trials=8, generation=8)
    played(generations, lost=lambda number: number % 2 == 0)
    states = [trial.state for trial in trials_of(generations)]
    assert states == [optuna.trial.TrialState.FAIL, optuna.trial.TrialState.COMPLETE] * 4


def test_a_generation_that_is_lost_as_a_whole_does_not_stop_the_study() -> None:
    for use in ("tpe", "nsga2"):
        shown = played(drawn(use, AXES, trials=18, generation=6), lost=lambda number: number < 12)
        assert [len(generation) for generation in shown] == [6, 6, 6]


def test_crossed_configurations_are_averaged_over_those_that_finished() -> None:
    generations = drawn("tpe", [*AXES, CROSSED], trials=2, generation=2)
    next(iter(generations))
    outcome: Outcome = {10: both(1.0, 4.0), 12: both(3.0, 8.0), 3: both(99.0, 99.0)}
    generations.tell(outcome, range(10, 16))  # configurations 10, 11, 12 are the first draw, 13, 14, 15 the second
    first, second = trials_of(generations)
    assert first.values == [2.0, 6.0]
    assert second.state == optuna.trial.TrialState.FAIL


def test_telling_a_grid_does_nothing() -> None:
    generations = Generations(Sampler(), [CROSSED])
    generations.tell({0: both(1.0, 1.0)}, [0])
    assert generations._study is None


def test_a_population_of_one_cannot_breed() -> None:
    with pytest.raises(ConfigError, match="nsga2"):
        drawn("nsga2", AXES, generation=1)
    assert len(played(drawn("tpe", AXES, generation=1, trials=3))) == 3


# Samplers by name.


@pytest.mark.parametrize("use", EVERY)
def test_every_sampler_draws_within_its_bounds_and_again_the_same(use: str) -> None:
    shown = played(drawn(use, AXES, trials=14, generation=12, seed=3))
    assert sum(map(len, shown)) == 14
    for values in [values for generation in shown for values in generation]:
        assert 1e-4 <= values["train.lr"] <= 1e-1
        assert values["method.act"] in ["relu", "tanh", None, [1, 2]]
    assert shown == played(drawn(use, AXES, trials=14, generation=12, seed=3))
    assert shown != played(drawn(use, AXES, trials=14, generation=12, seed=4))


def test_cmaes_has_one_objective() -> None:
    pytest.importorskip("cmaes")
    with pytest.raises(ConfigError, match=r"1 objective\(s\) at most, and there are 2"):
        drawn("cmaes", AXES)
    shown = played(drawn("cmaes", AXES, trials=24, generation=12, objectives={"valid_loss": "minimize"}))
    assert sum(map(len, shown)) == 24


@pytest.mark.parametrize("use", ["tpe", "nsga2"])
def test_objectives_have_directions(use: str) -> None:
    def level(values: dict[str, Any]) -> dict[str, float]:
        return {"valid_error": values["penalties.0.level"]}

    means = []
    for way in ("minimize", "maximize"):
        shown = played(drawn(use, AXES, trials=60, generation=12, objectives={"valid_error": way}), score=level)
        means.append(sum(values["penalties.0.level"] for values in shown[-1]) / len(shown[-1]))
    assert means[0] < 1.0 < means[1]


@pytest.mark.parametrize("use", ["tpe", "nsga2"])
def test_constraints_turn_the_search_away(use: str) -> None:
    """The error falls with the level, and above 0 the network has too many edges."""

    def score(values: dict[str, Any]) -> dict[str, float]:
        level = values["penalties.0.level"]
        return {"valid_error": -level, "edges": 50.0 + 100.0 * level}

    def kept(**more: Any) -> int:
        made = drawn(use, AXES, trials=80, generation=16, objectives={"valid_error": "minimize"}, **more)
        return sum(score(values)["edges"] <= 50.0 for values in played(made, score=score)[-1])

    assert kept(constraints={"edges": 50.0}) >= 5 > kept()


def test_what_is_not_finite_is_told_as_failed() -> None:
    generations = drawn("tpe", AXES, trials=2, generation=2)
    next(iter(generations))
    generations.tell({0: both(math.inf, 1.0), 1: both(1.0, 1.0)}, [0, 1])
    assert [t.state.name for t in trials_of(generations)] == ["FAIL", "COMPLETE"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"use": "tpee"}, "sampler.use: 'tpee'; needed: one of grid, "),
        ({"use": "tpe", "start": 3}, "startup"),
        ({"use": "tpe", "startup": -1}, "startup: -1"),
        ({"use": "nsga2", "crossover": 2.0}, "crossover: 2.0"),
        ({"use": "qmc", "generation": 3}, "generation: 3 is not read by sampler 'qmc'"),
    ],
)
def test_what_a_sampler_does_not_take_is_said(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        drawing_of(Sampler(**given), load_plugins())


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"startup": 3}, "startup is not read by sampler 'grid'"),
        ({"objectives": {"edges": "minimize"}}, "objectives: .* is not read by sampler 'grid'"),
        ({"use": "tpe", "objectives": {"test_error": "minimize"}}, "selects on them"),
        ({"use": "tpe", "objectives": {"edges": "less"}}, "minimize"),
        ({"use": "tpe", "objectives": {}}, "objectives"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Sampler(**given)


def study(store: Path, **changes: Any) -> Study:
    raw: dict[str, Any] = {
        "study": "drawn",
        "store": str(store),
        "task": {"use": "xor", "samples": 20},
        "method": {"use": "edges", "mode": "l1", "hidden": [4]},
        "penalties": [{"use": "l1", "level": {"log": [1.0e-4, 1.0e-1]}}],
        "discretizers": [{"use": "threshold", "eps": 0.01}],
        "train": {"steps": 20, "lr": {"log": [0.001, 0.1]}},
        "sampler": {
            "use": "tpe",
            "trials": 6,
            "generation": 2,
            "objectives": {"valid_error": "minimize", "neurons": "minimize"},
        },
        "mlflow": None,
    }
    return Study(parse(raw | changes))


@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="no C compiler")
def test_a_sampler_is_told_what_networks_take_in_c(tmp_path: Path) -> None:
    rule = {"use": "tpe", "trials": 4, "generation": 2, "objectives": {"valid_error": "minimize"}}
    run = study(tmp_path, sampler=rule | {"constraints": {"flash_bytes": 1.0}}).run("serial", report=False)
    kept = [json.loads(path.read_text())["bytes"] for path in (run.folder / "flash").iterdir()]
    assert 1 <= len(kept) <= 4
    told = Course(run.config, run.plugins, run.plan(), run._measures).outcome(range(4))
    assert {told[number]["flash_bytes"] for number in range(4)} == set(kept)
    assert min(kept) > 1
    backend = optuna.storages.journal.JournalFileBackend(str(run.folder / JOURNAL))
    trials = optuna.load_study(study_name="drawn", storage=optuna.storages.JournalStorage(backend)).trials
    assert [trial.constraints["flash_bytes"] > 0 for trial in trials] == [True] * 4


def test_flash_bytes_need_a_compiler_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    rule = {"use": "tpe", "trials": 4, "constraints": {"flash_bytes": 2048}}
    with pytest.raises(ConfigError, match="there is no gcc or cc; install one"):
        study(tmp_path, sampler=rule).plan()


def test_a_column_that_networks_are_not_judged_by_is_refused_before_anything_runs(tmp_path: Path) -> None:
    for place, wanted in (("objectives", {"neurones": "minimize"}), ("constraints", {"valid_auc": 1.0})):
        with pytest.raises(
            ConfigError, match=f"sampler.{place}: .* is no column that a sampler can go by; there are: valid_error"
        ):
            study(tmp_path, sampler={"use": "tpe", place: wanted}).plan()
    with pytest.raises(
        ConfigError, match=r"sampler.constraints: edges: -1 is below 0, and no network is; needed: a number >= 0"
    ):
        study(tmp_path, sampler={"use": "tpe", "constraints": {"edges": -1}}).plan()


def test_the_journal_of_a_study_is_what_optuna_opens(tmp_path: Path) -> None:
    done = study(tmp_path).run("serial", report=False)
    path = done.folder / JOURNAL

    def trials() -> list[optuna.trial.FrozenTrial]:
        backend = optuna.storages.journal.JournalFileBackend(str(path))
        found = optuna.load_study(study_name="drawn", storage=optuna.storages.JournalStorage(backend))
        assert found.metric_names == ["valid_error", "neurons"]
        return found.trials

    first = trials()
    assert len(first) == 6
    frame = done.frame.set_index("configuration")
    for number, trial in enumerate(first):
        row = frame.loc[number]
        assert trial.params["train.lr"] == row["train.lr"]
        assert trial.values == pytest.approx([row["valid_error"], row["neurons"]])
    done.run("serial", report=False)  # nothing is left to do: the same trials are told again
    assert [t.params for t in trials()] == [t.params for t in first]


def shifted(*, shift: float = 0.0) -> Drawing:
    """A stranger's."""
    return Drawing(lambda seed, generation: optuna.samplers.RandomSampler(seed=seed + 1), guided=False)


def odd() -> int:
    return 3


def broken() -> Drawing:
    return Drawing(lambda seed, generation: 1 // 0)  # type: ignore[arg-type, return-value]


class Tired(optuna.samplers.RandomSampler):
    """One that breaks where it is asked for the fourth time, or, deaf, where it is told of an outcome."""

    def __init__(self, deaf: bool) -> None:
        super().__init__(seed=0)
        self.deaf, self.asked = deaf, 0

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
        self.asked += 1
        return {} if self.deaf or self.asked < 4 else {}["nothing"]

    def after_trial(self, *args: Any) -> None:
        if self.deaf:
            raise OSError("I do not listen")


def tired(*, deaf: bool = False) -> Drawing:
    return Drawing(lambda seed, generation: Tired(deaf))


def none() -> Drawing:
    return Drawing(lambda seed, generation: None)  # type: ignore[arg-type, return-value]


class Strange:
    @hookimpl
    def register_samplers(self, register: Register) -> None:
        register("shifted", shifted)
        register("odd", odd)
        register("broken", broken)
        register("none", none)
        register("tired", tired)


def test_a_strangers_sampler_is_one_like_ours() -> None:
    plugins = Plugins()
    plugins.add(Strange(), "strange", "nasplug-strange", "1.0")
    made = Sampler(use="shifted", trials=8, shift=1.0)  # type: ignore[call-arg]
    assert len(played(Generations(made, AXES[:2], drawing_of(made, plugins)))[0]) == 8
    with pytest.raises(PluginError, match="its factory returned int; needed: a Drawing"):
        drawing_of(Sampler(use="odd"), plugins)
    with pytest.raises(PluginError, match=r"nasplug-strange 1\.0\) broke with ZeroDivisionError.*Tell its author"):
        drawing_of(Sampler(use="broken"), plugins)
    with pytest.raises(PluginError, match="made NoneType; needed: a sampler of Optuna"):
        drawing_of(Sampler(use="none"), plugins)
    for deaf, why in ((False, "KeyError"), (True, "I do not listen")):
        made = Sampler(use="tired", trials=8, generation=2, deaf=deaf)  # type: ignore[call-arg]
        with pytest.raises(PluginError, match=f"sampler 'tired' broke with .*{why}.*What was trained stays"):
            played(Generations(made, AXES[:2], drawing_of(made, plugins)))
