"""From soft to hard: nothing that was removed comes back, nothing gets worse, a broken row is alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.byrow import ByRow
from nasplug.contracts import Certifying, Discretizer, Score
from nasplug.discretize import discretize
from nasplug.errors import ConfigError, ContractError
from nasplug.finetune import Fresh, Frozen, better, finetune, refit, retrain
from nasplug.networks import PARTS, Networks, alive, forward, sizes, take
from nasplug.optimizers import Adam
from nasplug.stems import NORMS
from nasplug.study import Study
from nasplug.tasks import Task, stack
from nasplug.testing import example_networks, example_task
from nasplug.train import Architect, Search, evaluate

from .stand_ins import Dense, search

RATES = torch.tensor([0.05, 0.01, 0.02, 0.03], dtype=torch.float64)


@dataclass(frozen=True)
class Cut(Discretizer):
    """Edge gates below ``at`` become 0, the others 1."""

    at: float = 0.5
    needs: frozenset[str] = field(default=frozenset({"edge_gates"}))

    def __call__(self, nets: Networks, score: Score) -> Networks:
        return replace(nets, edge_gates={edge: (g >= self.at).to(g.dtype) for edge, g in nets.edge_gates.items()})


@dataclass(frozen=True)
class Best(Discretizer):
    """Whichever of two cuts a network's validation loss likes better."""

    needs: frozenset[str] = field(default=frozenset({"edge_gates"}))

    def __call__(self, nets: Networks, score: Score) -> Networks:
        loose, tight = Cut(0.3)(nets, score), Cut(0.7)(nets, score)
        better = (score(tight) < score(loose)).view(-1, 1, 1)
        gates = {edge: torch.where(better, tight.edge_gates[edge], g) for edge, g in loose.edge_gates.items()}
        return replace(nets, edge_gates=gates)


def soft(found: Search, seed: int = 0) -> Networks:
    """Soft networks for a task, as a method may leave them: gates anywhere in [0, 1]."""
    task = found.task
    return example_networks(
        seed, 4, (task.inputs, 4, 3, task.outputs), ("biases", "gates", "edge_gates", "choices"), dtype=found.dtype
    )


def validation(task: Task, nets: Networks) -> Tensor:
    return evaluate(task, task.valid, nets, forward)["loss"]


def test_what_comes_out_is_hard_and_alive() -> None:
    found = search()
    nets = soft(found)
    hard = discretize(found.task, nets, [Cut(0.6)])[0]
    hard.check()
    for part in ("gates", "edge_gates", "choices"):
        for tensor in getattr(hard, part).values():
            assert set(tensor.unique().tolist()) <= {0.0, 1.0}, part
    for edge, gate in hard.edge_gates.items():
        assert torch.equal(gate, (hard.blocks[edge] != 0).to(gate.dtype))
    x = found.task.valid.x
    again = alive(hard)
    assert torch.equal(forward(again, x), forward(hard, x))
    assert {n: c.tolist() for n, c in sizes(again).items()} == {n: c.tolist() for n, c in sizes(hard).items()}


def test_discretizers_run_in_order_and_see_the_validation_loss() -> None:
    found = search()
    nets = soft(found)
    seen: list[Tensor] = []

    @dataclass(frozen=True)
    class Look(Discretizer):
        needs: frozenset[str] = frozenset()

        def __call__(self, nets: Networks, score: Score) -> Networks:
            seen.append(score(nets))
            return nets

    discretize(found.task, nets, [Look(), Cut(0.6), Look()])
    assert torch.equal(seen[0], validation(found.task, nets))
    assert torch.equal(seen[1], validation(found.task, Cut(0.6)(nets, lambda n: n.blocks[1, 0])))


def test_what_no_discretizer_touches_is_rounded() -> None:
    found = search()
    hard = discretize(found.task, soft(found), [])[0]
    assert all(set(g.unique().tolist()) <= {0.0, 1.0} for g in (*hard.gates.values(), *hard.choices.values()))


