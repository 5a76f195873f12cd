"""`edges`: every edge is a weight; five ways of learning which edges to keep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from nasplug.contracts import Params, SearchMethod, Traits
from nasplug.errors import ConfigError
from nasplug.networks import Networks, check_hidden
from nasplug.replicas import column, uniform
from nasplug.stems import Stem
from nasplug.tasks import Task
from nasplug_edges.skeleton import Skeleton, blocks_of, linear, mirrored, nothing, small
from nasplug_edges.terms import MOST_PAIRS, Structure, Terms

__all__ = ["Annealed", "Gated", "Plain", "Snapped", "edges"]

SMALLEST = 1e-4
"""Lower temperatures count as this one, where a gate is 0 or 1 to float32 unless its logit is within 2e-3 of 0."""

STRETCH = 1.2
"""Drawn gates are stretched to this width about 0.5, and cut to [0, 1], so that some are exactly 0 or 1."""

Mode = Literal["annealed", "gated", "hard_concrete", "l1", "snap"]


def _in_pairs(skeleton: Skeleton, task: Task, seeds: Tensor) -> Params:
    """Hidden layers mirrored, the output layer as `torch.nn.Linear`'s, skip blocks and biases 0."""
    last = len(skeleton.hidden) + 1
    return skeleton.draw(
        task,
        seeds,
        lambda edge: nothing if edge[1] < edge[0] - 1 else linear if edge[0] == last else mirrored,
        biased=False,
    )


@dataclass(frozen=True, slots=True)
class Plain(SearchMethod):
    """Plain weights that start as `torch.nn.Linear`'s: mode ``l1``."""

    skeleton: Skeleton
    traits = Traits(holds=frozenset({"blocks"}))

    def accept(self, task: Task) -> None:
        """See `nasplug_edges.skeleton.Skeleton.accept`."""
        self.skeleton.accept(task)

    def init(self, task: Task, seeds: Tensor) -> Params:
        """Blocks and biases ``U[-1, 1] / sqrt(H_from)``."""
        return self.skeleton.draw(task, seeds, lambda edge: linear, biased=True)

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """The weights as they are; ``tau`` and ``noise`` play no part."""
        return self.skeleton.networks(params)

    def hold(self, nets: Networks) -> Params:
        """All blocks."""
        return blocks_of(nets)


@dataclass(frozen=True, slots=True)
class Snapped(SearchMethod):
    """Weights rounded to {0, 1} now and then: mode ``snap``."""

    skeleton: Skeleton
    every: int
    cut: float

    def init(self, task: Task, seeds: Tensor) -> Params:
        """Blocks ``N(0, 0.1)``, input to output included."""
        return self.skeleton.draw(task, seeds, lambda edge: small, biased=False)

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """The weights as they are; ``tau`` and ``noise`` play no part."""
        return self.skeleton.networks(params)

    def project(self, params: Params, step: int, steps: int) -> Params:
        """``1 if |w| >= cut else 0`` after every ``every`` steps but not after the last one."""
        if step % self.every or step == steps:
            return params
        return {name: (w.abs() >= self.cut).to(w.dtype) for name, w in params.items()}


@dataclass(frozen=True, slots=True)
class Annealed(SearchMethod):
    """Plain weights in mirrored pairs, activations that start with a slope on both sides: mode ``annealed``."""

    skeleton: Skeleton
    slope: float
    traits = Traits(holds=frozenset({"blocks"}))

    def accept(self, task: Task) -> None:
        """See `nasplug_edges.skeleton.Skeleton.accept`."""
        self.skeleton.accept(task)

    def init(self, task: Task, seeds: Tensor) -> Params:
        """Hidden layers mirrored, the output layer as `torch.nn.Linear`'s, skip blocks and biases 0."""
        return _in_pairs(self.skeleton, task, seeds)

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """``f_s(z) = (1 - s) f(z) + s z`` with ``s = slope min(tau, 1)``, as a choice; the weights as they are."""
        s = self.slope * tau.clamp(max=1.0)  # (K,)
        choice = torch.stack((1.0 - s, s), -1).unsqueeze(1)  # (K, 1, 2)
        nets = self.skeleton.networks(params)
        return replace(
            nets,
            choices=dict.fromkeys(range(1, nets.depth), choice),
            candidates=(self.skeleton.activation, "identity"),
        )

    def hold(self, nets: Networks) -> Params:
        """All blocks."""
        return blocks_of(nets)


