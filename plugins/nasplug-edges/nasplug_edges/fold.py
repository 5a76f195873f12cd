"""`fold`: hidden neurons that do the work of fewer become fewer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.contracts import Discretizer, Score
from nasplug.cuts import check_tolerance, trivial_loss
from nasplug.errors import ConfigError
from nasplug.monotone import constrain
from nasplug.networks import Networks, alive, harden, where

__all__ = ["Fold", "fold"]


ROUNDING = 1e-6
"""A move that is exact on paper may cost this share of the loss in float32."""


class _Layer(NamedTuple):
    """One hidden layer taken out of its record: what each neuron receives, sends and does with it."""

    into: Tensor  # (K, H, F + 1): incoming weights of all blocks, bias last
    out: Tensor  # (K, H, G): outgoing weights of all blocks
    straight: Tensor  # (K, H) bool: its activation is the identity
    near: Tensor  # (H, H) bool: two neurons may become one

    @property
    def used(self) -> Tensor:
        """Bool ``(K, H)``: on a path."""
        return (self.into[..., :-1] != 0).any(-1) & (self.out != 0).any(-1)


def _take(nets: Networks, layer: int) -> _Layer:
    into = [w for (to, _), w in nets.blocks.items() if to == layer]
    out = [w.transpose(1, 2) for (_, source), w in nets.blocks.items() if source == layer]
    identity = nets.candidates.index("identity")
    return _Layer(
        torch.cat([*into, nets.biases[layer].unsqueeze(-1)], -1),
        torch.cat(out, -1),
        nets.choices[layer][..., identity] == 1,
        _near(nets, layer),
    )


def _near(nets: Networks, layer: int) -> Tensor:
    """Neurons of one term, or, without terms, all: ``(H, H)``."""
    like = next(iter(nets.blocks.values()))
    width = nets.widths[layer]
    term = torch.arange(width, device=like.device) // (width // len(nets.terms) if nets.terms else width)
    return term.unsqueeze(1) == term


def _put(nets: Networks, layer: int, parts: _Layer) -> Networks:
    blocks = dict(nets.blocks)
    incoming, outgoing = 0, 0
    for (to, source), w in nets.blocks.items():
        if to == layer:
            blocks[to, source] = parts.into[..., incoming : incoming + w.shape[2]]
            incoming += w.shape[2]
        elif source == layer:
            blocks[to, source] = parts.out[..., outgoing : outgoing + w.shape[1]].transpose(1, 2)
            outgoing += w.shape[1]
    choice = nets.choices[layer]
    identity = F.one_hot(torch.tensor(nets.candidates.index("identity"), device=choice.device), choice.shape[-1]).to(choice)
    made = replace(
        nets,
        blocks=blocks,
        biases={**nets.biases, layer: parts.into[..., -1]},
        choices={**nets.choices, layer: torch.where(parts.straight.unsqueeze(-1), identity, choice)},
    )
    return constrain(made, nets.monotone) if nets.monotone else made


def _partner(parts: _Layer, i: int, allowed: Tensor, likeness: Tensor) -> tuple[Tensor, Tensor]:
    """The allowed neuron most like ``i`` in each row, as a one-hot mask ``(K, H)``, and whether there is one, ``(K,)``."""
    allowed = allowed & parts.near[i]
    allowed[:, i] = False
    likeness = torch.where(allowed & torch.isfinite(likeness), likeness, torch.full_like(likeness, -math.inf))
    best = likeness.argmax(1)
    return F.one_hot(best, likeness.shape[1]).bool(), torch.isfinite(likeness).any(1)


def _pick(tensor: Tensor, mask: Tensor) -> Tensor:
    """The masked neuron of each row: ``(K, H, F)`` -> ``(K, F)``."""
    return torch.where(mask.unsqueeze(-1), tensor, torch.zeros_like(tensor)).sum(1)


def _cosine(rows: Tensor, i: int) -> Tensor:
    """Cosine of each neuron's row with that of ``i``: ``(K, H, F)`` -> ``(K, H)``."""
    return F.cosine_similarity(rows, rows[:, i : i + 1], dim=-1)


