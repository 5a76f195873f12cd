"""The norm of paths, by hand and on the networks of the transition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug.packs import load_networks
from nasplug.study import Study
from nasplug.testing import example_networks, example_task
from nasplug_sparcs import gamma, gamma_by_neuron, sparcs

CONFIGS = Path(__file__).parents[3] / "configs" / "papers"


def test_gamma_by_hand() -> None:
    nets = Networks(
        widths=(2, 2, 1),
        blocks={
            (1, 0): torch.tensor([[[1.0, 2.0], [0.0, 3.0]]]),
            (2, 1): torch.tensor([[[2.0, 0.0]]]),
            (2, 0): torch.full((1, 1, 2), 9.0),
        },
        biases={1: torch.tensor([[4.0, 5.0]]), 2: torch.tensor([[7.0]])},
    )
    assert float(gamma(nets)) == pytest.approx((4 * (1 + 4 + 16)) ** 0.5)


def test_gamma_of_a_perceptron_is_zero() -> None:
    method = sparcs(hidden=[5, 4])
    nets = method.relax(method.init(example_task(), torch.arange(3)), torch.ones(3))
    assert gamma(method.direct(nets)).tolist() == [0.0] * 3


def test_gamma_counts_every_path_once() -> None:
    nets = example_networks(0, 2, (2, 3, 2, 1), ["blocks"])
    w = {edge: t.square() for edge, t in nets.blocks.items()}
    paths = w[3, 2] @ w[2, 1] @ w[1, 0] + w[3, 2] @ w[2, 0] + w[3, 1] @ w[1, 0]
    torch.testing.assert_close(gamma(nets), paths.sum((1, 2)).sqrt())


def test_gamma_of_a_neuron_is_that_of_its_paths() -> None:
    nets = example_networks(0, 2, (2, 3, 2, 1), ["blocks"])
    w = {edge: t.square() for edge, t in nets.blocks.items()}
    arriving = w[2, 1] @ w[1, 0].sum(2, keepdim=True) + w[2, 0].sum(2, keepdim=True)  # (K, 2, 1)
    torch.testing.assert_close(gamma_by_neuron(nets, 2), (arriving.squeeze(2) * w[3, 2].squeeze(1)).sqrt())
    one = example_networks(3, 4, (3, 5, 2), ["blocks", "biases"])
    torch.testing.assert_close(gamma_by_neuron(one, 1).norm(dim=1), gamma(one))
    with pytest.raises(ConfigError, match="layer 3; needed: a hidden layer, 1 to 2"):
        gamma_by_neuron(nets, 3)


@pytest.mark.slow
def test_the_transition_is_smooth_or_a_jump(tmp_path: Path) -> None:
    given = [f"store={tmp_path}", "mlflow=null", "seeds=2", "train.steps=1600", "task.alpha={choice: [0.0, 0.4, 0.6, 1.0]}"]
    study = Study.from_yaml(CONFIGS / "sparcs_transition.yaml", given).run("serial")
    frame = study.frame
    carried = {folder.name: gamma(load_networks(folder)).tolist() for folder in (study.folder / "packs").iterdir()}
    frame["gamma"] = [carried[pack][int(row)] for pack, row in frame["replica"].str.split("/")]
    found = frame.groupby(["task.beta", "task.alpha"])["gamma"].mean()
    assert found[5.0, 0.0] < 0.02 * found[5.0, 1.0]
    assert found[5.0, 0.0] < found[5.0, 0.4] < found[5.0, 0.6] < 1.1 * found[5.0, 1.0]
    assert found[1000.0, 0.4] < 0.05 * found[1000.0, 1.0]
    assert found[1000.0, 0.6] > 0.8 * found[1000.0, 1.0]
