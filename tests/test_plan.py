"""From a study to packs: which sweep makes rows and which makes packs, sizes, values, and wrong combinations."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug import machine, plan, schedules
from nasplug.config import Sweep, parse
from nasplug.contracts import Discretizer, Params, Regularizer, Schedule, SearchMethod
from nasplug.errors import ConfigError, ContractError, PluginError
from nasplug.hookspecs import Register, hookimpl
from nasplug.networks import Networks, forward
from nasplug.plan import Axis, Pack, assemble, axes, chunk, components, corners, grid, inside, packing, settle, sizing
from nasplug.plan.judges import try_metric
from nasplug.plugins import Plugins, load_plugins
from nasplug.study import Study
from nasplug.tasks import Loss, Metric, Task
from nasplug.testing import example_task

SMALL: dict[str, Any] = {
    "study": "small",
    "task": {"use": "xor", "samples": 8},
    "method": {"use": "edges", "mode": "l1", "hidden": [2]},
    "train": {"steps": 5, "lr": 0.1},
}


def packs(**changes: Any) -> list[Pack]:
    return Study.from_dict(SMALL | {"mlflow": None} | changes).plan()


GATED = {"use": "edges", "mode": "gated", "hidden": [2]}


# which axis goes where

PLACES: list[tuple[dict[str, Any], str, bool]] = [
    ({"train": {"lr": {"choice": [0.1, 0.2]}}}, "train.lr", True),
    ({"train": {"lr": {"log": [0.1, 1], "points": 2}}}, "train.lr", True),
    ({"train": {"decay": {"use": "cosine", "end": {"choice": [0, 0.1]}}}}, "train.decay.end", True),
    ({"train": {"steps": {"choice": [5, 6]}}}, "train.steps", False),
    ({"train": {"batch": {"choice": [4, "full"]}}}, "train.batch", False),
    ({"train": {"finetune": {"choice": [0, 1]}}}, "train.finetune", False),
    ({"train": {"clip": {"choice": [1, 2]}}}, "train.clip", False),
    ({"train": {"optimizer": {"use": "adam", "beta1": {"choice": [0.8, 0.9]}}}}, "train.optimizer.beta1", False),
    ({"penalties": [{"use": "l1", "level": {"choice": [0, 1]}}]}, "penalties.0.level", True),
    ({"penalties": [{"use": "l1", "level": {"grid": [0, 1]}}]}, "penalties.0.level", True),
    (
        {"penalties": [{"use": "l1", "level": 1, "ramp": {"use": "linear", "until": {"choice": [0.5, 1]}}}]},
        "penalties.0.ramp.until",
        True,
    ),
    (
        {"penalties": [{"use": "soft_count", "level": 1, "of": "weights", "sharpness": {"choice": [1.0, 2.0]}}]},
        "penalties.0.sharpness",
        False,
    ),
    ({"temperature": {"use": "geometric", "start": {"choice": [1, 3]}}, "method": GATED}, "temperature.start", True),
    ({"method": {"use": "edges", "mode": "l1", "hidden": {"choice": [[2], [3]]}}}, "method.hidden", False),
    ({"method": {"use": "edges", "mode": "l1", "hidden": [2, {"choice": [2, 3]}]}}, "method.hidden.1", False),
    ({"method": {"use": "edges", "mode": {"choice": ["l1", "gated"]}}}, "method.mode", False),
    ({"task": {"use": "xor", "noise": {"choice": [0.1, 0.2]}}}, "task.noise", True),
    ({"task": {"use": "xor", "balanced": {"choice": [True, False]}}}, "task.balanced", True),
    ({"task": {"use": "xor", "samples": {"choice": [8, 12]}}}, "task.samples", False),
    ({"task": {"use": "xor", "loss": {"choice": ["mse", "logistic"]}}}, "task.loss", False),
    ({"task": {"use": "cornn", "train": 20, "test": 9, "function": {"choice": ["Booth", "Sphere"]}}}, "task.function", True),
    ({"discretizers": [{"use": "threshold", "eps": {"choice": [0.1, 0.2]}}]}, "discretizers.0.eps", True),
]


@pytest.mark.parametrize(("changes", "path", "row"), PLACES, ids=[path for _, path, _ in PLACES])
def test_a_number_makes_rows_and_a_shape_makes_packs(changes: dict[str, Any], path: str, row: bool) -> None:
    study = parse(SMALL | changes)
    found = axes(study)
    assert [axis.path for axis in found] == [path]
    planned = chunk(study, grid(found), load_plugins())
    assert inside(found[0], planned) is row
    assert len(planned) == (1 if row else 2)
    values = found[0].sweep.values
    if row:
        assert planned[0].columns == {path: values}
        assert planned[0].values == {}
    else:
        assert [pack.values for pack in planned] == [{path: value} for value in values]
        assert all(pack.columns == {} for pack in planned)


def test_words_never_make_rows() -> None:
    study = parse(SMALL | {"train": {"lr": {"choice": [0.1, True]}}})
    assert [axis.row for axis in axes(study)] == [False]


def test_axes_come_in_the_order_of_the_config() -> None:
    study = parse(SMALL | {"train": {"lr": {"choice": [1, 2]}}, "task": {"use": "xor", "noise": {"choice": [0, 1]}}})
    assert [axis.path for axis in axes(study)] == ["task.noise", "train.lr"]


def test_the_last_axis_of_a_grid_varies_fastest() -> None:
    found = [Axis("a", Sweep(choice=[1, 2]), True), Axis("b", Sweep(uniform=(0, 1), points=3), True)]
    assert grid(found) == [{"a": a, "b": b} for a in (1, 2) for b in (0.0, 0.5, 1.0)]
    assert grid([]) == [{}]


def test_corners_hold_every_value_of_a_list_and_the_ends_of_a_range() -> None:
    found = [Axis("a", Sweep(choice=[1, 2, 3]), True), Axis("b", Sweep(log=(0.1, 1)), True)]
    assert corners(found) == [
        {"a": 1, "b": 0.1},
        {"a": 2, "b": 0.1},
        {"a": 3, "b": 0.1},
        {"a": 1, "b": 0.1},
        {"a": 1, "b": 1.0},
    ]
    assert corners([]) == []


# settle


def test_settling_replaces_sweeps_at_any_depth() -> None:
    study = parse(
        SMALL
        | {
            "method": {"use": "edges", "hidden": [2, {"choice": [2, 3]}]},
            "penalties": [{"use": "l1", "level": {"choice": [0.1, 0.2]}}],
            "train": {"lr": {"choice": [0.1]}},
        }
    )
    settled = settle(study, {"method.hidden.1": 3, "penalties.0.level": 0.2, "train.lr": 0.1})
    assert settled.method.options["hidden"] == [2, 3]
    assert settled.penalties[0].level == 0.2
    assert settled.train.lr == 0.1
    assert axes(settled) == []
    assert len(axes(study)) == 3


def test_settling_checks() -> None:
    with pytest.raises(ConfigError, match=r"train\.steps: 1\.5; needed: a whole number"):
        settle(parse(SMALL), {"train.steps": 1.5})


# packs


@settings(max_examples=25, deadline=None)
@given(
    levels=st.lists(st.floats(0, 1), min_size=1, max_size=4, unique=True),
    rates=st.lists(st.floats(0.001, 1), min_size=1, max_size=3, unique=True),
    hidden=st.lists(st.integers(1, 3), min_size=1, max_size=2, unique=True),
    seeds=st.integers(1, 4) | st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
    size=st.integers(1, 40) | st.just("auto"),
    first_pack=st.integers(0, 3),
    first=st.integers(0, 50),
)
def test_every_configuration_meets_every_seed_once(
    levels: list[float],
    rates: list[float],
    hidden: list[int],
    seeds: int | list[int],
    size: int | str,
    first_pack: int,
    first: int,
) -> None:
    study = parse(
        SMALL
        | {
            "method": {"use": "edges", "mode": "l1", "hidden": [{"choice": hidden}]},
            "penalties": [{"use": "l1", "level": {"choice": levels}}],
            "train": {"steps": 2, "lr": {"choice": rates}},
            "seeds": seeds,
            "resources": {"pack": size},
        }
    )
    configurations = grid(axes(study))
    assert len(configurations) == len(levels) * len(rates) * len(hidden)
    numbers = range(first, first + len(configurations))
    found = chunk(study, configurations, load_plugins(), first_pack=first_pack, numbers=numbers)
    assert [pack.id for pack in found] == [f"p{first_pack + i:04d}" for i in range(len(found))]
    met: Counter[tuple[int, int]] = Counter()
    for pack in found:
        assert 1 <= pack.rows <= (size if isinstance(size, int) else sizing.MOST_ROWS)
        assert json.loads(json.dumps(pack.plain())) == pack.plain()
        for row in range(pack.rows):
            met[pack.configurations[row], pack.seeds[row]] += 1
            mine = {path: column[row] for path, column in pack.columns.items()} | dict(pack.values)
            assert mine == configurations[pack.configurations[row] - first]
    assert met == Counter(itertools.product(numbers, study.seed_list))


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 300), size=st.integers(1, 100))
def test_packs_of_a_given_size_are_even(rows: int, size: int) -> None:
    sizes = [pack.rows for pack in packs(seeds=rows, resources={"pack": size})]
    assert sum(sizes) == rows
    assert len(sizes) == -(-rows // size)
    assert max(sizes) <= size
    assert max(sizes[:-1], default=sizes[-1]) >= sizes[-1]


@pytest.mark.parametrize("cpus", [1, 2, 3, 8])
def test_automatic_packs_come_in_whole_rounds(monkeypatch: pytest.MonkeyPatch, cpus: int) -> None:
    monkeypatch.setattr(sizing, "cpus_here", lambda: cpus)
    for rows in (1, 7, 64, 1000, 10_000):
        sizes = [pack.rows for pack in packs(seeds=rows)]
        assert sum(sizes) == rows
        assert len(sizes) == 1 or len(sizes) % cpus == 0 or sum(sizes) < len(sizes) * max(sizes), "a round is not full"
        assert max(sizes) <= sizing.MOST_ROWS
        if rows >= 16 * cpus:
            assert len(sizes) >= cpus, "a CPU would stand idle"


def test_a_last_smaller_pack_takes_the_program_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether to compile is decided for all packs of a shape that one of two workers trains."""
    monkeypatch.setattr(sizing, "cpus_here", lambda: 2)
    shapes = [(p.rows, p.room, p.alike) for p in packs(seeds=58, resources={"pack": 10})]
    assert shapes == [(10, 0, 3)] * 5 + [(8, 10, 3)]
    assert [(p.rows, p.room, p.alike) for p in packs(seeds=21, resources={"pack": 10})] == [(7, 0, 2)] * 3
    few = [(p.rows, p.room, p.alike) for p in packs(seeds=25, resources={"pack": 6})]
    assert few == [(5, 0, 3)] * 5
    uneven = [(p.rows, p.room, p.alike) for p in packs(seeds=101, resources={"pack": 20})]
    assert uneven == [(17, 0, 3)] * 5 + [(16, 17, 3)]
    lonely = [(p.rows, p.room, p.alike) for p in packs(seeds=9, resources={"pack": 4})]
    assert lonely == [(3, 0, 2)] * 3


