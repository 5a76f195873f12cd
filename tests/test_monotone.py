"""Monotone networks: whatever is done to weights, outputs keep to the directions of inputs, and the weights prove it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug import compact, files
from nasplug.activations import FUNCTIONS, Function, non_decreasing
from nasplug.config import parse
from nasplug.contracts import Discretizer, Score
from nasplug.discretize import discretize
from nasplug.errors import ConfigError, ContractError
from nasplug.finetune import finetune, refit, retrain
from nasplug.hookspecs import Register, hookimpl
from nasplug.monotone import certified, constrain, directions, holds, reflect
from nasplug.networks import Networks, alive, forward, harden, join, take
from nasplug.optimizers import SGD
from nasplug.packs import load_networks, run_pack
from nasplug.plugins import load_plugins
from nasplug.schedules import still
from nasplug.signs import reflected
from nasplug.study import Study
from nasplug.tasks import Split, unscaled
from nasplug.testing import example_networks, example_task
from nasplug.train import Search, train
from tests.stand_ins import Dense, search

RISING = tuple(name for name in FUNCTIONS if non_decreasing(name))
WAYS = st.lists(st.sampled_from((-1, 0, 1)), min_size=3, max_size=3).map(tuple)
SHAPES = st.sampled_from(((3, 1), (3, 1, 1), (3, 4, 1), (3, 5, 3, 2), (3, 2, 3, 4, 1)))
PARTS = ("blocks", "biases", "gates", "edge_gates", "choices")


def test_ours_never_decrease_or_are_not_said_to() -> None:
    assert set(RISING) == {"identity", "relu", "leaky_relu", "tanh", "sigmoid", "elu", "softplus"}
    z = torch.linspace(-50.0, 50.0, 100_001, dtype=torch.float64)
    for name, function in FUNCTIONS.items():
        assert bool((function(z).diff() >= -1e-15).all()) == (name in RISING), name


def drawn(seed: int, widths: tuple[int, ...], ways: tuple[int, ...], names: tuple[str, ...] = ("tanh", "relu")) -> Networks:
    """Random networks of any skeleton, with skip blocks, soft gates and mixtures, and directions."""
    nets = example_networks(seed, 4, widths, PARTS)
    rows = {layer: choice[..., : len(names)] for layer, choice in nets.choices.items()}
    mixed = {layer: choice / choice.sum(-1, keepdim=True) for layer, choice in rows.items()}
    return replace(nets, candidates=names, choices=mixed, monotone=ways)


def keeps(nets: Networks, seed: int = 0, rounding: float = 1e-12) -> bool:
    """Whether outputs of all networks keep to their directions between random pairs of samples, forward as it stands."""
    free = replace(nets, monotone=())
    generator = torch.Generator().manual_seed(seed)
    like = next(iter(nets.blocks.values()))
    x = 4.0 * torch.randn(nets.widths[0], 200, generator=generator).to(like)
    before = forward(free, x)
    for j, way in enumerate(nets.monotone):
        further = x.clone()
        further[j] += 5.0 * torch.rand(200, generator=generator).to(like) ** 3
        rise = way * (forward(free, further) - before)
        if bool((rise < -rounding * before.abs().amax()).any()):
            return False
    return True


@given(seed=st.integers(0, 10**6), widths=SHAPES, ways=WAYS, name=st.sampled_from(RISING))
@settings(max_examples=30, deadline=None)
def test_any_weights_make_monotone_networks(seed: int, widths: tuple[int, ...], ways: tuple[int, ...], name: str) -> None:
    nets = drawn(seed, widths, ways, (name, "relu"))
    for made in (constrain(nets, ways), reflect(nets, ways), alive(nets), alive(harden(nets))):
        assert bool(holds(made).all())
        assert keeps(made, seed)
    x = torch.randn(3, 20, dtype=torch.float64)
    torch.testing.assert_close(forward(nets, x), forward(constrain(nets, ways), x))  # the record's own forward is the same
    hard = harden(nets)
    torch.testing.assert_close(forward(alive(hard), x), forward(hard, x))


@given(seed=st.integers(0, 10**6), widths=SHAPES, ways=WAYS)
@settings(max_examples=25, deadline=None)
def test_reflecting_loses_no_magnitude_and_asks_once(seed: int, widths: tuple[int, ...], ways: tuple[int, ...]) -> None:
    nets = drawn(seed, widths, ways)
    once = reflect(nets, ways)
    again = reflect(once, ways)
    for edge, w in nets.blocks.items():
        assert torch.equal(once.blocks[edge].abs(), w.abs())
        assert torch.equal(again.blocks[edge], once.blocks[edge])
        assert torch.equal(constrain(once, ways).blocks[edge], once.blocks[edge])
        one = reflect(take(nets, torch.tensor([2])), ways)
        assert torch.equal(one.blocks[edge], once.blocks[edge][2:3])


@given(seed=st.integers(0, 10**6), widths=SHAPES, data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_proof_is_of_the_weights_and_not_of_the_rule(seed: int, widths: tuple[int, ...], data: st.DataObject) -> None:
    """What is proven is true of any weights; a wrong sign anywhere on a path is seen; hidden neurons may change places."""
    ways = data.draw(st.sampled_from(((1, -1, 1), (1, 0, -1), (-1, 0, 0))))
    wild = drawn(seed, widths, ways)
    for row in holds(wild).nonzero().flatten().tolist():
        assert keeps(take(wild, torch.tensor([row])))
    nets = constrain(wild, ways)
    blocks = {edge: w.clone() for edge, w in nets.blocks.items()}
    blocks[len(widths) - 1, 0][1, 0, 0] = -float(ways[0])  # one edge of one row from the first input to the first output
    assert holds(replace(nets, blocks=blocks, edge_gates={})).tolist() == [True, False, True, True]
    order = {0: torch.arange(3), len(widths) - 1: torch.arange(widths[-1])}
    order |= {layer: torch.randperm(widths[layer]) for layer in range(1, len(widths) - 1)}
    moved = {(to, source): w[:, order[to]][:, :, order[source]] for (to, source), w in nets.blocks.items()}
    assert bool(certified(moved, widths, ways).all())


def test_a_weight_at_zero_can_grow_and_a_broken_row_stays_alone() -> None:
    w = torch.zeros(2, 2, 3, dtype=torch.float64, requires_grad=True)
    reflected(w, (1, 0), (3, 2), (1, -1, 0)).sum().backward()
    assert torch.equal(w.grad, torch.ones_like(w))  # type: ignore[arg-type]
    nets = drawn(3, (3, 4, 1), (1, -1, 0))
    broken = {edge: w.clone() for edge, w in nets.blocks.items()}
    broken[1, 0][1] = torch.nan
    made = replace(nets, blocks=broken)
    x = torch.randn(3, 8, dtype=torch.float64)
    assert bool(forward(made, x)[1].isnan().all())  # it is not repaired into a sound one
    assert torch.equal(forward(made, x)[[0, 2, 3]], forward(nets, x)[[0, 2, 3]])


@pytest.mark.parametrize("method", [Dense(), Dense(hidden=(4, 3), skips=True), Dense(gated=True, noisy=True)], ids=str)
def test_a_pack_is_its_rows_alone(method: Dense) -> None:
    found = search(replace(method, act="tanh"), steps=6, monotone=(1, -1, 0))
    *_, last = train(found, every=6)
    nets = found.direct(found.relax(last.state.params, found.tau.at(5)))
    assert bool(holds(nets).all())
    assert keeps(nets)
    for row in range(4):
        one = found.take(torch.tensor([row]))
        *_, alone = train(one, every=6)
        for name, leaf in alone.state.params.items():
            torch.testing.assert_close(last.state.params[name][row : row + 1], leaf, rtol=0, atol=1e-10)


def test_further_training_keeps_to_them() -> None:
    found = search(Dense(hidden=(4, 3), skips=True, act="relu"), monotone=(1, -1, 0))
    nets, _ = discretize(found.task, found.direct(found.relax(*_start(found))), ())
    for made in (
        finetune(found, nets, 15, found.lr.scale),
        retrain(found, nets, 15, found.lr.scale),
        refit(found.task, nets, 15, 0.05),
    ):
        assert made.monotone == (1, -1, 0)
        assert bool(holds(made).all())
        assert keeps(made)


def _start(found: Any) -> tuple[dict[str, Tensor], Tensor]:
    return {name: p.to(found.dtype) for name, p in found.method.init(found.task, found.seeds).items()}, found.tau.at(0)


@dataclass(frozen=True)
class Stranger(Discretizer):
    """One that knows nothing of directions: it turns all signs round, and may forget them or bring an activation."""

    forgets: bool = True
    brings: str = ""
    needs: frozenset[str] = field(default=frozenset({"blocks"}))

    def __call__(self, nets: Networks, score: Score) -> Networks:
        nets = replace(
            nets, blocks={edge: -w for edge, w in nets.blocks.items()}, monotone=() if self.forgets else nets.monotone
        )
        if not self.brings:
            return nets
        hidden = range(1, nets.depth)
        one = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(nets.replicas, 1, 2)
        return replace(nets, candidates=("relu", self.brings), choices=dict.fromkeys(hidden, one))


@pytest.mark.parametrize("forgets", [True, False])
def test_a_strangers_discretizer_cannot_break_them(forgets: bool) -> None:
    nets = replace(example_networks(1, 4, (3, 4, 1), ("blocks", "biases"), skips=True), monotone=(1, -1, 1))
    made, _ = discretize(example_task(), nets, (Stranger(forgets),))
    assert bool(holds(made).all())
    assert keeps(made)


def test_a_discretizer_that_brings_a_falling_activation_is_named() -> None:
    nets = replace(example_networks(1, 4, (3, 4, 1), ("blocks", "biases")), monotone=(1, -1, 1))
    with pytest.raises(ContractError, match=r"Stranger.*brought the activation sin"):
        discretize(example_task(), nets, (Stranger(brings="sin"),))


SPECS: list[tuple[str, dict[str, Any]]] = [
    ("threshold", {"tolerance": 0.5}),
    ("threshold", {"eps": 0.3}),
    ("fold", {"tolerance": 0.5}),
    ("argmax", {}),
    ("neuron_mask", {}),
    ("closest", {}),
    ("least", {}),
    ("ranked", {}),
    ("obs", {"tolerance": 0.5, "refit": 5}),
    ("admm", {"rounds": 2, "steps": 3}),
]


@pytest.mark.parametrize(("use", "options"), SPECS, ids=[f"{use} {options}" for use, options in SPECS])
def test_every_discretizer_of_ours_keeps_to_them(use: str, options: dict[str, Any]) -> None:
    plugins = load_plugins()
    cut = plugins.build("discretizer", use, options, "discretizers.0")
    nets = drawn(5, (3, 4, 1), (1, -1, 0)).map(Tensor.float)
    made, _ = discretize(example_task().to("cpu", torch.float32), nets, (cut,))
    assert made.monotone == (1, -1, 0)
    assert bool(holds(made).all())
    assert keeps(made, rounding=1e-5)


def config(folder: Path, method: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {
        "study": "m",
        "store": str(folder),
        "task": {"use": "table", "validation": "holdout", "path": str(folder / "t.csv"), "target": "y"},
        "method": method,
        "monotone": {"a": 1, "b": -1},
        "train": {"steps": 40, "lr": 0.02, "finetune": 10, "retrain": 10},
        "discretizers": [{"use": "threshold", "tolerance": 0.05}],
        "seeds": 3,
        "linear": False,
        "mlflow": None,
        **rest,
    }


def table(folder: Path, target: str = "number", extra: str = "c") -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 3, generator=generator)
    y = -x[:, 0] + x[:, 1] ** 3 + x[:, 2].sin()  # in the data both directions are wrong
    words = {
        "number": lambda v: f"{v:.4f}",
        "binary": lambda v: "yes" if v > 0 else "no",
        "classes": lambda v: "abc"[(v > 0) + (v > 1)],
    }
    lines = [
        f"{a:.4f},{b:.4f},{c:.4f},{'red' if c > 0 else 'blue'},{words[target](v)}"
        for (a, b, c), v in zip(x.tolist(), y.tolist(), strict=True)
    ]
    (folder / "t.csv").write_text(f"a,b,{extra},colour,y\n" + "\n".join(lines) + "\n", encoding="utf-8")


METHODS: dict[str, dict[str, Any]] = {
    **{mode: {"use": "edges", "mode": mode, "hidden": [4]} for mode in ("annealed", "gated", "hard_concrete", "l1", "snap")},
    "deep": {"use": "edges", "mode": "annealed", "hidden": [4, 3], "skips": True},
    "linear": {"use": "edges", "mode": "l1", "hidden": []},
    "mixture": {"use": "mixture", "hidden": [3], "candidates": ["relu", "tanh", "softplus"]},
    "sparcs": {"use": "sparcs", "hidden": [4, 3], "bias_input": True},
}


@pytest.mark.parametrize("name", METHODS)
def test_every_network_of_a_study_is_monotone(name: str, tmp_path: Path) -> None:
    table(tmp_path, "binary" if name == "gated" else "number")
    cuts = [{"use": "closest"}] if name == "mixture" else []
    raw = config(tmp_path, METHODS[name])
    raw["discretizers"] = [*cuts, *raw["discretizers"]]
    study = Study(parse(raw))
    (pack,) = study.plan()
    for _ in run_pack(study.config, pack, study.plugins, tmp_path / "p"):
        pass
    nets = load_networks(tmp_path / "p")
    assert nets.monotone[:2] == (1, -1)
    assert not any(nets.monotone[2:])
    assert bool(holds(nets).all())
    assert keeps(nets, rounding=1e-6)
    for row in range(nets.replicas):
        module = compact.compact(nets, row, study.task)
        assert module.record["monotone"] == {"a": 1, "b": -1}
        assert module.proven
        x = torch.randn(200, module.record["inputs"]) * 3.0
        for at, way in ((0, 1), (1, -1)):
            further = x.clone()
            further[:, at] += torch.rand(200) * 4.0
            with torch.no_grad():
                rise = way * (module(further) - module(x))
            # Sums of rounded numbers in one order do not fall; a product of another batch may round otherwise.
            assert float(rise.min()) >= -1e-6 * float(module(x).detach().abs().max())


@pytest.mark.slow
@pytest.mark.reports
def test_a_study_says_so_in_what_it_serves(tmp_path: Path) -> None:
    table(tmp_path)
    raw = config(tmp_path, METHODS["l1"])
    study = Study(parse(raw)).run("serial")
    assert compact.load(study.folder / "best").record["monotone"] == {"a": 1, "b": -1}
    assert study.network().proven
    assert "rises or stays with a, falls or stays with b" in (study.folder / "report.html").read_text(encoding="utf-8")


def test_a_saved_network_that_breaks_its_word_is_refused(tmp_path: Path) -> None:
    nets = replace(example_networks(1, 1, (3, 4, 1), ("blocks", "biases")), candidates=("tanh",), monotone=(1, -1, 0))
    module = compact.compact(nets, 0)
    compact.save(module, tmp_path / "good")
    assert compact.load(tmp_path / "good").proven
    with torch.no_grad():
        for to, source in module.edges:
            if to == len(module.widths) - 1:
                module.get_parameter(f"weight_{to}_{source}").neg_()
    compact.save(module, tmp_path / "bad")
    with pytest.raises(ConfigError, match="it is monotone in x0, x1; its weights are not"):
        compact.load(tmp_path / "bad")
    record = files.read_json(tmp_path / "good" / "network.json")
    record.pop("digest")
    record["monotone"] = {"x9": 1}
    with pytest.raises(ConfigError, match="monotone in"):
        compact.CompactNetwork(record)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("unknown", {"monotone": {"aa": 1}}, r"monotone\.aa: not a feature .*Did you mean 'a'"),
    ("words", {"monotone": {"colour": 1}}, r"monotone\.colour: a column of words"),
    ("the target", {"monotone": {"y": 1}}, r"monotone\.y: not a feature"),
    ("zero", {"monotone": {"a": 0}}, r"monotone\.a: 0; needed: -1 or 1"),
    ("text", {"monotone": {"a": "up"}}, r"monotone\.a: 'up'; needed: -1 or 1"),
    ("true", {"monotone": {"a": True}}, r"monotone\.a: true; needed: -1 or 1"),
    ("swept", {"monotone": {"a": {"choice": [1, -1]}}}, r"monotone\.a: .*cannot be swept"),
    ("a list", {"monotone": ["a"]}, r"monotone: .*needed: a mapping"),
    ("silu", {"method": {"use": "edges", "activation": "silu"}}, r"activation silu, which may decrease; needed: .*relu"),
    ("usual candidates", {"method": {"use": "mixture"}}, r"activations silu, gelu, which may decrease"),
]


@pytest.mark.parametrize(("change", "told"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_what_cannot_be_is_refused_at_planning(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    table(tmp_path)
    raw = config(tmp_path, METHODS["l1"]) | change
    with pytest.raises(ConfigError, match=told):
        Study(parse(raw)).plan()


def test_more_than_two_labels_and_stems_are_refused(tmp_path: Path) -> None:
    table(tmp_path, "classes")
    raw = config(tmp_path, METHODS["l1"])
    with pytest.raises(ConfigError, match=r"has the classes a, b, c, whose probabilities cannot all rise"):
        Study(parse(raw)).plan()
    stem = {"image": [1, 1, 2], "layers": [{"channels": 1, "kernel": 1}]}
    images = raw | {"task": {"use": "xor", "samples": 40}, "monotone": {"a": 1}}
    images["method"] = {"use": "edges", "mode": "l1", "hidden": [3], "stem": stem}
    with pytest.raises(ConfigError, match="has a stem, whose kernels have no fixed signs"):
        Study(parse(images)).plan()


def test_joined_networks_have_one_set_of_directions() -> None:
    nets = drawn(1, (3, 4, 1), (1, 0, 0))
    with pytest.raises(ContractError, match="monotone"):
        join([nets, replace(nets, monotone=(0, 1, 0))])
    with pytest.raises(ContractError, match="2 directions for 3 neurons"):
        replace(nets, monotone=(1, 0)).check()


def offering(function: Function) -> Any:
    """Everything installed, and the activation ``bump``."""
    plugins = load_plugins.__wrapped__()

    @hookimpl
    def register_activations(register: Register) -> None:
        register("bump", lambda: function)

    module = ModuleType("bumps")
    module.register_activations = register_activations  # type: ignore[attr-defined]
    plugins.add(module, "bumps", "nasplug-bumps", "1")
    return plugins


def rising(z: Tensor) -> Tensor:
    return torch.atan(z)


def falling(z: Tensor) -> Tensor:
    return torch.exp(-z * z)


@pytest.mark.parametrize(
    ("function", "told"), [(rising, "bump, which may decrease"), (falling, "says that it never decreases, and does")]
)
def test_a_plugins_activation_says_so_and_is_tried(function: Any, told: str, tmp_path: Path) -> None:
    table(tmp_path)
    raw = config(tmp_path, {"use": "edges", "mode": "l1", "hidden": [3], "activation": "bump"})

    def silent(z: Tensor) -> Tensor:
        return function(z)  # type: ignore[no-any-return]

    def saying(z: Tensor) -> Tensor:
        return function(z)  # type: ignore[no-any-return]

    saying.non_decreasing = True  # type: ignore[attr-defined]
    if function is rising:
        with pytest.raises(ConfigError, match=told):
            Study(parse(raw), offering(silent)).plan()
        assert len(Study(parse(raw), offering(saying)).plan()) == 1
    else:
        with pytest.raises(ContractError, match=told):
            Study(parse(raw), offering(saying)).plan()


def test_data_sets_whose_features_differ_are_not_rows_of_one_pack(tmp_path: Path) -> None:
    table(tmp_path)
    swept = config(tmp_path, METHODS["l1"])
    swept["task"] = {"use": "table", "validation": "holdout", "path": str(tmp_path / "t.csv"), "target": "y"}
    swept["task"]["features"] = {"choice": [["a", "b", "c"], ["c", "b", "a"]]}
    packs = Study(parse(swept)).plan()
    assert len(packs) == 2


@pytest.mark.parametrize("missing", ["mean", "indicator"])
def test_ramps_of_a_column_rise_with_it_and_what_says_gap_is_free(missing: str, tmp_path: Path) -> None:
    table(tmp_path)
    lines = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
    lines[3] = "," + lines[3].split(",", 1)[1]  # a gap in column a
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    raw = config(tmp_path, METHODS["l1"])
    raw["task"] |= {"missing": missing, "numeric": "piecewise", "bins": 3}
    study = Study(parse(raw), fast=True)
    task = study.task
    ways = dict(zip(task.features, directions(task, {"a": 1, "b": -1}), strict=True))
    of_a = {name: way for name, way in ways.items() if name == "a" or name.startswith("a ")}
    assert of_a.pop("a missing", 0) == 0
    assert set(of_a.values()) == {1}
    assert len(of_a) == 4
    assert sum(way == -1 for way in ways.values()) == 4
    (pack,) = study.plan()
    for _ in run_pack(study.config, pack, study.plugins, tmp_path / "p"):
        pass
    assert bool(holds(load_networks(tmp_path / "p")).all())


def test_linear_networks_come_to_the_constrained_solution(tmp_path: Path) -> None:
    """As scikit-learn's coordinate descent with ``positive=True``: zeros of the constraint are exact."""
    from sklearn.linear_model import Lasso as Wanted

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 200, generator=generator, dtype=torch.float64)
    x[1] = x[0] + 0.5 * x[1]  # alone it would rise, beside the other it falls
    y = 2.0 * x[:1] - 0.7 * x[1:2] + 0.3 * x[2:3] - x[3:4]
    y = y - y.mean()
    part = Split(x - x.mean(1, keepdim=True), y)
    plugins = load_plugins()
    linear = plugins.build("method", "linear", {"accelerate": True}, "method")
    lasso = plugins.build("regularizer", "lasso", {}, "penalties.0")
    curvature = 2.0 * float(torch.linalg.eigvalsh(part.x @ part.x.T / 200).max())
    one, lr = (still([value] * 2, 600).to("cpu", torch.float64) for value in (1.0, 1.0 / curvature))
    level = still([0.02, 0.2], 600).to("cpu", torch.float64)
    found = Search(
        unscaled("t", (part,) * 3), linear, (lasso,), SGD(), torch.arange(2), 600, lr, one, (level,), monotone=(1, 1, 0, 1)
    )
    *_, last = train(found, every=600)
    weights = found.relax(last.state.params, found.tau.at(0)).blocks[1, 0]
    for row, alpha in enumerate((0.01, 0.1)):
        # Directions: the first, second and fourth weight >= 0; the third is free, as a difference of two that are >= 0.
        columns = torch.cat((part.x, -part.x[2:3])).T.numpy()
        wanted = Wanted(alpha=alpha, positive=True, tol=1e-12, max_iter=10**6).fit(columns, y[0].numpy()).coef_
        wanted[2] -= wanted[4]
        torch.testing.assert_close(weights[row, 0], torch.from_numpy(wanted[:4]), rtol=0, atol=1e-8)
        assert ((weights[row, 0] == 0).tolist())[1]
        assert ((weights[row, 0] == 0).tolist())[3]


@pytest.mark.slow
def test_a_compiled_step_is_the_eager_one() -> None:
    found = search(Dense(hidden=(4, 3), skips=True, act="relu"), steps=4, monotone=(1, -1, 0))
    (*_, eager), (*_, compiled) = (train(found, every=4, compiled=how) for how in (False, True))
    for name, leaf in eager.state.params.items():
        torch.testing.assert_close(compiled.state.params[name], leaf, rtol=0, atol=1e-10)
