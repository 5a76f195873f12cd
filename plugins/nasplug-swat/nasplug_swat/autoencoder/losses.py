"""How far networks come back from the latent space: the loss of a training step, and the errors that are told."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.networks import Networks, forward, harden, where
from nasplug.replicas import normal, seeds_of, uniform
from nasplug_swat.autoencoder.matrices import Matrices, deepen, pack, used
from nasplug_swat.autoencoder.model import GAIN, Autoencoder, Decoded, decode, latents, networks_of, normalised
from nasplug_swat.autoencoder.pool import Pool, gather
from nasplug_swat.autoencoder.sampling import draw, draw_ends
from nasplug_swat.autoencoder.settings import Training
from nasplug_swat.autoencoder.space import Space, kinds, layout

__all__ = ["functional_error", "losses", "scores"]

FLOOR = 1e-4
"""Added to a network's mean square output before errors are divided by it: constants near 0 have no size of their own."""


def functional_error(nets: Networks, x: Tensor, y: Tensor) -> Tensor:
    """``mean (f(x) - y)^2 / (mean y^2 + 1e-4)``, ``(K,)``, over outputs and the columns of ``x (I, B)``; ``y (K, O, B)``.

    Source: SWAT-NN, equation 5. We differ: it is divided by the network's own mean square, or deep networks with
    large outputs would be all that counts; and each decoder answers for itself instead of the best one for all.
    """
    return (forward(nets, x) - y).square().mean((1, 2)) / (y.square().mean((1, 2)) + FLOOR)


def _matrix_error(decoded: Decoded, target: Matrices) -> Tensor:
    """How far the numbers are from a matrix, ``(K,)``: mean squares of weights and biases, cross-entropies of the rest.

    What means nothing in the target is not asked for.
    """
    wanted, kind = normalised(target, decoded.sampling), kinds(target.space, target.depth).to(target.values.device)
    asked = used(target)

    def mean(values: Tensor, where: Tensor) -> Tensor:
        where = where.to(values)
        return (values * where).sum((1, 2)) / where.sum((1, 2)).clamp(min=1.0)

    squares = mean((decoded.numbers - wanted).square(), asked & ((kind == 1) | (kind == 2)))
    logits, labels = GAIN * decoded.numbers, (wanted + 1.0) / 2.0
    masks = mean(F.binary_cross_entropy_with_logits(logits, labels, reduction="none"), asked & (kind == 4))
    nets = networks_of(decoded)
    chosen = asked & (kind == 3)
    shares = torch.zeros_like(decoded.numbers)
    for layer, columns in layout(target.space, target.depth).choices.items():
        shares[:, : target.space.width, columns] = nets.choices[layer].clamp(min=1e-12).log()
    activations = -mean(shares * labels, chosen) * len(target.space.candidates)
    return squares + masks + activations


def losses(autoencoder: Autoencoder, training: Training, step: int, device: str = "cpu", pool: Pool | None = None) -> Tensor:
    """The training loss of a step: a number, a function of weights, training and step (and what its folders hold) alone.

    ``pool``: the networks of ``training.networks`` to learn from, on the device; None reads them.

    Per network and decoder ``log1p(functional error) + matrix * reconstruction error``: the decoder of the network's own depth,
    and for a share of them every deeper one, whose target is the network with identity layers in front. Where ends vary, the
    networks of a step share theirs.
    """
    sampling, trained = training.sampling, training.networks
    if trained is not None:
        pool = pool or gather(trained, training.space)[0].to(device)
    one = torch.tensor([training.seed], device=device)
    space = training.space.at(*draw_ends(training.space, one, f"swat/train {step}"))
    x = uniform(one, f"swat/probes {step}", (space.inputs, training.probes), -1.0, 1.0)[0].float()
    base = torch.arange(training.batch, device=device) + training.seed * 2**20
    given: dict[int, tuple[Networks, Tensor, Tensor]] = {}
    for depth in range(1, space.deepest + 1):
        seeds = seeds_of(base, f"swat/train {step} {depth}")
        nets = draw(space, depth, seeds, sampling)
        if trained is not None and pool is not None and (real := pool.draw(space, depth, seeds, trained.noise)) is not None:
            nets = where(trained.rows(training.batch).to(device), real, nets)
        z = latents(autoencoder, pack(nets, space))
        if training.noise:
            z = z + training.noise * normal(seeds, "swat/noise", tuple(z.shape[1:])).to(z)
        given[depth] = (nets, z, forward(nets, x))
    total = x.new_zeros(())
    share = round(training.across * training.batch)
    for depth in range(1, space.deepest + 1):
        parts = [(pack(given[depth][0], space), *given[depth][1:])]
        for shallow in range(1, depth) if share and _passes(space) else ():
            nets, z, y = given[shallow]
            some = nets.map(lambda t: t[:share])
            parts.append((pack(deepen(some, depth, space), space), z[:share], y[:share]))
        target = Matrices(torch.cat([m.values for m, _, _ in parts]), depth, space)
        z, y = torch.cat([z for _, z, _ in parts]), torch.cat([y for _, _, y in parts])
        decoded = decode(autoencoder, z, depth, space)
        decoded = replace(decoded, numbers=decoded.numbers.float())
        loss = torch.log1p(functional_error(networks_of(decoded), x, y))
        if training.matrix:
            loss = loss + training.matrix * _matrix_error(decoded, target)
        total = total + loss.mean()
    return total / space.deepest


def _passes(space: Space) -> bool:
    """Whether identity layers exist in this space."""
    return 2 * space.inputs <= space.width and any(n in space.candidates for n in ("identity", "relu", "leaky_relu"))


@torch.no_grad()
def scores(
    autoencoder: Autoencoder,
    networks: int,
    seed: int = 0,
    *,
    stream: str = "swat/fresh",
    hard: bool = False,
    probes: int = 256,
    pool: Pool | None = None,
) -> dict[tuple[int, int], Tensor]:
    """Functional errors of ``networks`` fresh networks per depth through every decoder: ``(depth, decoder) -> (K,)``.

    Where ends vary, each 32 networks share theirs. ``hard``: masks and activations are rounded first. Fresh: seeds that
    training never draws. With a ``pool`` they are drawn from its networks; depths that it does not have are left out.
    """
    space, device = autoencoder.space, autoencoder.weights["encoder/values"].device
    one = torch.tensor([seed], device=device)
    points = uniform(one, stream + "/probes", (space.inputs, probes), -1.0, 1.0)[0].float()
    found: dict[tuple[int, int], Tensor] = {}
    for depth in range(1, space.deepest + 1):
        seeds = seeds_of(torch.arange(networks, device=device) + seed * 2**20, f"{stream} {depth}")
        rows: dict[int, list[Tensor]] = {}
        ends = None if pool is None else pool.ends(depth)
        for number, part in enumerate(torch.split(seeds, 32 if space.vary else 256) if ends != [] else ()):
            here = space.at(*(ends[number % len(ends)] if ends else draw_ends(space, one, f"{stream} {depth} {number}")))
            real = None if pool is None else pool.draw(here, depth, part)
            nets, x = real or draw(here, depth, part, autoencoder.sampling), points[: here.inputs]
            z, y = latents(autoencoder, pack(nets, here)), forward(nets, x)
            for decoder in range(1, space.deepest + 1):
                made = networks_of(decode(autoencoder, z, decoder, here))
                rows.setdefault(decoder, []).append(functional_error(harden(made) if hard else made, x, y))
        found |= {(depth, decoder): torch.cat(errors) for decoder, errors in rows.items()}
    return found