def test_row_by_row() -> None:
    found = search()
    nets = soft(found)
    together = discretize(found.task, nets, [Best()])[0]
    for k in range(4):
        row = torch.tensor([k])
        alone = discretize(found.task, take(nets, row), [Best()])[0]
        for part in PARTS:
            for key, tensor in getattr(alone, part).items():
                assert torch.allclose(tensor, getattr(together, part)[key][row], rtol=0, atol=1e-12), (part, key)


@dataclass(frozen=True)
class Wrong(Discretizer):
    change: Any
    needs: frozenset[str] = frozenset()

    def __call__(self, nets: Networks, score: Score) -> Networks:
        changed: Networks = self.change(nets)
        return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda nets: take(nets, torch.tensor([0, 1, 2])), r"returned 3 networks of widths \(3, 4, 3, 1\) for 4 of"),
        (lambda nets: take(nets, torch.tensor([0, 1, 2, 3, 3])), "returned 5 networks"),
        (lambda nets: replace(nets, widths=(3, 4, 1), blocks={(1, 0): nets.blocks[1, 0]}), r"of widths \(3, 4, 1\) for 4"),
    ],
)
def test_a_discretizer_that_changes_shapes_is_refused(change: Any, message: str) -> None:
    found = search()
    with pytest.raises(ContractError, match=message):
        discretize(found.task, soft(found), [Cut(), Wrong(change)])


@pytest.mark.parametrize(
    "change",
    [
        lambda nets: replace(nets, gates={layer: g[:1] for layer, g in nets.gates.items()}),  # would spread row 0's gates
        lambda nets: replace(nets, edge_gates={edge: g[..., :1] for edge, g in nets.edge_gates.items()}),
        lambda nets: replace(nets, choices={}),
    ],
)
def test_a_discretizer_whose_parts_do_not_fit_is_refused(change: Any) -> None:
    """Shapes that would broadcast are the worst kind: one network's gates would be all networks'."""
    found = search()
    with pytest.raises(ContractError):
        discretize(found.task, soft(found), [Wrong(change)])


# Fine-tuning.


@pytest.mark.parametrize("batch", [None, 7])
@pytest.mark.parametrize("kind", ["regression", "binary", "classes"])
def test_fine_tuning_never_costs_and_brings_nothing_back(kind: Any, batch: int | None) -> None:
    found = search(kind=kind, batch=batch)
    hard = discretize(found.task, soft(found), [Cut(0.6)])[0]
    tuned = finetune(found, hard, 60, RATES)
    tuned.check()
    before, after = validation(found.task, hard), validation(found.task, tuned)
    assert (after <= before).all()
    assert (after < before).any()
    for edge, gate in hard.edge_gates.items():
        assert (tuned.blocks[edge][gate == 0] == 0).all()
    for layer, gate in hard.gates.items():
        assert (tuned.biases[layer][gate == 0] == 0).all()
    for part in ("gates", "edge_gates", "choices"):
        for key, tensor in getattr(hard, part).items():
            assert torch.equal(getattr(tuned, part)[key], tensor)
    counts = sizes(tuned)
    for name, wanted in sizes(hard).items():
        assert (counts[name] <= wanted).all(), name


@pytest.mark.parametrize("batch", [None, 7, 10**6])
def test_a_plugin_may_train_hard_networks_without_a_search(batch: int | None) -> None:
    found = search(batch=None if batch is None else min(batch, search().task.train.samples))
    hard = discretize(found.task, soft(found), [Cut(0.6)])[0]
    rates = torch.full_like(RATES, 0.02)
    with torch.no_grad():  # as in a discretizer
        tuned = refit(found.task, hard, 30, 0.02, batch=batch, data_seed=found.data_seed)
    wanted = finetune(found, hard, 30, rates)
    for part in PARTS:
        for key, tensor in getattr(wanted, part).items():
            torch.testing.assert_close(getattr(tuned, part)[key], tensor.detach(), msg=f"{part} {key}")
    assert refit(found.task, hard, 0, 0.02) is hard


