"""Steps that ask nothing of the host, and steps that are captured once and replayed: on a CPU, by what is recorded of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from nasplug.config import parse
from nasplug.contracts import Params, Proximal, Regularizer, Traits
from nasplug.networks import Networks
from nasplug.optimizers import SGD
from nasplug.packs import run_pack
from nasplug.plan import Pack, assemble, components
from nasplug.plugins import load_plugins
from nasplug.replicas import column
from nasplug.schedules import plateau, track
from nasplug.tasks import losses
from nasplug.train import Batches, Report, Search, State, alternate, replaying, start, step, train
from nasplug.train.timetable import Timetable, timetable
from nasplug.train.touches import touches

from .stand_ins import Dense, Openness, Squares, search
from .test_train import CASES

Record = Callable[..., Callable[[], tuple[Tensor, Tensor]]]


def last(found: Search, state: State | None = None, **options: Any) -> Report:
    *_, report = train(found, state, **options)
    return report


def equal(one: Report, other: Report) -> None:
    """To the last bit."""
    for part in ("params", "moments", "best"):
        mine, theirs = getattr(one.state, part), getattr(other.state, part)
        assert mine.keys() == theirs.keys()
        assert not [name for name in mine if not torch.equal(mine[name], theirs[name])], part
    assert one.metrics.keys() == other.metrics.keys()
    assert not [name for name in one.metrics if not torch.equal(one.metrics[name], other.metrics[name])]
    assert torch.equal(one.healthy, other.healthy)


class Tape:
    """Captures as a CUDA graph does: the operations on tensors that one step ran; numbers of the host stay what they were."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, device: torch.device) -> Record:
        return self.record

    def record(self, move: Any, params: Params, moments: Params, clock: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
        self.captured += 1
        copies = State(params, moments, 0).copy()
        program = make_fx(move)(copies.params, copies.moments, clock.clone())
        results: list[Tensor] = []

        def replay() -> tuple[Tensor, Tensor]:
            self.replayed += 1
            with torch.no_grad():
                made = program(params, moments, clock)
                results[:] = results or [t.clone() for t in made]
                for place, value in zip(results, made, strict=True):  # each replay writes where the first one wrote
                    place.copy_(value)
            return results[0], results[1]

        return replay


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    found = Tape()
    monkeypatch.setattr(replaying, "recorder", found)
    return found


@dataclass(frozen=True)
class Holding(Dense):
    """Blocks that proximal penalties may move."""

    traits: ClassVar[Traits] = Traits(holds=frozenset({"blocks"}))  # type: ignore[misc]

    def hold(self, nets: Networks) -> Params:
        return {f"weight {to} {source}": w for (to, source), w in nets.blocks.items()}


@dataclass(frozen=True)
class Soft(Proximal):
    """Soft thresholds of all weights."""

    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})  # type: ignore[misc]

    def __call__(self, nets: Networks) -> Tensor:
        return torch.stack([w.abs().sum((1, 2)) for w in nets.blocks.values()]).sum(0)

    def shrink(self, nets: Networks, amount: Tensor) -> Networks:
        return replace(
            nets, blocks={e: w.sign() * (w.abs() - column(amount, w)).clamp(min=0.0) for e, w in nets.blocks.items()}
        )


def frozen() -> Search:
    """Penalties that end at other steps in each row."""
    found = search(Holding(), penalties=(Soft(),), batch=5)
    level = track([plateau(rise=0.1, fall=0.4), plateau(rise=0.2, fall=0.7)], [0, 1, 0, 1], [3.0, 5.0, 2.0, 4.0], found.steps)
    return replace(found, levels=(level,))


@dataclass(frozen=True)
class Rounding(Dense):
    """Leaves are rounded now and then, and from step 15 on there is one fewer."""

    def project(self, params: Params, step: int, steps: int) -> Params:
        if step >= 15:
            params = {name: p for name, p in params.items() if name != "bias 1"}
        return params if step % 4 else {name: p.round(decimals=1) for name, p in params.items()}


SEARCHES: dict[str, Callable[[], Search]] = {
    **{name: lambda case=case: search(**case) for name, case in CASES.items()},  # type: ignore[misc]
    "frozen supports": frozen,
    "the best iterate": lambda: replace(frozen(), keep="best"),
    "projected": lambda: search(Rounding(), optimizer=SGD(), batch=7),
}


QUICK = ("everything", "frozen supports", "projected")


