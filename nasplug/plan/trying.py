"""One network of a pack, made and looked at: wrong combinations are refused here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from nasplug.contracts import Choosy, Holding, OnSimplex, Params, Proximal, SearchMethod
from nasplug.errors import ConfigError, ContractError, NasplugError
from nasplug.networks import Networks, activation
from nasplug.optimizers import Exponentiated
from nasplug.plan.building import Components
from nasplug.plugins import Plugins
from nasplug.replicas import normal
from nasplug.train import Search, start

__all__ = ["try_out"]

PROBE = 100.0  # activations must be finite up to here: units of a search that still works receive less


def _needs(what: str, name: str, component: Any, parts: Iterable[str], method: str) -> None:
    missing = sorted(set(component.needs) - set(parts))
    if missing:
        raise ConfigError(
            f"{what}: {name!r} reads {', '.join(missing)}, which method {method!r} as configured does not make; "
            f"it makes: {', '.join(sorted(parts))}. Take another one here, or another method (or mode)"
        )


def _holds(what: str, name: str, penalty: Proximal, method: SearchMethod, use: str) -> None:
    held = method.holds if isinstance(method, Holding) else frozenset()
    missing = sorted(penalty.needs - held)
    if missing:
        raise ConfigError(
            f"{what}: {name!r} is proximal and moves {', '.join(missing)}, which are no parameters of method {use!r}; it "
            f"holds: {', '.join(sorted(held)) or 'none'}. Take a penalty that is not proximal, or another method"
        )


def _elementwise(nets: Networks, method: str, plugins: Plugins) -> None:
    """Refuse activations that no plugin offers, and those that would break every network that takes them."""
    probe = (torch.arange(-2000, 2001) * (PROBE / 2000)).requires_grad_()  # 0 is among them, exactly
    for name in nets.names:
        plugins.offer("activation", name, method)
        with _blaming(f"activation {name!r} of {method}"):
            values = activation(name)(probe)
            if values.shape != probe.shape:
                raise ContractError(
                    f"activation {name!r} made shape {tuple(values.shape)} of {tuple(probe.shape)}; it must be elementwise"
                )
            (slope,) = torch.autograd.grad(values.sum(), probe, allow_unused=True, materialize_grads=True)
        bad = ~(torch.isfinite(values) & torch.isfinite(slope))
        if bool(bad.any()):
            where = float(probe.detach()[bad][0])
            raise ConfigError(
                f"{method}: activation {name!r} has a value or slope that is not finite at {where:g}; needed: finite "
                f"ones between -{PROBE:g} and {PROBE:g}. Take another activation"
            )


def _moved(parts: Components, search: Search, params: Params) -> None:
    """Refuse optimizers that do not fit the leaves they would move, and a bilevel search without samples for it."""
    study, method, architect = parts.study, parts.method, search.architect
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
    simplex = method.simplex if isinstance(method, OnSimplex) else frozenset()
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
                f"{where}: exponentiated moves points of the simplex, and {', '.join(off)} of method {use!r} are none; "
                "take adam, adamw or sgd here, or an option of the method that puts them there"
            )


@contextmanager
def _blaming(whom: str) -> Iterator[None]:
    """Whatever a plugin raises that is not one of our errors, with its name."""
    try:
        yield
    except NasplugError:
        raise
    except Exception as error:
        raise ContractError(
            f"{whom} broke on one network with {type(error).__name__}: {error}. Change its options, or tell its author"
        ) from error


def _tempered(method: SearchMethod, search: Search, params: Params, use: str) -> None:
    """Refuse a temperature that changes nothing: networks at its largest and smallest value, from leaves moved a little."""
    values = search.tau.table[:, search.tau.index[0]] * search.tau.scale[0]  # (T,)
    low, high = float(values.min()), float(values.max())
    low = high / 2.0 if low == high else low
    moved = {name: p + 0.1 * normal(search.seeds, f"try out {name}", tuple(p.shape[1:])).to(p) for name, p in params.items()}
    with _blaming(f"method {use!r}"), torch.no_grad():
        hot, cold = (method.relax(moved, torch.full_like(search.tau.at(0), tau), search.seeds) for tau in (high, low))
        pairs = [(getattr(hot, part)[key], getattr(cold, part)[key]) for part in hot.parts for key in getattr(hot, part)]
    if all(torch.equal(a, b) for a, b in pairs):
        raise ConfigError(
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
    with _blaming(method):
        drawn = parts.method.init(first.task, first.seeds)
    _moved(parts, first, drawn)
    with _blaming(method):
        params = start(first).params
        nets = parts.method.relax(params, first.tau.at(0))
        nets.check()
    _elementwise(nets, method, plugins)
    if study.temperature is not None:
        _tempered(parts.method, first, params, study.method.use)
    if nets.inputs != parts.task.inputs or nets.widths[-1] != parts.task.outputs:
        raise ConfigError(
            f"{method} made networks of widths {nets.widths} for a task of {parts.task.inputs} inputs and {parts.task.outputs} "
            "outputs; take another method, or another task"
        )
    with _blaming(method):
        given = first.task.train.x[..., :2]
        outputs = parts.method.forward(nets, given)
        direct = parts.method.direct(nets)
        direct.check()
    if outputs.shape != (1, parts.task.outputs, 2):
        raise ContractError(
            f"{method} gave outputs of shape {tuple(outputs.shape)} for one network and 2 samples; "
            f"it must give {(1, parts.task.outputs, 2)}, (K, O, B)"
        )
    for i, penalty in enumerate(parts.penalties):
        _needs(f"penalties.{i}", study.penalties[i].use, penalty, nets.parts, study.method.use)
        if isinstance(penalty, Proximal):
            _holds(f"penalties.{i}", study.penalties[i].use, penalty, parts.method, study.method.use)
        with _blaming(f"penalties.{i}: regularizer {study.penalties[i].use!r}"):
            value = penalty(nets)
        if value.shape != (1,):
            raise ContractError(
                f"penalties.{i}: {study.penalties[i].use!r} returned shape {tuple(value.shape)} for one network; "
                "it must return one number a network, (K,)"
            )
    for i, discretizer in enumerate(parts.discretizers):
        _needs(f"discretizers.{i}", study.discretizers[i].use, discretizer, direct.parts, study.method.use)
        if isinstance(discretizer, Choosy):
            with _blaming(f"discretizers.{i}: discretizer {study.discretizers[i].use!r}"):
                discretizer.accept(direct)
    return nets
