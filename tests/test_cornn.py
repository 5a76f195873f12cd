"""Each of the 54 functions, entered a second time, held against known minima and against the published figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from math import cos, e, exp, pi, sin, sqrt

import numpy as np
import pytest
import torch

from nasplug import ConfigError, Task
from nasplug.data import cornn as module
from nasplug.data.cornn import FUNCTIONS, find
from nasplug.data.made import cornn

Scalar = Callable[[float, float], float]


def cos_sum(t: float) -> float:
    return cos(2 * t + 1) + cos(3 * t + 2) + cos(4 * t + 3) + cos(5 * t + 4) + cos(6 * t + 5)


def sin_sum(t: float) -> float:
    return sin(2 * t + 1) + 2 * sin(3 * t + 2) + 3 * sin(4 * t + 3) + 4 * sin(5 * t + 4) + 5 * sin(6 * t + 5)


def quartic(t: float) -> float:
    return t**4 - 16 * t * t + 5**t


def goldstein_price(x: float, y: float) -> float:
    first = 19 - 14 * x + 3 * x * x - 14 * y + 6 * x * y + 3 * y * y
    second = 18 - 32 * x + 12 * x * x + 4 * y - 36 * x * y + 27 * y * y
    return (1 + (x + y + 1) ** 2 * first) * (30 + (2 * x - 3 * y) ** 2 * second)


# name: the formula, entered independently; mean squared test error of a constant, a linear and a quadratic least-squares fit on
# the benchmark's own 3,750 + 1,250 points, targets scaled to [-1, 1]
TABLE: dict[str, tuple[Scalar, float, float, float]] = {
    "Ackley": (
        lambda x, y: 20 + e - 20 * exp(-0.2 * sqrt((x * x + y * y) / 2)) - exp((cos(2 * pi * x) + cos(2 * pi * y)) / 2),
        *(0.0637, 0.0638, 0.0373),
    ),
    "Ackley N.2": (lambda x, y: -200 * exp(-math.hypot(x, y) / 5), 0.0399, 0.0399, 0.0285),
    "Ackley N.3": (
        lambda x, y: 5 * exp(cos(3 * x) + sin(3 * y)) - 200 * exp(-math.hypot(x, y) / 5),
        *(0.0366, 0.0366, 0.0283),
    ),
    "Ackley N.4": (
        lambda x, y: math.hypot(x, y) / e**0.2 + 3 * cos(2 * x) + 3 * sin(2 * y),
        *(0.1364, 0.1368, 0.0217),
    ),
    "Adjiman": (lambda x, y: cos(x) * sin(y) - x / (1 + y * y), 0.2629, 0.0280, 0.0154),
    "Alpine N.1": (lambda x, y: sum(abs(t * sin(t) + t / 10) for t in (x, y)), 0.1642, 0.0983, 0.0963),
    "Alpine N.2": (lambda x, y: sqrt(x * y) * sin(x) * sin(y), 0.1050, 0.1049, 0.1038),
    "Bartels Conn": (lambda x, y: abs(x * x + y * y + x * y) + abs(sin(x)) + abs(cos(y)), 0.1520, 0.1522, 0.0),
    "Beale": (
        lambda x, y: sum((c - x + x * y**k) ** 2 for c, k in ((1.5, 1), (2.25, 2), (2.625, 3))),
        *(0.0586, 0.0588, 0.0276),
    ),
    "Bird": (
        lambda x, y: (x - y) ** 2 + sin(x) * exp((1 - cos(y)) ** 2) + cos(y) * exp((1 - sin(x)) ** 2),
        *(0.0815, 0.0811, 0.0320),
    ),
    "Bohachevsky N.1": (
        lambda x, y: 0.7 + x * x + 2 * y * y - (3 * cos(3 * pi * x) + 4 * cos(4 * pi * y)) / 10,
        *(0.2023, 0.2035, 0.0),
    ),
    "Bohachevsky N.2": (
        lambda x, y: 0.3 + x * x + 2 * y * y - 0.3 * cos(3 * pi * x) * cos(4 * pi * y),
        *(0.2023, 0.2035, 0.0),
    ),
    "Booth": (lambda x, y: (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2, 0.1369, 0.0798, 0.0),
    "Brent": (lambda x, y: (x + 10) ** 2 + (y + 10) ** 2 + exp(-x * x - y * y), 0.1822, 0.1832, 0.0),
    "Brown": (lambda x, y: abs(x) ** (2 * y * y + 2) + abs(y) ** (2 * x * x + 2), 0.1270, 0.1279, 0.0047),
    "Bukin N.6": (lambda x, y: 100 * sqrt(abs(y - x * x / 100)) + abs(x + 10) / 100, 0.1896, 0.1028, 0.0432),
    "Cross-In-Tray": (
        lambda x, y: -((abs(sin(x) * sin(y) * exp(abs(100 - math.hypot(x, y) / pi))) + 1) ** 0.1) / 10_000,
        *(0.0947, 0.0948, 0.0557),
    ),
    "Deckkers-Aarts": (
        lambda x, y: 1e5 * (x * x + y * y) - (x * x + y * y) ** 2 + (x * x + y * y) ** 4 / 1e5,
        *(0.1727, 0.1737, 0.0),
    ),
    "Drop-Wave": (
        lambda x, y: -(1 + cos(12 * math.hypot(x, y))) / ((x * x + y * y) / 2 + 2),
        *(0.1053, 0.1054, 0.0757),
    ),
    "Easom": (lambda x, y: -cos(x) * cos(y) * exp(-((x - pi) ** 2 + (y - pi) ** 2)), 0.0019, 0.0019, 0.0019),
    "Egg Crate": (lambda x, y: sum(t * t + 25 * sin(t) ** 2 for t in (x, y)), 0.1386, 0.1393, 0.0623),
    "Egg Holder": (
        lambda x, y: -(y + 47) * sin(sqrt(abs(x / 2 + y + 47))) - x * sin(sqrt(abs(x - y - 47))),
        *(0.0941, 0.0939, 0.0939),
    ),
    "Exponential": (lambda x, y: -exp(-(x * x + y * y) / 2), 0.2216, 0.2227, 0.0029),
    "Goldstein-Price": (goldstein_price, 0.0702, 0.0638, 0.0275),
    "Griewank": (lambda x, y: 1 + (x * x + y * y) / 4000 - cos(x) * cos(y / sqrt(2)), 0.1802, 0.1812, 0.0),
    "Himmelblau": (lambda x, y: (x * x + y - 11) ** 2 + (x + y * y - 7) ** 2, 0.0835, 0.0824, 0.0338),
    "Holder-Table": (
        lambda x, y: -abs(sin(x) * cos(y)) * exp(abs(1 - math.hypot(x, y) / pi)),
        *(0.0937, 0.0938, 0.0576),
    ),
    "Keane": (lambda x, y: -((sin(x - y) * sin(x + y)) ** 2) / math.hypot(x, y), 0.0498, 0.0431, 0.0385),
    "Leon": (lambda x, y: 100 * (y - x * x * x) ** 2 + (1 - x) ** 2, 0.1896, 0.0780, 0.0158),
    "Levi N.13": (
        lambda x, y: (
            sin(3 * pi * x) ** 2 + (x - 1) ** 2 * (1 + sin(3 * pi * y) ** 2) + (y - 1) ** 2 * (1 + sin(2 * pi * y) ** 2)
        ),
        *(0.1220, 0.1089, 0.0126),
    ),
    "Matyas": (lambda x, y: 0.26 * (x * x + y * y) - 0.48 * x * y, 0.1484, 0.1492, 0.0),
    "McCormick": (lambda x, y: sin(x + y) + (x - y) ** 2 - 1.5 * x + 2.5 * y + 1, 0.1274, 0.1232, 0.0010),
    "Michalewicz": (
        lambda x, y: -sin(x) * sin(x * x / pi) ** 20 - sin(y) * sin(2 * y * y / pi) ** 20,
        *(0.1229, 0.1178, 0.1071),
    ),
    "Periodic": (lambda x, y: 1 + sin(x) ** 2 + sin(y) ** 2 - exp(-x * x - y * y) / 10, 0.2364, 0.2366, 0.2330),
    "Qing": (lambda x, y: (x - 1) ** 2 + (y - 2) ** 2, 0.1829, 0.1839, 0.0),
    "Rastrigin": (lambda x, y: 20 + sum(t * t - 10 * cos(2 * pi * t) for t in (x, y)), 0.1355, 0.1358, 0.0668),
    "Ridge": (lambda x, y: x + abs(y), 0.1940, 0.0397, 0.0024),
    "Rosenbrock": (lambda x, y: 100 * (y - x * x) ** 2 + (1 - x) ** 2, 0.1390, 0.0686, 0.0147),
    "Salomon": (
        lambda x, y: 1 - cos(2 * pi * math.hypot(x, y)) + math.hypot(x, y) / 10,
        *(0.1500, 0.1505, 0.0155),
    ),
    "Schaffer N.2": (
        lambda x, y: 0.5 + (sin(x * x - y * y) ** 2 - 0.5) / (1 + (x * x + y * y) / 1000) ** 2,
        *(0.0181, 0.0181, 0.0181),
    ),
    "Schaffer N.3": (
        lambda x, y: 0.5 + (sin(cos(abs(x * x - y * y))) ** 2 - 0.5) / (1 + (x * x + y * y) / 1000) ** 2,
        *(0.0196, 0.0196, 0.0190),
    ),
    "Schwefel 2.20": (lambda x, y: abs(x) + abs(y), 0.1743, 0.1749, 0.0109),
    "Schwefel 2.22": (lambda x, y: abs(x) + abs(y) + abs(x * y), 0.2041, 0.2046, 0.0396),
    "Schwefel 2.23": (lambda x, y: x**10 + y**10, 0.0834, 0.0839, 0.0332),
    "Shubert": (lambda x, y: cos_sum(x) * cos_sum(y), 0.0140, 0.0140, 0.0140),
    "Shubert 3": (lambda x, y: sin_sum(x) + sin_sum(y), 0.0778, 0.0778, 0.0779),
    "Sphere": (lambda x, y: x * x + y * y, 0.1821, 0.1832, 0.0),
    "Styblinski-Tang": (lambda x, y: (quartic(x) + quartic(y)) / 2, 0.0723, 0.0500, 0.0266),
    "Sum Squares": (lambda x, y: x * x + 2 * y * y, 0.2023, 0.2035, 0.0),
    "Three-Hump Camel": (
        lambda x, y: 2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2,
        *(0.1869, 0.1882, 0.0470),
    ),
    "Xin-She Yang N.2": (
        lambda x, y: (abs(x) + abs(y)) * exp(-sin(x * x) - sin(y * y)),
        *(0.0850, 0.0851, 0.0736),
    ),
    "Xin-She Yang N.3": (
        lambda x, y: exp(-((x / 15) ** 10) - (y / 15) ** 10) - 2 * exp(-x * x - y * y) * (cos(x) * cos(y)) ** 2,
        *(0.0189, 0.0189, 0.0179),
    ),
    "Xin-She Yang N.4": (
        lambda x, y: (
            (sin(x) ** 2 + sin(y) ** 2 - exp(-x * x - y * y)) * exp(-(sin(sqrt(abs(x))) ** 2) - sin(sqrt(abs(y))) ** 2)
        ),
        *(0.0552, 0.0553, 0.0414),
    ),
    "Zakharov": (lambda x, y: x * x + y * y + (x / 2 + y) ** 2 + (x / 2 + y) ** 4, 0.0940, 0.0460, 0.0096),
}


def test_the_54_are_there() -> None:
    assert len(FUNCTIONS) == 54
    assert list(FUNCTIONS) == list(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_formula_entered_twice(name: str) -> None:
    f, again = FUNCTIONS[name], TABLE[name][0]
    u = np.random.default_rng(7).random((2, 64))
    x = f.x[0] + (f.x[1] - f.x[0]) * u[0]
    y = f.y[0] + (f.y[1] - f.y[0]) * u[1]
    expected = [again(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(f.value(x, y), expected, rtol=1e-9, atol=1e-9)


# from the textbooks; functions whose benchmark form is another one are not here
MINIMA = [
    ("Ackley", 0, 0, 0),
    ("Adjiman", 2, 0.10578, -2.02181),
    ("Alpine N.1", 0, 0, 0),
    ("Bartels Conn", 0, 0, 1),
    ("Beale", 3, 0.5, 0),
    ("Bird", 4.70104, 3.15294, -106.764537),
    ("Bohachevsky N.1", 0, 0, 0),
    ("Bohachevsky N.2", 0, 0, 0),
    ("Booth", 1, 3, 0),
    ("Brent", -10, -10, 0),
    ("Brown", 0, 0, 0),
    ("Bukin N.6", -10, 1, 0),
    ("Cross-In-Tray", 1.34941, 1.34941, -2.06261),
    ("Drop-Wave", 0, 0, -1),
    ("Easom", pi, pi, -1),
    ("Egg Crate", 0, 0, 0),
    ("Egg Holder", 512, 404.2319, -959.6407),
    ("Exponential", 0, 0, -1),
    ("Griewank", 0, 0, 0),
    ("Himmelblau", 3, 2, 0),
    ("Holder-Table", 8.05502, 9.66459, -19.2085),
    ("Keane", 1.393249, 0, -0.673668),
    ("Leon", 1, 1, 0),
    ("Levi N.13", 1, 1, 0),
    ("Matyas", 0, 0, 0),
    ("McCormick", -0.54719, -1.54719, -1.9133),
    ("Michalewicz", 2.20290, 1.57080, -1.8013),
    ("Periodic", 0, 0, 0.9),
    ("Rastrigin", 0, 0, 0),
    ("Rosenbrock", 1, 1, 0),
    ("Salomon", 0, 0, 0),
    ("Schaffer N.2", 0, 0, 0),
    ("Schwefel 2.22", 0, 0, 0),
    ("Sphere", 0, 0, 0),
    ("Three-Hump Camel", 0, 0, 0),
    ("Xin-She Yang N.2", 0, 0, 0),
    ("Xin-She Yang N.3", 0, 0, -1),
    ("Xin-She Yang N.4", 0, 0, -1),
    ("Zakharov", 0, 0, 0),
]


@pytest.mark.parametrize(("name", "x", "y", "value"), MINIMA, ids=[m[0] for m in MINIMA])
def test_known_minimum(name: str, x: float, y: float, value: float) -> None:
    found = FUNCTIONS[name].value(np.array([x], dtype=np.float64), np.array([y], dtype=np.float64))
    assert found[0] == pytest.approx(value, abs=1e-4)


def fits(task: Task) -> list[float]:
    """Test errors of the constant, linear and quadratic least-squares fits on train and valid together."""
    x = torch.cat([task.train.x, task.valid.x], 1).double().numpy()
    y = torch.cat([task.train.y, task.valid.y], 1)[0].double().numpy()
    x_test, y_test = task.test.x.double().numpy(), task.test.y[0].double().numpy()

    def terms(x: np.ndarray) -> np.ndarray:
        a, b = x
        return np.stack([np.ones_like(a), a, b, a * a, a * b, b * b], 1)

    found = []
    for k in (1, 3, 6):
        weights = np.linalg.lstsq(terms(x)[:, :k], y, rcond=None)[0]
        found.append(float(np.mean((terms(x_test)[:, :k] @ weights - y_test) ** 2)))
    return found


def surprise(name: str) -> float:
    """How many standard deviations of our own 16 draws the published figures lie off: theirs are one more draw.

    The three errors, and the ratios linear / constant and quadratic / linear, which vary less from draw to draw.
    """
    theirs = np.array(TABLE[name][1:])
    ours = np.array([fits(cornn(function=name, seed=seed)) for seed in range(16)])
    digits = 6e-5  # the table has four

    def ratios(v: np.ndarray) -> np.ndarray:
        return np.asarray(v[..., 1:] / np.maximum(v[..., :-1], 1e-9))

    off = np.abs(theirs - ours.mean(0)) / (ours.std(0, ddof=1) + digits)
    off_ratio = np.abs(ratios(theirs) - ratios(ours).mean(0)) / (ratios(ours).std(0, ddof=1) + 3 * digits / theirs[0])
    return float(max(off.max(), off_ratio.max()))


# Easom: see its own test
@pytest.mark.parametrize("name", [name for name in TABLE if name != "Easom"])
def test_published_errors_are_one_more_draw(name: str) -> None:
    """The worst of the 53 is 2.6 standard deviations."""
    assert surprise(name) < 3.5


def test_easom_is_a_lottery_but_theirs_is_among_ours() -> None:
    """Its dip covers 0.15 % of the domain, 6 training points and 2 test points: scale and error depend on which are hit."""
    constant = np.sort([fits(cornn(function="Easom", seed=seed))[0] for seed in range(40)])
    assert constant[5] < TABLE["Easom"][1] < constant[-6]


@pytest.mark.parametrize(
    ("name", "textbook"),
    [
        ("Ackley N.2", lambda x, y: -200 * np.exp(-0.02 * np.sqrt(x**2 + y**2))),
        ("Deckkers-Aarts", lambda x, y: 1e5 * x**2 + y**2 - (x**2 + y**2) ** 2 + 1e-5 * (x**2 + y**2) ** 4),
        (
            "Goldstein-Price",
            lambda x, y: (
                (1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2))
                * (30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2))
            ),
        ),
        ("Qing", lambda x, y: (x**2 - 1) ** 2 + (y**2 - 2) ** 2),
        ("Styblinski-Tang", lambda x, y: 0.5 * (x**4 - 16 * x**2 + 5 * x + y**4 - 16 * y**2 + 5 * y)),
        ("Michalewicz", lambda x, y: -(np.sin(x) * np.sin(x**2 / pi) ** 10 + np.sin(y) * np.sin(2 * y**2 / pi) ** 10)),
    ],
)
def test_a_wrong_formula_is_seen(name: str, textbook: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.FUNCTIONS, name, replace(FUNCTIONS[name], value=textbook))
    assert surprise(name) > 3.5


@pytest.mark.parametrize(
    ("written", "name"),
    [("ackley", "Ackley"), ("ackley_n2", "Ackley N.2"), ("EGG HOLDER", "Egg Holder"), ("schwefel 2.22", "Schwefel 2.22")],
)
def test_names_are_lenient(written: str, name: str) -> None:
    assert find(written).name == name


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"no function 'Rosenbrok'.*Did you mean 'Rosenbrock'\?"):
        cornn(function="Rosenbrok")


def test_splits_and_scales() -> None:
    task = cornn(function="Goldstein-Price", seed=3)
    assert [s.samples for s in (task.train, task.valid, task.test)] == [3000, 750, 1250]
    assert (task.kind, str(task.loss), task.inputs, task.outputs) == ("regression", "mse", 2, 1)
    both = torch.cat([task.train.y, task.valid.y], 1)
    assert both.min().item() == pytest.approx(-1, abs=1e-6)
    assert both.max().item() == pytest.approx(1, abs=1e-6)
    inputs = torch.cat([task.train.x, task.valid.x, task.test.x], 1)
    assert -1 <= inputs.min().item() < -0.99
    assert 0.99 < inputs.max().item() <= 1
    raw_x = (task.test.x * task.input_scale[:, None] + task.input_shift[:, None]).double().numpy()
    raw_y = (task.test.y * task.output_scale[:, None] + task.output_shift[:, None]).double().numpy()
    np.testing.assert_allclose(raw_y[0], FUNCTIONS["Goldstein-Price"].value(*raw_x), rtol=1e-3, atol=0.5)


def test_same_training_points_whatever_the_test_size() -> None:
    one, other = cornn(function="Booth", test=10), cornn(function="Booth", test=500)
    assert torch.equal(one.train.x, other.train.x)
    assert cornn(function="Booth", seed=1).digest != cornn(function="Booth", seed=2).digest
    assert cornn(function="Booth", seed=1).digest == cornn(function="Booth", seed=1).digest


@pytest.mark.parametrize(
    "options", [{"train": 3}, {"test": 0}, {"valid": 0.0}, {"valid": 1.0}, {"train": 4, "valid": 0.9}, {"seed": -1}]
)
def test_refusals(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="needed:"):
        cornn(function="Booth", **options)  # type: ignore[arg-type]
