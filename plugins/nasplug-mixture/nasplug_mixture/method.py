"""`mixture`: every layer, or every neuron, is a point of the simplex over candidate activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nasplug.contracts import Params, SearchMethod, Traits
from nasplug.errors import ConfigError
from nasplug.networks import Networks, check_hidden
from nasplug.replicas import uniform
from nasplug.stems import Stem, drawn, entrance, parts
from nasplug.tasks import Task
from nasplug_mixture.simplex import Parametrisation, Sampling, check_sampling, flat, points, start_of, starts
from nasplug_mixture.stages import Stages, check_stages, dropped, mask_of, masks, still_open

__all__ = ["USUAL", "Mixture", "mixture"]

USUAL = ("relu", "tanh", "sigmoid", "leaky_relu", "elu", "silu", "gelu")
"""The candidates unless others are named."""

Per = Literal["layer", "neuron"]


@dataclass(frozen=True, slots=True)
class Mixture(SearchMethod):
    """See `mixture`."""

    hidden: tuple[int, ...]
    candidates: tuple[str, ...]
    per: Per
    parametrisation: Parametrisation
    sampling: Sampling
    bias: bool
    stem: Stem | None = None
    stages: Stages = ()

    @property
    def traits(self) -> Traits:
        """Its architecture is ``choice <layer>`` of each hidden layer, and the shares of sizes in a stem."""
        choices = frozenset(f"choice {layer}" for layer in range(1, len(self.hidden) + 1))
        choices |= frozenset(self.stem.choosing if self.stem else ())
        return Traits(
            architecture=choices,
            simplex=choices if self.parametrisation == "simplex" else frozenset(),
            untrained=frozenset(mask_of(name) for name in choices) if self.stages else frozenset(),
            stochastic=self.sampling != "none",
        )

    def init(self, task: Task, seeds: Tensor) -> Params:
        """``block <to> <from> (K, H_to, H_from)``, ``bias <layer> (K, H)``, ``choice <layer> (K, H or 1, A)``; float64.

        Weights and biases are ``U[-1, 1] / sqrt(H_from)``, as `torch.nn.Linear` draws. All candidates start alike; neurons
        differ in weights. A stem's leaves are those of `nasplug.stems.drawn`. With stages also ``kept <leaf>`` of each leaf of
        the architecture, ones (`nasplug_mixture.stages`).
        """
        widths = (entrance(self.stem, task), *self.hidden, task.outputs)
        depth = len(widths) - 1
        params: Params = drawn(self.stem, seeds) | starts(self.stem, self.parametrisation, seeds)
        for layer in range(1, depth + 1):
            bound = 1.0 / math.sqrt(widths[layer - 1])
            name = f"block {layer} {layer - 1}"
            params[name] = uniform(seeds, f"mixture/{name}", (widths[layer], widths[layer - 1]), -bound, bound)
            if self.bias:
                name = f"bias {layer}"
                params[name] = uniform(seeds, f"mixture/{name}", (widths[layer],), -bound, bound)
        start = start_of(self.parametrisation, len(self.candidates))
        for layer in range(1, depth):
            shape = (len(seeds), widths[layer] if self.per == "neuron" else 1, len(self.candidates))
            params[f"choice {layer}"] = torch.full(shape, start, dtype=torch.float64, device=seeds.device)
        return params | masks(params, [name for name in params if name in self.traits.architecture] if self.stages else [])

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """The mixtures at temperature ``tau``; with ``noise``, one seed per row, one draw of them."""
        depth = len(self.hidden) + 1
        blocks = {(layer, layer - 1): params[f"block {layer} {layer - 1}"] for layer in range(1, depth + 1)}
        first, last = blocks[1, 0], blocks[depth, depth - 1]
        left = {layer: still_open(params, f"choice {layer}") for layer in range(1, depth)}

        def shares(name: str, leaf: Tensor) -> Tensor:
            """A leaf as points of the simplex."""
            left = still_open(params, name)
            return points(leaf, f"mixture/{name}", tau, noise, self.parametrisation, self.sampling, left)

        return Networks(
            widths=(first.shape[2], *self.hidden, last.shape[1]),
            blocks=blocks,
            biases={layer: params[f"bias {layer}"] for layer in range(1, depth + 1)} if self.bias else {},
            choices={layer: shares(f"choice {layer}", params[f"choice {layer}"]) for layer in range(1, depth)},
            candidates=self.candidates,
            concentrations=flat(params, self.traits.architecture) if self.sampling == "dirichlet" else {},
            kept={layer: some.to(first) for layer, some in left.items() if some is not None},
            **parts(self.stem, params, shares),
        )


@dataclass(frozen=True, slots=True)
class StagedMixture(Mixture):
    """`Mixture` with stages."""

    def project(self, params: Params, step: int, steps: int) -> Params:
        """See `nasplug_mixture.stages.dropped`."""
        simplex = self.parametrisation == "simplex"
        return dropped(params, sorted(self.traits.architecture), self.stages, step, steps, simplex=simplex)


def _check_candidates(candidates: Sequence[str]) -> None:
    """Refuse candidates that are too few, twice there or unknown; the planner tries the values of each.

    Raises:
        ConfigError: naming them.
    """
    if len(candidates) < 2:
        raise ConfigError(
            f"mixture: candidates={list(candidates)}; needed: at least 2 activations to choose from. For a fixed one take "
            "method 'edges', mode 'l1'"
        )
    if twice := sorted({name for name in candidates if list(candidates).count(name) > 1}):
        raise ConfigError(f"mixture: candidates has {', '.join(twice)} more than once; list each once")


def mixture(
    *,
    hidden: Sequence[int] = (16,),
    candidates: Sequence[str] = USUAL,
    per: Per = "neuron",
    parametrisation: Parametrisation = "softmax",
    sampling: Sampling = "none",
    bias: bool = True,
    stem: Stem | None = None,
    stages: Sequence[tuple[float, int]] = (),
) -> SearchMethod:
    """Weight sharing over activations: a layer or a neuron mixes all candidates, and training decides which one stays.

    ``a_l = sum_c p_lc f_c(W_l a_{l-1} + b_l)``, ``p`` a point of the simplex, a layer's ``(K, 1, A)`` or a neuron's
    ``(K, H, A)``; all candidates share the weights. The leaves ``choice <layer>`` are the architecture (the study's
    ``train.architecture`` gives them an optimizer, a rate and, bilevel, samples of their own).

    - ``parametrisation: softmax``: leaves are logits, ``p = softmax(logits / tau)``; a falling temperature makes it hard.
    - ``parametrisation: simplex``: leaves are p itself, for ``train.architecture: {optimizer: {use: exponentiated}, lr: 0.1}``;
      tau is not read, except by sampling.
    - ``sampling: gumbel``: in training ``p = softmax((log p + g) / tau)``, g Gumbel noise of each row and step.
    - ``sampling: straight_through``: that draw made one-hot going forward, with the soft draw's gradient.
    - ``sampling: dirichlet``: in training p is a draw of a Dirichlet distribution with concentrations ``elu(leaf) + 1``,
      otherwise their share of the sum; tau is not read (DrNAS).

    ``stages: [[0.5, 3]]``: after half of the steps the three candidates with the largest leaves stay at each site, on a tie the
    first ones; the others' shares are 0 from then on, and no discretizer chooses them. Several stages follow one another.

    Without noise (scores, discretizers) a sampled method is the mixture it draws from.

    ``stem``: convolutions in front (`nasplug.stems.Stem`). Where its layers choose among ``sizes``, their shares are points of
    the simplex like all others: architecture, by the same parametrisation, sampling and temperature.

    Fails: candidates that look alike on the data (relu, leaky_relu, elu on positive inputs) keep equal shares for long. The
    largest share is often not the best candidate: `closest` and its certificate say when. Nothing is known of the loss
    after training a hard network from scratch.

    Raises:
        ConfigError: for hidden layers that are missing or empty; for dirichlet beside simplex; for a stem that does not fit
            its image; for candidates that are fewer than 2, twice there or unknown; for stages whose shares of the steps do
            not rise, or that drop no candidate. A candidate without finite values and slopes on [-100, 100] is refused when
            the study is planned.

    Source: DARTS (Liu et al. 2019) for softmax, GAEA (Li et al. 2021) for the simplex, SWAT-NN supplement (11)-(12) for one
    choice per neuron under a temperature; Jang et al. 2017 for sampling, DrNAS (Chen et al. 2021) for Dirichlet draws and
    stages. We differ: logits start at 0 and not at noise of 1e-3, as rows differ in their weights; a stage changes neither
    widths nor what optimizers remember.
    """
    check_hidden("mixture", hidden)
    if not hidden or min(hidden) < 1:
        raise ConfigError(
            f"mixture: hidden={list(hidden)}; needed: at least one hidden layer of at least one neuron, such as [8]"
        )
    _check_candidates(candidates)
    check_sampling("mixture", parametrisation, sampling)
    if stem is not None:
        stem.check_shapes()
    some = check_stages("mixture", stages, len(candidates))
    made = StagedMixture if some else Mixture
    return made(tuple(hidden), tuple(candidates), per, parametrisation, sampling, bias, stem, some)