def test_a_refit_keeps_zeros_where_there_are_no_gates_and_refuses_numbers_out_of_range() -> None:
    found = search()
    nets = discretize(found.task, soft(found), [Cut(0.6)])[0]
    bare = replace(nets, edge_gates={})
    tuned = refit(found.task, bare, 20, 0.05)
    assert not tuned.edge_gates
    for edge, w in bare.blocks.items():
        assert bool((tuned.blocks[edge][w == 0] == 0).all())
    assert any(not torch.equal(tuned.blocks[edge], w) for edge, w in bare.blocks.items())
    for steps, lr, batch in ((-1, 0.1, None), (5, 0.0, None), (5, float("nan"), None), (5, 0.1, 0)):
        with pytest.raises(ConfigError, match="refit: steps="):
            refit(found.task, bare, steps, lr, batch=batch)


def test_rows_that_do_not_gain_keep_their_weights() -> None:
    """A rate that throws every network away: all rows come back as they were, bit by bit."""
    found = search()
    hard = discretize(found.task, soft(found), [Cut(0.6)])[0]
    rates = torch.tensor([1e3, 0.01, 1e3, torch.nan], dtype=torch.float64)
    tuned = finetune(found, hard, 20, rates)
    before, after = validation(found.task, hard), validation(found.task, tuned)
    assert torch.equal(after[[0, 2, 3]], before[[0, 2, 3]])
    assert after[1] < before[1]
    for edge, w in hard.blocks.items():
        assert torch.equal(tuned.blocks[edge][[0, 2, 3]], w[[0, 2, 3]])


def test_no_steps_are_no_change() -> None:
    found = search()
    hard = discretize(found.task, soft(found), [])[0]
    assert finetune(found, hard, 0, RATES) is hard


def test_fine_tuning_changes_nothing_it_is_given() -> None:
    found = search()
    hard = discretize(found.task, soft(found), [])[0]
    before = hard.map(torch.clone)
    finetune(found, hard, 5, RATES)
    for part in PARTS:
        for key, tensor in getattr(before, part).items():
            assert torch.equal(getattr(hard, part)[key], tensor), (part, key)


@pytest.mark.parametrize("method", [Dense(hidden=(4,), gated=True), Dense(gated=True, biased=False, act="softplus")])
def test_the_whole_way_row_by_row(method: Dense) -> None:
    """Discretized and fine-tuned, a row is what it would have been alone: also which biases it has to tune."""
    found = search(method, batch=7, clip=1.0)
    params = method.init(found.task, found.seeds)
    params["logit 1 0"][1, :2] = -9.0  # row 1 has neurons that no input reaches, the others may not
    params["logit 1 0"][0] = 9.0
    nets = method.relax(params, torch.ones(4).double())
    together = finetune(found, discretize(found.task, nets, [Cut()])[0], 25, RATES)
    for k in range(4):
        row = torch.tensor([k])
        one = discretize(found.task, take(nets, row), [Cut()])[0]
        alone = finetune(found.take(row), one, 25, RATES[row])
        assert set(alone.biases) == set(together.biases)
        for part in ("blocks", "biases", "gates", "edge_gates"):
            for key, tensor in getattr(alone, part).items():
                assert torch.allclose(tensor, getattr(together, part)[key][row], rtol=0, atol=1e-10), (k, part, key)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", [("blocks",), ("biases",), PARTS])
