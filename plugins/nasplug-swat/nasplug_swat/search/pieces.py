"""Saved networks as records: in other units, and cut between layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nasplug.compact import CompactNetwork, load
from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug.plugins import load_plugins
from nasplug.tasks import Task

__all__ = ["cut_out", "in_raw_units", "networks_in", "opened", "rescaled", "scaling_of", "units_of"]


def opened(folder: str | Path) -> CompactNetwork:
    """A saved network, whose activations may be any that is installed.

    Raises:
        ConfigError: for a folder that holds none, or one whose outputs are a transformed target's.
    """
    found = load(Path(folder).expanduser(), load_plugins().functions)
    if found.transform is not None:
        raise ConfigError(
            f"{folder} holds a network of a target transformed by {found.transform.use!r}, which no layer can undo; needed: "
            "one without a transform"
        )
    return found


def networks_in(module: CompactNetwork) -> Networks:
    """A small module as one row of `Networks`, on all its inputs, without its scaling of inputs and outputs.

    Raises:
        ConfigError: for a network with a stem.
    """
    if module.stem is not None:
        raise ConfigError("the network has a stem of convolutions; needed: one without")
    record, state = module.record, module.state_dict()
    widths: list[int] = [record["inputs"], *module.widths[1:]]
    names = sorted({name for layer in module.activations for name, _ in layer}) or ["tanh"]
    blocks = {}
    for to, source in module.edges:
        w = module.weight(to, source).detach()
        if source == 0:
            whole = w.new_zeros(len(w), widths[0])
            whole[:, state["kept"]] = w
            w = whole
        blocks[to, source] = w.unsqueeze(0)
    if not blocks:  # a constant: its record has no edges, `Networks` have a block at least
        blocks[len(widths) - 1, 0] = torch.zeros(1, widths[-1], widths[0])
    choices = {}
    for layer, groups in enumerate(module.activations, start=1):
        which = torch.tensor([names.index(name) for name, count in groups for _ in range(count)], dtype=torch.long)
        choices[layer] = torch.nn.functional.one_hot(which, len(names)).float().unsqueeze(0)
    biases = {layer: state[f"bias_{layer}"].unsqueeze(0) for layer in range(1, len(widths))}
    return Networks(
        tuple(widths),
        blocks,
        biases,
        choices=choices if len(names) > 1 else {},
        candidates=tuple(names),
        functions=module.functions,
    )


def rescaled(nets: Networks, inputs: tuple[Tensor, Tensor], outputs: tuple[Tensor, Tensor]) -> Networks:
    """The same functions in other units: ``f'(x) = (f(x * c + s) - S) / C`` for inputs ``(s, c)`` and outputs ``(S, C)``.

    Shifts and scales are ``(I,)`` and ``(O,)``. Exact: they go into the blocks that read the inputs or make the outputs.
    """
    (shift, scale), (out_shift, out_scale) = inputs, outputs
    last = nets.depth
    blocks = {edge: nets.block(edge) for edge in nets.blocks}
    biases = dict(nets.biases)
    for (to, source), w in blocks.items():
        if source == 0:
            biases[to] = biases.get(to, w.new_zeros(w.shape[:2])) + w @ shift.to(w)
            blocks[to, source] = w * scale.to(w)
    for edge, w in blocks.items():
        if edge[0] == last:
            blocks[edge] = w / out_scale.to(w).unsqueeze(-1)
    like = next(iter(blocks.values()))
    biases[last] = (biases.get(last, like.new_zeros(len(like), nets.widths[-1])) - out_shift.to(like)) / out_scale.to(like)
    return replace(nets, blocks=blocks, biases=biases, edge_gates={})


def in_raw_units(module: CompactNetwork) -> Networks:
    """A small module as one row of `Networks` from raw features to what its link gets, in float64.

    Raises:
        ConfigError: for a network with a stem.
    """
    nets = networks_in(module).map(torch.Tensor.double)
    state = module.state_dict()
    shift, scale = units_of(module)
    up, by = state["output_shift"].double(), state["output_scale"].double()
    return rescaled(nets, (-shift / scale, 1.0 / scale), (-up / by, 1.0 / by))


def units_of(module: CompactNetwork) -> tuple[Tensor, Tensor]:
    """Shift and scale of each raw feature, float64; 0 and 1 for those it does not read."""
    state = module.state_dict()
    shift, scale = torch.zeros(module.record["inputs"]).double(), torch.ones(module.record["inputs"]).double()
    shift[state["kept"]], scale[state["kept"]] = state["input_shift"].double(), state["input_scale"].double()
    return shift, scale


def scaling_of(task: Task) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Shift and scale of a task's inputs and of its outputs, as `rescaled` takes them; float64."""
    return (task.input_shift.double(), task.input_scale.double()), (task.output_shift.double(), task.output_scale.double())


def cut_out(nets: Networks, first: int, last: int) -> Networks:
    """The functions from the values of layer ``first`` (0: the inputs) to what layer ``last`` sums, before its activation.

    Raises:
        ConfigError: for layers that are not there or not in this order, or a skip block that passes one of them by.
    """
    if not 0 <= first < last <= nets.depth:
        raise ConfigError(f"layers {first} to {last} of a network whose layers are 0 (inputs) to {nets.depth} (outputs)")
    if passing := [edge for edge in nets.blocks if any(edge[1] < cut < edge[0] for cut in (first, last))]:
        raise ConfigError(
            f"layers {first} to {last} of a network with skip blocks {passing}, which pass one of them by; cut elsewhere"
        )
    inside = [edge for edge in nets.blocks if first <= edge[1] and edge[0] <= last]
    return Networks(
        widths=nets.widths[first : last + 1],
        blocks={(to - first, source - first): nets.block((to, source)) for to, source in inside},
        biases={layer - first: b for layer, b in nets.biases.items() if first < layer <= last},
        gates={layer - first: g for layer, g in nets.gates.items() if first < layer < last},
        choices={layer - first: c for layer, c in nets.choices.items() if first < layer < last},
        candidates=nets.candidates,
        functions=nets.functions,
    )
