"""`swat`: networks are points of a latent space, of the matrix itself, or first the one and then the other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from nasplug.compact import digest_of
from nasplug.contracts import Params, SearchMethod, Traits
from nasplug.errors import ConfigError, did_you_mean
from nasplug.networks import Networks
from nasplug.replicas import normal
from nasplug.tasks import Task
from nasplug_swat.autoencoder import (
    Autoencoder,
    Decoded,
    Sampling,
    Space,
    arrange,
    decode,
    deepen,
    draw,
    fresh,
    latents,
    layout,
    load,
    networks_of,
    normalised,
    pack,
)
from nasplug_swat.search.pieces import cut_out, in_raw_units, networks_in, opened, rescaled, scaling_of

__all__ = ["Swat", "swat"]

PACE = 0.01
"""The threshold moves this many times as slowly as the rest: 1e-3 beside 0.1 in SWAT-NN, with one learning rate per row."""

HIGHEST = 3.0
"""The largest threshold a search may take (SWAT-NN's bound)."""

SMALLEST = 1e-3
"""Lower temperatures count as this one: no candidate but the first has a share left."""

SPREAD = 0.3
"""Standard deviation of what mode ``direct`` starts from, in units of the sampled networks."""

Begin = Literal["normal", "open"]
OPEN = Sampling(weights=1.5, biases=0.5, sparsity=(0.0,), keep=1.0)
"""What ``begin: open`` encodes: no neuron masked, weights as small as a network's usually start."""

Mode = Literal["latent", "switch", "untrained", "direct"]


@dataclass(frozen=True, slots=True, eq=False)
class Swat(SearchMethod):
    """See `swat`."""

    autoencoder: Autoencoder
    space: Space
    mode: Mode
    depth: int
    begin: Begin
    share: float
    sharpness: float | None
    start: _Start | None
    spread: float
    activation: str | None

    @property
    def traits(self) -> Traits:
        """Its origin: the autoencoder, whose size and sampling set the scale even of mode ``direct``; and its start."""
        start = {} if self.start is None else {"start": self.start.digest}
        return Traits(origin={"autoencoder": self.autoencoder.digest, **start})

    @property
    def _matrix_shape(self) -> tuple[int, int]:
        return self.space.rows, self.space.columns

    def accept(self, task: Task) -> None:
        """Refuse a task with other inputs and outputs than the networks.

        Raises:
            ConfigError: with what would fit.
        """
        if (task.inputs, task.outputs) != self.space.ends:
            raise ConfigError(self._unfitting(task))

    def init(self, task: Task, seeds: Tensor) -> Params:
        """``latent`` (K, T or 1, d) from N(0, 1), ``threshold`` (K,) at 0; ``matrix`` (K, T, C) where it will be or is needed.

        With a start the latents are that network's encoding plus N(0, spread), a matrix is that network plus N(0, spread).
        ``begin: normal`` starts a matrix as N(0, 0.3) in units of the sampled networks, with masks just open.
        """
        k = len(seeds)
        params: Params = {"threshold": torch.zeros(k, dtype=torch.float64, device=seeds.device)}
        if self.mode == "direct":
            if self.start is not None:
                noise = normal(seeds, "swat/matrix", self._matrix_shape)
                params["matrix"] = self.start.begin(self, task).to(noise) + self.spread * noise
            else:
                params["matrix"] = self._open(seeds)[1] if self.begin == "open" else self._small(seeds)
            return params
        z = normal(seeds, "swat/latent", self.autoencoder.latent_shape)
        if self.start is not None:
            z = self.start.begin(self, task).to(z) + self.spread * z
        elif self.begin == "open":
            z = self._open(seeds)[0]
        params["latent"] = z
        if self.mode == "switch":
            params["matrix"] = torch.zeros(k, *self._matrix_shape, dtype=torch.float64, device=seeds.device)
        return params

    def _unfitting(self, task: Task) -> str:
        told = f"swat: the task has {task.inputs} inputs and {task.outputs} outputs; "
        if self.autoencoder.space.fits(task.inputs, task.outputs):
            return told + f"the method has ends {list(self.space.ends)}. Write ends: [{task.inputs}, {task.outputs}]"
        return told + (
            f"this autoencoder's networks have {self.autoencoder.space.words}. Take another task, or an autoencoder of its "
            "space (`nasplug swat train-autoencoder`)"
        )

    def _open(self, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Random networks with all neurons on: their latents, and their matrices as numbers."""
        matrices = pack(self._pure(draw(self.space, self.depth, seeds, OPEN)), self.space)
        here = self.autoencoder.to(seeds.device, torch.float32)
        # One by one: a product of more rows may round differently, and a row must not depend on who shares its pack.
        z = [latents(here, replace(matrices, values=row.unsqueeze(0))) for row in matrices.values]
        none = matrices.values.new_zeros(0, *self.autoencoder.latent_shape)  # no seeds, no rows
        return torch.cat([none, *z]).double(), normalised(matrices, self.autoencoder.sampling).double()

    def _pure(self, nets: Networks) -> Networks:
        """With the fixed activation at each hidden neuron, whatever was decoded; as it is where none is fixed."""
        if self.activation is None:
            return nets
        place = nets.candidates.index(self.activation)
        chosen = {layer: torch.zeros_like(choice) for layer, choice in nets.choices.items()}
        for choice in chosen.values():
            choice[..., place] = 1.0
        return replace(nets, choices=chosen)

    def _small(self, seeds: Tensor) -> Tensor:
        """Numbers from N(0, 0.3), masks just open: gates near sigmoid(3) at sharpness 200, still on its slope."""
        numbers = SPREAD * normal(seeds, "swat/matrix", self._matrix_shape)
        for column_of_masks in layout(self.space, self.depth).masks.values():
            numbers[:, :, column_of_masks] = 0.015 + 0.003 / SPREAD * numbers[:, :, column_of_masks]
        return numbers

    def _numbers(self, params: Params) -> Tensor:
        """The matrix, ``(K, T, C)``, decoded while there is a latent."""
        if "latent" not in params:
            return params["matrix"]
        z = params["latent"]
        return decode(self.autoencoder.to(z.device, z.dtype), z, self.depth, self.space).numbers

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """Decoded, with ``softmax(a / tau)`` over candidates and gates ``sigmoid(s (|W| - t))`` on edges."""
        numbers = self._numbers(params)
        decoded = Decoded(numbers, self.depth, self.space, self.autoencoder.sampling)
        tau = tau.clamp(min=SMALLEST)
        if self.sharpness is None:
            sharp: float | Tensor = 4.0 / tau.clamp(min=0.02)
        else:
            sharp = self.sharpness
        nets = self._pure(networks_of(decoded, tau, sharp))
        t = (PACE * params["threshold"]).view(-1, 1, 1)
        steep = sharp.view(-1, 1, 1) if isinstance(sharp, Tensor) else sharp
        return replace(nets, edge_gates={e: torch.sigmoid(steep * (w.abs() - t)) for e, w in nets.blocks.items()})

    def project(self, params: Params, step: int, steps: int) -> Params:
        """The threshold stays in [0, 3]; after ``share`` of the steps the decoded matrix takes the latent's place."""
        with torch.no_grad():
            params = params | {"threshold": params["threshold"].clamp(0.0, HIGHEST / PACE)}
            if "latent" in params and self.mode == "switch" and step >= self.share * steps:
                params = {"threshold": params["threshold"], "matrix": self._numbers(params)}
        return params


@dataclass(frozen=True, slots=True, eq=False)
class _Start:
    """The network that a search begins with, in the units of its own task or, where it is a piece, in raw ones."""

    nets: Networks
    raw: bool
    digest: str

    def begin(self, method: Swat, task: Task) -> Tensor:
        """Its latent ``(T, d)``, or for mode ``direct`` its matrix ``(T, C)`` as numbers.

        A network with more hidden layers than the method's is encoded as it is: the decoder makes of it what it can.

        Raises:
            ConfigError: for a piece, and a task whose rows have units of their own.
        """
        nets = self.nets
        if self.raw:
            if task.stacked:
                raise ConfigError(
                    "swat: a start from a piece with data sets that share a pack, each in units of its own; needed: one data "
                    "set per study. Write one value for each option of the task"
                )
            nets = rescaled(nets, *scaling_of(task)).map(torch.Tensor.float)
        nets = arrange(nets, method.space)
        if method.mode == "direct" or nets.depth - 1 < method.depth:
            nets = deepen(nets, method.depth, method.space)
        matrices, model = pack(nets, method.space), method.autoencoder
        return (normalised(matrices, model.sampling) if method.mode == "direct" else latents(model, matrices))[0]


def _started(space: Space, folder: str, piece: tuple[int, int] | None, depth: int, mode: Mode) -> _Start:
    """A saved network or a piece of it, which fits the space and the depth.

    Raises:
        ConfigError: where it does not.
    """
    module = opened(folder)
    nets = networks_in(module) if piece is None else cut_out(in_raw_units(module), *piece)
    fitting = arrange(nets, space)
    if mode == "direct":
        deepen(fitting, depth, space)
    return _Start(nets, piece is not None, digest_of(module))


def swat(
    *,
    mode: Mode = "latent",
    depth: int = 2,
    begin: Begin = "open",
    share: float | None = None,
    sharpness: float | None = 200.0,
    autoencoder: str | None = None,
    ends: tuple[int, int] | None = None,
    start: str | None = None,
    piece: tuple[int, int] | None = None,
    spread: float | None = None,
    activation: str | None = None,
) -> SearchMethod:
    """Search in the latent space of a network autoencoder, or in the same matrix without it.

    A latent ``z (K, T, d)`` is decoded to weights, biases, masks m and activation logits a of ``depth`` hidden layers; the
    network is ``W sigmoid(s (|W| - t))`` on edges, ``sigmoid(s (m - 1/2))`` on neurons, ``softmax(a / tau)`` over candidates,
    t a learned threshold in [0, 3] that starts at 0 and moves a hundred times as slowly as z. Penalties, their levels, the
    temperature and what makes it hard belong to the study; rounding gates at 1/2 drops ``|W| < t`` and masks below 1/2.

    Modes:

    - ``latent``: the paper's. z is trained through the decoder of that depth.
    - ``switch``: ours. After ``share`` (1/3, in (0, 1)) of the steps the decoded matrix takes the latent's place and is trained
      directly.
    - ``untrained``: a control. As ``latent``, through the weights that the decoder's training starts from.
    - ``direct``: a control. The T x C matrix itself is trained, with the same gates.

    Options:

    - ``begin``: ``open``, ours: random networks with all neurons on and weights in [-1.5, 1.5], the same ones in all modes
      (encoded, where there is a latent). ``normal``, the paper's: z from N(0, 1), which decodes to networks with half of their
      neurons off and weights in [-5, 5]; for ``direct`` a matrix from N(0, 0.3) whose masks are just open.
    - ``sharpness``: s; null lets it follow the temperature, ``4 / tau`` up to 200, so that gates are not shut from the start.
    - ``autoencoder``: a file that training wrote, or the name of one that comes with the package; null is ``paper-7x64`` (2
      inputs, 1 to 4 hidden layers of 7 neurons of sigmoid, tanh, leaky_relu, 1 output).
    - ``ends``: inputs and outputs of the networks, where the autoencoder's space lets them vary; null means the most.
    - ``start``: the folder of a saved network (``best`` of a study): z starts from its encoding plus ``spread`` (0.1) times a
      normal draw; for ``direct`` the matrix from the network itself, likewise. Not for ``untrained``. A network with more
      hidden layers than ``depth`` is read by the decoder of ``depth``, not exactly; `direct` cannot start from one.
    - ``piece``: ``[a, b]``, start from the part of that network from layer a's values to what layer b sums (0: inputs), in the
      units of the task (`swat_piece`); without it the network is taken in the units that it was trained in.
    - ``activation``: a candidate that all hidden neurons have; what is decoded about activations is not read (SWAT-NN's
      baseline, E.3). ``begin: open`` then starts from networks of this activation. null: activations are searched.

    Fails: a neuron that starts off stays off, or nearly, where gates are as steep as SWAT-NN's (200). The decoder keeps to the
    networks it learned from: half of the neurons masked, weights in [-5, 5]. Where the latent space pays: docs/comparison.md.

    Raises:
        ConfigError: for a depth the autoencoder does not have, options that are out of range or that the mode does not read, a
            file that is no autoencoder, or a start that does not fit.

    Source: SWAT-NN, equations 6-12. We differ: z is put on the sphere that encodings lie on; the temperature belongs to the
    study (the paper: ``max(0.01, 1 - e / 3000)``); activations and masks are read from logits, never twice softened.
    """
    model = load(autoencoder)
    model.space.check_depth(depth)
    if share is not None and mode != "switch":
        raise ConfigError(f"swat: share={share} with mode {mode!r}, which does not read it; leave it out or take mode switch")
    when = 1.0 / 3.0 if share is None else share
    if not 0.0 < when < 1.0:
        raise ConfigError(f"swat: share={share}; needed: 0 < share < 1 (modes latent and direct are the ends)")
    if sharpness is not None and not (math.isfinite(sharpness) and sharpness > 0.0):
        raise ConfigError(f"swat: sharpness={sharpness}; needed: a finite number > 0 (200 in SWAT-NN), or null")
    if start is not None and mode == "untrained":
        raise ConfigError(f"swat: start={start} with mode {mode!r}, which does not read it; leave it out or take another mode")
    for name, value in (("spread", spread), ("piece", piece)):
        if start is None and value is not None:
            raise ConfigError(f"swat: {name}={value} without a start; leave it out, or give a start")
    if spread is not None and not (math.isfinite(spread) and spread >= 0.0):
        raise ConfigError(f"swat: spread={spread}; needed: a finite number >= 0 (0.1 is near the start, latents have size 1)")
    if activation is not None and activation not in model.space.candidates:
        raise ConfigError(
            f"swat: activation={activation!r}; needed: a candidate of the autoencoder, {', '.join(model.space.candidates)}, or "
            f"null to search them.{did_you_mean(activation, model.space.candidates)}"
        )
    if activation is not None and start is not None:
        raise ConfigError(f"swat: activation={activation!r} with a start, whose activations are its own; leave one of them out")
    if mode == "untrained":
        model = fresh(model.space, model.size, model.sampling)
    space = model.space.at(*(ends or model.space.ends))
    begins = None if start is None else _started(space, start, piece, depth, mode)
    return Swat(model, space, mode, depth, begin, when, sharpness, begins, 0.1 if spread is None else spread, activation)
