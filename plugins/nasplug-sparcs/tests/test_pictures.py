"""The pictures hold the numbers they are drawn from."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch

from nasplug.discretize import ValidationLoss
from nasplug.errors import ConfigError
from nasplug.networks import forward
from nasplug.testing import example_networks, example_task
from nasplug_sparcs import curve, spectrum


def test_the_spectrum_has_a_panel_a_hidden_layer() -> None:
    nets = example_networks(0, 3, (3, 4, 5, 1))
    nets = replace(nets, eigenvalues={**nets.eigenvalues, 1: torch.zeros(3, 4)})
    figure = spectrum(nets)
    assert [panel.get_title() for panel in figure.axes] == ["layer 1: 12 of 12 are 0", "layer 2: 0 of 15 are 0"]
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
