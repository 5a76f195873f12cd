"""The networks that nasplug is compared with on tables: LassoNet, a pruned multilayer perceptron, TabM. See `rivals.py`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from rivals import Array, Columns, Fit, Point, probabilities
from torch import Tensor, nn

__all__ = ["lassonet", "pruned", "tabm"]

CHECKPOINTS = (50, 100, 150, 200, 300, 400)
STRENGTHS = [float(value) for value in np.geomspace(0.03, 300, 32)]


def _tensors(fit: Fit) -> tuple[Tensor, Tensor]:
    target = torch.tensor(fit.y, dtype=torch.long if fit.kind == "classes" else torch.float32)
    return torch.tensor(fit.rows.x, dtype=torch.float32), target


def _loss(fit: Fit) -> Callable[[Tensor, Tensor], Tensor]:
    """Of scores ``(N, O)`` and targets ``(N,)``."""
    if fit.kind == "classes":
        return nn.functional.cross_entropy
    plain = nn.functional.mse_loss if fit.kind == "regression" else nn.functional.binary_cross_entropy_with_logits
    return lambda scores, y: plain(scores[:, 0], y)


def _predictions(model: Callable[[Tensor], Tensor], fit: Fit) -> Callable[[Columns], Array]:
    def predict(rows: Columns) -> Array:
        with torch.inference_mode():
            scores = model(torch.tensor(rows.x, dtype=torch.float32))
        return probabilities(scores.double().numpy(), fit.kind)

    return predict


def _batches(rows: int, batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    noise = torch.Generator().manual_seed(seed)
    order = torch.randperm(rows, generator=noise)
    first = 0
    for _ in range(steps):
        if first + batch > rows and first:
            order, first = torch.randperm(rows, generator=noise), 0
        yield order[first : first + batch]
        first += batch


def lassonet(fit: Fit) -> Iterator[tuple[str, Point]]:
    """LassoNet along its path of strengths, from 4 and from 16 neurons."""
    from lassonet import LassoNetClassifier, LassoNetRegressor

    for width in (4, 16):
        make = LassoNetRegressor if fit.kind == "regression" else LassoNetClassifier
        optimizers = (lambda p: torch.optim.Adam(p, lr=1e-2), lambda p: torch.optim.SGD(p, lr=3e-2, momentum=0.9))
        model = make(
            hidden_dims=(width,), M=10, lambda_seq=STRENGTHS, n_iters=(400, 30), patience=(40, 8), optim=optimizers, verbose=0,
            random_state=fit.seed, torch_seed=fit.seed, device="cpu",
        )  # fmt: skip
        target = fit.y if fit.kind == "regression" else fit.y.astype(np.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = model.path(fit.rows.x.astype(np.float32), target.astype(np.float32) if fit.kind == "regression" else target,
                              return_state_dicts=True)  # fmt: skip
        for item in path:
            yield (
                f"{width} neurons, {item.lambda_:.3g}",
                _lassonet_point(model.model, item.state_dict, item.selected.numpy(), fit),
            )


def _lassonet_point(net: nn.Module, state: dict[str, Tensor], selected: Array, fit: Fit) -> Point:
    own = copy.deepcopy(net)
    own.load_state_dict(state)
    skip, first, second = (state[f"{n}.weight"] for n in ("skip", "layers.0", "layers.1"))
    live = (first != 0).any(1) & (second != 0).any(0)
    numbers = int((skip != 0).sum() + (first[live] != 0).sum() + live.sum() + (second[:, live] != 0).sum() + len(second))
    if fit.kind == "binary":  # its two scores: only their difference counts, as for everybody
        numbers = int((skip != 0).any(0).sum() + (first[live] != 0).sum() + 2 * live.sum() + 1)

    def scores(x: Tensor) -> Tensor:
        made: Tensor = own(x)
        return made[:, 1:] - made[:, :1] if fit.kind == "binary" else made

    return Point(_predictions(scores, fit), numbers, len(set(fit.owners[selected])))


def pruned(fit: Fit) -> Iterator[tuple[str, Point]]:
    """A trained ReLU network, its smallest weights cut 40 % at a time, fine-tuned after each cut."""
    x, y = _tensors(fit)
    loss = _loss(fit)
    for width in (8, 32):
        torch.manual_seed(fit.seed)
        net = nn.Sequential(nn.Linear(x.shape[1], width), nn.ReLU(), nn.Linear(width, fit.outputs))
        layers = [net[0], net[2]]
        masks = [torch.ones_like(layer.weight) for layer in layers]
        stage = 0
        while True:
            steps, rate = (800, 0.01) if stage == 0 else (100, 0.005)
            optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
            for index in _batches(len(x), 64, steps, fit.seed + stage):
                optimizer.zero_grad()
                loss(net(x[index]), y[index]).backward()
                optimizer.step()
                schedule.step()
                with torch.no_grad():
                    for layer, mask in zip(layers, masks, strict=True):
                        layer.weight *= mask
            yield f"{width} neurons, {stage} cuts", _pruned_point(net, masks, fit)
            left = int(sum(mask.sum() for mask in masks))
            if left <= 3:
                break
            sizes = torch.cat(
                [(layer.weight.detach().abs() * mask).flatten() for layer, mask in zip(layers, masks, strict=True)]
            )
            bound = sizes.sort(descending=True).values[max(2, int(0.6 * left)) - 1]
            masks = [(layer.weight.detach().abs() * mask >= bound).float() for layer, mask in zip(layers, masks, strict=True)]
            with torch.no_grad():
                for layer, mask in zip(layers, masks, strict=True):
                    layer.weight *= mask
            stage += 1


def _pruned_point(net: nn.Sequential, masks: list[Tensor], fit: Fit) -> Point:
    """A neuron that reads nothing or that nobody reads is not stored; what it adds as a constant goes into the bias."""
    live = (masks[0] > 0).any(1) & (masks[1] > 0).any(0)
    reads = (masks[0][live] > 0).any(0).numpy()
    numbers = int(masks[0][live].sum() + masks[1][:, live].sum() + live.sum()) + fit.outputs
    return Point(_predictions(copy.deepcopy(net).eval(), fit), numbers, len(set(fit.owners[reads])))


def tabm(fit: Fit) -> Iterator[tuple[str, Point]]:
    """TabM of 16 members with 2 blocks of 64 neurons (its default is 32 of 3 x 512: too slow for two cores).

    Piecewise-linear embeddings where all columns are numbers. The number of steps is chosen on the inner validation rows.
    """
    from rtdl_num_embeddings import PiecewiseLinearEmbeddings, compute_bins
    from tabm import TabM

    x, y = _tensors(fit)
    loss = _loss(fit)
    numbered = [i for i in range(x.shape[1]) if len(torch.unique(x[:, i])) > 2]
    torch.manual_seed(fit.seed)
    more = {}
    if len(numbered) == x.shape[1]:
        more["num_embeddings"] = PiecewiseLinearEmbeddings(compute_bins(x, n_bins=16), 8, activation=False, version="B")
    net = TabM.make(n_num_features=x.shape[1], d_out=fit.outputs, k=16, n_blocks=2, d_block=64, **more)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=3e-4)
    for step, index in enumerate(_batches(len(x), 128, CHECKPOINTS[-1], fit.seed), start=1):
        optimizer.zero_grad()
        made = net(x[index])  # (B, members, O); each member has a loss of its own
        loss(made.flatten(0, 1), y[index].repeat_interleave(made.shape[1])).backward()
        optimizer.step()
        if step in CHECKPOINTS:
            yield f"{step} steps", _tabm_point(net, fit)


def _tabm_point(net: nn.Module, fit: Fit) -> Point:
    own = copy.deepcopy(net).eval()

    def predict(rows: Columns) -> Array:
        with torch.inference_mode():
            scores = own(torch.tensor(rows.x, dtype=torch.float32)).double().numpy()
        members = [probabilities(scores[:, k], fit.kind) for k in range(scores.shape[1])]
        return np.asarray(np.mean(members, 0))

    numbers = sum(int((p != 0).sum()) for p in (*own.parameters(), *own.buffers()))
    return Point(predict, numbers, len(set(fit.owners)))