def _replaced(parts: _Layer, i: int, into: Tensor, out: Tensor, gone: Tensor, straight: Tensor | None = None) -> _Layer:
    """Neuron ``i`` with new weights, the masked one without any."""
    new_in = torch.where(gone.unsqueeze(-1), torch.zeros_like(parts.into), parts.into)
    new_out = torch.where(gone.unsqueeze(-1), torch.zeros_like(parts.out), parts.out)
    new_in[:, i], new_out[:, i] = into, out
    bent = parts.straight.clone()
    if straight is not None:
        bent[:, i] = straight
    return _Layer(new_in, new_out, bent, parts.near)


def _merge(parts: _Layer, i: int) -> tuple[_Layer, Tensor]:
    """Two straight neurons that feed the same sum: ``c (w_i x) + s c (w_j x) = c ((w_i + s w_j) x)``. Exact."""
    likeness = _cosine(parts.out, i).abs()
    j, possible = _partner(parts, i, parts.used & parts.straight & (likeness > 1.0 - 1e-6), likeness)
    out_i, out_j = parts.out[:, i], _pick(parts.out, j)
    s = (out_i * out_j).sum(-1, keepdim=True) / out_i.square().sum(-1, keepdim=True)
    into = parts.into[:, i] + s * _pick(parts.into, j)
    # Both sides get the same norm: a sum of large weights behind a tiny one would fall to the next threshold.
    a = (into[:, :-1].norm(dim=-1, keepdim=True) / out_i.norm(dim=-1, keepdim=True)).sqrt()
    a = torch.where(torch.isfinite(a) & (a > 0), a, torch.ones_like(a))
    made = _replaced(parts, i, into / a, out_i * a, j)
    return made, possible & parts.used[:, i] & parts.straight[:, i]


def _twin(parts: _Layer, i: int) -> tuple[_Layer, Tensor]:
    """Two neurons with one kink: ``f(r z) = r f(z)`` for a ReLU and r > 0, so ``j`` moves into what ``i`` sends."""
    alike = parts.straight == parts.straight[:, i : i + 1]
    j, possible = _partner(parts, i, parts.used & alike, _cosine(parts.into, i))
    into_i, into_j = parts.into[:, i], _pick(parts.into, j)
    r = into_j.norm(dim=-1, keepdim=True) / into_i.norm(dim=-1, keepdim=True)
    made = _replaced(parts, i, (into_i + into_j / r) / 2, parts.out[:, i] + r * _pick(parts.out, j), j)
    return made, possible & parts.used[:, i]


def _mirror(parts: _Layer, i: int) -> tuple[_Layer, Tensor]:
    """Two sides of one kink with one slope are a line: ``c relu(z) - (c / r) relu(-r z) = c z``."""
    bent = ~parts.straight
    j, possible = _partner(parts, i, parts.used & bent, -_cosine(parts.into, i))
    into_i, into_j = parts.into[:, i], _pick(parts.into, j)
    r = into_j.norm(dim=-1, keepdim=True) / into_i.norm(dim=-1, keepdim=True)
    one = torch.ones_like(possible)
    made = _replaced(parts, i, (into_i - into_j / r) / 2, (parts.out[:, i] - r * _pick(parts.out, j)) / 2, j, one)
    return made, possible & parts.used[:, i] & bent[:, i]


def _straighten(parts: _Layer, i: int) -> tuple[_Layer, Tensor]:
    """A kink outside the data is no kink."""
    none = torch.zeros_like(parts.straight)
    made = _replaced(parts, i, parts.into[:, i], parts.out[:, i], none, torch.ones_like(none[:, 0]))
    return made, parts.used[:, i] & ~parts.straight[:, i]


MOVES = (_merge, _twin, _mirror, _straighten)