def test_wider_networks_make_smaller_packs() -> None:
    narrow = max(pack.rows for pack in packs(seeds=4096))
    wide = max(pack.rows for pack in packs(seeds=4096, method={"use": "edges", "mode": "l1", "hidden": [256, 256]}))
    assert 8 <= wide < narrow


def test_a_gpu_takes_as_many_rows_as_are_allowed() -> None:
    sizes = [pack.rows for pack in packs(seeds=5000, resources={"gpus": 1})]
    assert len(sizes) <= 2 * sizing.places(parse(SMALL))
    assert sum(sizes) == 5000
    assert [pack.rows for pack in packs(seeds=100, resources={"gpus": 1})] == [100]


@pytest.mark.parametrize(
    ("text", "cpus"), [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("9900000 100000", None)]
)
def test_a_containers_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cpus: int | None) -> None:
    monkeypatch.setattr(machine, "QUOTA", tmp_path / "none")
    allowed = machine.cpus_here()
    (tmp_path / "cpu.max").write_text(text + "\n")
    monkeypatch.setattr(machine, "QUOTA", tmp_path / "cpu.max")
    assert machine.cpus_here() == (allowed if cpus is None else cpus)


def test_places_are_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "cpus_here", lambda: 4)
    for cpus, places in ((1, 4), (2, 2), (3, 1), (0.5, 8), (16, 1)):
        assert sizing.places(parse(SMALL | {"resources": {"cpus": cpus}})) == places