@dataclass(frozen=True, slots=True)
class Gated(SearchMethod):
    """A gate beside each weight: mode ``gated``; with ``drawn`` it is drawn in each step: mode ``hard_concrete``."""

    skeleton: Skeleton
    start: float
    drawn: bool = False

    @property
    def traits(self) -> Traits:
        """Noise is drawn for ``drawn`` alone."""
        return Traits(architecture=frozenset({"logits"}), holds=frozenset({"blocks"}), stochastic=self.drawn)

    def accept(self, task: Task) -> None:
        """See `nasplug_edges.skeleton.Skeleton.accept`."""
        self.skeleton.accept(task)

    def init(self, task: Task, seeds: Tensor) -> Params:
        """Weights as in ``annealed``; ``logits (K, E)``, all edges side by side, such that each gate starts at ``start``."""
        params = _in_pairs(self.skeleton, task, seeds)
        count = sum(math.prod(p.shape[1:]) for name, p in params.items() if name.startswith("block"))
        logit = math.log(self.start) - math.log1p(-self.start)
        return params | {"logits": torch.full((len(seeds), count), logit, dtype=torch.float64, device=seeds.device)}

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """``gate = sigmoid(logit / tau)``, or the draw of `edges`, 0 where no weight may be."""
        nets = self.skeleton.networks(params)
        logits = params["logits"]
        heat = column(tau, logits).clamp(min=SMALLEST)
        gates = _hard_concrete(logits, heat, noise) if self.drawn else torch.sigmoid(logits / heat)
        parts = gates.split_with_sizes([w.shape[1] * w.shape[2] for w in nets.blocks.values()], 1)
        edge_gates = {edge: g.view_as(w) for g, (edge, w) in zip(parts, nets.blocks.items(), strict=True)}
        for edge, mask in self.skeleton.masks(params).items():
            edge_gates[edge] = torch.where(mask, edge_gates[edge], torch.zeros_like(edge_gates[edge]))
        return replace(nets, edge_gates=edge_gates)

    def hold(self, nets: Networks) -> Params:
        """All blocks, as they are without their gates."""
        return blocks_of(nets)


def _hard_concrete(logits: Tensor, heat: Tensor, noise: Tensor | None) -> Tensor:
    """Gates ``(K, E)``: one draw of each with ``noise (K,)``, else the gate that the paper takes when training is over."""
    if noise is None:
        open_ = torch.sigmoid(logits)
    else:
        unit = uniform(noise, "edges/gates", tuple(logits.shape[1:])).clamp(2.0**-53, 1.0 - 2.0**-53)
        open_ = torch.sigmoid((logits + torch.logit(unit).to(logits)) / heat)  # the logit is taken in float64, where unit < 1
    return (0.5 + STRETCH * (open_ - 0.5)).clamp(0.0, 1.0)


def _refuse_others(mode: Mode, given: Mapping[str, object]) -> None:
    """An option that the mode does not read is an error, not a wish."""
    foreign = [f"{name}={value}" for name, value in given.items() if value is not None and name not in OPTIONS[mode]]
    if foreign:
        readers = "; ".join(f"{m}: {', '.join(names)}" for m, names in OPTIONS.items() if names)
        raise ConfigError(
            f"edges: {', '.join(foreign)} with mode {mode!r}, which does not read it. Options of one mode alone: {readers}. "
            "Leave it out or change the mode"
        )


OPTIONS: Mapping[Mode, tuple[str, ...]] = {
    "annealed": ("slope",),
    "gated": ("start",),
    "hard_concrete": ("start",),
    "l1": (),
    "snap": ("every", "cut"),
}