def _free(nets: Networks) -> Networks:
    """Hard networks without gates, with one choice per neuron that includes the identity, and with all biases."""
    nets = alive(harden(nets))
    candidates = nets.candidates if "identity" in nets.candidates else (*nets.candidates, "identity")
    like = next(iter(nets.blocks.values()))
    choices = {}
    for layer in range(1, nets.depth):
        given = nets.choices.get(layer)
        if given is None:
            given = like.new_ones(nets.replicas, 1, 1)
        choices[layer] = F.pad(given, (0, len(candidates) - given.shape[-1])).expand(-1, nets.widths[layer], -1)
    biases = {
        layer: nets.biases[layer] if layer in nets.biases else like.new_zeros(nets.replicas, nets.widths[layer])
        for layer in range(1, nets.depth + 1)
    }
    return replace(nets, gates={}, edge_gates={}, choices=choices, biases=biases, candidates=candidates, kept={})


@dataclass(frozen=True, slots=True)
class Fold(Discretizer):
    """See `fold`."""

    tolerance: float
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Fewer neurons, fewer kinks, each step within the tolerance."""
        nets = _free(nets)
        loss = score(nets)  # (K,)
        allowance = self.tolerance * trivial_loss(nets, score)  # (K,)
        moving = True
        while moving:
            moving = False
            for layer in range(1, nets.depth):
                for i in range(nets.widths[layer]):
                    for move in MOVES:
                        made, possible = move(_take(nets, layer), i)
                        if not bool(possible.any()):
                            continue
                        candidate = _put(nets, layer, made)
                        after = score(candidate)
                        accepted = possible & torch.isfinite(loss) & (after <= loss * (1.0 + ROUNDING) + allowance)
                        nets, loss = where(accepted, candidate, nets), torch.where(accepted, after, loss)
                        moving |= bool(accepted.any())
        return alive(nets)

    def accept(self, nets: Networks) -> None:
        """Refuse residuals: what they pass on has no weights that could change.

        Raises:
            ConfigError: for networks with `nasplug.networks.Networks.passes`.
        """
        if nets.passes:
            raise ConfigError(
                "fold: it merges neurons, and a residual passes values on as they are; take threshold, or leave residual out"
            )


def fold(*, tolerance: float = 0.001) -> Discretizer:
    """Make fewer hidden neurons do the same work: merge those that do one job, straighten those without a kink.

    Soft parts are rounded and what is off the paths is dropped; then, neuron by neuron, until nothing moves:

    - merge: two straight neurons that feed the same sum become one (exact);
    - twin: two neurons with one kink, ``w_j = r w_i`` with r > 0, become one (exact for a ReLU);
    - mirror: ``c relu(z) - (c / r) relu(-r z) = c z``: two neurons become one straight one (exact for a ReLU);
    - straighten: the activation becomes the identity.

    Partners are the pair most alike by cosine, their weights averaged; the validation loss decides. A move stays where the
    loss afterwards is at most ``loss + tolerance * trivial``, ``trivial`` being the smaller loss of two networks: one of output
    biases alone, one that puts out 0. Each accepted move takes a neuron or a kink away, so it ends; at most 4 scorings of
    all rows per neuron and round, so it is for small hidden layers. A row whose loss is not finite is left as it is.

    Why: L1 does not choose between ``relu(z) - relu(-z)`` with 6 edges and ``relu(z + c) - c`` with 3, which a bias would have
    to travel for; and a kink just outside the training data is wrong for the first sample beyond it, while a line is not.
    Put it after ``threshold`` and before fine-tuning, with a tolerance (0.02) that lets an L1-shrunk pair go; weights that
    cancel in a merge are cut by a second ``threshold``.

    The result has hidden neurons whose activation is the identity: they are chosen in ``choices``, and ``candidates`` gets
    "identity" if it was not there.

    Fails: a tolerance is spent per move, so a large one can cost a real kink of a small effect. What the validation split
    does not show is not seen. Layers are folded one by one: no move crosses two.

    Raises:
        ConfigError: for a tolerance that is negative or not finite.

    Source: ours. Neurons that are linear on all data are merged exactly in lossless compression of ReLU networks (Serra et
    al. 2020), by mixed-integer bounds; here the validation loss judges.
    """
    check_tolerance("fold", tolerance)
    return Fold(tolerance)
