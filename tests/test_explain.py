"""Explanations are of the network itself: contributions, effects, pairs and formula against the network's own outputs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import explanations
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from explanations import difference
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from nasplug.compact import CompactNetwork, compact
from nasplug.data.encoder import Column, Encoder
from nasplug.drawing import draw_effects
from nasplug.drawing.judging import calibration, confusion, roc
from nasplug.errors import ConfigError
from nasplug.explain import Background, affordable, contributions, curves, effects, formula, grids, meeting, pairs
from nasplug.explain.unfolded import Unfolded, unfold
from nasplug.networks import Networks
from nasplug.replicas import normal

from .stand_ins import records
from .test_compact import networks_of

few = settings(max_examples=15, deadline=None)
Array = npt.NDArray[np.float64]


def table(network: CompactNetwork, rows: int, seed: int = 0) -> pd.DataFrame:
    x = np.random.default_rng(seed).normal(size=(rows, network.record["inputs"]))
    return pd.DataFrame(x, columns=network.record["features"])


def by_definition(network: CompactNetwork, row: Array, others: Array) -> Array:
    """Shapley values over all inputs, as they are written: ``(I, O)``."""
    n = len(row)

    def v(known: tuple[int, ...]) -> Array:
        mixed = others.copy()
        mixed[:, known] = row[list(known)]
        found: Array = network(torch.from_numpy(mixed)).detach().numpy().mean(0)
        return found

    phi = np.zeros((n, network.widths[-1]))
    for i in range(n):
        rest = [j for j in range(n) if j != i]
        for size in range(n):
            share = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for known in itertools.combinations(rest, size):
                phi[i] += share * (v((*known, i)) - v(known))
    return phi


# Contributions.


@few
@given(nets=records(hard=True), seed=st.integers(0, 99))
def test_contributions_sum_to_the_output(nets: Networks, seed: int) -> None:
    network = compact(nets, 0)
    rows = table(network, 4, seed)
    found = contributions(network, rows, table(network, 6, seed + 1))
    wanted = network(torch.tensor(rows.to_numpy())).detach().numpy().ravel()
    parts = found.drop(columns="prediction").sum(axis=1).to_numpy()
    size = max(1.0, np.abs(wanted).max())
    assert np.abs(parts - found["prediction"]).max() <= 1e-9 * size
    assert np.abs(parts - wanted).max() <= 1e-5 * size


@pytest.mark.parametrize("kind", sorted(networks_of()))
def test_contributions_are_shapley_values(kind: str) -> None:
    network = compact(networks_of()[kind], 1)
    rows, others = table(network, 2), table(network, 5, 1)
    found = contributions(network, rows, others)
    assert found.attrs["exact"]
    for place in range(2):
        wanted = by_definition(network, rows.to_numpy()[place], others.to_numpy())
        mine = found.loc[place]
        for feature, phi in zip(network.record["features"], wanted, strict=True):
            told = mine[feature].to_numpy() if feature in mine else np.zeros(2)
            assert told == pytest.approx(phi, abs=1e-5)


def test_many_columns_in_a_neuron_are_sampled_and_still_sum() -> None:
    seeds = torch.arange(1)
    nets = Networks(
        widths=(20, 2, 1),
        blocks={(1, 0): normal(seeds, "w", (2, 20)), (2, 1): normal(seeds, "v", (1, 2))},
        biases={},
        candidates=("tanh",),
    )
    network = compact(nets.map(torch.Tensor.float), 0)
    rows = table(network, 3)
    found = contributions(network, rows, table(network, 8, 1))
    assert not found.attrs["exact"]
    assert found.drop(columns="prediction").sum(axis=1).to_numpy() == pytest.approx(found["prediction"].to_numpy(), abs=1e-9)
    assert found["prediction"].to_numpy() == pytest.approx(
        network(torch.tensor(rows.to_numpy())).detach().numpy()[:, 0], abs=1e-5
    )


def test_memory_is_bounded_by_pieces_that_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network = compact(networks_of()["mixed activations and skips"], 1)
    rows, others = table(network, 5), table(network, 4, 1)
    whole = contributions(network, rows, others)
    monkeypatch.setattr("nasplug.explain.unfolded.MOST_NUMBERS", 20)
    assert contributions(network, rows, others).to_numpy() == pytest.approx(whole.to_numpy(), abs=1e-12)


def test_rates_are_told_by_the_logarithm_of_what_is_served() -> None:
    plain = compact(networks_of()["no hidden layers"], 0)
    network = CompactNetwork(plain.record | {"link": "exp"})
    network.load_state_dict(plain.state_dict() | {"output_scale": torch.tensor([94.5, 0.5], dtype=torch.float64)})
    rows = table(network, 3)
    served = network(torch.tensor(rows.to_numpy())).detach()
    found = contributions(network, rows, table(network, 5, 1))
    assert found["prediction"].to_numpy() == pytest.approx(np.log(served.numpy()).ravel(), abs=1e-5)
    made = formula(network)
    assert torch.allclose(made(torch.tensor(rows.to_numpy())), served, rtol=1e-5)
    assert "y0 = exp(log of y0)" in made.text().splitlines()
    expression = made.sympy()["y1"]
    known = {symbol: float(rows.iloc[0][str(symbol)]) for symbol in expression.free_symbols}
    assert float(expression.evalf(subs=known)) == pytest.approx(float(served[0, 1]), rel=1e-5)


def test_a_background_of_other_features_is_refused() -> None:
    network = compact(networks_of()["dense"], 0)
    with pytest.raises(ConfigError, match="background: it has 2 features, and the network was made for 3"):
        contributions(network, table(network, 2), Background(np.zeros((2, 2)), np.ones(2), ("a", "b")))


@pytest.mark.parametrize("kind", sorted(networks_of()))
@pytest.mark.parametrize("link", ["identity", "softmax", "exp"])
def test_the_benchmark_of_explanations_sees_what_does_not_sum(kind: str, link: str) -> None:
    plain = compact(networks_of()[kind], 0)
    network = CompactNetwork(plain.record | {"link": link})
    network.load_state_dict(plain.state_dict())
    assert difference(network, background(network))[0] < 1e-5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explanations, "unfold", lambda one: replace(unfold(one), shift=unfold(one).shift + 0.01))
        assert difference(network, background(network))[0] > 1e-4


# Effects and pairs.


def background(network: CompactNetwork, rows: int = 40) -> Background:
    return Background.of_table(network, table(network, rows, 7))


@pytest.mark.parametrize("kind", ["mixed activations and skips", "no hidden layers", "a dead layer that skips pass"])
def test_an_effect_is_partial_dependence(kind: str) -> None:
    network = compact(networks_of()[kind], 0)
    others = background(network)
    mean = network(torch.from_numpy(others.features)).detach().numpy().mean(axis=0)
    for place, grid in enumerate(grids(network, others)):
        found = curves(network, others, [grid])[0].numbers
        for at in (0, len(grid.numbers) - 1):
            fixed = others.features.copy()
            fixed[:, network.record["kept_inputs"][place]] = grid.numbers[at]
            wanted = network(torch.from_numpy(fixed)).detach().numpy().mean(axis=0) - mean
            assert found[at] == pytest.approx(wanted, abs=1e-5)


def product() -> CompactNetwork:
    """``y = x0 x1 + x2`` nearly: ((x0 + x1)^2 - (x0 - x1)^2) / 4 by softplus, whose second derivative at 0 is 1/4."""
    e = 0.05
    first = torch.tensor([[e, e, 0.0], [-e, -e, 0.0], [e, -e, 0.0], [-e, e, 0.0], [0.0, 0.0, 1.0]])
    out = torch.tensor([[1.0, 1.0, -1.0, -1.0, 0.0]]) / e**2
    nets = Networks(
        widths=(3, 5, 1),
        blocks={(1, 0): first.unsqueeze(0), (2, 1): out.unsqueeze(0), (2, 0): torch.tensor([[[0.0, 0.0, 1.0]]])},
        candidates=("softplus",),
    )
    return compact(nets.map(torch.Tensor.float), 0)


def test_a_product_interacts_and_nothing_else() -> None:
    network = product()
    assert meeting(network) == [("x0", "x1")]
    (found,) = pairs(network, background(network, 80))
    x = table(network, 80, 7).to_numpy()
    wanted = np.std(x[:, 0] * x[:, 1]) / np.std(x[:, 0] * x[:, 1] + x[:, 2])
    assert found.strength == pytest.approx(wanted, rel=0.15)
    assert found.h > 0.9  # all that the two do
    told = {effect.grid.column: effect for effect in effects(network, background(network))}
    assert told["x2"].direction == "rises"
    assert told["x0"].importance > 0.2  # its curve is nearly flat, it matters all the same


@pytest.mark.parametrize(("widths", "least", "values"), [((20, 200, 200, 20), 16, 2**26), ((200, 64, 1), 16, 2**25)])
def test_a_large_dense_network_is_told_over_fewer_rows(
    widths: tuple[int, ...], least: int, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20-200-200-20 an explanation took minutes: every neuron for each column, point, row and permutation."""
    made = torch.Generator().manual_seed(0)
    blocks = {
        (n, n - 1): torch.randn(1, widths[n], widths[n - 1], generator=made) / widths[n - 1] ** 0.5
        for n in range(1, len(widths))
    }
    network = compact(Networks(widths=widths, blocks=blocks, candidates=("tanh",)), 0)
    fired, read_, fire, reads = [0], [0], Unfolded.fire, Unfolded.reads

    def counted(plain: Unfolded, read: torch.Tensor, neurons: Sequence[int]) -> torch.Tensor:
        fired[0] += read.numel()
        return fire(plain, read, neurons)

    def looked(plain: Unfolded, h: torch.Tensor, columns: Sequence[int], neurons: Sequence[int]) -> torch.Tensor:
        read_[0] += len(columns)
        return reads(plain, h, columns, neurons)

    monkeypatch.setattr(Unfolded, "fire", counted)
    monkeypatch.setattr(Unfolded, "reads", looked)
    every = background(network, 256)
    others = affordable(network, every)
    assert least <= len(others.features) < 32
    found = effects(network, others)
    assert len(found) == min(60, widths[0])
    assert 20 <= len(pairs(network, others)) <= 100  # of 190, and of 19900
    assert fired[0] < values  # 20-200-200-20: 200 products each; it was 2 ** 32
    assert read_[0] <= 100 * widths[0]  # a curve, or a pair, reads its own columns alone
    fired[0] = 0
    told = contributions(network, table(network, 2, 3), every)
    assert told.attrs["background"] == 16  # of 256
    assert fired[0] < 2 * 2**23
    np.testing.assert_allclose(told.drop(columns="prediction").sum(axis=1), told["prediction"])
    small = product()
    assert len(affordable(small, background(small, 256)).features) == 256