def test_a_broken_row_is_alone(where: tuple[str, ...], poison: float) -> None:
    found = search(batch=7, clip=1.0)
    nets = soft(found)

    def spoil(tensor: Tensor) -> Tensor:
        spoiled = tensor.clone()
        spoiled[1] = poison
        return spoiled

    broken = replace(nets, **{part: {key: spoil(t) for key, t in getattr(nets, part).items()} for part in where})
    hard = [discretize(found.task, n, [Best()])[0] for n in (nets, broken)]
    tuned = [finetune(found, n, 15, RATES) for n in hard]
    others = torch.tensor([0, 2, 3])
    for clean, spoiled in (hard, tuned):
        for part in PARTS:
            assert set(getattr(clean, part)) == set(getattr(spoiled, part))
            for key, tensor in getattr(clean, part).items():
                assert torch.equal(tensor[others], getattr(spoiled, part)[key][others]), (part, key)
    losses = [validation(found.task, n) for n in tuned]
    assert torch.equal(losses[0][others], losses[1][others])
    counts = [sizes(n) for n in tuned]
    for name in counts[0]:
        assert torch.equal(counts[0][name][others], counts[1][name][others]), name


def test_frozen_networks_are_themselves() -> None:
    nets = example_networks(k=3)
    frozen = Frozen(nets)
    params = frozen.init(example_task(), torch.arange(3))
    assert set(params) == {"block 1 0", "block 2 0", "block 2 1", "block 3 0", "block 3 1", "block 3 2"} | {
        f"{name} {layer}"
        for name, layers in (
            ("bias", (1, 2, 3)),
            ("kernel", (1, 2)),
            ("kernel bias", (1, 2)),
            *((name, (1,)) for name in NORMS.values()),
        )
        for layer in layers
    }
    again = frozen.relax(params, torch.ones(3))
    for part in PARTS:
        for key, tensor in getattr(nets, part).items():
            assert torch.equal(getattr(again, part)[key], tensor)
    params["block 1 0"].zero_()
    assert (nets.blocks[1, 0] != 0).any()


@dataclass(frozen=True)
class Witness(Cut, Certifying):
    """Cuts, and says of each network how many of its gates were nearly open."""

    short: int = 0

    def certified(self, nets: Networks, score: Score) -> tuple[Networks, list[dict[str, Any]]]:
        nearly = torch.stack([(gate > 0.6).sum((1, 2)) for gate in nets.edge_gates.values()]).sum(0).tolist()
        loss = score(nets).tolist()
        found = [
            {
                "verdict": "certain" if count else "open",
                "nearly": count,
                "loss": value,
                "sites": [{"edge": "1 0", "open": count}],
            }
            for count, value in zip(nearly, loss, strict=True)
        ]
        return self(nets, score), found[self.short :]


def test_the_first_that_certifies_is_asked_about_what_it_is_given() -> None:
    found = search()
    nets = soft(found)
    hard, certificates = discretize(found.task, nets, [Witness(0.6), Witness(0.6)])
    wanted = torch.stack([(gate > 0.6).sum((1, 2)) for gate in nets.edge_gates.values()]).sum(0)
    assert [one["nearly"] for one in certificates] == wanted.tolist()
    plain, none = discretize(found.task, nets, [Cut(0.6)])
    assert not none
    assert all(torch.equal(plain.blocks[edge], w) for edge, w in hard.blocks.items())


def test_who_certifies_too_few_is_refused() -> None:
    found = search()
    with pytest.raises(ContractError, match=r"certificates for \d networks; it must give each one, with a verdict"):
        discretize(found.task, soft(found), [Witness(short=1)])


# -- options that differ between rows -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loose(Witness):
    """Leaves the gates out where it cuts nothing: the same function with other parts."""

    def __call__(self, nets: Networks, score: Score) -> Networks:
        return super().__call__(nets, score) if self.at > 0.1 else replace(nets, edge_gates={}, biases={})