# values of rows


def test_rows_get_their_numbers() -> None:
    study = parse(
        SMALL
        | {
            "penalties": [
                {
                    "use": "l1",
                    "level": {"choice": [0.5, 2.0]},
                    "ramp": {"use": "linear", "until": {"choice": [0.5, 1.0]}},
                },
                {"use": "l1", "level": 3.0},
            ],
            "method": GATED,
            "temperature": {"use": "linear", "start": 4.0, "end": {"choice": [0.0, 2.0]}},
            "train": {"steps": 5, "lr": {"choice": [0.1, 0.2]}, "decay": {"use": "linear", "start": 1, "end": 0}},
            "seeds": [3, 9],
            "resources": {"pack": 64},
        }
    )
    plugins = load_plugins()
    (pack,) = chunk(study, grid(axes(study)), plugins)
    assert pack.rows == 32
    search = assemble(components(study, pack, plugins), pack, plugins)
    assert search.seeds.tolist() == [3, 9] * 16
    ramp, flat = search.levels
    for step in range(5):
        progress = step / 4
        for row in range(32):
            level, until = pack.columns["penalties.0.level"][row], pack.columns["penalties.0.ramp.until"][row]
            end, lr = pack.columns["temperature.end"][row], pack.columns["train.lr"][row]
            assert float(ramp.at(step)[row]) == pytest.approx(level * min(1.0, progress / until))
            assert float(flat.at(step)[row]) == 3.0
            assert float(search.tau.at(step)[row]) == pytest.approx(4.0 + progress * (end - 4.0))
            assert float(search.lr.at(step)[row]) == pytest.approx(lr * (1.0 - progress))
    assert ramp.table.shape == (5, 2), "rows with the same schedule share its column"
    assert search.tau.table.shape == (5, 2)
    assert search.lr.table.shape == (5, 1)


