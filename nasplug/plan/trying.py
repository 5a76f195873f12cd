"""One network of a pack, made and looked at: wrong combinations are refused here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from nasplug.activations import non_decreasing
from nasplug.byrow import ByRow
from nasplug.contracts import Discretizer, Params, Proximal, SearchMethod
from nasplug.errors import ConfigError, ContractError
from nasplug.monotone import accept
from nasplug.networks import Networks
from nasplug.optimizers import Exponentiated
from nasplug.plan.building import Components
from nasplug.plan.judges import blaming, shaped
from nasplug.plugins import Plugins
from nasplug.replicas import normal
from nasplug.train import Search, start

__all__ = ["UntemperedError", "fit", "try_out"]

ROUNDING = 1e-6  # of a value in float32
PROBE = 100.0  # activations must be finite up to here: units of a search that still works receive less


class UntemperedError(ConfigError):
    """A study has a temperature, and its method does not read it."""


def _needs(what: str, name: str, component: Any, parts: Iterable[str], method: str) -> None:
    missing = sorted(set(component.needs) - set(parts))
    if missing:
        raise ConfigError(
            f"{what}: {name!r} reads {', '.join(missing)}, which method {method!r} as configured does not make; "
            f"it makes: {', '.join(sorted(parts))}. Take another one here, or another method (or mode)"
        )


def _holds(what: str, name: str, penalty: Proximal, method: SearchMethod, use: str) -> None:
    held = method.traits.holds
    missing = sorted(penalty.needs - held)
    if missing:
        raise ConfigError(
            f"{what}: {name!r} is proximal and moves {', '.join(missing)}, which are not parameters of method {use!r}; it "
            f"holds: {', '.join(sorted(held)) or 'none'}. Take a penalty that is not proximal, or another method"
        )


def _elementwise(nets: Networks, method: str, plugins: Plugins) -> None:
    """Refuse activations that no plugin offers, that look at more than their argument, or break every network with them."""
    probe = (torch.arange(-2000, 2001) * (PROBE / 2000)).requires_grad_()  # 0 is among them, exactly
    for name in nets.names:
        whom = str(plugins.offer("activation", name, method))
        with blaming(whom):
            values = nets.function(name)(probe)
            shaped(whom, values, tuple(probe.shape), "an activation is elementwise")
            fewer, same = nets.function(name)(probe[1500:]), values[1500:]
            if not torch.allclose(fewer, same, rtol=1e-4, atol=1e-6, equal_nan=True):
                raise ContractError(
                    f"{whom}: its value at a number changes with the numbers beside it; an activation is elementwise. "
                    "Tell its author"
                )
            (slope,) = torch.autograd.grad(values.sum(), probe, allow_unused=True, materialize_grads=True)
        if non_decreasing(name, nets.functions) and bool((values.diff() < -ROUNDING * values[1:].abs()).any()):
            raise ContractError(f"{whom} says that it never decreases, and does; tell its author")
        bad = ~(torch.isfinite(values) & torch.isfinite(slope))
        if bool(bad.any()):
            where = float(probe.detach()[bad][0])
            raise ConfigError(
                f"{method}: {whom}: its value or slope is not finite at {where:g}; needed: finite ones between -{PROBE:g} and "
                f"{PROBE:g}. Take another activation"
            )


def _moved(parts: Components, search: Search, params: Params) -> None:
    """Refuse optimizers that do not fit the leaves they would move, and a bilevel search without samples for it."""
    study, architect = parts.study, search.architect
    use = study.method.use
    if architect is not None:
        leaves = sorted(search.architecture(params))
        if not leaves:
            raise ConfigError(
                f"train.architecture: method {use!r} as configured has no architecture of its own to move; its leaves: "
                f"{', '.join(sorted(params))}. Remove train.architecture, or take another method"
            )
        if not search.weights(params):
            raise ConfigError(f"train.architecture: method {use!r} has no weights beside its architecture; remove it")
        if any(isinstance(penalty, Proximal) for penalty in parts.penalties):
            raise ConfigError(
                "train.architecture: beside a proximal penalty, whose step follows train.lr; remove one of the two"
            )
    if architect is not None and architect.share > 0:
        samples = parts.task.train.samples
        held = round(architect.share * samples)
        least = parts.batch or 1
        if min(held, samples - held) < least:
            raise ConfigError(
                f"train.architecture.share: {architect.share:g} of {samples} training samples holds {held} and leaves "
                f"{samples - held}; needed: {least} at least for each (train.batch). Take a share nearer to 0.5"
            )
    simplex = search.traits.simplex
    groups = {"train.optimizer": search.weights(params), "train.architecture.optimizer": search.architecture(params)}
    for (where, group), optimizer in zip(groups.items(), (parts.optimizer, parts.architect), strict=True):
        on, off = sorted(set(group) & simplex), sorted(set(group) - simplex)
        if on and not isinstance(optimizer, Exponentiated):
            raise ConfigError(
                f"{where}: {', '.join(on)} of method {use!r} are points of the simplex, which this optimizer would leave; "
                "write train.architecture: {optimizer: {use: exponentiated}, lr: 0.1}"
            )
        if off and isinstance(optimizer, Exponentiated):
            raise ConfigError(
                f"{where}: exponentiated moves points of the simplex, and {', '.join(off)} of method {use!r} are not on it; "
                "take adam, adamw or sgd here, or an option of the method that puts them there"
            )


def _normalised(nets: Networks, samples: int) -> None:
    """Refuse a norm over one number: its variance is 0, so every image would look the same behind it."""
    stem = nets.stem
    for number, places in enumerate(() if stem is None else stem.places, start=1):
        if stem is not None and number in stem.normalised and samples * places < 2:
            raise ConfigError(
                f"stem.layers.{number - 1}.norm: a batch of {samples} sample and one place per image leave one number to "
                "normalise by; needed: 2 at least. Take a larger train.batch, or remove norm"
            )


def _tempered(search: Search, params: Params, use: str, whom: str) -> None:
    """Refuse a temperature that changes nothing: networks at its largest and smallest value, from leaves moved a little.

    Where they are the same, their slopes may differ, as those of one-hot draws do.
    """
    values = search.tau.table[:, search.tau.index[0]] * search.tau.scale[0]  # (T,)
    low, high = float(values.min()), float(values.max())
    low = high / 2.0 if low == high else low
    moved = {name: p + 0.1 * normal(search.seeds, f"try out {name}", tuple(p.shape[1:])).to(p) for name, p in params.items()}

    def made(tau: float) -> tuple[list[Tensor], Sequence[Tensor | None]]:
        """The parts of networks, and the slopes in the leaves of a sum of what is in them."""
        leaves = {name: p.detach().clone().requires_grad_() for name, p in moved.items()}
        nets = search.relax(leaves, torch.full_like(search.tau.at(0), tau), search.seeds)
        found = [getattr(nets, part)[key] for part in nets.parts for key in getattr(nets, part)]
        weighed = sum(
            (t * torch.linspace(0.0, 1.0, t.numel(), dtype=t.dtype).view_as(t)).sum() for t in found if t.requires_grad
        )
        if not isinstance(weighed, Tensor):
            return found, ()
        return found, torch.autograd.grad(weighed, list(leaves.values()), allow_unused=True)

    with blaming(whom), torch.enable_grad():
        (hot, up), (cold, down) = made(high), made(low)
    slopes = [(a, b) for a, b in zip(up, down, strict=True) if a is not None and b is not None]
    if all(torch.equal(a, b) for a, b in [*zip(hot, cold, strict=True), *slopes]):
        raise UntemperedError(
            f"temperature: method {use!r} as configured does not read it: its networks are the same at {high:g} and {low:g}. "
            "Remove it, or take another method (or mode)"
        )


def try_out(parts: Components, search: Search, plugins: Plugins) -> Networks:
    """Make one network and check that everything fits it: shapes, needs, penalties' values.

    Raises:
        ConfigError: for combinations that do not fit.
        ContractError: for a plugin that breaks its contract.
    """
    first = search.take(torch.tensor([0]))
    study = parts.study
    method = f"method {study.method.use!r}"
    whom = str(plugins.offer("method", study.method.use))
    with blaming(whom):
        parts.method.accept(first.task)
        drawn = parts.method.init(first.task, first.seeds)
    if not isinstance(drawn, dict) or not all(isinstance(p, Tensor) and p.shape[:1] == (1,) for p in drawn.values()):
        shapes = {n: tuple(getattr(p, "shape", ())) for n, p in drawn.items()} if isinstance(drawn, dict) else drawn
        raise ContractError(
            f"{whom}: init returned {shapes!r} for one seed; needed: a dict of tensors (1, ...). Tell its author"
        )
    for trait in ("architecture", "untrained"):
        if unknown := sorted(getattr(first.traits, trait) - set(drawn)):
            raise ContractError(
                f"{whom}: traits.{trait} names {', '.join(unknown)}, which init does not make; it makes: {', '.join(drawn)}"
            )
    _moved(parts, first, drawn)
    with blaming(whom):
        params = start(first).params
        nets = first.relax(params, first.tau.at(0))
    _elementwise(nets, method, plugins)
    if first.monotone:
        accept(nets, method)
    with blaming(whom):
        nets.check()
    _normalised(nets, parts.batch or parts.task.train.samples)
    if study.temperature is not None:
        _tempered(first, params, study.method.use, whom)
    if nets.inputs != parts.task.inputs or nets.widths[-1] != parts.task.outputs:
        raise ConfigError(
            f"{method} made networks of widths {nets.widths} for a task of {parts.task.inputs} inputs and {parts.task.outputs} "
            "outputs; take another method, or another task"
        )
    with blaming(whom):
        given = first.task.train.x[..., :2]
        outputs = first.forward(nets, given)
        direct = first.direct(nets)
        direct.check()
    shaped(f"{whom}: forward", outputs, (1, parts.task.outputs, 2), "(K, O, B) of one network and 2 samples")
    for i, penalty in enumerate(parts.penalties):
        _needs(f"penalties.{i}", study.penalties[i].use, penalty, nets.parts, study.method.use)
        if isinstance(penalty, Proximal):
            _holds(f"penalties.{i}", study.penalties[i].use, penalty, parts.method, study.method.use)
        whom = f"penalties.{i}: {plugins.offer('regularizer', study.penalties[i].use)}"
        with blaming(whom):
            penalty.accept(nets)
            value = penalty(nets)
        shaped(whom, value, (1,), "one number per network, (K,)")
    fit(parts, parts.discretizers, direct, plugins)
    return nets


def fit(parts: Components, discretizers: Sequence[Discretizer | ByRow], direct: Networks, plugins: Plugins) -> None:
    """Ask discretizers, of any rows, whether they fit networks in direct space.

    Raises:
        ConfigError: for one that does not.
    """
    study = parts.study
    for i, place in enumerate(discretizers):
        for discretizer in place.each if isinstance(place, ByRow) else (place,):
            if direct.alternatives and i == 0 and "choices" not in discretizer.needs:
                raise ConfigError(
                    f"discretizers.0: {study.discretizers[0].use} cuts networks whose operations are still mixed; put one that "
                    "chooses before it, such as {use: closest}, {use: least} or {use: argmax}"
                )
            _needs(f"discretizers.{i}", study.discretizers[i].use, discretizer, direct.parts, study.method.use)
            with blaming(f"discretizers.{i}: {plugins.offer('discretizer', study.discretizers[i].use)}"):
                discretizer.accept(direct)
