"""Studies that search with the method: each algorithm as options, certificates in the results, what is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from nasplug.config import parse
from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug.plan import Pack, assemble, chunk, components
from nasplug.plugins import load_plugins
from nasplug.results import certificate
from nasplug.study import Study
from nasplug.train import train

torch.set_num_threads(1)

DARTS = {"optimizer": {"use": "adam", "beta1": 0.5}, "lr": 0.05}
GAEA = {"optimizer": {"use": "exponentiated"}, "lr": 0.1}
SEARCHES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "together": ({}, None),
    "darts, single level": ({}, DARTS),
    "darts, first order": ({}, DARTS | {"share": 0.5}),
    "darts, second order": ({}, DARTS | {"share": 0.5, "order": 2}),
    "gaea, single level": ({"parametrisation": "simplex"}, GAEA),
    "gaea, first order": ({"parametrisation": "simplex"}, GAEA | {"share": 0.5}),
    "gaea, second order": ({"parametrisation": "simplex"}, GAEA | {"share": 0.5, "order": 2}),
    "gumbel": ({"sampling": "gumbel"}, DARTS),
    "straight through": ({"sampling": "straight_through", "parametrisation": "simplex"}, GAEA),
}


def study(method: dict[str, Any], architecture: dict[str, Any] | None, **changes: Any) -> Any:
    read = method.get("parametrisation") != "simplex" or "sampling" in method
    plain: dict[str, Any] = {
        "study": "s",
        "task": {"use": "mixture_teacher", "samples": 80},
        "method": {"use": "mixture", "hidden": [5], "per": "layer", "candidates": ["relu", "tanh", "sigmoid"], **method},
        "temperature": {"use": "linear", "start": 1.0, "end": 0.3} if read else None,
        "discretizers": [{"use": "closest"}],
        "train": {"steps": 30, "lr": 0.01, "dtype": "float64", "architecture": architecture},
        "seeds": 3,
        "mlflow": None,
    }
    return parse(plain | changes)


def searched(config: Any) -> Networks:
    plugins = load_plugins()
    pack = Pack("p", {}, {}, config.seed_list, [0] * len(config.seed_list))
    parts = components(config, pack, plugins)
    search = assemble(parts, pack, plugins)
    *_, last = train(search, every=config.train.steps)
    assert bool(last.healthy.all())
    return parts.method.relax(last.state.params, search.tau.at(search.steps - 1))


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_moves_the_choices_and_a_pack_is_its_rows(name: str) -> None:
    method, architecture = SEARCHES[name]
    together = searched(study(method, architecture, seeds=[4, 1, 9]))
    choice = together.choices[1]
    assert bool((choice.amax(-1) > 0.34).all())
    torch.testing.assert_close(choice.sum(-1), torch.ones_like(choice.sum(-1)))
    for row, seed in enumerate([4, 1, 9]):
        alone = searched(study(method, architecture, seeds=[seed]))
        torch.testing.assert_close(choice[row : row + 1], alone.choices[1], rtol=1e-10, atol=1e-10)


def test_orders_and_levels_are_different_searches() -> None:
    found = [searched(study(*SEARCHES[name])).choices[1] for name in list(SEARCHES)[:7]]
    for i, one in enumerate(found):
        assert not any(torch.allclose(one, other, rtol=0, atol=1e-6) for other in found[:i])


def test_a_simplex_is_not_moved_by_adam() -> None:
    for architecture in (None, DARTS):
        with pytest.raises(ConfigError, match="points of the simplex"):
            chunk(study({"parametrisation": "simplex"}, architecture), [{}], load_plugins())
    with pytest.raises(ConfigError, match="exponentiated"):
        chunk(study({}, GAEA), [{}], load_plugins())


@pytest.mark.parametrize("discretizer", ["closest", "ranked"])
@pytest.mark.reports
def test_certificates_are_results(tmp_path: Path, discretizer: str) -> None:
    config = study(*SEARCHES["gaea, single level"], store=str(tmp_path), discretizers=[{"use": discretizer}])
    done = Study(config).run("serial")
    frame = done.frame
    assert (frame["certificate_sites_mixed"] == 1).all()
    assert (frame["certificate_gap"] > 0).all()
    whole = json.loads((done.folder / "best" / "certificate.json").read_text())
    assert whole["sites"][0]["closest"] in {"relu", "tanh", "sigmoid"}
    assert "squared loss" in whole["verdict"]
    assert whole["verdict"][:30] in (done.folder / "report.html").read_text()


def test_what_a_study_calls_proven_is_right(tmp_path: Path) -> None:
    """As configs/papers/theory.yaml, smaller: teachers as rows, and every certificate against its own losses."""
    config = study(
        {"parametrisation": "simplex", "candidates": ["relu", "tanh", "sigmoid", "elu", "sin"]},
        GAEA,
        store=str(tmp_path),
        task={"use": "mixture_teacher", "samples": 80, "noise": 0.1, "seed": {"choice": [0, 1, 2, 3, 4, 5]}},
        train={"steps": {"choice": [50, 400]}, "lr": 0.02, "architecture": GAEA | {"lr": 1.0}},
        seeds=4,
    )
    done = Study(config).run("serial")
    proven, gaps = 0, done.frame.groupby("train.steps")["certificate_gap"].median()
    for replica in done.frame["replica"]:
        found = certificate(done.folder, replica)
        assert found is not None
        (site,) = found["sites"]
        if site["proven"]:
            proven += 1
            assert site["L"][found["candidates"].index(site["closest"])] <= min(site["L"]) * (1 + 1e-5)
    assert proven >= 24
    assert gaps[400] < gaps[50] / 3


def test_networks_with_other_losses_are_not_called_proven(tmp_path: Path) -> None:
    config = study({}, None, store=str(tmp_path), task={"use": "iris", "validation": "holdout"}, seeds=2, linear=False)
    done = Study(config).run("serial")
    assert (done.frame["certificate_sites_proven"] == 0).all()
    whole = json.loads((done.folder / "best" / "certificate.json").read_text())
    assert "cross_entropy" in whole["verdict"]


@pytest.mark.slow
def test_a_sampled_step_compiles() -> None:
    plugins = load_plugins()
    config = study(*SEARCHES["straight through"])
    pack = Pack("p", {}, {}, config.seed_list, [0] * 3)
    parts = components(config, pack, plugins)
    search = assemble(parts, pack, plugins)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # what a step that cannot be compiled ends in
        found = [next(train(search, every=5, compiled=compiled)).state.params for compiled in (False, True)]
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-8)