def test_a_curve_pictures_whatever_a_column_is() -> None:
    network = product()
    others = background(network)
    found = effects(network, others, most=2)
    assert len(found) == 2
    bands = {found[0].grid.column: [one.curve for one in found]}
    figure = draw_effects(found, "effect", ["y0"], bands)
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == [effect.grid.column for effect in found]


def test_rates_and_bins_of_labels() -> None:
    true, score = np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.8, 0.8, 0.8, 0.9])
    wrong, right, area = roc(true == 1, score)
    assert (wrong.tolist(), right.tolist()) == ([0.0, 0.0, 0.5, 1.0], [0.0, 1 / 3, 1.0, 1.0])
    assert area == pytest.approx(roc_auc_score(true, score))
    assert math.isnan(roc(true == 2, score)[2])
    assert confusion(true, (score > 0.5).astype(np.int64), 2).tolist() == [[1, 1], [0, 3]]
    means, shares, errors = calibration(np.linspace(0.0, 1.0, 40), np.linspace(0.0, 1.0, 40) > 0.5)
    assert len(means) == 8
    assert (shares[:4].max(), shares[4:].min()) == (0.0, 1.0)
    assert (errors > 0).all()


def test_words_gaps_and_few_numbers_are_points() -> None:
    columns = (
        Column(name="size", kind="number", knots=(0.0, 1.0, 2.0), fill=0.5, gap=True),
        Column(name="colour", kind="category", words=("red", "blue"), other=True),
    )
    encoder = Encoder(columns=columns)
    nets = Networks(
        widths=(7, 1),
        blocks={(1, 0): torch.tensor([[[1.0, 2.0, 0.0, 5.0, 3.0, 0.0, -1.0]]])},
        biases={1: torch.tensor([[0.5]])},
    )
    network = compact(nets, 0)
    record = network.record | {
        "features": encoder.names, "encoder": encoder.plain(), "groups": list(encoder.groups), "columns": encoder.sources,
    }  # fmt: skip
    served = CompactNetwork(record)
    served.load_state_dict(network.state_dict())
    rows = pd.DataFrame({"colour": ["red", "blue", "green", "red"], "size": [0.0, 0.5, 2.0, np.nan]})
    others = Background.of_table(served, rows)
    size, colour = grids(served, others)
    assert (size.numbers.tolist(), size.words, size.shares.tolist()) == ([0.0, 0.5, 2.0], ("missing",), [0.25])
    assert (colour.words, colour.shares.tolist()) == (("red", "blue", "other"), [0.5, 0.25, 0.25])
    effect = curves(served, others, [colour])[0].words[:, 0]
    assert effect - effect[1] == pytest.approx([3.0, 0.0, -1.0])
    at = curves(served, others, [size])[0]
    assert at.numbers[:, 0] - at.numbers[0, 0] == pytest.approx([0.0, 1.5, 4.0])
    assert at.words[0, 0] - at.numbers[0, 0] == pytest.approx(6.5)
    found = contributions(served, rows, others)
    assert list(found) == ["base", "size", "colour", "prediction"]
    assert formula(served, 3).text().splitlines() == [
        "y0 = 0.5 + size + 2*ramp(size, 0, 1) + 5*[size is missing] + 3*[colour = 'red'] - [colour = 'other']",
        "where ramp(x, a, b) = min(1, max(0, (x - a) / (b - a)))",
    ]
    x = torch.from_numpy(others.features)
    assert torch.allclose(formula(served)(x), served(x), atol=1e-6)
    (expression,) = formula(served).sympy().values()
    known = {symbol: {"size": 0.5, "colour = red": 1, "colour = other": 0, "size is missing": 1}[str(symbol)]
             for symbol in expression.free_symbols}  # fmt: skip
    assert float(expression.subs(known)) == pytest.approx(0.5 + 0.5 + 1.0 + 5.0 + 3.0)