@settings(max_examples=40)
@given(rows=st.lists(st.integers(0, 3), min_size=4, max_size=4), own=st.booleans(), reads=st.booleans())
def test_rows_get_their_own_discretizer_and_are_what_they_are_alone(rows: list[int], own: bool, reads: bool) -> None:
    """Bit for bit, with data of their own or shared, and with their certificates, in the order of the rows."""
    found = search()
    task = stack([example_task(seed=n) for n in range(4)], [2, 0, 3, 1]) if own else found.task
    nets = soft(found)
    each = (Loose(0.0), Loose(0.4), Loose(0.6), Best() if reads else Loose(0.8))
    place = ByRow(each, tuple(rows))
    hard, certificates = discretize(task, nets, [place])
    for row, at in enumerate(rows):
        one = torch.tensor([row])
        alone, its = discretize(task.take(one), take(nets, one), [each[at]])
        mine = take(hard, one)
        assert sizes(mine)["edges"].tolist() == sizes(alone)["edges"].tolist()
        for part in PARTS:
            for key, tensor in getattr(alone, part).items():
                assert torch.equal(getattr(mine, part)[key], tensor), (part, key)
        if not reads:
            assert certificates[row]["nearly"] == its[0]["nearly"]
            assert certificates[row]["loss"] == pytest.approx(its[0]["loss"], rel=1e-12)
    assert len(certificates) == (0 if reads else 4)


def numbers_study(folder: Path, pack: int | str = "auto", **changes: Any) -> Study:
    return Study.from_dict(
        {
            "study": f"numbers-{pack}",
            "store": str(folder),
            "task": {"use": "xor", "samples": 40},
            "method": {"use": "edges", "mode": "l1", "hidden": [3]},
            "penalties": [{"use": "l1", "level": 1.0e-3}],
            "discretizers": [{"use": "threshold", "tolerance": {"log": [0.001, 1.0], "points": 8}}],
            "train": {"steps": 30, "batch": "full", "dtype": "float64", "finetune": 5},
            "seeds": 2,
            "resources": {"cpus": 1, "gpus": 0, "pack": pack},
            "mlflow": None,
        }
        | changes
    )