def test_numbers_do_not_depend_on_the_pack() -> None:
    raw = SMALL | {
        "penalties": [{"use": "l1", "level": {"log": [0.01, 1], "points": 5}}],
        "method": GATED,
        "temperature": {"use": "geometric", "start": {"choice": [1.0, 3.0]}},
        "seeds": 2,
    }
    plugins = load_plugins()

    def rows(size: int) -> dict[tuple[int, int], tuple[float, ...]]:
        study = parse(raw | {"resources": {"pack": size}})
        found: dict[tuple[int, int], tuple[float, ...]] = {}
        for pack in chunk(study, grid(axes(study)), plugins):
            search = assemble(components(study, pack, plugins), pack, plugins)
            table = torch.stack([search.tau.at(3), search.levels[0].at(3), search.lr.at(3)], 1).tolist()
            found |= {(c, s): tuple(t) for c, s, t in zip(pack.configurations, pack.seeds, table, strict=True)}
        return found

    assert rows(20) == rows(3) == rows(1)


def test_a_column_may_be_asked_for_where_there_is_none() -> None:
    pack = Pack("p0000", {}, {"train.lr": [1.0, 2.0]}, [0, 1], [0, 0])
    assert pack.column("train.lr", 5.0) == [1.0, 2.0]
    assert pack.column("penalties.0.level", 5.0) == [5.0, 5.0]


def test_tasks_are_shared_while_planning_and_read_anew_for_the_next_plan(tmp_path: Path) -> None:
    def write(shift: float) -> None:
        rows = "".join(f"{i},{(i * i) % 7 + shift + 0.5}\n" for i in range(40))
        (tmp_path / "t.csv").write_text("x,y\n" + rows)

    write(0.0)
    study = Study.from_dict(
        SMALL | {"task": {"use": "table", "validation": "holdout", "path": str(tmp_path / "t.csv"), "target": "y"}}
    )
    study.plan()
    before = study.task
    assert study.task is before
    write(1.0)
    study.plan()
    assert study.task is not before
    assert float(study.task.output_shift) == pytest.approx(float(before.output_shift) + 1.0, rel=1e-5)


# needs, and plugins that break their contracts


class Stand(SearchMethod):
    """A search method of one linear layer, whose parts a test breaks one at a time."""

    def init(self, task: Task, seeds: Tensor) -> Params:
        return {"w": torch.ones(len(seeds), task.outputs, task.inputs)}

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        w = params["w"]
        return Networks((w.shape[2], w.shape[1]), {(1, 0): w})


class Fine(Regularizer):
    """A penalty that needs what it is told to."""

    needs = frozenset({"blocks"})

    def __init__(self, needs: Sequence[str] = ("blocks",), value: Callable[[Networks], Tensor] | None = None) -> None:
        self.needs = frozenset(needs)
        self.value = value or (lambda nets: nets.blocks[1, 0].flatten(1).sum(1))

    def __call__(self, nets: Networks) -> Tensor:
        return self.value(nets)


class Cut(Discretizer):
    """A discretizer that needs what it is told to."""

    needs: frozenset[str] = frozenset()

    def __init__(self, needs: Sequence[str]) -> None:
        self.needs = frozenset(needs)

    def __call__(self, nets: Networks, score: object) -> Networks:
        return nets


def strangers(
    method: object = None, penalty: object = None, cut: object = None, schedule: Schedule | None = None, task: object = None
) -> Plugins:
    """Our own names and one stranger's."""

    class Stranger:
        @hookimpl
        def register_search_methods(self, register: Register) -> None:
            register("stand", lambda: method or Stand())

        @hookimpl
        def register_regularizers(self, register: Register) -> None:
            register("fine", lambda: penalty or Fine())

        @hookimpl
        def register_discretizers(self, register: Register) -> None:
            register("cut", lambda: cut or Cut(()))

        @hookimpl
        def register_schedules(self, register: Register) -> None:
            register("odd", lambda: schedule or (lambda progress: progress))

        @hookimpl
        def register_tasks(self, register: Register) -> None:
            register("odd", lambda: task)

    plugins = Plugins()
    for module in ("activations", "schedules", "data.datasets"):
        plugins.add(__import__(f"nasplug.{module}", fromlist=["x"]), module, "nasplug", "0")
    plugins.add(Stranger(), "stranger", "nasplug-stranger", "1.2")
    return plugins