# The formula.


@few
@given(nets=records(hard=True), seed=st.integers(0, 99))
def test_the_formula_is_the_network(nets: Networks, seed: int) -> None:
    network = compact(nets, 0)
    x = torch.tensor(table(network, 3, seed).to_numpy())
    made, wanted = formula(network), network(x).detach()
    size = max(1.0, float(wanted.abs().max()))
    assert torch.allclose(made(x), wanted, rtol=1e-5, atol=1e-5 * size)
    assert made.text().count("=") >= network.widths[-1]
    assert made.latex().startswith(r"\begin{aligned}")
    for name, column in zip(made.sympy(), wanted.T, strict=True):
        expression = made.sympy()[name]
        known = {symbol: float(x[0, network.record["features"].index(str(symbol))]) for symbol in expression.free_symbols}
        assert float(expression.evalf(subs=known)) == pytest.approx(float(column[0]), rel=1e-5, abs=1e-5 * size)


def test_the_text_has_units_and_a_round_centre() -> None:
    network = product()
    state = network.state_dict()
    state["input_shift"] = torch.tensor([1990.37, 0.1, 5.0], dtype=torch.float64)
    state["input_scale"] = torch.tensor([12.0, 1.0, 2.0], dtype=torch.float64)
    network.load_state_dict(state)
    made = formula(network, 4)
    lines = made.text().splitlines()
    assert lines[0] == "y0 ="
    assert lines[2] == "    + 0.5*x2"
    assert lines[3] == "    + 400*softplus(-0.006542 + 0.004167*(x0 - 1990) + 0.05*x1)"
    x = torch.tensor([[1995.0, 1.0, 5.0]]).double()
    assert float(formula(network)(x)) == pytest.approx(network(x).item(), abs=1e-3)
    with pytest.raises(ConfigError, match="0 digits"):
        formula(network, 0)


