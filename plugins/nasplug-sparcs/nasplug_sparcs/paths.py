"""What is carried by hidden layers, judged by function and not by eigenvalues."""

from __future__ import annotations

from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.networks import Networks, alive

__all__ = ["gamma", "gamma_by_neuron"]


def gamma(nets: Networks) -> Tensor:
    """``|Gamma|``, the norm of all paths that pass a hidden neuron: networks in direct space -> ``(K,)``, >= 0.

    ``Gamma_p`` is the product of the weights along path p from an input (or a bias) to an output, and the norm is the root
    of the sum of squares over paths with at least one hidden neuron. 0 means: a perceptron. With one hidden layer it
    is ``sqrt(sum_ijk (W_ij W_jk)^2)``; the linear skip is not in it. Behind a stem paths begin at its features.

    Source: Spectral Architecture Search, experiment 1, ``Gamma_ijk = W32_ij W21_jk``. We differ: any depth.
    """
    nets = alive(nets)
    last = nets.depth
    squares = _arriving(nets)
    total = squares[last].new_zeros(nets.replicas, nets.widths[last])
    for (to, source), w in nets.blocks.items():
        if to == last and source > 0:
            total = total + _carried(w, squares[source])
    return total.sum(1).sqrt()


def gamma_by_neuron(nets: Networks, layer: int) -> Tensor:
    """The norm of the paths that pass each neuron of a hidden layer: networks in direct space -> ``(K, H)``, >= 0.

    With one hidden layer ``|Gamma_:j:|``, and the squares add up to that of `gamma`.

    Raises:
        ConfigError: for a layer that is not hidden.
    """
    if not 1 <= layer < nets.depth:
        raise ConfigError(f"gamma_by_neuron: layer {layer}; needed: a hidden layer, 1 to {nets.depth - 1}")
    nets = alive(nets)
    leaving = {nets.depth: nets.blocks[next(iter(nets.blocks))].new_ones(nets.replicas, nets.widths[-1])}
    for here in range(nets.depth - 1, layer - 1, -1):
        outgoing = [_carried(w.mT, leaving[to]) for (to, source), w in nets.blocks.items() if source == here]
        leaving[here] = sum(outgoing, leaving[nets.depth].new_zeros(nets.replicas, nets.widths[here]))
    return (_arriving(nets)[layer] * leaving[layer]).sqrt()


def _carried(w: Tensor, squares: Tensor) -> Tensor:
    """Sums of squares after one block: ``(K, H_to, H_from)``, ``(K, H_from)`` -> ``(K, H_to)``."""
    return (w.square() @ squares.unsqueeze(-1)).squeeze(-1)


def _arriving(nets: Networks) -> list[Tensor]:
    """Sums over the squares of the paths that end at a neuron, ``(K, H)`` for each layer; biases begin paths, too."""
    like = next(iter(nets.blocks.values()))
    squares = [like.new_ones(nets.replicas, nets.widths[0])]
    for layer in range(1, nets.depth + 1):
        begun = nets.biases[layer].square() if layer in nets.biases else like.new_zeros(nets.replicas, nets.widths[layer])
        arriving = [_carried(w, squares[source]) for (to, source), w in nets.blocks.items() if to == layer]
        squares.append(sum(arriving, begun))
    return squares
