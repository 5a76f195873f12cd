"""`obs`: the fewest hidden neurons that meet a criterion, the least useful dropped first."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from nasplug.contracts import Discretizer, Score
from nasplug.cuts import check_tolerance, limits, neurons_cut
from nasplug.errors import ConfigError
from nasplug.finetune import refit as trained_on
from nasplug.networks import Edge, Networks, alive, harden, values, where
from nasplug.tasks import Split, Task, one_hot

__all__ = ["Obs", "left", "obs"]

SAMPLES = 4096
"""How many training samples (evenly spread over the split) tell what a neuron does."""

CHUNK = 1024  # samples whose activations are held at once
RIDGE = 1e-9  # of a neuron's mean square: keeps the inverse defined where neurons are copies
RANK = 1e-10  # directions weaker than this share of the strongest are no directions
SUPPORT = 8.0  # what acts on fewer samples takes over nothing: least squares would give it any weight


def _constant_loss(task: Task) -> Tensor:
    """The validation loss of the best constant predictor, ``(1,)`` or ``(K,)``: the variance, or the entropy of the labels."""
    valid = task.valid
    outputs = task.loss.constant(one_hot(valid.y, task.outputs).to(valid.x), valid.weights)
    return task.losses(outputs.view(-1, task.outputs, 1).expand(-1, -1, valid.samples), *valid.batch[1:])


def _plain(nets: Networks) -> Networks:
    """Hard networks with a block for every pair of layers, biases everywhere, gates on hidden layers, dead parts gone."""
    nets = alive(harden(nets))
    like = next(iter(nets.blocks.values()))
    blocks: dict[Edge, Tensor] = {}
    for to in range(1, nets.depth + 1):
        for source in range(to):
            none = like.new_zeros(nets.replicas, nets.widths[to], nets.widths[source])
            blocks[to, source] = nets.blocks.get((to, source), none)
    biases = {
        layer: nets.biases.get(layer, like.new_zeros(nets.replicas, nets.widths[layer])) for layer in range(1, nets.depth + 1)
    }
    return alive(replace(nets, blocks=blocks, biases=biases, edge_gates={}))


def _gram(nets: Networks, layer: int, data: Split) -> tuple[Tensor, Tensor, Tensor]:
    """``E[v v^T] (K, F, F)``, the root mean squares it is in units of, ``(K, F)``, and which v may take over, bool ``(K, F)``.

    ``v``: the layer's neurons, all earlier layers, and 1, in float64. Rows that are not finite give the identity. So do single
    v that act on fewer than `SUPPORT` samples, counted as ``(sum v^2)^2 / sum v^4``; they take over nothing. Samples count by
    their weights.
    """
    columns = data.x[..., :: -(-data.samples // SAMPLES)]
    weights = None if data.weights is None else data.weights[..., :: -(-data.samples // SAMPLES)].double()
    if weights is not None:
        weights = weights / weights.mean(-1, keepdim=True).clamp(min=1e-300)  # (B,) or (K, B), its sum is the number of samples
    total: Tensor | float = 0.0
    fourth: Tensor | float = 0.0
    for at in range(0, columns.shape[-1], CHUNK):
        first, *later, own = values(nets, columns[..., at : at + CHUNK], layer)
        first = first.expand(len(own), *first.shape[-2:])
        v = torch.cat((own, first, *later, torch.ones_like(own[:, :1])), 1).double()  # (K, F, B)
        if weights is not None:
            v = v * weights[..., at : at + CHUNK].unsqueeze(-2).sqrt()
        total = total + v @ v.mT
        fourth = fourth + v.pow(4).sum(2)
    gram = torch.as_tensor(total) / columns.shape[-1]
    unit = gram.diagonal(dim1=1, dim2=2).sqrt()  # (K, F)
    support = columns.shape[-1] ** 2 * gram.diagonal(dim1=1, dim2=2).square() / fourth  # (K, F), NaN where v is 0
    taking = support >= min(SUPPORT, columns.shape[-1] / 4)
    sound = torch.isfinite(gram).all(2).all(1).unsqueeze(1)
    unit = torch.where(sound & (unit > 0), unit, torch.ones_like(unit))
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    together = (taking.unsqueeze(1) & taking.unsqueeze(2)) | (eye == 1)
    gram = torch.where(together, gram / unit.unsqueeze(1) / unit.unsqueeze(2), torch.zeros_like(gram))
    return torch.where(sound.unsqueeze(2), gram, eye), unit, taking


def _data(task: Task, nets: Networks) -> Split:
    """The training samples where and as the networks are."""
    like = next(iter(nets.blocks.values()))
    return task.train.to(like.device, like.dtype)


def _survivors(gram: Tensor, v: Tensor, live: Tensor, kept: Tensor) -> Tensor:
    """Which of the live neurons stay when only ``kept (K,)`` may: bool ``(K, H)``; ``v (K, T, H)`` is what they send.

    Optimal brain surgeon: neuron j costs ``|v_j|^2 / (G^-1)_jj``. The cheapest goes; then ``v -= v_j (G^-1)_j / (G^-1)_jj``.
    """
    own = v.shape[2]
    inverse = torch.linalg.inv(gram + RIDGE * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device))  # (K, F, F)
    for _ in range(int((live.sum(1) - kept).max())):
        cost = torch.where(live, v.square().sum(1) / inverse.diagonal(dim1=1, dim2=2)[:, :own], torch.inf)
        j = cost.argmin(1).view(-1, 1, 1)  # (K, 1, 1)
        going = (live.sum(1) > kept).view(-1, 1, 1)
        row = inverse.gather(1, j.expand(-1, 1, inverse.shape[2]))  # (K, 1, F)
        share = torch.where(going, row / row.gather(2, j), torch.zeros_like(row))
        v = v - v.gather(2, j.expand(-1, v.shape[1], 1)) * share[..., :own]
        inverse = inverse - row.mT * share
        live = live & ~(going.squeeze(2) & (torch.arange(own, device=j.device) == j.squeeze(2)))
    return live


def _inverse(gram: Tensor, stay: Tensor) -> Tensor:
    """The pseudo-inverse of each row's matrix among what stays, bool ``(K, F)``, and 0 elsewhere: ``(K, F, F)``.

    Of that part alone: LAPACK's eigensolver gives up on some matrices that are mostly zeros.
    """
    found = torch.zeros_like(gram)
    for k, mine in enumerate(stay):
        at = mine.nonzero().squeeze(1)
        found[k, at.unsqueeze(1), at] = torch.linalg.pinv(gram[k, at.unsqueeze(1), at], rtol=RANK, hermitian=True)
    return found


def _thinned(nets: Networks, layer: int, kept: Tensor, data: Split) -> Networks:
    """The layer with ``kept (K,)`` neurons, what the others sent handed over to all that is left, by least squares.

    What falls on earlier layers joins the skip blocks, so that a neuron that is straight on the data costs nothing. Of all
    least-squares answers the one that changes the weights least is taken: copies of a neuron share its work.
    """
    targets = range(layer + 1, nets.depth + 1)
    own = nets.widths[layer]
    gram, unit, taking = _gram(nets, layer, data)
    v = torch.cat([nets.blocks[to, layer] for to in targets], 1).double() * unit[:, :own].unsqueeze(1)  # (K, T, H)
    before = nets.gates[layer] > 0  # (K, H)
    live = _survivors(gram, v, before, kept)
    stay = torch.cat((live, live.new_ones(len(live), gram.shape[1] - own)), 1) & taking  # (K, F)
    gone = v * (before & ~live).unsqueeze(1)  # (K, T, H)
    more = gone @ gram[:, :own] @ _inverse(gram, stay) * (stay / unit).unsqueeze(1)  # (K, T, F)
    blocks, biases = dict(nets.blocks), dict(nets.biases)
    parts = more.to(next(iter(blocks.values()))).split_with_sizes([nets.widths[to] for to in targets], 1)
    for to, part in zip(targets, parts, strict=True):
        mine, *rest, one = part.split_with_sizes([own, *nets.widths[:layer], 1], 2)
        blocks[to, layer] = (blocks[to, layer] + mine) * live.unsqueeze(1)
        for source, addend in enumerate(rest):
            blocks[to, source] = blocks[to, source] + addend
        biases[to] = biases[to] + one.squeeze(2)
    gates = {**nets.gates, layer: live.to(nets.gates[layer])}
    return alive(replace(nets, blocks=blocks, biases=biases, gates=gates, edge_gates={}))


@dataclass(frozen=True, slots=True)
class Obs(Discretizer):
    """See `obs`."""

    r2: float | None
    tolerance: float
    refit: int
    lr: float
    batch: int
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Gates 0 or 1 on all hidden layers; skip blocks and biases where there were none."""
        hard = _plain(nets)
        if hard.depth == 1:
            return hard
        start = score(hard)  # (K,)
        limit = torch.where(neurons_cut(nets), torch.nan, self.limit(hard, start, score))
        for steps in (0, self.refit) if self.refit else (0,):
            for layer in range(1, hard.depth):
                share = start + layer / (hard.depth - 1) * (limit - start)
                hard = self.thin(hard, layer, torch.where(start > limit, limit, share), score, steps)
        return hard

    def accept(self, nets: Networks) -> None:
        """Refuse residuals: what they pass on has no weights that could change.

        Raises:
            ConfigError: for networks with `nasplug.networks.Networks.passes`.
        """
        if nets.passes:
            raise ConfigError(
                "obs: it hands the work of neurons over to others, and a residual passes values on as they are; take "
                "threshold, or leave residual out"
            )

    def limit(self, nets: Networks, loss: Tensor, score: Score) -> Tensor:
        """The largest loss a row may end with, ``(K,)``; NaN where its own is not finite."""
        if self.r2 is None:
            return limits(nets, score, self.tolerance)
        limit = (1.0 - self.r2) * _constant_loss(score.task).to(loss).expand_as(loss)
        return torch.where(torch.isfinite(loss), limit, torch.nan)

    def thin(self, nets: Networks, layer: int, limit: Tensor, score: Score, steps: int) -> Networks:
        """The layer with the fewest neurons within the limit, by bisection of all rows at once."""
        task, best = score.task, nets
        data = _data(task, nets)
        good = nets.gates[layer].sum(1).long()  # (K,)
        bad = torch.where(torch.isfinite(limit), -torch.ones_like(good), good)  # settled and broken rows ask for nothing
        while bool((good - bad > 1).any()):
            middle = torch.where(good - bad > 1, (good + bad) // 2, good)
            candidate = _thinned(best, layer, middle, data)
            if steps:
                candidate = alive(trained_on(task, candidate, steps, self.lr, batch=self.batch))
            within = (score(candidate) <= limit) & (middle < good)
            best = where(within, candidate, best)
            bad = torch.where(~within & (middle < good), middle, bad)
            good = torch.where(within, torch.minimum(middle, best.gates[layer].sum(1).long()), good)
        return best


@torch.no_grad()
def left(nets: Networks, layer: int, score: Score) -> tuple[list[int], list[float]]:
    """Validation losses of one network with 0, 1, ... neurons of a layer left, without refit: counts and losses.

    Raises:
        ConfigError: for a layer that is not hidden, or more networks than one.
    """
    if nets.replicas != 1 or not 1 <= layer < nets.depth:
        raise ConfigError(
            f"layer {layer} of {nets.replicas} networks; needed: one network and a hidden layer, 1 to {nets.depth - 1}"
        )
    hard = _plain(nets)
    data = _data(score.task, hard)
    counts = list(range(int(hard.gates[layer].sum()) + 1))
    return counts, [float(score(_thinned(hard, layer, torch.tensor([n], device=data.x.device), data))) for n in counts]


def obs(
    *,
    r2: float | None = None,
    tolerance: float | None = None,
    refit: int = 200,
    lr: float | None = None,
    batch: int | None = None,
) -> Discretizer:
    """Keep the fewest hidden neurons that meet a criterion on the validation split; the least useful goes first.

    The criterion is one of

    - ``r2`` in (0, 1): ``1 - loss / loss of the best constant`` is at least this (R2 for squared errors). A row that reaches
      it at no count that is tried stays whole.
    - ``tolerance`` >= 0 (0.02 if neither is given): the loss rises by no more than `nasplug.cuts.limits` says.

    Usefulness is judged by function, not by eigenvalue: neuron j of a layer costs ``|V_j|^2 / (G^-1)_jj``, what the best
    least-squares replacement by the layer's other neurons, by all earlier layers and by a constant leaves undone
    (``V`` its outgoing weights, ``G`` the Gram matrix over 4,096 training samples at most). The cheapest goes and its work
    is handed over: the straight part of an activation lands in the skip blocks, which are added where there are none. What
    acts on fewer than 8 samples takes over nothing.

    The count is bisected for each hidden layer, first to last, all rows at once; of several layers each may spend an equal
    share of the limit. That is done without training first, and then, from there, with ``refit`` steps of Adam
    (``lr`` 0.003 to 0 by cosine, ``batch`` 512) for each count that is tried, at most ``1 + log2(H)`` counts per layer, each
    from the smallest network that met the criterion so far. ``refit: 0`` trains nothing.

    Gates are 0 or 1 afterwards. A row whose gates were all 0 or 1, one of them 0, was cut before and is left as it is. So
    is one with weights or a loss that are not finite.

    Fails: skip blocks become dense, so cut edges afterwards, not before. A layer's cost is measured at what it sends,
    not at the output, so with several layers the order within a layer is good and the split between layers is not.

    Raises:
        ConfigError: when both criteria are given or one is out of range; for ``lr`` or ``batch`` without ``refit``.

    Source: Spectral Architecture Search, experiment 2 (neurons left at a loss increase of 5 %); optimal brain surgeon
    (Hassibi & Stork 1993). We differ: bisection instead of a scan, function instead of eigenvalues, a criterion on R2,
    because 5 % of a poor network's loss is nothing after a refit and 5 % of an exact one's too strict.
    """
    if r2 is not None and tolerance is not None:
        raise ConfigError(f"obs: both r2={r2} and tolerance={tolerance} were given; give one of them")
    if r2 is not None and not 0.0 < r2 < 1.0:
        raise ConfigError(f"obs: r2={r2}; needed: a number between 0 and 1, for example 0.98")
    allowed = 0.02 if tolerance is None else tolerance
    check_tolerance("obs", allowed)
    if refit < 0:
        raise ConfigError(f"obs: refit={refit}; needed: a whole number of steps >= 0")
    if refit == 0 and (lr is not None or batch is not None):
        raise ConfigError(f"obs: lr={lr}, batch={batch} with refit=0, which trains nothing; leave them out or give refit")
    if lr is not None and not (math.isfinite(lr) and lr > 0.0):
        raise ConfigError(f"obs: lr={lr}; needed: a finite number > 0")
    if batch is not None and batch < 1:
        raise ConfigError(f"obs: batch={batch}; needed: a whole number >= 1")
    return Obs(r2, allowed, refit, 0.003 if lr is None else lr, 512 if batch is None else batch)
