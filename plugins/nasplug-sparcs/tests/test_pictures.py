"""The pictures hold the numbers they are drawn from."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch

from nasplug.errors import ConfigError
from nasplug.networks import forward
from nasplug.testing import example_networks, example_task
from nasplug.train import ValidationLoss
from nasplug_sparcs import curve, fits, gamma_by_neuron, heads, orders, paths, spectrum, transition


def test_the_spectrum_has_a_panel_a_hidden_layer() -> None:
    nets = example_networks(0, 3, (3, 4, 5, 1))
    nets = replace(nets, eigenvalues={**nets.eigenvalues, 1: torch.zeros(3, 4)})
    figure = spectrum(nets)
    assert [panel.get_title() for panel in figure.axes] == ["layer 1: 12 of 12 are 0", "layer 2: 0 of 15 are 0"]
    assert [sum(bar.get_height() for bar in panel.patches) for panel in figure.axes] == [0, 15]
    figure.savefig(io.BytesIO())
    with pytest.raises(ConfigError, match="no eigenvalues"):
        spectrum(example_networks(0, 3, parts=["blocks"]))


def test_the_curve_ends_at_the_network_itself() -> None:
    task = example_task()
    nets = example_networks(0, 2, (3, 6, 1), ["blocks", "biases"])
    score = ValidationLoss(task)
    figure, counts, losses = curve(nets, 1, score, row=1)
    assert counts == list(range(7))
    assert losses[-1] == pytest.approx(float(score(nets)[1]))
    figure.savefig(io.BytesIO())
    assert torch.isfinite(forward(nets, task.valid.x)).all()
    with pytest.raises(ConfigError, match="hidden layer, 1 to 1"):
        curve(nets, 2, score)


def test_the_transition_has_a_line_a_beta() -> None:
    figure = transition([0.0, 1.0, 0.0, 1.0, 1.0], [5, 5, 1000, 1000, 1000], [0.0, 2.0, 0.5, 1.0, 3.0])
    (axes,) = figure.axes
    lines = {line.get_label(): [tuple(point) for point in line.get_xydata()] for line in axes.get_lines()}
    assert lines == {"beta 5": [(0.0, 0.0), (1.0, 2.0)], "beta 1000": [(0.0, 0.5), (1.0, 2.0)]}
    figure.savefig(io.BytesIO())
    with pytest.raises(ConfigError, match="2 alphas, 1 betas and 2 values"):
        transition([0.0, 1.0], [5.0], [0.0, 1.0])


def test_fits_have_a_target_and_its_error_per_title() -> None:
    zero, one = torch.zeros(3, 3), torch.ones(3, 3)
    figure = fits({"a": {"x": (zero, one), "y": (one, one)}, "b": {"x": (zero, zero), "y": (one, -one)}})
    maps = [axes.images[0].get_array().max() for axes in figure.axes if axes.images]
    assert maps == [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 2.0]
    figure.savefig(io.BytesIO())
    for wrong in ({}, {"a": {}}, {"a": {"x": (zero, one)}, "b": {"y": (zero, one)}}):
        with pytest.raises(ConfigError, match="one map at least"):
            fits(wrong)


def test_paths_has_a_line_a_network() -> None:
    nets = example_networks(0, 2, (3, 6, 1), ["blocks"])
    figure = paths({"some": nets}, 1)
    (axes,) = figure.axes
    assert len(axes.get_lines()) == 2
    found = torch.tensor(axes.get_lines()[1].get_ydata(), dtype=torch.float64)
    torch.testing.assert_close(found, gamma_by_neuron(nets, 1)[1].sort(descending=True).values)
    figure.savefig(io.BytesIO())


def test_heads_have_a_line_per_head_and_one_for_what_is_left() -> None:
    values = torch.tensor([[50.0, 90.0], [60.0, 94.0]])
    panels = {
        "digits": {"linear": ([1.0, 2.0], values), "spectral": ([1.0, 2.0], values + 2)},
        "other": {"linear": ([3.0], values[:, 1:])},
    }
    figure = heads(panels, {"digits": torch.tensor([91.0, 93.0])})
    first, second = figure.axes
    lines = {line.get_label(): list(map(float, line.get_ydata())) for line in first.get_lines()}
    assert lines == {"linear": [55.0, 92.0], "spectral": [57.0, 94.0], "spectral, pruned": [92.0, 92.0]}
    assert [panel.get_title() for panel in figure.axes] == ["digits", "other"]
    assert len(second.get_lines()) == 1
    figure.savefig(io.BytesIO())
    for wrong, told in (({}, "no panel"), ({"digits": {"linear": ([1.0], values)}}, r"\(2, 2\) accuracies for 1 epochs")):
        with pytest.raises(ConfigError, match=told):
            heads(wrong)


def test_orders_have_a_line_each_and_marks() -> None:
    figure = orders({"obs": ([0, 1, 2], [1.0, 0.5, 0.1]), "magnitudes": ([1], [0.7])}, {"R2 0.98": 0.02})
    (axes,) = figure.axes
    lines = {line.get_label(): [tuple(point) for point in line.get_xydata()] for line in axes.get_lines()[:2]}
    assert lines == {"obs": [(1.0, 0.5), (2.0, 0.1)], "magnitudes": [(1.0, 0.7)]}
    assert [text.get_text() for text in axes.texts] == ["R2 0.98"]
    figure.savefig(io.BytesIO())
    with pytest.raises(ConfigError, match=r"'obs': \(2, 1\)"):
        orders({"obs": ([1, 2], [0.1])}, {})