def _check_snap(hidden: Sequence[int], skips: bool, bias: bool | None, stem: Stem | None) -> None:
    if stem is not None:
        raise ConfigError("edges: mode 'snap' with a stem; it rounds all weights to 0 and 1, kernels too. Take another mode")
    if skips or bias:
        raise ConfigError(
            f"edges: mode 'snap' with skips={skips}, bias={bias}; it has the blocks in->hidden, in->out and hidden->out and no "
            "biases, as the code it follows. Leave both out, or take another mode"
        )
    if len(hidden) != 1:
        raise ConfigError(f"edges: mode 'snap' with hidden={list(hidden)}; it has one hidden layer, for example [4]")


def edges(
    *,
    mode: Mode = "annealed",
    hidden: Sequence[int] = (16,),
    skips: bool = False,
    activation: str = "relu",
    bias: bool | None = None,
    slope: float | None = None,
    start: float | None = None,
    every: int | None = None,
    cut: float | None = None,
    stem: Stem | None = None,
    structure: Structure | None = None,
    pairs: int | None = None,
) -> SearchMethod:
    """Structure-aware backpropagation: every edge is a weight, and training decides which edges stay.

    ``y = W_D f(... f(W_1 x + b_1) ...) + b_D``, layered, with a block from every earlier layer if ``skips``; blocks
    ``(K, H_to, H_from)``. The pull towards zero, its level and its ramp are the study's (``l1`` on weights, ``soft_count`` on
    gates), and so is the cut (``threshold``). An edge counts if it lies on a path from an input to an output.

    Modes:

    - ``annealed``: ours. Hidden rows start in pairs ``+q, -q`` with orthonormal q, biases and skip blocks at 0; the
      activation is ``(1 - s) f(z) + s z`` with ``s = slope min(tau, 1)``, so that no unit starts dead. Let the temperature
      end at 0, where f alone is left. ``slope`` in [0, 1], default 0.5.
    - ``gated``: ours. One gate per weight, ``sigmoid(logit / tau)``, from ``start`` in (0, 1), default 0.9; starts otherwise as
      ``annealed``. The logits are the architecture.
    - ``hard_concrete``: as ``gated``, with gates drawn anew for each row and step: ``clamp(0.5 + 1.2 (s - 0.5), 0, 1)``,
      ``s = sigmoid((logit + log u - log(1 - u)) / tau)``, u uniform. So a gate is exactly 0 or 1 with some chance, and has a
      slope in between. Validation, scores and cuts see ``s = sigmoid(logit)``. Take a constant temperature, the source's 2/3.
    - ``l1``: the paper's text. Plain weights that start as `torch.nn.Linear`'s.
    - ``snap``: what the paper's code does. After every ``every`` steps (default 50) each weight becomes 1 if
      ``|w| >= cut`` (default 0.3), else 0; not after the last step. No bias; in->out beside in->hidden->out; starts N(0, 0.1).

    ``bias``: biases of hidden and output layers; None means yes, except for ``snap``, which has none.

    ``structure``: the network is a sum of small ones (`nasplug.additive`), each with the widths ``hidden``: with ``additive``
    one per column of the task (all ramps and words of it), with ``pairs`` also one per pair of columns. Weights between
    them are absent for good. ``pairs`` is how many pairs at most, default 15: all where there are no more, else those that
    promise most (`nasplug_edges.screening.screened`, by the training samples of each row). Whole terms go under the penalty
    ``terms``. Not with ``snap`` or a stem.

    ``hidden: []`` (mode ``l1`` alone) is a linear model. ``stem``: convolutions in front (`nasplug.stems.Stem`), trained along;
    their kernels are plain weights, which nothing searches (not with ``snap``).

    Fails: at a level too high for the task every edge goes, at one too low neurons share one job. ``l1`` with a constant
    level and no fine-tuning ends anywhere between both. XOR with four hidden units is lost in 0 to 2 of 100 seeds
    with ``annealed``, in 27 with ``l1``'s start. ``snap`` destroys what was learned at each rounding: it is here to be
    compared with. ``gated`` keeps gates of weights that do nothing: penalise both, and cut by weight. The noise of
    ``hard_concrete`` is the same for a row's whole batch, and at a temperature near 0 its gates have no slope.

    Raises:
        ConfigError: for hidden layers that are missing or empty, an option of another mode or out of
            range, or a stem that does not fit its image.

    Source: Structure-Aware Backpropagation; text and code differ, hence two modes. We differ in ``snap`` by leaving out the
    code's hidden x hidden block: data flow through the network once, so its edges never carry signal. The code counts them:
    its "14 of 30" edges with 4 hidden units are all 2*4 + 2 + 4 = 14 real ones, its "11 of 20" with 3 all of 6 + 2 + 3.
    ``hard_concrete`` is of Louizos, Welling and Kingma (2018), equations 10 to 13. We differ: the penalty is the study's, and
    ``soft_count`` counts the drawn gates, whose mean is that of the gate, not the chance that it is above 0 (their 12).
    """
    check_hidden("edges", hidden)
    if min(hidden, default=1 if mode == "l1" else 0) < 1:
        raise ConfigError(
            f"edges: hidden={list(hidden)} with mode {mode!r}; needed: at least one layer of at least one neuron, for example "
            "[8]; mode 'l1' also takes [], a linear model"
        )
    _refuse_others(mode, {"slope": slope, "start": start, "every": every, "cut": cut})
    _check_structure(mode, hidden, stem, structure, pairs)
    if stem is not None:
        stem.check_shapes()
    if mode == "snap":
        _check_snap(hidden, skips, bias, stem)
    biased = mode != "snap" if bias is None else bias
    skeleton = Skeleton(tuple(hidden), skips or mode == "snap", activation, biased, stem)
    if structure is not None:
        most = MOST_PAIRS if pairs is None else pairs
        skeleton = Terms(tuple(hidden), skips, activation, biased, structure=structure, pairs=most)
    if mode == "l1":
        return Plain(skeleton)
    if mode == "snap":
        return _snapped(skeleton, 50 if every is None else every, 0.3 if cut is None else cut)
    if mode in ("gated", "hard_concrete"):
        return _gated(skeleton, 0.9 if start is None else start, drawn=mode == "hard_concrete")
    return _annealed(skeleton, 0.5 if slope is None else slope)


