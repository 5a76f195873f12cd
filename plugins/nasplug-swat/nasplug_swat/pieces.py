"""Networks cut between layers, and joined again: what compression by splitting works on (SWAT-NN, F.5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nasplug.compact import CompactNetwork
from nasplug.compact import load as load_network
from nasplug.errors import ConfigError
from nasplug.networks import Edge, Networks, forward, mixed
from nasplug.replicas import uniform
from nasplug.tasks import Split, Task, unscaled

__all__ = [
    "Activations",
    "activations_at",
    "as_task",
    "cut_out",
    "in_raw_units",
    "joined",
    "networks_in",
    "rescaled",
    "swat_piece",
    "values_at",
]


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
        w = state[f"weight_{to}_{source}"]
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
    return Networks(tuple(widths), blocks, biases, choices=choices if len(names) > 1 else {}, candidates=tuple(names))


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
    shift, scale = _own_units(module)
    up, by = state["output_shift"].double(), state["output_scale"].double()
    return rescaled(nets, (-shift / scale, 1.0 / scale), (-up / by, 1.0 / by))


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
    )


def values_at(nets: Networks, x: Tensor, layer: int) -> Tensor:
    """What the neurons of a layer put out, ``(K, H, B)``, for ``x (I, B)``; of layer 0 that is x, of the last the outputs.

    Raises:
        ConfigError: as `cut_out`.
    """
    if layer == 0:
        return x.expand(nets.replicas, -1, -1)
    sums = forward(cut_out(nets, 0, layer), x)
    if layer == nets.depth:
        return sums
    values = mixed(sums, nets.candidates, nets.choices.get(layer))
    return values * nets.gates[layer].unsqueeze(-1) if layer in nets.gates else values


Activations = tuple[tuple[str, ...], Tensor | None]
"""Of one layer: the candidates, and the choice among them, ``(K, H or 1, A)``, or None for the only one."""


def activations_at(nets: Networks, layer: int) -> Activations:
    """What a hidden layer applies to its sums."""
    return nets.candidates, nets.choices.get(layer)


def joined(pieces: Sequence[Networks], between: Sequence[Activations]) -> Networks:
    """Pieces one after the other, each one's outputs being the sums of a layer that stays: what `cut_out` took apart.

    Args:
        pieces: P networks, K rows each; the outputs of one are as many as the inputs of the next.
        between: of the P - 1 layers that stay, see `activations_at`.
    """
    offered = [*(candidates for candidates, _ in between), *(nets.candidates for nets in pieces)]
    names = tuple(dict.fromkeys(name for candidates in offered for name in candidates))
    like = next(iter(pieces[0].blocks.values()))

    def choice(activations: Activations, width: int) -> Tensor:
        candidates, chosen = activations
        whole = like.new_zeros(len(like), width, len(names))
        place = [names.index(name) for name in candidates]
        whole[..., place] = like.new_ones(1) if chosen is None else chosen.to(whole)
        return whole

    widths: list[int] = [pieces[0].widths[0]]
    blocks: dict[Edge, Tensor] = {}
    biases: dict[int, Tensor] = {}
    gates: dict[int, Tensor] = {}
    choices: dict[int, Tensor] = {}
    for number, nets in enumerate(pieces):
        at = len(widths) - 1  # the layer that this piece reads
        blocks |= {(to + at, source + at): nets.block((to, source)) for to, source in nets.blocks}
        biases |= {layer + at: b for layer, b in nets.biases.items()}
        gates |= {layer + at: g for layer, g in nets.gates.items()}
        choices |= {layer + at: choice(activations_at(nets, layer), nets.widths[layer]) for layer in range(1, nets.depth)}
        widths += nets.widths[1:]
        if number < len(between):
            choices[len(widths) - 1] = choice(between[number], widths[-1])
    return Networks(tuple(widths), blocks, biases, gates, choices=choices, candidates=names)


def swat_piece(
    *,
    network: str,
    first: int = 0,
    last: int | None = None,
    reach: float = 1.0,
    train: int = 3750,
    test: int = 1250,
    valid: float = 0.2,
    seed: int = 0,
) -> Task:
    """What a piece of a saved network does, as data: from the values of one layer to the sums of another.

    ``network`` is the folder of a saved network. Its inputs are drawn uniform on ``[-reach, reach]`` in the units it was
    trained in (after its own scaling). x: the values of layer ``first`` (0: the inputs), scaled to [-1, 1]; targets: what
    layer ``last`` (None: the outputs, before a link) sums, scaled to mean 0 and variance 1. ``train`` samples, of which the
    share ``valid`` is held back, and ``test`` others.

    Raises:
        ConfigError: for a folder that holds no network, layers that are not there, or counts and shares out of range.
    """
    where = "task 'swat_piece'"
    module = load_network(Path(network).expanduser())
    nets = in_raw_units(module)
    end = nets.depth if last is None else last
    held = round(valid * train)
    if not (test >= 1 and 1 <= held <= train - 2):
        raise ConfigError(f"{where}: train={train}, valid={valid}, test={test}; needed: samples in each of the three splits")
    if not (math.isfinite(reach) and reach > 0.0):
        raise ConfigError(f"{where}: reach={reach}; needed: a finite number > 0")
    piece = cut_out(nets, first, end)
    shift, scale = _own_units(module)
    pairs = []
    for stream, count in (("train", train), ("test", test)):
        points = uniform(torch.tensor([seed]), f"swat/piece {stream}", (nets.widths[0], count), -reach, reach)[0]
        x = values_at(nets, points * scale.unsqueeze(-1) + shift.unsqueeze(-1), first)[0]
        pairs.append((x, forward(piece, x)[0]))
    (x, y), tested = pairs
    task = as_task(
        f"piece {first}-{end}",
        [(x[:, held:], y[:, held:]), (x[:, :held], y[:, :held]), tested],
        inputs=(shift, reach * scale) if first == 0 else None,
        source=f"layers {first} to {end} of the network in {network}, {train} + {test} points within {reach:g}, seed {seed}",
    )
    what = "output" if end == nets.depth else f"sum {end}"
    features = module.record["features"] if first == 0 else [f"neuron {first}.{i + 1}" for i in range(len(x))]
    return replace(task, features=tuple(features), targets=tuple(f"{what}.{i + 1}" for i in range(len(y))))


def as_task(
    name: str, pairs: Sequence[tuple[Tensor, Tensor]], *, inputs: tuple[Tensor, Tensor] | None = None, source: str = ""
) -> Task:
    """Regression on raw pairs ``x (I, N)``, ``y (O, N)`` for training, validation and test.

    Scaled by the training pair: x to [-1, 1], unless ``inputs`` gives shift and scale, y to mean 0 and variance 1. What does
    not vary keeps its unit.
    """
    x, y = pairs[0]
    low, high = x.min(1).values, x.max(1).values
    shift, scale = inputs or ((high + low) / 2.0, _unit((high - low) / 2.0))
    mean, spread = y.mean(1), _unit(y.std(1, correction=0))

    def split(pair: tuple[Tensor, Tensor]) -> Split:
        x, y = pair
        x, y = (x - shift.unsqueeze(-1)) / scale.unsqueeze(-1), (y - mean.unsqueeze(-1)) / spread.unsqueeze(-1)
        return Split(x.float().contiguous(), y.float().contiguous())

    train, valid, test = (split(pair) for pair in pairs)
    return replace(
        unscaled(name, (train, valid, test), source=source),
        input_shift=shift.float(),
        input_scale=scale.float(),
        output_shift=mean.float(),
        output_scale=spread.float(),
    )


def _unit(scale: Tensor) -> Tensor:
    """Columns that do not vary keep their unit."""
    return torch.where(scale > 1e-9, scale, torch.ones_like(scale))


def _own_units(module: CompactNetwork) -> tuple[Tensor, Tensor]:
    """Shift and scale of each raw feature, float64; 0 and 1 for those it does not read."""
    state = module.state_dict()
    shift, scale = torch.zeros(module.record["inputs"]).double(), torch.ones(module.record["inputs"]).double()
    shift[state["kept"]], scale[state["kept"]] = state["input_shift"].double(), state["input_scale"].double()
    return shift, scale