def test_a_discretizers_number_makes_rows_that_are_those_of_packs_of_their_own(tmp_path: Path) -> None:
    """8 tolerances and 2 seeds are one pack, and each network is the one of a pack of a single tolerance."""
    whole, split = numbers_study(tmp_path), numbers_study(tmp_path, 2)
    assert [pack.rows for pack in whole.plan()] == [16]
    assert [pack.rows for pack in split.plan()] == [2] * 8
    frames = []
    for one in (whole, split):
        one.run(runner="serial")
        frames.append(one.frame)
    place = "discretizers.0.tolerance"
    assert frames[0][place].tolist() == frames[1][place].tolist()
    assert frames[0][place].nunique() == 8
    assert frames[0]["edges"].nunique() > 1
    for name in ("edges", "neurons", "valid_loss", "cut_valid_loss", "test_loss"):
        assert frames[0][name].tolist() == pytest.approx(frames[1][name].tolist(), rel=1e-9), name
    (nets,) = [whole.networks(pack.id) for pack in whole.plan()]
    for at, pack in enumerate(split.plan()):
        own = split.networks(pack.id)
        mine = take(nets, torch.tensor([2 * at, 2 * at + 1]))
        for edge, w in own.blocks.items():
            assert torch.allclose(mine.block(edge), own.block(edge), rtol=0, atol=1e-12), edge
            assert w.shape == mine.blocks[edge].shape


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"use": "threshold", "tolerance": {"choice": [0.1, 0.2, -1.0]}}, "tolerance=-1.0"),
        ({"use": "threshold", "tolerance": {"choice": [0.1, float("inf")]}}, "tolerance"),
        ({"use": "obs", "refit": {"choice": [0, 2.5]}}, "discretizers.0.refit"),
    ],
)
def test_a_number_that_a_later_row_may_not_have_is_refused_when_planned(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        numbers_study(tmp_path, discretizers=[options]).plan()


def test_a_number_deep_in_an_option_is_a_row_too(tmp_path: Path) -> None:
    costs = {"relu": {"choice": [1.0, 3.0]}, "tanh": 2.0}
    study = numbers_study(
        tmp_path,
        method={"use": "mixture", "hidden": [3], "candidates": ["relu", "tanh"], "per": "layer"},
        penalties=[],
        discretizers=[{"use": "ranked", "costs": costs, "limit": 7.0}],
    )
    (pack,) = study.plan()
    assert pack.columns == {"discretizers.0.costs.relu": [1.0, 1.0, 3.0, 3.0]}
    study.run(runner="serial")
    frame = study.frame
    dear = frame[frame["discretizers.0.costs.relu"] == 3.0]
    assert len(dear) == 2
    nets = study.networks(pack.id)
    assert nets.choices[1][2:, 0].argmax(-1).tolist() == [1, 1]  # three neurons of relu would cost 9


def test_from_scratch_means_from_weights_that_know_nothing() -> None:
    found = search()
    nets = soft(found)
    hard, _ = discretize(found.task, nets, [Cut(0.6)])
    larger = replace(nets, blocks={edge: 3.0 * w for edge, w in nets.blocks.items()})
    other, _ = discretize(found.task, larger, [Cut(0.6)])
    anew, again = (retrain(found, h, 25, RATES) for h in (hard, other))
    for edge, w in anew.blocks.items():
        assert torch.equal(w, again.blocks[edge])  # whatever the weights were
        assert bool((w[hard.blocks[edge] == 0] == 0).all())  # what was cut stays cut
    start = Fresh(hard).init(found.task, found.seeds)
    for layer in range(1, hard.depth + 1):
        kept = torch.cat([(w != 0) for (to, _), w in hard.blocks.items() if to == layer], 2)
        fresh = torch.cat([start[f"block {to} {source}"] for to, source in hard.blocks if to == layer], 2)
        bound = kept.sum(2, keepdim=True).clamp(min=1).rsqrt()
        assert bool((fresh.abs() <= bound).all())
        assert bool(((fresh != 0) == kept).all())


def test_from_scratch_row_by_row() -> None:
    found = search()
    hard, _ = discretize(found.task, soft(found), [Cut(0.6)])
    together = retrain(found, hard, 25, RATES)
    for k in range(4):
        row = torch.tensor([k])
        alone = retrain(found.take(row), take(hard, row), 25, RATES[row])
        for edge, w in alone.blocks.items():
            assert torch.allclose(w, together.blocks[edge][row], rtol=0, atol=1e-10)


def test_the_better_one_is_kept() -> None:
    found = search()
    hard, _ = discretize(found.task, soft(found), [Cut(0.6)])
    off = torch.tensor([0.0, 50.0, torch.nan, 50.0], dtype=torch.float64).unsqueeze(-1)  # (K, 1)
    worse = replace(hard, biases={layer: b + off if layer == hard.depth else b for layer, b in hard.biases.items()})
    losses = validation(found.task, better(found.task, worse, hard))
    assert torch.equal(losses, validation(found.task, better(found.task, hard, worse)))
    assert torch.equal(losses, validation(found.task, hard))


def test_after_a_bilevel_search_all_training_samples_tune() -> None:
    """The held half was the architecture's; there is none to move any more."""
    found = search(Dense(gated=True))
    hard, _ = discretize(found.task, soft(found), [Cut(0.6)])
    held = replace(found, architect=Architect(Adam(), RATES, share=0.5))
    for make in (finetune, retrain):
        assert torch.equal(make(held, hard, 5, RATES).blocks[1, 0], make(found, hard, 5, RATES).blocks[1, 0])


def test_fine_tuning_starts_from_the_rows_own_rate_whatever_the_schedule(tmp_path: Path) -> None:
    """With a warm-up the first step's rate is 0, and nothing would be tuned."""
    raw = {
        "study": "warm",
        "store": str(tmp_path),
        "task": {"use": "xor", "samples": 40},
        "method": {"use": "edges", "mode": "l1", "hidden": [4]},
        "train": {"steps": 20, "lr": 0.05, "decay": {"use": "linear", "until": 0.2}, "finetune": 50, "retrain": 50},
        "mlflow": None,
    }
    frame = Study.from_dict(raw).run("serial").frame
    assert (frame["inherited_train_loss"] < 0.98 * frame["cut_valid_loss"]).all()
    assert (frame["retrained_train_loss"] < 0.9).all()
