"""What a component inherits, what it says it can do, and what is refused because nobody would read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nasplug import networks
from nasplug.contracts import (
    Certifying,
    Discretizer,
    Params,
    Proximal,
    Regularizer,
    Score,
    SearchMethod,
    Traits,
    check_component,
)
from nasplug.errors import ContractError
from nasplug.networks import Networks
from nasplug.plugins import load_plugins
from nasplug.tasks import Task
from nasplug.testing import example_task


class Least(SearchMethod):
    """A method with what it must have, and no more."""

    def init(self, task: Task, seeds: Tensor) -> Params:
        return {"w": torch.ones(len(seeds), task.outputs, task.inputs)}

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        w = params["w"]
        return Networks((w.shape[2], w.shape[1]), {(1, 0): w})


class Penalty(Regularizer):
    """Likewise."""

    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks) -> Tensor:
        return nets.blocks[1, 0].square().sum((1, 2))


class Cut(Discretizer):
    """Likewise."""

    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        return nets


def test_the_least_is_enough() -> None:
    method, task, seeds = Least(), example_task(), torch.arange(2)
    for kind, component in (("method", method), ("regularizer", Penalty()), ("discretizer", Cut())):
        check_component(kind, component, kind)
    params = method.init(task, seeds)
    nets = method.relax(params, torch.ones(2))
    x = task.train.x.float()
    assert torch.equal(method.forward(nets, x), networks.forward(nets, x))
    assert method.direct(nets) is nets
    assert method.project(params, 1, 2) is params
    assert method.traits == Traits()
    assert method.accept(task) is Penalty().accept(nets) is Cut().accept(nets) is None  # type: ignore[func-returns-value]
    with pytest.raises(ContractError, match="Least holds no parts"):
        method.hold(nets)


@pytest.mark.parametrize("missing", ["init", "relax"])
def test_a_method_without_init_or_relax_cannot_be_made(missing: str) -> None:
    names = {"init": Least.init, "relax": Least.relax}
    del names[missing]
    with pytest.raises(TypeError, match=missing):
        type("Half", (SearchMethod,), names)()


def test_needs_and_what_makes_a_contract_its_own_cannot_be_left_out() -> None:
    for contract, name in ((Penalty, "shrink"), (Cut, "certified")):
        more: type = {"shrink": Proximal, "certified": Certifying}[name]
        with pytest.raises(TypeError, match=name):
            type("Half", (contract, more), {})()
    with pytest.raises(TypeError, match="needs"):
        type("Half", (Regularizer,), {"__call__": Penalty.__call__})()


WRONG: list[tuple[Mapping[str, Any], type[Exception], str]] = [
    ({"simpelx": frozenset()}, TypeError, "simpelx"),
    ({"architecture": "logits"}, ContractError, "write a frozenset of names"),
    ({"architecture": {"logits"}}, ContractError, "write a frozenset of names"),
    ({"holds": frozenset({"eigenvalue"})}, ContractError, "eigenvalue are not parts of Networks; parts: blocks"),
    ({"simplex": frozenset({"p"})}, ContractError, "p are not in architecture; add them there"),
    ({"stochastic": 1}, ContractError, "needed: True or False"),
    ({"capturable": "no"}, ContractError, "needed: True or False"),
    ({"origin": ["weights"]}, ContractError, "a mapping of texts"),
    ({"origin": {"weights": 3}}, ContractError, "a mapping of texts"),
]


@pytest.mark.parametrize(("given", "error", "told"), WRONG)
def test_traits_that_cannot_be(given: Mapping[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        Traits(**given)


def refused(kind: str, base: type, name: str, told: str, value: object = None) -> None:
    stranger = type("Stranger", (base,), {name: value})
    with pytest.raises(
        ContractError, match=rf"^it: Stranger has '{name}', which nasplug does not read; {told}, or give it another"
    ):
        check_component(kind, stranger(), "it")


@pytest.mark.parametrize("name", [f.name for f in fields(Traits)])
def test_a_trait_as_an_attribute_is_refused(name: str) -> None:
    refused("method", Least, name, rf"write traits = Traits\({name}=\.\.\.\), from nasplug")

    @dataclass
    class Given(Least):
        given: int = 0

    one = Given()
    setattr(one, name, True)  # also where no class has it
    with pytest.raises(ContractError, match=f"Given has '{name}'"):
        check_component("method", one, "it")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("projekt", "write project"),
        ("projects", "write project"),
        ("forwrad", "write forward"),
        ("foward", "write forward"),
        ("direkt", "write direct"),
        ("trait", "write traits"),
        ("acept", "write accept"),
        ("simpelx", r"write traits = Traits\(simplex=\.\.\.\), from nasplug"),
        ("hold_s", r"write traits = Traits\(holds=\.\.\.\), from nasplug"),
        ("stochastics", r"write traits = Traits\(stochastic=\.\.\.\), from nasplug"),
        ("architekture", r"write traits = Traits\(architecture=\.\.\.\), from nasplug"),
    ],
)
def test_a_near_miss_is_refused(name: str, told: str) -> None:
    refused("method", Least, name, told)


def test_names_of_contracts_that_it_does_not_inherit_are_refused() -> None:
    refused("regularizer", Penalty, "shrink", r"inherit nasplug\.Proximal")
    refused("regularizer", Penalty, "shrinks", r"inherit nasplug\.Proximal")
    refused("discretizer", Cut, "certified", r"inherit nasplug\.Certifying")
    refused("discretizer", Cut, "certifies", r"inherit nasplug\.Certifying")
    refused("discretizer", Cut, "accepts", "write accept")


@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12))
def test_a_name_of_its_own_never_hurts_with_an_underscore(name: str) -> None:
    check_component("method", type("Free", (Least,), {f"_{name}": 1})(), "it")


@pytest.mark.parametrize(
    "name", ["hidden", "candidates", "form", "mode", "depth", "folds", "samples", "start", "step", "sigma"]
)
def test_other_names_are_an_author_s_own(name: str) -> None:
    for kind, base in (("method", Least), ("regularizer", Penalty), ("discretizer", Cut)):
        check_component(kind, type("Free", (base,), {name: 1})(), "it")


def test_what_inherits_nothing_is_refused() -> None:
    class Duck:
        needs = frozenset({"blocks"})

        def __call__(self, nets: Networks) -> Tensor:
            return nets.blocks[1, 0].sum((1, 2))

    told = r"^it: the plugin returned Duck; a nasplug\.Regularizer is needed: write class Duck\(Regularizer\), from nasplug"
    with pytest.raises(ContractError, match=told):
        check_component("regularizer", Duck(), "it")
    with pytest.raises(ContractError, match=r"the plugin returned float; needed: a function"):
        check_component("schedule", 0.5, "temperature")
    with pytest.raises(ContractError, match=r"the plugin returned str; a nasplug\.Task is needed$"):
        check_component("task", "words", "task")


def test_traits_of_another_type_and_needs_that_are_no_parts_are_refused() -> None:
    wrong: list[tuple[str, type, str, object, str]] = [
        ("method", Least, "traits", {"simplex": {"p"}}, r"traits is dict; write traits = Traits\(\.\.\.\)"),
        ("method", Least, "hold", lambda self, nets: {}, "hold, and traits.holds is empty"),
        ("method", Least, "traits", Traits(holds=frozenset({"blocks"})), "traits.holds, and no hold"),
        ("regularizer", Penalty, "needs", "blocks", "write a frozenset of parts"),
        ("discretizer", Cut, "needs", frozenset({"weights"}), "weights are not parts of Networks"),
    ]
    for kind, base, name, value, told in wrong:
        with pytest.raises(ContractError, match=told):
            check_component(kind, type("Stranger", (base,), {name: value})(), "it")


def test_our_own_keep_their_contracts() -> None:
    plugins = load_plugins()
    for kind in ("method", "regularizer", "discretizer"):
        for name in plugins.offers(kind):
            check_component(kind, plugins.build(kind, name, {}), name)