def planned(plugins: Plugins, **changes: Any) -> list[Pack]:
    study = parse(SMALL | {"method": {"use": "stand"}} | changes)
    return chunk(study, grid(axes(study)), plugins)


PENALTY: Mapping[str, Any] = {"penalties": [{"use": "fine", "level": 1}]}
CUT: Mapping[str, Any] = {"discretizers": [{"use": "cut"}]}


def test_strangers_that_keep_their_contracts_are_planned() -> None:
    (pack,) = planned(strangers(), **PENALTY, **CUT)
    assert pack.rows == 1


@pytest.mark.parametrize("needs", [["gates"], ["choices"], ["edge_gates", "eigenvalues"], ["blocks", "gates"]])
def test_needs_are_checked(needs: list[str]) -> None:
    missing = ", ".join(sorted(set(needs) - {"blocks"}))
    told = f"reads {missing}, which method 'stand' as configured does not make; it makes: blocks. Take another"
    with pytest.raises(ConfigError, match=f"penalties.0: 'fine' {told}"):
        planned(strangers(penalty=Fine(needs)), **PENALTY)
    with pytest.raises(ConfigError, match=f"discretizers.0: 'cut' {told}"):
        planned(strangers(cut=Cut(needs)), **CUT)


def raising(*_: object, **__: object) -> Any:
    raise ZeroDivisionError("by zero")


@pytest.mark.parametrize("part", ["init", "relax", "forward", "direct"])
def test_a_method_that_breaks_is_named(part: str) -> None:
    method = Stand()
    setattr(method, part, raising)
    with pytest.raises(ContractError, match=r"method 'stand' of plugin .* broke on .* with ZeroDivisionError: by zero"):
        planned(strangers(method))


def test_a_penalty_that_breaks_is_named() -> None:
    with pytest.raises(ContractError, match=r"penalties\.0: regularizer 'fine' of plugin .* broke on one network with ZeroDiv"):
        planned(strangers(penalty=Fine(value=raising)), **PENALTY)
    with pytest.raises(ContractError, match=r"penalties\.0: .*'fine' of .* returned shape \(\); needed: shape \(1,\), one"):
        planned(strangers(penalty=Fine(value=lambda nets: nets.blocks[1, 0].sum())), **PENALTY)


def test_networks_that_do_not_fit_the_task_are_refused() -> None:
    class Narrow(Stand):
        def init(self, task: Task, seeds: Tensor) -> Params:
            return {"w": torch.ones(len(seeds), task.outputs, task.inputs - 1)}

    with pytest.raises(ConfigError, match=r"method 'stand' made networks of widths \(1, 1\) for a task of 2 inputs"):
        planned(strangers(Narrow()))


def test_outputs_of_another_shape_are_refused() -> None:
    class Flat(Stand):
        def forward(self, nets: Networks, x: Tensor) -> Tensor:
            return forward(nets, x).mean(2)

    with pytest.raises(ContractError, match=r"forward returned shape \(1, 1\); needed: shape \(1, 1, 2\), \(K, O, B\)"):
        planned(strangers(Flat()))


def test_a_record_that_is_none_is_refused() -> None:
    class Crooked(Stand):
        def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
            return replace(super().relax(params, tau), widths=(2, 5))

    with pytest.raises(ContractError):
        planned(strangers(Crooked()))


def test_a_factory_that_breaks_is_named() -> None:
    class Stranger:
        @hookimpl
        def register_tasks(self, register: Register) -> None:
            def broken(*, samples: int = 3) -> Task:
                raise KeyError("no such thing")

            register("broken", broken)

    class Warm(Stand):
        def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
            return super().relax({"w": params["w"] * tau.view(-1, 1, 1)}, tau)

    plugins = strangers(Warm())
    plugins.add(Stranger(), "second", "nasplug-second", "7")
    told = r"task: 'broken' of nasplug-second 7 broke on the options samples=4 with KeyError: 'no such thing'"
    with pytest.raises(PluginError, match=told):
        planned(plugins, task={"use": "broken", "samples": 4})


def test_a_task_that_is_none_is_refused() -> None:
    with pytest.raises(ContractError, match=r"^task 'odd' of plugin .*: the plugin returned str; a nasplug\.Task is needed"):
        planned(strangers(task="words"), task={"use": "odd"})


