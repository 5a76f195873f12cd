"""`structure`: the laws of `nasplug.testing`, sums that stay sums whatever is done to them, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from nasplug import compact, files
from nasplug.additive import certified, holds
from nasplug.compact import CompactNetwork
from nasplug.config import parse
from nasplug.contracts import Discretizer, Score
from nasplug.discretize import discretize
from nasplug.errors import ConfigError, ContractError
from nasplug.explain import Background, base, contributions, curves, effects, formula, grids, meeting
from nasplug.networks import Networks, forward, sizes
from nasplug.packs import load_networks, run_pack
from nasplug.plugins import load_plugins
from nasplug.report.explaining import Explained
from nasplug.study import Study
from nasplug.tasks import Split, Task, unscaled
from nasplug.testing import SearchMethodLaws, example_networks, example_task
from nasplug_edges import edges
from nasplug_edges.screening import screened


class TestAdditive(SearchMethodLaws):
    name = "edges"
    options: ClassVar = {"structure": "additive", "hidden": [4, 2], "skips": True}


class TestPairs(SearchMethodLaws):
    name = "edges"
    options: ClassVar = {"structure": "pairs", "pairs": 2, "hidden": [3], "mode": "gated"}


class TestAllPairs(SearchMethodLaws):
    name = "edges"
    options: ClassVar = {"structure": "pairs", "hidden": [3], "mode": "l1", "activation": "tanh"}


def soft(task: Task | None = None, **options: Any) -> Networks:
    task = example_task() if task is None else task
    method = edges(**options)
    method.accept(task)
    return method.relax(method.init(task, torch.arange(3)), torch.ones(3).double())


def grouped_task() -> Task:
    """Five inputs of three columns."""
    return replace(example_task(inputs=5), columns=("a", "b", "c"), groups=(0, 1, 1, 0, 2))


def test_each_column_has_neurons_of_its_own() -> None:
    nets = soft(grouped_task(), structure="additive", hidden=[2, 3], skips=True)
    assert (nets.widths, nets.terms) == ((5, 6, 9, 1), (1, 1, 1))
    column = torch.tensor([0, 1, 1, 0, 2])
    for edge, high in (((1, 0), 2), ((2, 0), 3)):
        of = torch.arange(nets.widths[edge[0]]) // high
        allowed = of.unsqueeze(1) == column
        assert not bool((nets.blocks[edge] * ~allowed).any())
    assert bool(((nets.blocks[1, 0] != 0).any(2)).all())
    inner = nets.blocks[2, 1]
    assert not bool((inner * (torch.arange(9).unsqueeze(1) // 3 != torch.arange(6) // 2)).any())
    assert bool((inner != 0).any(2).all())
    assert bool(holds(replace(nets, groups=(0, 1, 1, 0, 2))).all())
    assert not bool(holds(nets).any())  # each input alone, two would meet


def interacting(samples: int = 400) -> Task:
    """Of eight columns only 1 and 4 interact; without noise, all columns have effects of their own."""
    x = torch.randn(8, samples, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x[:3].sum(0, keepdim=True) + x[5:6] ** 2 + 1.5 * x[1:2] * x[4:5]
    splits = [Split(x[:, at], y[:, at]) for at in torch.arange(samples).chunk(3)]
    return unscaled("interacting", (splits[0], splits[1], splits[2]), source="here")


def test_pairs_are_found_in_the_samples_that_count() -> None:
    task = interacting()
    assert [1, 4] in screened(task, 1, 3)[0].tolist()
    weights = torch.ones(2, task.train.samples, dtype=torch.float64)
    weights[1, ::2] = 0.0
    both = replace(task, train=replace(task.train, weights=weights))
    alone = replace(task, train=task.train.columns(torch.arange(1, task.train.samples, 2)))
    other = replace(both, train=replace(both.train, y=torch.where(weights[1:] > 0, task.train.y, 1e3 * task.train.x[:1])))
    assert torch.equal(screened(both, 2, 4)[0], screened(task, 1, 4)[0])
    assert torch.equal(screened(both, 2, 4)[1], screened(other, 2, 4)[1])  # what has no weight is not read
    assert [1, 4] in screened(alone, 1, 4)[0].tolist()
    nets = soft(task, structure="pairs", pairs=2, hidden=[2])
    assert nets.terms == (1,) * 8 + (2, 2)
    labels = replace(task, kind="binary", targets=("no", "yes"), train=replace(task.train, y=(task.train.y > 1).double()))
    assert [1, 4] in screened(labels, 1, 5)[0].tolist()


class Joining(Discretizer):
    """Lets the first neuron read everything."""

    needs = frozenset({"blocks"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        w = nets.blocks[1, 0].clone()
        w[:, 0] = 1.0
        return replace(nets, blocks={**nets.blocks, (1, 0): w}, edge_gates={}, terms=())


def test_a_discretizer_that_joins_columns_is_named() -> None:
    nets = soft(structure="additive", hidden=[4])
    with pytest.raises(ContractError, match=r"Joining.*joined columns in networks that are additive"):
        discretize(example_task(), nets, (Joining(),))


SPECS: list[tuple[str, dict[str, Any]]] = [
    ("threshold", {"tolerance": 0.3}),
    ("fold", {"tolerance": 0.5}),
    ("argmax", {}),
    ("neuron_mask", {}),
    ("obs", {"tolerance": 0.5, "refit": 5}),
]


@pytest.mark.parametrize(("use", "options"), SPECS, ids=[use for use, _ in SPECS])
def test_every_discretizer_of_ours_keeps_sums(use: str, options: dict[str, Any]) -> None:
    cut = load_plugins().build("discretizer", use, options, "discretizers.0")
    nets = soft(structure="pairs", pairs=1, hidden=[3]).map(Tensor.float)
    if use == "neuron_mask":
        nets = replace(nets, gates={1: torch.rand(3, nets.widths[1], generator=torch.Generator().manual_seed(0))})
    made, _ = discretize(example_task().to("cpu", torch.float32), nets, (cut,))
    assert made.terms == nets.terms
    assert bool(holds(made).all())


def table(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(150, 3, generator=generator)
    y = x[:, 0].abs() + x[:, 1] ** 3 + x[:, 0] * x[:, 2]
    lines = [
        f"{a:.4f},{b:.4f},{c if c > -1 else ''},{'red' if c > 0.5 else 'blue' if c < -0.5 else 'green'},{v:.4f}"
        for (a, b, c), v in zip(x.tolist(), y.tolist(), strict=True)
    ]
    (folder / "t.csv").write_text("a,b,c,colour,y\n" + "\n".join(lines) + "\n", encoding="utf-8")


def config(folder: Path, method: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {
        "study": "s",
        "store": str(folder),
        "task": {
            "use": "table", "path": str(folder / "t.csv"), "target": "y", "numeric": "piecewise",
            "missing": "indicator",
            "validation": {"use": "folds", "folds": 3},
        },
        "method": {"use": "edges", **method},
        "penalties": [{"use": "terms", "pairs": 2.0, "level": 0.003}],
        "discretizers": [{"use": "threshold", "tolerance": 0.05}, {"use": "fold", "tolerance": 0.05}],
        "train": {"steps": 30, "lr": 0.02, "finetune": 20, "retrain": 10},
        "mlflow": None,
        **rest,
    }  # fmt: skip


def pack_of(study: Study, folder: Path) -> Networks:
    first, *_ = study.plan()
    for _ in run_pack(study.config, first, study.plugins, folder / first.id):
        pass
    return load_networks(folder / first.id)


@pytest.fixture(scope="module")
def additive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Networks]:
    folder = tmp_path_factory.mktemp("additive")
    table(folder)
    study = Study(parse(config(folder, {"structure": "additive", "hidden": [4]}, monotone={"b": 1})))
    return study, pack_of(study, folder)


def test_every_network_of_a_study_is_a_sum(additive: tuple[Study, Networks]) -> None:
    study, nets = additive
    assert nets.terms == (1, 1, 1, 1)
    assert nets.replicas == 3  # folds
    assert bool(holds(nets).all())
    most = 4 * 4  # edges into hidden neurons, one per neuron; as many leave them
    assert bool((sizes(nets)["edges"] <= 2 * most).all())
    for row in range(nets.replicas):
        module = compact.compact(nets, row, study.task)
        assert module.record["structure"] == "additive"
        assert module.proven
        assert meeting(module) == []


def test_the_curves_of_a_sum_are_the_model(additive: tuple[Study, Networks]) -> None:
    study, nets = additive
    module = compact.compact(nets, 0, study.task)
    background = Background.of_task(study.task)
    rows = background.features[:50]
    with torch.no_grad():
        wanted = module(torch.from_numpy(rows)).numpy()
    at = [
        replace(g, numbers=np.arange(50.0), words=(), features=rows[:, g.places]) for g in grids(module, background)
    ]  # each curve at the rows' own values
    assert len(at) > 1
    found = base(module, background) + sum(curve.numbers for curve in curves(module, background, at))
    assert np.abs(found - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())
    parts = contributions(module, study_frame(study), background)
    assert parts.attrs["exact"]
    mean = base(module, background).tolist()
    told = Explained(formula(module), effects(module, background), [], 0, "", {}, len(rows), mean)
    assert f"The curves are the model: on this scale an output is its base ({mean[0]:.4g})" in told.sums
    assert replace(told, possible=1).sums == ""


def study_frame(study: Study) -> Any:
    import pandas as pd

    return pd.read_csv(study.config.task.options["path"]).head(20)


def test_pairs_of_a_study_hold_and_are_saved(tmp_path: Path) -> None:
    table(tmp_path)
    raw = config(tmp_path, {"structure": "pairs", "pairs": 2, "hidden": [3], "mode": "gated"}, linear=False)
    study = Study(parse(raw))
    nets = pack_of(study, tmp_path)
    assert nets.terms == (1, 1, 1, 1, 2, 2)
    assert bool(holds(nets).all())
    module = compact.compact(nets, 0, study.task)
    compact.save(module, tmp_path / "good")
    assert compact.load(tmp_path / "good").record["structure"] == "pairs"


def test_a_saved_network_that_is_no_sum_is_refused(tmp_path: Path) -> None:
    nets = replace(example_networks(1, 1, (3, 6, 1), ("blocks", "biases"), skips=False), candidates=("tanh",))
    w = nets.blocks[1, 0]
    own = (torch.arange(6).unsqueeze(1) // 2 == torch.arange(3)).to(w)
    whole = compact.compact(replace(nets, blocks={**nets.blocks, (1, 0): w * own}, terms=(1, 1, 1)), 0)
    compact.save(whole, tmp_path / "good")
    assert compact.load(tmp_path / "good").proven
    with torch.no_grad():
        whole.get_parameter("weight_1_0")[0, 1] = 0.5
    compact.save(whole, tmp_path / "bad")
    with pytest.raises(ConfigError, match="it is additive; its weights are not"):
        compact.load(tmp_path / "bad")
    record = files.read_json(tmp_path / "good" / "network.json")
    record.pop("digest")
    with pytest.raises(ConfigError, match="structure"):
        CompactNetwork(record | {"structure": "loose"})


def test_the_proof_is_of_the_function() -> None:
    """What is proven to be a sum is one: mixed second differences are 0; one weight too many is seen."""
    nets = soft(structure="additive", hidden=[3, 2], skips=True)
    generator = torch.Generator().manual_seed(1)
    x, step = torch.randn(3, 50, generator=generator).double(), torch.zeros(3, 3, 1).double()
    step[range(3), range(3)] = 2.0
    for a, b in ((0, 1), (0, 2), (1, 2)):
        second = forward(nets, x + step[a] + step[b]) - forward(nets, x + step[a]) - forward(nets, x + step[b])
        assert float((second + forward(nets, x)).abs().max()) < 1e-12
    blocks = {edge: w.clone() for edge, w in nets.blocks.items()}
    blocks[2, 1][1, 0, 4] = 0.1  # from the second column's term to the first one's
    assert certified(blocks, nets.widths, (), 1).tolist() == [True, False, True]
    assert bool(certified(blocks, nets.widths, (), 2).all())


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"structure": "additive", "hidden": []}, "mode 'annealed'; needed"),
    ({"structure": "additive", "hidden": [], "mode": "l1"}, "a linear model is additive as it is"),
    ({"structure": "additive", "mode": "snap", "hidden": [4]}, "structure 'additive' with mode 'snap'"),
    ({"structure": "additive", "pairs": 3}, "pairs=3 with structure 'additive'"),
    ({"structure": "pairs", "pairs": 0}, "pairs=0; needed: a whole number >= 1"),
    ({"structure": "loose"}, "structure"),
    (
        {"structure": "additive", "stem": {"image": [1, 2, 2], "layers": [{"channels": 1, "kernel": [1, 1]}]}},
        "a stem, whose features mix all inputs",
    ),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=[words for _, words in WRONG])
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_plugins().build("method", "edges", {"hidden": [4], **options}, "method")


def test_wrong_tasks_are_refused() -> None:
    with pytest.raises(ConfigError, match="a task of one column"):
        soft(example_task(inputs=1), structure="pairs")
    wide = example_task(inputs=301, samples=6)
    with pytest.raises(ConfigError, match="300 at most"):
        soft(wide, structure="pairs")
    with pytest.raises(ConfigError, match="301 terms: hidden has a layer of"):
        edges(structure="additive", hidden=[2**20]).accept(wide)
    plan: dict[str, Any] = {"study": "w", "task": {"use": "xor"}, "method": {"use": "edges", "hidden": [4]}}
    plan["penalties"] = [{"use": "terms", "level": 0.1}]
    with pytest.raises(ConfigError, match="the networks are no sum of small ones"):
        Study(parse(plan)).plan()
