"""How long activations take on this CPU: costs for `ranked`.

    python -m nasplug_mixture.latency relu tanh gelu

prints a line of YAML: nanoseconds per neuron and sample, in a layer of 64 neurons and 256 samples, one thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence

import torch

from nasplug.activations import FUNCTIONS, Function, function_of
from nasplug.plugins import load_plugins
from nasplug_mixture.method import USUAL

__all__ = ["latencies"]


@torch.no_grad()
def latencies(
    candidates: Sequence[str] = USUAL,
    functions: Mapping[str, Function] = FUNCTIONS,
    *,
    neurons: int = 64,
    samples: int = 256,
    rounds: int = 200,
) -> dict[str, float]:
    """Nanoseconds per neuron and sample of each candidate: medians over rounds in which they take turns, float32.

    On as many threads as torch has been told to use. A small layer costs a call more than its neurons: about a microsecond
    per *different* activation in a layer, which is not in these numbers.

    Raises:
        ConfigError: for an unknown activation.
    """
    taken = {name: function_of(name, functions) for name in candidates}
    z = torch.linspace(-4.0, 4.0, neurons * samples).view(neurons, samples)
    seconds: dict[str, list[float]] = {name: [] for name in taken}
    for turn in range(rounds + 5):  # the first ones warm up
        for name, function in taken.items():
            began = time.perf_counter()
            function(z)
            if turn >= 5:
                seconds[name].append(time.perf_counter() - began)
    return {name: 1e9 * statistics.median(values) / z.numel() for name, values in seconds.items()}


def main() -> None:
    """Measure the named activations, or the usual ones."""
    torch.set_num_threads(1)
    found = latencies(sys.argv[1:] or USUAL, load_plugins().functions)
    print("costs: {" + ", ".join(f"{name}: {value:.3g}" for name, value in found.items()) + "}")


if __name__ == "__main__":
    main()