def test_a_schedule_that_returns_no_number_is_refused() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="temperature: "):
            planned(strangers(schedule=lambda progress, value=value: value), temperature={"use": "odd"})  # type: ignore[misc]


def test_schedules_of_rows_are_built_once_a_distinct_row(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    whole = schedules.linear

    def counting(*, start: float = 0.0, end: float = 1.0) -> Schedule:
        built.append((start, end))
        return whole(start=start, end=end)

    class Stranger:
        @hookimpl
        def register_schedules(self, register: Register) -> None:
            register("counting", counting)

    class Warm(Stand):
        def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
            return super().relax({"w": params["w"] * tau.view(-1, 1, 1)}, tau)

    plugins = strangers(Warm())
    plugins.add(Stranger(), "second", "nasplug-second", "7")
    planned(plugins, temperature={"use": "counting", "start": {"choice": [1.0, 2.0]}}, seeds=50)
    assert built == [(1.0, 1.0), (2.0, 1.0)]


@pytest.mark.parametrize(
    ("name", "function", "reason"),
    [
        ("logarithm", torch.log, "its value or slope is not finite at -100; needed: finite ones between -100 and 100"),
        ("root", lambda z: z.abs().sqrt(), "not finite at 0;"),
        ("sum", lambda z: z.sum(), "an activation is elementwise"),
        ("share", lambda z: z - z.mean(), "its value at a number changes with the numbers beside it"),
        ("broken", raising, "broke on one network with ZeroDivisionError"),
    ],
)
def test_an_activation_that_would_break_every_network_is_refused(name: str, function: Any, reason: str) -> None:
    class Offering:
        @hookimpl
        def register_activations(self, register: Register) -> None:
            register(name, lambda: function)

    class Bent(Stand):
        def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
            return replace(super().relax(params, tau), candidates=(name,))

    plugins = strangers(Bent())
    with pytest.raises(ConfigError, match=f"method 'stand': activation '{name}' is not installed"):
        planned(plugins)
    plugins.add(Offering(), "offering", "nasplug-offering", "1")
    with pytest.raises((ConfigError, ContractError), match=f"activation '{name}'.*{reason}"):
        planned(plugins)


RGB = {"image": [1, 1, 2], "layers": [{"channels": 1, "kernel": 1, "activation": "rleu"}]}


@pytest.mark.parametrize(
    "method",
    [
        {"use": "edges", "activation": "rleu"},
        {"use": "edges", "stem": RGB},
        {"use": "sparcs", "activation": "rleu"},
        {"use": "mixture", "candidates": ["relu", "rleu"]},
    ],
)
def test_an_activation_that_nobody_offers_is_refused(method: dict[str, Any]) -> None:
    told = rf"^method '{method['use']}': activation 'rleu' is not installed; installed: elu, .*\. Did you mean 'relu'\?"
    with pytest.raises(ConfigError, match=told):
        planned(load_plugins(), method=method)


def moved(message: str, architecture: Any, **changes: Any) -> None:
    method = {"use": "edges", "mode": "gated", "hidden": [2]}
    with pytest.raises(ConfigError, match=message):
        planned(load_plugins(), **{"method": method, "train": {"steps": 2, "architecture": architecture}, **changes})


def test_an_architect_that_cannot_work_is_refused() -> None:
    good = {"lr": 0.1, "share": 0.5}
    plain = {"use": "edges", "mode": "l1", "hidden": [2]}
    moved(r"method 'edges' as configured has no architecture of its own to move; its leaves: ", good, method=plain)
    moved(r"share: 0\.01 of 8 training samples holds 0 and leaves 8; needed: 5 at least", good | {"share": 0.01},
          train={"steps": 2, "batch": 5, "architecture": good | {"share": 0.01}})  # fmt: skip
    moved(r"architecture\.share: 0\.001 of 8 training samples holds 0 and", good | {"share": 0.001})
    moved("order: 2 without held samples; it looks ahead from other samples: add share: 0.5", {"lr": 0.1, "order": 2})
    moved(r"train\.architecture\.order: 3; needed: 1 or 2", good | {"order": 3})
    moved(r"train\.architecture\.lr: is missing", {"share": 0.5})
    moved(r"train\.architecture\.optimizer: 'exponential' is not known; .*mean 'exponentiated'",
          good | {"optimizer": {"use": "exponential"}})  # fmt: skip
    told = r"train\.architecture\.optimizer: exponentiated moves points of the simplex, and logits .* are not on it; take adam"
    moved(told, good | {"optimizer": {"use": "exponentiated"}})
    moved(r"train\.optimizer: exponentiated moves points", None, train={"steps": 2, "optimizer": {"use": "exponentiated"}})
    eigen = {"penalties": [{"use": "eigenvalue", "proximal": True, "level": 1.0}], "method": {"use": "sparcs", "hidden": [3]}}
    moved(r"train\.architecture: beside a proximal penalty, whose step follows train\.lr; remove one", good, **eigen)


def test_the_rate_of_the_architecture_is_a_number_a_row() -> None:
    sweep = {"lr": {"choice": [0.1, 0.2]}, "share": 0.5}
    method = {"use": "edges", "mode": "gated", "hidden": [2]}
    (pack,) = planned(load_plugins(), method=method, train={"steps": 2, "architecture": sweep})
    assert pack.columns["train.architecture.lr"] == [0.1, 0.2]


def test_data_sets_of_one_shape_share_packs_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    swept = {"use": "xor", "samples": {"choice": [8, 12]}, "noise": {"choice": [0.1, 0.2]}}
    changes = {"task": swept, "train": {"lr": {"choice": [0.1, 0.2]}, "steps": 2}, "seeds": 2}
    packs = planned(load_plugins(), method={"use": "edges", "mode": "l1", "hidden": [2]}, **changes)
    assert [dict(pack.values) for pack in packs] == [{"task.samples": 8}, {"task.samples": 12}]
    assert packs[0].columns["task.noise"] == [0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2]
    assert packs[1].task(7) == {"task.samples": 12, "task.noise": 0.2}
    monkeypatch.setattr(packing, "MOST_DATA", 10)  # as if xor's data were large
    alone = planned(load_plugins(), method={"use": "edges", "mode": "l1", "hidden": [2]}, **changes)
    assert len(alone) == 4
    assert all("task.noise" in pack.values for pack in alone)


def test_copies_of_the_data_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "places", lambda study: 2)
    monkeypatch.setattr(sizing, "places", lambda study: 2)
    monkeypatch.setattr(sizing, "MOST_STACKED", 2 * 5 * (8 + 400 + 2000) * 3)  # numbers of five of xor's data sets per place
    task = {"use": "xor", "samples": 8, "noise": {"uniform": [0, 0.5], "points": 12}}
    changes = {"task": task | {"samples_valid": 400, "samples_test": 2000}, "method": GATED}
    packs = planned(load_plugins(), **changes)
    assert [pack.rows for pack in packs] == [3, 3, 3, 3]  # whole rounds of two places
    told = r"resources\.pack: 100; .*at most 5 copies of 7,224 numbers are held at once\. Write 5, or auto"
    with pytest.raises(ConfigError, match=told):
        planned(load_plugins(), **changes, resources={"pack": 100})


