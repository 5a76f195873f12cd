"""Contributions of columns to one prediction: Shapley values of what is expected when only some columns are known."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nasplug.compact import CompactNetwork
from nasplug.explain.background import Background
from nasplug.explain.unfolded import Unfolded, layer_0, scale_words, unfold

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BASE", "EXACT", "PREDICTION", "Shares", "affordable", "contributions", "shapley"]

EXACT = 12  # columns that meet in a neuron: up to here every coalition is taken
PAIRS = 64  # antithetic pairs of permutations beyond
WALKED = 2**14  # coalitions of these permutations, at most: a walk over d columns has d + 1
FEWEST, FEW_PAIRS = 16, 4  # rows to compare with, and pairs of permutations, where each costs much
DEAR = 2**28  # products that the contributions to one prediction may take, before there are fewer of those
BASE, PREDICTION = "base", "prediction"
OUTPUT, APPROXIMATE = "output", "sampled"


class Shares:
    """Weighted coalitions of d columns from which Shapley values come: ``phi = weights @ v`` with ``v_s = v(masks_s)``.

    For d <= 12 all of them: ``weights_is = (|s| - 1)! (d - |s|)! / d!`` if s contains i, else ``-|s|! (d - |s| - 1)! / d!``.
    Beyond, those on the walks of random permutations and their reverses (Mitchell et al. 2022, JMLR 23:43), always the same.
    Either way the values of a row sum to ``v(all) - v(none)``, without a rest.
    """

    def __init__(self, columns: int, pairs: int = PAIRS) -> None:
        self.exact = columns <= EXACT
        self.masks, self.weights = _every(columns) if self.exact else _walks(columns, pairs)


def _every(d: int) -> tuple[Tensor, Tensor]:
    masks = torch.tensor(list(itertools.product((False, True), repeat=d)), dtype=torch.bool).view(2**d, d)
    sizes = masks.sum(1)
    inside = [math.factorial(n - 1) * math.factorial(d - n) / math.factorial(d) if n else 0.0 for n in range(d + 1)]
    outside = [-math.factorial(n) * math.factorial(d - n - 1) / math.factorial(d) if n < d else 0.0 for n in range(d + 1)]
    gain, loss = (torch.tensor(each, dtype=torch.float64)[sizes] for each in (inside, outside))
    return masks, torch.where(masks.T, gain, loss)


def _walks(d: int, pairs: int) -> tuple[Tensor, Tensor]:
    draw = np.random.default_rng(0)
    half = [draw.permutation(d) for _ in range(max(1, min(pairs, WALKED // (2 * (d + 1)))))]
    orders = [order for one in half for order in (one, one[::-1])]
    masks = torch.zeros(len(orders), d + 1, d, dtype=torch.bool)
    weights = torch.zeros(d, len(orders), d + 1, dtype=torch.float64)
    for walk, order in enumerate(orders):
        for step, column in enumerate(order.tolist()):
            masks[walk, step + 1 :, column] = True
            weights[column, walk, step + 1] += 1.0 / len(orders)
            weights[column, walk, step] -= 1.0 / len(orders)
    return masks.flatten(0, 1), weights.flatten(1)


@lru_cache(maxsize=32)
def _shares(columns: int, pairs: int) -> Shares:
    return Shares(columns, pairs)


def _groups(plain: Unfolded) -> list[tuple[list[int], list[int]]]:
    """The neurons that outputs read, by the columns that reach them."""
    supports = plain.supports
    groups: dict[frozenset[int], list[int]] = {}
    for m in torch.nonzero((plain.out != 0).any(0)).flatten().tolist():
        groups.setdefault(supports[m], []).append(m)
    return [(sorted(support), neurons) for support, neurons in groups.items() if support]


def cost(plain: Unfolded, pairs: int = PAIRS) -> int:
    """How many products `shapley` takes for one row and one row of the background."""
    return sum(len(_shares(len(columns), pairs).masks) * plain.work(neurons) for columns, neurons in _groups(plain))


def affordable(plain: Unfolded, others: int, most: int, rows: int = 1) -> tuple[int, int]:
    """Of ``others`` rows to compare ``rows`` with, and of `PAIRS` of permutations, as many as take at most ``most`` products.

    First the rows to compare with become fewer, down to 16, then the pairs, down to 4; these stay, whatever they cost.
    """
    against, pairs = min(others, max(FEWEST, most // max(1, rows * cost(plain)))), PAIRS
    while pairs > FEW_PAIRS and rows * against * cost(plain, pairs) > most:
        pairs //= 2
    return against, pairs


@torch.no_grad()
def shapley(plain: Unfolded, rows: Tensor, others: Tensor, weights: Tensor, pairs: int = PAIRS) -> tuple[Tensor, Tensor, bool]:
    """Shapley values of the outputs: layer 0 of the rows ``(R, I')`` and of a background ``(B, I')`` with weights ``(B,)``.

    ``z`` is a sum of straight terms and of neurons, and Shapley values of a sum are sums of Shapley values. So each neuron that
    an output reads is taken alone, over the columns that reach it: ``2^d`` coalitions of those d, not of all columns. Beyond 12
    of them ``pairs`` permutations and their reverses are walked.

    Returns:
        Values ``(R, C, O)``; the mean output of the background ``(O,)``; whether all of it is exact (no neuron has more than
        12 columns).
    """
    centre = weights @ others
    found = rows.new_zeros(len(rows), len(plain.places), len(plain.shift))
    for place, at in enumerate(plain.places):
        found[:, place] = (rows - centre)[:, list(at)] @ plain.straight[:, list(at)].T
    exact = True
    for columns, neurons in _groups(plain):
        shares = _shares(len(columns), pairs)
        exact &= shares.exact
        out = plain.out[:, neurons]
        for mine, some, values in plain.pieces(rows, others, weights, shares.masks, columns, neurons):  # (R', S', neurons)
            found[mine, columns] += torch.einsum("cs,rso->rco", shares.weights[:, some], values @ out.T)
    return found, weights @ plain.outputs(others), exact


def contributions(network: CompactNetwork, rows: pd.DataFrame, background: Background | pd.DataFrame) -> pd.DataFrame:
    """What each column adds to each prediction, beside what is predicted when nothing is known; they sum to the prediction.

    ``prediction = base + sum_c phi_c``. ``base`` is the mean prediction of the background. ``phi_c`` is the Shapley value of
    column c in the game ``v(S) = mean_b z(the row's columns S, the rest of background row b)`` (interventional: Janzing et al.
    2020, AISTATS; Lundberg and Lee 2017, arXiv:1705.07874). Several features that were made of one column come and go together.
    Exact, for any number of columns, while no neuron has more than 12 of them; beyond, walks of random permutations are
    averaged for that neuron, and the sum is still exact. Where one prediction would take more than 2^28 products (tenths of a
    second), it is compared with fewer rows, evenly over the background, but 16 at least, and over fewer permutations.

    The scale is that on which the last layer sums: units of the target; of a transformed target its logarithm or normal score;
    of two labels the log-odds of the second; of several the logits; of rates the logarithm.

    Args:
        network: a compact one, without a stem.
        rows: of the user's table, with the columns that the network reads.
        background: rows to compare with, or a table of them (at most 256 rows of it are drawn).

    Returns:
        One row per row with the columns ``base``, one per column that the network reads, and ``prediction``; of several outputs
        one row per row and output (index level ``output``). ``attrs["scale"]`` says the scale, ``attrs["exact"]`` whether no
        value was sampled, ``attrs["background"]`` how many rows of the background were compared with. A user's column called
        ``base`` or ``prediction`` keeps its name, ours gets an apostrophe.

    Raises:
        ConfigError: for a network that cannot be explained, a column that is missing, or a background of other features.
    """
    import pandas as pd

    plain = unfold(network)
    if not isinstance(background, Background):
        background = Background.of_table(network, background)
    background.check(network)
    against, walked = affordable(plain, len(background.features), DEAR)
    background = background.few(against)
    h = layer_0(network, torch.from_numpy(network.features(rows)))
    others = layer_0(network, torch.from_numpy(background.features))
    values, base, exact = shapley(plain, h, others, torch.from_numpy(background.weights), walked)
    names = list(plain.columns)
    ends = []
    for name in (BASE, PREDICTION):
        while name in names:
            name += "'"
        ends.append(name)
    prediction = plain.outputs(h)
    outputs = prediction.shape[1]
    table = torch.cat([base.expand(len(h), 1, outputs), values, prediction.unsqueeze(1)], 1)  # (R, C + 2, O)
    index = rows.index
    if outputs > 1:
        labels = [str(t) for t in network.record["targets"]]
        found = [(*(row if isinstance(row, tuple) else (row,)), label) for row in index for label in labels]
        levels = [index.names[level] for level in range(index.nlevels)]
        index = pd.MultiIndex.from_tuples(found, names=[*levels, OUTPUT])
    flat = table.permute(0, 2, 1).reshape(-1, len(names) + 2).numpy()
    frame = pd.DataFrame(flat, columns=pd.Index([ends[0], *names, ends[1]]), index=index)
    frame.attrs |= {"scale": scale_words(network), "exact": exact, "background": against}
    return frame