@pytest.mark.parametrize("case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in SEARCHES])
def test_what_is_replayed_is_what_runs_step_by_step(case: str, tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SEARCHES[case]()
    replayed = list(train(found, every=10))
    assert tape.captured == {"frozen supports": 2, "the best iterate": 2, "projected": 2}.get(case, 1)
    assert tape.replayed == 25 - tape.captured * replaying.WARM
    assert not any(report.eager for report in replayed)
    monkeypatch.setattr(replaying, "recorder", lambda device: None)
    for report, wanted in zip(replayed, train(found, every=10), strict=True):
        equal(report, wanted)


def test_removed_rows_and_a_resume_are_captured_anew(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SEARCHES["momentum"]()
    first, rows = next(iter(train(found, every=10))), torch.tensor([3, 1])
    some = last(found.take(rows), first.state.take(rows), every=10)
    assert tape.captured == 2
    monkeypatch.setattr(replaying, "recorder", lambda device: None)
    equal(some, last(found.take(rows), next(iter(train(found, every=10))).state.take(rows), every=10))


def test_long_orders_of_batches_are_written_a_piece_at_a_time(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    from nasplug.train import timetable as module

    found = search(batch=5)
    state = next(iter(train(found, every=4))).state
    wanted = last(found)
    monkeypatch.setattr(module, "MOST_PLACES", 35)  # seven steps at once
    equal(last(found, state), wanted)
    assert tape.captured == 3


def test_a_table_of_batches_is_their_order() -> None:
    split = search().task.train
    batches = Batches(split, 5, 3)
    order = batches.order(3, 14)
    assert order.shape == (11, 5)
    for row, t in zip(order, range(3, 14), strict=True):
        assert torch.equal(split.columns(row).x, batches.at(t).x)


# What asks the host.


class Peeking(Squares):
    """It looks at a value."""

    def __call__(self, nets: Networks) -> Tensor:
        value = super().__call__(nets)
        return value * 2.0 if bool(value.sum() > 1e9) else value


class Listing(Squares):
    """It brings numbers from the host."""

    def __call__(self, nets: Networks) -> Tensor:
        return super().__call__(nets) * torch.tensor([2.0], dtype=torch.float64)


class Masking(Squares):
    """How many it takes depends on values."""

    def __call__(self, nets: Networks) -> Tensor:
        value = super().__call__(nets)
        return value + 0.0 * value[value > 0].sum()


@pytest.mark.parametrize(
    ("penalty", "named"), [(Peeking(), "_local_scalar_dense"), (Listing(), "torch.tensor"), (Masking(), "index")]
)
def test_a_step_that_asks_the_host_is_named_and_runs_as_it_is(penalty: Regularizer, named: str, tape: Tape) -> None:
    found = search(penalties=(penalty,))
    with pytest.warns(UserWarning, match=f"{named} in .*{type(penalty).__name__}.__call__, line .*; they run one by one"):
        report = last(found)
    assert report.eager.startswith(f"a step asks the host for values: {named} in ")
    assert tape.captured == tape.replayed == 0
    assert bool(report.healthy.all())


def test_a_method_may_say_that_it_is_not_to_be_captured(tape: Tape) -> None:
    @dataclass(frozen=True)
    class Loose(Dense):
        @property
        def traits(self) -> Traits:
            return Traits(capturable=False)

    assert "Loose is not capturable" in last(search(Loose())).eager
    assert tape.captured == 0


def test_an_optimizer_that_replaces_its_state_is_not_replayed(tape: Tape) -> None:
    @dataclass(frozen=True)
    class Loose(SGD):
        def update(self, params: Any, grads: Any, state: dict[str, Tensor], lr: Tensor) -> None:
            super().update(params, grads, state, lr)
            state["b/bias 1"] = state["b/bias 1"].clone()

    found = search(optimizer=Loose(momentum=0.5))
    equal(last(found), last(search(optimizer=SGD(momentum=0.5))))
    assert tape.replayed == 25 - replaying.WARM  # of the second


def test_a_capture_that_fails_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    wanted = last(search())
    monkeypatch.setattr(replaying, "recorder", lambda device: fails)
    with pytest.warns(UserWarning, match="not permitted when stream is capturing"):
        report = last(search())
    equal(report, wanted)
    assert "not permitted" in report.eager


def test_a_pack_writes_down_why_it_was_not_replayed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*given: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(replaying, "recorder", lambda device: fails)
    small = {"study": "s", "task": {"use": "xor"}, "method": {"use": "edges", "hidden": [2]}, "train": {"steps": 6}, "seeds": 1}
    config, plugins = parse(small | {"linear": False, "mlflow": None}), load_plugins()
    with pytest.warns(UserWarning, match="they run one by one"):
        list(run_pack(config, Pack("p", {}, {}, config.seed_list, [0]), plugins, tmp_path / "p"))
    assert "not permitted" in json.loads((tmp_path / "p" / "pack.json").read_text())["eager"]


@pytest.mark.parametrize("case", SEARCHES)
def test_training_asks_the_host_nothing(case: str) -> None:
    """Reports do not either; what is asked once, before the first step, is done by then."""
    reports = train(SEARCHES[case](), every=5)
    next(reports)
    with touches() as found:
        list(reports)
    assert found == []


# Every method and penalty that comes with nasplug.

CANCER = {"use": "breast_cancer"}
BOOTH = {"use": "cornn", "function": "Booth", "train": 60, "test": 20}
LINE = {"use": "linear", "start": 1.0, "end": 0.1}
PLATEAU = {"use": "plateau", "rise": 0.2, "fall": 0.5}
GAEA = {"optimizer": {"use": "exponentiated"}, "lr": 0.1}


def penalised(use: str, level: float = 1e-3, **options: Any) -> dict[str, Any]:
    proximal = {"ramp": PLATEAU} if options.get("proximal") else {}
    return {"use": use, "level": level, **proximal, **options}


STUDIES: dict[str, dict[str, Any]] = {
    "annealed": {
        "method": {"use": "edges", "hidden": [4]}, "temperature": LINE,
        "penalties": [penalised("l1"), penalised("neurons", of="both"), penalised("inputs", adaptive=0.03)],
    },
    "gated": {
        "method": {"use": "edges", "mode": "gated", "hidden": [4]}, "temperature": LINE,
        "penalties": [penalised("soft_count"), penalised("soft_count", of="weights")],
    },
    "held": {
        "method": {"use": "edges", "mode": "l1", "hidden": [4, 3], "skips": True},
        "penalties": [penalised("inputs", 0.1, proximal=True), penalised("neurons", 0.1, proximal=True, of="both")],
    },
    "rounded": {
        "task": {"use": "xor"}, "batch": "full", "method": {"use": "edges", "mode": "snap", "hidden": [4], "every": 5},
    },
    "a sum": {
        "method": {"use": "edges", "structure": "pairs", "hidden": [2], "pairs": 3}, "temperature": LINE,
        "penalties": [penalised("terms", 0.1, proximal=True)],
    },
    "monotone": {
        "method": {"use": "edges", "mode": "l1", "hidden": [4]}, "monotone": {"mean radius": 1},
    },
    "spectral": {
        "method": {"use": "sparcs", "hidden": [6, 5]}, "penalties": [penalised("eigenvalue", 1.0, proximal=True)],
    },
    "normalised": {
        "method": {"use": "sparcs", "hidden": [4], "stem": {
            "image": [1, 5, 6], "layers": [{"channels": 2, "pool": 2, "norm": "batch"}],
        }},
        "penalties": [penalised("eigenvalue", 0.1)],
    },
    "activations": {
        "method": {"use": "mixture", "hidden": [5], "sampling": "gumbel"}, "temperature": LINE,
        "architecture": {"optimizer": {"use": "adam"}, "lr": 0.05, "share": 0.5, "order": 2},
    },
    "one at a time": {
        "method": {"use": "mixture", "hidden": [5], "sampling": "straight_through", "parametrisation": "simplex"},
        "temperature": LINE, "architecture": GAEA,
    },
    "among fewer": {
        "method": {"use": "mixture", "hidden": [5], "sampling": "gumbel", "stages": [[0.5, 3], [0.99, 2]]}, "temperature": LINE,
    },
    "drawn by concentrations": {
        "method": {"use": "mixture", "hidden": [3], "candidates": ["relu", "tanh"], "sampling": "dirichlet"},
        "penalties": [penalised("concentrations")],
    },
    "latent": {"task": BOOTH, "method": {"use": "swat", "depth": 1, "begin": "normal"}, "penalties": [penalised("soft_count")]},
    "latent, then direct": {"task": BOOTH, "method": {"use": "swat", "depth": 1, "mode": "switch"}},
}  # fmt: skip


def built(plain: dict[str, Any], **changes: Any) -> Search:
    given = {"use": "edges", "task": CANCER, "batch": 16, "architecture": None, **plain, **changes}
    keys = ("batch", "architecture", "use")
    train_ = {"steps": 24, "lr": 0.01, "batch": given["batch"], "architecture": given["architecture"]}
    config = parse(
        {"study": "s", "seeds": 2, "linear": False, "mlflow": None, "train": train_}
        | {name: value for name, value in given.items() if name not in keys}
    )
    pack, plugins = Pack("p", {}, {}, config.seed_list, [0] * len(config.seed_list)), load_plugins()
    return assemble(components(config, pack, plugins), pack, plugins)


@pytest.mark.parametrize("name", STUDIES)
def test_no_method_or_penalty_of_ours_asks_the_host(name: str) -> None:
    reports = train(built(STUDIES[name]), every=6)
    next(reports)
    with touches() as found:
        ended = list(reports)[-1]
    assert found == []
    assert bool(ended.healthy.all())


@pytest.mark.parametrize("loss", [losses.Pinball((0.1, 0.5)), losses.Huber(1.0), losses.AbsoluteError(), losses.Poisson()])
def test_no_loss_of_ours_asks_the_host(loss: losses.Loss) -> None:
    outputs = torch.randn(3, 2 * len(loss.outputs), 5)
    with touches() as found:
        loss(outputs, torch.rand(2, 5))
        loss.error(outputs, torch.rand(2, 5))
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["held", "activations", "among fewer", "a sum", "normalised"])
def test_what_is_replayed_of_ours_is_what_runs_step_by_step(name: str, tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    found = built(STUDIES[name])
    replayed = last(found)
    assert tape.replayed
    monkeypatch.setattr(replaying, "recorder", lambda device: None)
    equal(replayed, last(found))


# Another device: torch's "meta" is one on every machine. It computes shapes alone, and refuses tensors of the host.


def elsewhere(of: Any) -> Any:
    """The same with all tensors on another device, but for what a method brings itself."""
    if isinstance(of, Tensor):
        return of.to("meta")
    if isinstance(of, Batches):
        return Batches(elsewhere(of.split), None if of.whole else of.size, of.data_seed)
    if isinstance(of, tuple):
        return tuple(map(elsewhere, of))
    if isinstance(of, dict) and any(isinstance(value, Tensor) for value in of.values()):
        return {name: elsewhere(value) for name, value in of.items()}
    if is_dataclass(of) and not isinstance(of, type) and type(of).__module__.startswith("nasplug."):
        moved = {f.name: elsewhere(getattr(of, f.name)) for f in fields(of) if f.init}
        return replace(of, **moved)
    return of


def ahead(found: Search) -> Timetable:
    bilevel = found.architect is not None and found.architect.share > 0
    return timetable(found, alternate if bilevel else step, 0, found.steps)


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "drawn by concentrations"])  # torch: no gamma there
def test_a_step_is_all_on_one_device(name: str) -> None:
    found = built(STUDIES[name])
    state = start(found)
    params, moments, there = elsewhere(state.params), elsewhere(state.moments), elsewhere(ahead(found))
    clock = torch.zeros(1, dtype=torch.long, device="meta")
    there.step(params, moments, clock, held=True)  # makes what is kept
    with touches() as asked:
        loss, penalty = there.step(params, moments, clock, held=True)
        found.method.project(params, 24, 24)
    assert asked == []
    assert loss.device.type == penalty.device.type == "meta"


def test_a_step_on_two_devices_is_seen() -> None:
    found = search(penalties=(Openness(),), method=Dense(gated=True))
    there = elsewhere(ahead(found))
    there = replace(there, search=replace(there.search, tau=found.tau))
    state, clock = elsewhere(start(found).params), torch.zeros(1, dtype=torch.long, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        there.step(state, elsewhere(start(found).moments), clock, held=False)


# A GPU, where there is one.


@pytest.mark.gpu
@pytest.mark.parametrize("case", ["everything", "frozen supports", "second order", "projected"])
def test_a_gpu_replays_what_it_ran(case: str) -> None:
    found = SEARCHES[case]()
    there = replace(
        found, task=found.task.to("cuda", torch.float64), seeds=found.seeds.cuda(), lr=found.lr.to("cuda", torch.float64),
        tau=found.tau.to("cuda", torch.float64), levels=tuple(level.to("cuda", torch.float64) for level in found.levels),
        architect=None if found.architect is None else replace(found.architect, lr=found.architect.lr.cuda()),
    )  # fmt: skip
    wanted = last(found)
    reports = train(there, every=12)
    next(reports)
    torch.cuda.set_sync_debug_mode("error")
    try:
        rest = list(reports)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not rest[-1].eager
    for name, leaf in wanted.state.params.items():
        assert torch.allclose(rest[-1].state.params[name].cpu(), leaf, rtol=0, atol=1e-8), name