def test_data_sets_of_several_kinds_are_refused() -> None:
    table = {"use": "xor", "samples": 8, "loss": {"choice": ["mse", "logistic"]}}
    assert len(planned(load_plugins(), task=table, method=GATED)) == 2  # one kind, two losses
    tasks = iter([example_task(), example_task("binary")])

    class Mixed:
        @hookimpl
        def register_tasks(self, register: Register) -> None:
            def mixed(*, number: int) -> Task:
                return next(tasks)

            register("mixed", mixed)

    plugins = strangers()
    plugins.add(Mixed(), "mixed", "nasplug-mixed", "1")
    with pytest.raises(ConfigError, match="data sets of the kinds binary, regression in one study"):
        planned(plugins, task={"use": "mixed", "number": {"choice": [0, 1]}})


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_guided_sampler_does_not_choose_the_data(sampler: str) -> None:
    task = {"use": "xor", "samples": 8, "noise": {"choice": [0.1, 0.2]}}
    told = r"would look for the easiest data set \(task\.noise\); write \{grid: \[\.\.\.\]\} there"
    changes = {"train": {"lr": {"choice": [0.1, 0.2]}, "steps": 2}, "sampler": {"use": sampler, "trials": 2}}
    with pytest.raises(ConfigError, match=told):
        packs(task=task, **changes)
    assert sum(p.rows for p in packs(task=task | {"noise": {"grid": [0.1, 0.2]}}, **changes)) == 4


def test_only_a_temperature_that_is_read_is_accepted() -> None:
    with pytest.raises(ConfigError, match=r"temperature: method 'edges' as configured does not read it: .* at 1 and 0\.05"):
        packs(temperature={"use": "geometric"})
    with pytest.raises(ConfigError, match=r"the same at 1 and 0\.5"):
        packs(temperature={"use": "constant"})
    assert packs(temperature={"use": "geometric"}, method=GATED)
    drawn = {"use": "mixture", "hidden": [2], "sampling": "straight_through"}  # one-hot at any temperature; its slope is not
    assert packs(temperature={"use": "geometric"}, method=drawn, discretizers=[{"use": "argmax"}])


