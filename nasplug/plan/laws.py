"""The laws of strangers' components, tried on two networks of the study itself: what breaks them is refused before any work.

The conformance kit (`nasplug.testing`) checks more of them, on examples; this is what a study can check of any plugin that it
uses. In float64, where a row in a pack and the row alone agree to rounding, and on a few samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from nasplug.byrow import ByRow
from nasplug.contracts import Discretizer, Params, Proximal, Regularizer
from nasplug.errors import ContractError, NasplugError, cause
from nasplug.networks import PARTS, Networks, take
from nasplug.plan.building import Components
from nasplug.plugins import Plugins
from nasplug.replicas import normal
from nasplug.tasks import Split
from nasplug.train import Search, ValidationLoss, start

__all__ = ["check_laws"]

SAMPLES = 64
PATIENCE = 0.1  # seconds of this thread, for one discretizer on one network
TOLERANCE = 1e-8  # of the largest number compared: rounding in float64, and the sums of a training step or two hundred
KIT = "Tell its author (the kit, nasplug.testing, shows more); --fast plans without these trials"
FIRST = torch.tensor([0])
Made = TypeVar("Made")


def check_laws(parts: Components, search: Search, plugins: Plugins, tried: set[str]) -> None:
    """Two networks of the study, together and alone: what is said of one must not change when the other joins it.

    Args:
        parts: what the study is made of.
        search: its rows; the first one's data, temperature and seed are taken, and the seed after it.
        plugins: who owns each component.
        tried: discretizers that were tried on networks of such a skeleton, which grows: their options are numbers mostly.

    Raises:
        ContractError: for a method, penalty or discretizer that mixes rows, a penalty that is negative or not finite, a
            discretizer that changes what it has made hard.
    """
    study = parts.study
    pair = _pair(search)
    soft, direct = _method(pair, str(plugins.offer("method", study.method.use)))
    for i, penalty in enumerate(parts.penalties):
        _penalty(penalty, soft, f"penalties.{i}: {plugins.offer('regularizer', study.penalties[i].use)}")
    for i, place in enumerate(parts.discretizers):
        discretizer = place.each[0] if isinstance(place, ByRow) else place
        use = study.discretizers[i]
        key = f"{i} {use.use} {sorted(use.options)} {direct.together.widths} {parts.study.method.model_dump_json()}"
        if key in tried:
            return  # those after it were tried on what it makes
        tried.add(key)
        made = _discretizer(discretizer, direct, pair, f"discretizers.{i}: {plugins.offer('discretizer', use.use)}")
        if made is None:
            return
        direct = made


@dataclass(frozen=True, slots=True)
class _Both:
    """Two networks in one pack, and the first of them alone."""

    together: Networks
    alone: Networks


def _pair(search: Search) -> Search:
    """Two rows that differ in their seed, on a few samples."""
    two = search.take(torch.tensor([0, 0]))
    task = two.task.to("cpu", torch.float64)
    return replace(
        two,
        task=replace(task, train=_few(task.train), valid=_few(task.valid), test=_few(task.test)),
        seeds=two.seeds + torch.arange(2),
        lr=two.lr.to("cpu", torch.float64),
        tau=two.tau.to("cpu", torch.float64),
        levels=(),
        penalties=(),
        architect=None,
        fixed=tuple((part, key, tensor.to("cpu", torch.float64)) for part, key, tensor in two.fixed),
    )


def _few(split: Split) -> Split:
    """Samples from everywhere: they may be sorted."""
    return split.columns(torch.linspace(0, split.samples - 1, min(SAMPLES, split.samples)).round().long())


def _method(pair: Search, whom: str) -> tuple[_Both, _Both]:
    """Its networks, soft and in direct space, from leaves moved a little: at their start they may all be alike."""
    method, one = pair.method, pair.take(FIRST)
    seeds = pair.seeds if pair.traits.stochastic else None
    fixed = pair.traits.simplex  # moved, they would leave it
    with torch.no_grad():
        drawn, alone = (_run(whom, start, each).params for each in (pair, one))
        _same(whom, "seed law: leaves that init draws for one seed", _first(drawn), alone)
        leaves = {
            name: p if name in fixed else p + 0.1 * normal(pair.seeds, f"try out {name}", tuple(p.shape[1:])).to(p)
            for name, p in drawn.items()
        }
        soft = _Both(
            _run(whom, pair.relax, leaves, pair.tau.at(0), seeds),
            _run(whom, one.relax, _first(leaves), one.tau.at(0), None if seeds is None else seeds[:1]),
        )
        _same_networks(whom, "row law: what relax makes of one network", soft)
        outputs, of_one = (
            _run(whom, method.forward, nets, each.task.train.x) for nets, each in ((soft.together, pair), (soft.alone, one))
        )
        _same(whom, "row law: what forward makes of one network", {"outputs": outputs[:1]}, {"outputs": of_one})
        direct = _Both(_run(whom, pair.direct, soft.together), _run(whom, pair.direct, soft.alone))
        _same_networks(whom, "row law: what direct makes of one network", direct)
    return soft, direct


def _penalty(penalty: Regularizer, soft: _Both, whom: str) -> None:
    """Values and slopes of a penalty."""
    leaves = soft.together.map(lambda t: t.detach().clone().requires_grad_())
    made = _run(whom, penalty, leaves)
    values, alone = made.detach(), _run(whom, penalty, soft.alone).detach()
    if values.shape != (2,):
        raise ContractError(f"{whom} returned shape {tuple(values.shape)} for two networks; needed: (2,). {KIT}")
    narrow = 1 in soft.together.widths[1:]
    why = " A layer of one neuron may have one weight: the variance of one needs correction=0." if narrow else ""
    if not bool(torch.isfinite(values).all()):
        raise ContractError(f"{whom} breaks the needs law: its value is {float(values[0]):g} at the start.{why} {KIT}")
    if bool((values < 0).any()):
        raise ContractError(
            f"{whom} breaks the needs law: its value is {float(values.min()):g}, below 0, so training could "
            f"lower it for ever. {KIT}"
        )
    _same(whom, "row law: the penalty of one network", {"value": values[:1]}, {"value": alone})
    if isinstance(penalty, Proximal):
        with torch.no_grad():
            amount = torch.full((2,), 0.01, dtype=torch.float64)
            shrunk = _Both(
                _run(whom, penalty.shrink, soft.together, amount), _run(whom, penalty.shrink, soft.alone, amount[:1])
            )
        _same_networks(whom, "row law: what shrink makes of one network", shrunk)
    elif made.requires_grad:
        tensors = _tensors(leaves)
        slopes = torch.autograd.grad(made.sum(), list(tensors.values()), allow_unused=True, materialize_grads=True)
        for name, slope in zip(tensors, slopes, strict=True):
            if not bool(torch.isfinite(slope).all()):
                raise ContractError(f"{whom} breaks the needs law: its slope in {name} is not finite at the start.{why} {KIT}")


def _discretizer(discretizer: Discretizer, direct: _Both, pair: Search, whom: str) -> _Both | None:
    """What it makes of the networks, if a second call changes nothing and the other network neither; None where it is slow."""
    score = ValidationLoss(pair.task)
    began = time.thread_time()  # not of the clock: a busy machine must not decide what is tried
    with torch.no_grad():
        alone = _run(whom, discretizer, direct.alone, score.take(FIRST))
        if time.thread_time() - began > PATIENCE:  # one that trains wide networks: planning is no place for it
            return None
        once = _Both(_run(whom, discretizer, direct.together, score), alone)
        _same_networks(whom, "row law: what it makes of one network", once)
        again = _run(whom, discretizer, alone, score.take(FIRST))
        _same(whom, "idempotence law: what it has made hard", _tensors(again), _tensors(alone), "when it is called again")
    return once


def _run(whom: str, work: Callable[..., Made], *arguments: object) -> Made:
    try:
        return work(*arguments)
    except NasplugError:
        raise
    except Exception as error:
        raise ContractError(f"{whom} broke on two networks with {cause(error)}. {KIT}") from error


def _first(tensors: Mapping[str, Tensor]) -> Params:
    return {name: t[:1] for name, t in tensors.items()}


def _tensors(nets: Networks) -> dict[str, Tensor]:
    return {f"{part}[{key}]": tensor for part in PARTS for key, tensor in getattr(nets, part).items()}


def _same_networks(whom: str, what: str, both: _Both) -> None:
    for nets in (both.together, both.alone):
        if not isinstance(nets, Networks):
            raise ContractError(f"{whom} returned {type(nets).__name__}; needed: nasplug.Networks. {KIT}")
    if both.together.replicas != 2 or both.alone.replicas != 1:
        raise ContractError(f"{whom} made {both.together.replicas} networks of two, and {both.alone.replicas} of one. {KIT}")
    _same(whom, what, _tensors(take(both.together, FIRST)), _tensors(both.alone))


def _same(
    whom: str, what: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], when: str = "when another joins its pack"
) -> None:
    """Refuse two sets of tensors that differ by more than rounding (NaN equals NaN)."""
    if found.keys() != wanted.keys():
        names = ", ".join(sorted(found.keys() ^ wanted.keys()))
        raise ContractError(f"{whom} breaks the {what} changes {when}: {names} is there once only. {KIT}")
    for name, tensor in wanted.items():
        if (told := _apart(tensor.detach(), found[name].detach())) is not None:
            raise ContractError(f"{whom} breaks the {what} changes {when} ({name}, {told}). Reduce over no row. {KIT}")


def _apart(one: Tensor, other: Tensor) -> str | None:
    """How two tensors differ by more than rounding, in words; NaN equals NaN."""
    if one.shape != other.shape:
        return f"shapes {tuple(one.shape)} and {tuple(other.shape)}"
    if torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * _size(one), equal_nan=True):
        return None
    return f"by up to {float((one.to(torch.float64) - other).abs().nan_to_num(torch.inf).max()):.3g}"


def _size(tensor: Tensor) -> float:
    """The largest finite number in it, 1 at least."""
    return max(1.0, float(tensor.abs().nan_to_num(0.0, 0.0, 0.0).max())) if tensor.numel() else 1.0