def _check_structure(
    mode: Mode, hidden: Sequence[int], stem: Stem | None, structure: Structure | None, pairs: int | None
) -> None:
    if pairs is not None and structure != "pairs":
        raise ConfigError(f"edges: pairs={pairs} with structure {structure!r}; write structure: pairs, or leave pairs out")
    if pairs is not None and pairs < 1:
        raise ConfigError(f"edges: pairs={pairs}; needed: a whole number >= 1 (pairs of columns that get a network, at most)")
    if structure is None:
        return
    if mode == "snap" or stem is not None:
        what = "a stem, whose features mix all inputs" if stem is not None else "mode 'snap', whose networks are one block"
        raise ConfigError(f"edges: structure {structure!r} with {what}; remove structure, or take another mode without a stem")
    if not hidden:
        raise ConfigError(
            f"edges: structure {structure!r} with hidden=[]; a linear model is additive as it is. Remove structure, or give "
            "the small network of each column hidden layers, for example [8]"
        )


def _snapped(skeleton: Skeleton, every: int, cut: float) -> Snapped:
    if every < 1:
        raise ConfigError(f"edges: every={every}; needed: a whole number >= 1 (steps between two roundings)")
    if not (math.isfinite(cut) and cut > 0.0):
        raise ConfigError(f"edges: cut={cut}; needed: a finite number > 0 (weights at least this large become 1)")
    return Snapped(skeleton, every, cut)


def _gated(skeleton: Skeleton, start: float, *, drawn: bool) -> Gated:
    if not 0.0 < start < 1.0:
        raise ConfigError(f"edges: start={start}; needed: 0 < start < 1 (where gates begin, at temperature 1)")
    return Gated(skeleton, start, drawn)


def _annealed(skeleton: Skeleton, slope: float) -> Annealed:
    if not 0.0 <= slope <= 1.0:
        raise ConfigError(f"edges: slope={slope}; needed: 0 <= slope <= 1 (share of the identity at temperature 1)")
    if skeleton.activation == "identity":
        raise ConfigError("edges: activation 'identity' has nothing to anneal; take mode 'l1', or another activation")
    return Annealed(skeleton, slope)
