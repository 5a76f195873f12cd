"""`terms`: the laws of `nasplug.testing`, numbers worked out by hand, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug.testing import RegularizerLaws, example_networks
from nasplug_regularizers import ProximalTerms, inputs, neurons, terms


def summed(nets: Networks) -> Networks:
    """The same weights, said to be of two terms, a column's and a pair's."""
    return replace(nets, terms=(1, 2)) if nets.stem is None else nets


class TestTerms(RegularizerLaws):
    name = "terms"
    widths: ClassVar = ((3, 4, 1), (2, 2, 4, 2))

    def examples(self, k: int = 4) -> list[Networks]:
        return [summed(nets) for nets in super().examples(k)]


class TestTermsProximal(TestTerms):
    options: ClassVar = {"proximal": True, "pairs": 2.0, "adaptive": 0.3}


class TestTermsWithoutAny(RegularizerLaws):
    name = "terms"


def two() -> Networks:
    """Two terms of two neurons: a column's with norm 5 (weights 3 and 4), and a pair's with norm 2."""
    w = torch.tensor([[[3.0, 0.0], [4.0, 0.0], [0.0, 2.0], [0.0, 0.0]]], dtype=torch.float64)
    return Networks(widths=(2, 4, 1), blocks={(1, 0): w, (2, 1): torch.ones(1, 1, 4).double()}, terms=(1, 2))


def test_the_value_is_a_sum_of_norms() -> None:
    nets = two()
    assert float(terms(scale="none")(nets)) == pytest.approx(7.0)
    assert float(terms(scale="none", pairs=3.0)(nets)) == pytest.approx(11.0)
    assert float(terms(scale="none", columns=0.0)(nets)) == pytest.approx(2.0)
    # Of 8 weights 3/4 may be (a column's 2, a pair's 4): sqrt(2) 5 + sqrt(4) 2.
    assert float(terms()(nets)) == pytest.approx(2.0**0.5 * 5.0 + 4.0)
    assert float(terms()(replace(nets, terms=()))) == 0.0


def test_the_proximal_step_takes_whole_terms() -> None:
    rule = terms(scale="none", proximal=True)
    assert isinstance(rule, ProximalTerms)
    w = rule.shrink(two(), torch.tensor([2.5], dtype=torch.float64)).blocks[1, 0][0]
    torch.testing.assert_close(w[:2], torch.tensor([[1.5, 0.0], [2.0, 0.0]]).double())
    assert not bool(w[2:].any())


def test_absent_weights_do_not_count_as_group_sizes() -> None:
    nets = replace(example_networks(0, 1, (2, 4, 1), ("blocks",), skips=False), terms=(1, 1))
    free = replace(nets, terms=())
    assert float(inputs()(nets)) == pytest.approx(float(inputs()(free)) / 2.0**0.5)
    assert float(neurons()(nets)) == pytest.approx(float(neurons()(free)) / 2.0**0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pairs": -1.0}, "needed: finite numbers >= 0"),
        ({"pairs": 0.0, "columns": 0.0}, "one of them > 0"),
        ({"adaptive": 0.0}, "adaptive=0.0"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        terms(**options)


def test_networks_without_terms_are_refused() -> None:
    with pytest.raises(ConfigError, match="give the method a structure"):
        terms().accept(replace(two(), terms=()))
    with pytest.raises(ConfigError, match="nothing is penalised"):
        terms(columns=0.0).accept(replace(two(), terms=(1, 1)))