def test_best_needs_a_choice() -> None:
    with pytest.raises(ConfigError, match=r"train\.keep: best; of 20 reports in 5 steps none but the last"):
        packs(temperature={"use": "geometric"}, method=GATED, train={"steps": 5, "keep": "best"})
    assert packs(temperature={"use": "geometric", "until": 0.5}, method=GATED, train={"steps": 5, "keep": "best"})


@pytest.mark.parametrize(
    ("ends", "values", "cells"),
    [
        ([1, 2], [2, 1], [2, 1]),
        ([1, 2.5], [2.5, 1], [2.5, 1.0]),
        (["a", "b"], ["b"], ["b"]),
        ([True, False], [True], [True]),
        ([True, "a"], [True], ["true"]),
        ([1e-5, None], [1e-5, None], ["1e-05", "null"]),
        ([32, "full"], [32], ["32"]),
        ([[8], [4, 4]], [[8]], ["[8]"]),
    ],
)
def test_a_value_is_written_alike_in_every_pack(ends: list[Any], values: list[Any], cells: list[Any]) -> None:
    assert plan.cells(Sweep(choice=ends), values) == cells


KINDS_OF_TASK = frozenset({"regression", "binary", "classes"})
ODD: list[tuple[str, Callable[[Tensor, Tensor], Any], str]] = [
    (
        "loss",
        lambda o, y: (o - y).square().mean(),
        r"returned shape \(\); needed: shape \(2, 8\), one number per network and sample",
    ),
    ("loss", lambda o, y: (o - y).square().mean(1).detach(), "has no slope in the outputs"),
    ("loss", lambda o, y: (o - y).square().mean(1) + o.mean(), "changes when another joins it"),
    ("loss", lambda o, y: (o - y).square().mean(1) * torch.nan, "is not finite at outputs near the mean"),
    ("loss", lambda o, y: y.add_(1.0) * 0 + (o - y).square().mean(1), "writes into the outputs or targets"),
    ("loss", raising, "broke on one network with ZeroDivisionError"),
    ("metric", lambda o, y: 1.0, r"returned float; needed: shape \(2,\), one number per network"),
    ("metric", lambda o, y: (o - y).abs().mean((1, 2))[:1], r"returned shape \(1,\); needed: shape \(2,\)"),
    ("metric", lambda o, y: o.abs().mean((1, 2)) > 0, r"returned torch\.bool; needed: floating-point numbers"),
    ("metric", lambda o, y: o.zero_().mean((1, 2)), "writes into the outputs or targets"),
    ("metric", raising, "broke on one network with ZeroDivisionError"),
]


@pytest.mark.parametrize(("kind", "call", "message"), ODD)
def test_losses_and_metrics_of_strangers_are_tried_when_a_study_is_planned(
    kind: str, call: Callable[[Tensor, Tensor], Any], message: str
) -> None:
    class OddLoss(Loss):
        kinds, link = KINDS_OF_TASK, "identity"

        def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
            return call(outputs, y)  # type: ignore[no-any-return]

    class OddMetric(Metric):
        kinds, higher, unit = KINDS_OF_TASK, True, ""

        def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
            return call(predicted, y)  # type: ignore[no-any-return]

    class Judges:
        @hookimpl
        def register_losses(self, register: Register) -> None:
            register("odd", lambda: OddLoss())

        @hookimpl
        def register_metrics(self, register: Register) -> None:
            register("odd", lambda: OddMetric())

    plugins = strangers()
    plugins.add(Judges(), "judges", "nasplug-judges", "1.2")
    asked: Mapping[str, Any] = {"loss": {"use": "odd"}} if kind == "loss" else {"metrics": [{"use": "odd"}]}
    with pytest.raises(ContractError, match=rf"{kind} 'odd' of plugin 'judges' \(nasplug-judges 1.2\).*{message}"):
        planned(plugins, **asked)


@pytest.mark.parametrize("kind", ["binary", "classes"])
def test_a_metric_is_tried_on_all_labels_of_a_table_that_is_sorted_by_them(kind: Literal["binary", "classes"]) -> None:
    class Picky(Metric):
        kinds, higher, unit = KINDS_OF_TASK, True, ""

        def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
            if len(y.unique()) < 2:
                raise ValueError("only one label")
            return predicted.mean((1, 2))

    task = example_task(kind)
    y = (torch.arange(200) > 197).to(task.train.y)
    train = replace(task.train, x=torch.zeros(task.inputs, 200), y=y if task.train.y.dim() == 1 else y.unsqueeze(0))
    try_metric("metric 'picky'", Picky(), replace(task, train=train))
