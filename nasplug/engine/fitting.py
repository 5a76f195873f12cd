"""Which searches the engine serves: what of them the kernel must know, or why it does not serve them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nasplug.activations import FUNCTIONS
from nasplug.contracts import Norms, Params, Proximal, SearchMethod
from nasplug.networks import Networks
from nasplug.optimizers import Adam
from nasplug.tasks import CrossEntropy, Logistic, Loss, SquaredError
from nasplug.tasks.losses import AbsoluteError, Huber
from nasplug.train import Search

__all__ = ["MOST_LAYERS", "MOST_WIDTH", "Canonical", "canonical", "fits"]

MOST_LAYERS = 3
MOST_WIDTH = 64
MOST_NUMBERS = 2**31 - 1  # of a table: the kernel counts in 32 bits
LOSSES: Mapping[type[Loss], str] = {
    SquaredError: "mse",
    AbsoluteError: "mae",
    Huber: "huber",
    Logistic: "logistic",
    CrossEntropy: "cross_entropy",
}
KINDS = frozenset({"identity", "relu", "leaky_relu", "tanh", "sigmoid", "elu", "silu", "gelu", "softplus", "sin"})


@dataclass(frozen=True, slots=True)
class Canonical:
    """Layered networks whose parameters are their weights and biases, as the kernel takes them.

    Attributes:
        widths: of layers 0 to D.
        blocks, biases: names of the leaves, layers 1 to D; no biases or one per layer.
        kind: the activation of hidden layers.
        shared: whether the method mixes the identity into it, by a share that the temperature sets.
        loss: which.
        norms: of each penalty.
    """

    widths: tuple[int, ...]
    blocks: tuple[str, ...]
    biases: tuple[str, ...]
    kind: str
    shared: bool
    loss: str
    norms: tuple[tuple[Norms, ...], ...]

    @property
    def depth(self) -> int:
        """D."""
        return len(self.widths) - 1

    @property
    def leaves(self) -> tuple[str, ...]:
        """Names in the kernel's order: layer by layer its block and its bias."""
        biases = self.biases or ("",) * self.depth
        return tuple(name for pair in zip(self.blocks, biases, strict=True) for name in pair if name)


def fits(search: Search, params: Params) -> str | None:
    """Why the engine does not serve a search, in a few words; None: it does."""
    found = canonical(search, params)
    return found if isinstance(found, str) else None


def canonical(search: Search, params: Params) -> Canonical | str:
    """What the kernel must know, or why it does not serve the search.

    The method is asked for one row's networks: each block and each bias must be a leaf as it is, and nothing else a parameter.
    """
    if reason := _of_training(search) or _of_data(search):
        return reason
    leaves = {name: p[:1].detach().requires_grad_() for name, p in params.items()}
    nets = search.relax(leaves, search.tau.at(0)[:1])
    if reason := _of_networks(nets):
        return reason
    names = {id(leaf): name for name, leaf in leaves.items()}
    blocks = [names.get(id(nets.blocks[layer, layer - 1]), "") for layer in range(1, nets.depth + 1)]
    biases = [names.get(id(nets.biases[layer]), "") for layer in range(1, nets.depth + 1) if nets.biases]
    if not all((*blocks, *biases)):
        return "the method's parameters are not the weights and biases themselves"
    if others := sorted(params.keys() - {*blocks, *biases}):
        return f"the method has parameters beside weights and biases: {', '.join(others[:3])}"
    norms = []
    for regularizer in search.penalties:
        if isinstance(regularizer, Proximal):
            return f"the penalty {type(regularizer).__name__} is proximal"
        if (parts := regularizer.norms(nets)) is None:
            return f"the penalty {type(regularizer).__name__} is no sum of norms of weights"
        norms.append(tuple(parts))
    return Canonical(
        nets.widths,
        tuple(blocks),
        tuple(biases),
        nets.candidates[0],
        bool(nets.choices),
        LOSSES[type(search.task.loss)],
        tuple(norms),
    )


def _of_training(search: Search) -> str | None:
    """What of the way of training does not fit."""
    if type(search.optimizer) is not Adam:
        return f"the optimizer is {type(search.optimizer).__name__}, not Adam"
    if search.architect is not None:
        return "an architect moves the architecture"
    if search.traits.stochastic:
        return "the method draws noise"
    if type(search.method).project is not SearchMethod.project:
        return "the method projects its parameters after each step"
    if type(search.method).forward is not SearchMethod.forward:
        return "the method has a forward of its own"
    if search.monotone:
        return "the networks are monotone"
    return None


def _of_data(search: Search) -> str | None:
    """What of the task does not fit."""
    if search.dtype != torch.float32:
        return f"it computes in {search.dtype}, not in float32"
    if type(search.task.loss) not in LOSSES:
        return f"the loss is {search.task.loss}; served are {', '.join(LOSSES.values())}"
    if max(part.numel() for part in search.task.train.batch) > MOST_NUMBERS:
        return "the data have more numbers than 32 bits count"
    return None


def _of_networks(nets: Networks) -> str | None:
    """What of the networks' shape and parts does not fit."""
    if nets.stem is not None:
        return "the networks have a stem"
    if nets.terms:
        return "the networks are a sum of small ones"
    if nets.depth > MOST_LAYERS:
        return f"the networks have {nets.depth} layers of weights; {MOST_LAYERS} at most"
    if max(nets.widths) > MOST_WIDTH:
        return f"a layer has {max(nets.widths)} neurons; {MOST_WIDTH} at most"
    if set(nets.blocks) != {(layer, layer - 1) for layer in range(1, nets.depth + 1)}:
        return "the networks have skip blocks"
    if nets.biases and set(nets.biases) != set(range(1, nets.depth + 1)):
        return "some layers have biases and others have none"
    if nets.gates or nets.edge_gates or nets.eigenvalues:
        return "the networks have gates or eigenvalues"
    name, *more = nets.candidates
    if name not in KINDS or nets.function(name) is not FUNCTIONS[name]:
        return f"the activation {name} is not one of nasplug's own"
    return _of_choices(nets, more) if more or nets.choices else None


def _of_choices(nets: Networks, more: list[str]) -> str | None:
    """Only a share of the identity that the temperature sets, one for all layers."""
    each = list(nets.choices.values())
    if more != ["identity"] or any(choice is not each[0] for choice in each) or each[0].shape[1] != 1 or each[0].requires_grad:
        return "the activations are chosen by parameters"
    return None
