"""What is carried by hidden layers, judged by function and not by eigenvalues."""

from __future__ import annotations

from torch import Tensor

from nasplug.networks import Networks, alive

__all__ = ["gamma"]


def gamma(nets: Networks) -> Tensor:
    """``|Gamma|``, the norm of all paths that pass a hidden neuron: networks in direct space -> ``(K,)``, >= 0.

    ``Gamma_p`` is the product of the weights along path p from an input (or a bias) to an output, and the norm is the root
    of the sum of squares over paths with at least one hidden neuron. 0 means: a perceptron. With one hidden layer it
    is ``sqrt(sum_ijk (W_ij W_jk)^2)``; the linear skip is not in it.

    Source: Spectral Architecture Search, experiment 1, ``Gamma_ijk = W32_ij W21_jk``. We differ: any depth.
    """
    nets = alive(nets)
    like = next(iter(nets.blocks.values()))
    squares = [like.new_ones(nets.replicas, nets.widths[0])]  # sums over the paths that end at a neuron, (K, H)
    for layer in range(1, nets.depth + 1):
        last = layer == nets.depth
        total = like.new_zeros(nets.replicas, nets.widths[layer])
        if layer in nets.biases and not last:
            total = total + nets.biases[layer].square()
        for (to, source), w in nets.blocks.items():
            if to == layer and not (last and source == 0):
                total = total + (w.square() @ squares[source].unsqueeze(-1)).squeeze(-1)
        squares.append(total)
    return squares[-1].sum(1).sqrt()