def test_names_of_columns_are_not_those_of_neurons_and_move_no_cursor() -> None:
    plain = product()
    network = CompactNetwork(plain.record | {"features": ["h1", "red\x1b[31m\nblue", "x2"]})
    network.load_state_dict(plain.state_dict())
    told = formula(network, 3).text()
    assert "`h1`" in told
    assert "`red\\x1b[31m\\nblue`" in told
    assert "\x1b" not in told + formula(network, 3).latex()


def test_ends_of_ramps_keep_their_distance_however_far_from_0() -> None:
    start = 1.7e12 + 0.25  # milliseconds
    encoder = Encoder(columns=(Column(name="at", kind="number", knots=(start, start + 90.0, start + 200.0)),))
    nets = Networks(widths=(3, 1), blocks={(1, 0): torch.tensor([[[0.0, 1.0, 2.0]]])})
    plain = compact(nets, 0)
    record = plain.record | {
        "features": encoder.names, "encoder": encoder.plain(), "groups": list(encoder.groups), "columns": encoder.sources,
    }  # fmt: skip
    network = CompactNetwork(record)
    network.load_state_dict(plain.state_dict())
    x = torch.from_numpy(network.features(pd.DataFrame({"at": start + np.linspace(-10.0, 210.0, 30)})))
    made = formula(network, 5)
    assert torch.allclose(made(x), network(x), atol=1e-3)
    assert "ramp(at, 1700000000000.25, 1700000000090.25)" in made.text()
