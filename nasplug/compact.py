"""`compact()`: one row of hard networks as a plain, physically small `torch.nn.Module`.

Dead neurons, empty layers and unused inputs are gone for real; what stays is a few small dense matrices. The module
knows no K and no nasplug; beside it stands a JSON record from which it is rebuilt with its safetensors weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nasplug.errors import ConfigError
from nasplug.networks import ACTIVATIONS, Networks, activation, alive, harden, sizes, take
from nasplug.stems import Stem
from nasplug.tasks import Task

__all__ = ["CompactNetwork", "compact", "export", "load", "save"]

FORMAT = "nasplug.network/1"
Link = Literal["identity", "sigmoid", "softmax"]


class CompactNetwork(nn.Module):
    """``x (N, I)`` -> ``(N, O)``, rows are samples as everywhere outside nasplug.

    ``h_0 = (x[:, kept] - shift) / scale``; ``h_l = f_l(sum_m h_m W_lm^T + b_l)``; the output is ``link(z) * scale + shift``.
    With a stem, ``h_0 = stem((x - shift) / scale)[:, kept]``: x is the image, row after row, channel after channel.
    Neurons of a layer are ordered by activation, so that each function is called once a layer.
    Built from its record alone; weights come by ``load_state_dict``.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__()
        if record.get("format") != FORMAT:
            raise ConfigError(f"network record has format {record.get('format')!r}; this version reads {FORMAT!r}")
        self.record = record
        self.widths: list[int] = record["widths"]
        self.activations: list[list[tuple[str, int]]] = [[(n, c) for n, c in layer] for layer in record["activations"]]
        self.edges: list[tuple[int, int]] = [(to, source) for to, source in record["blocks"]]
        for name in (name for layer in self.activations for name, _ in layer):
            if name not in ACTIVATIONS:
                raise ConfigError(
                    f"network record has activation {name!r}; known here: {', '.join(sorted(ACTIVATIONS))}. If a plugin offers "
                    "it, install that and call nasplug.plugins.load_plugins() first"
                )
        if [sum(count for _, count in layer) for layer in self.activations] != self.widths[1:-1]:
            raise ConfigError(f"network record has activations {self.activations} for hidden layers of {self.widths[1:-1]}")
        if record["link"] not in get_args(Link):
            raise ConfigError(f"network record has link {record['link']!r}; known: {', '.join(get_args(Link))}")
        self.stem: Stem | None = None
        if "stem" in record:
            self.stem = Stem(**{key: record["stem"][key] for key in ("image", "layers")})
            for number, (shape, part) in enumerate(zip(self.stem.shapes, self.stem.layers, strict=False), start=1):
                kernel = torch.zeros(1, part.channels, shape[0], *part.window)
                self.register_parameter(f"kernel_{number}", nn.Parameter(kernel))
                self.register_parameter(f"kernel_bias_{number}", nn.Parameter(torch.zeros(1, part.channels)))
        read = self.widths[0] if self.stem is None else self.stem.inputs
        self.register_buffer("kept", torch.tensor(record["kept_inputs"], dtype=torch.long))
        self.register_buffer("input_shift", torch.zeros(read))
        self.register_buffer("input_scale", torch.ones(read))
        self.register_buffer("output_shift", torch.zeros(self.widths[-1]))
        self.register_buffer("output_scale", torch.ones(self.widths[-1]))
        for to, source in self.edges:
            self.register_parameter(f"weight_{to}_{source}", nn.Parameter(torch.zeros(self.widths[to], self.widths[source])))
        for layer in range(1, len(self.widths)):
            self.register_parameter(f"bias_{layer}", nn.Parameter(torch.zeros(self.widths[layer])))

    def forward(self, x: Tensor) -> Tensor:
        """Raw features ``(N, I)`` -> predictions ``(N, O)``: units of the target, or probabilities."""
        values = [self._first(x)]
        for layer in range(1, len(self.widths)):
            z = self.get_parameter(f"bias_{layer}").expand(x.shape[0], -1)
            for to, source in self.edges:
                if to == layer:
                    z = z + values[source] @ self.get_parameter(f"weight_{to}_{source}").T
            if layer < len(self.widths) - 1:
                groups, first = [], 0
                for name, count in self.activations[layer - 1]:
                    groups.append(activation(name)(z[:, first : first + count]))
                    first += count
                z = torch.cat(groups, 1) if len(groups) > 1 else groups[0]
            values.append(z)
        out = values[-1]
        if self.record["link"] == "sigmoid":
            out = torch.sigmoid(out)
        elif self.record["link"] == "softmax":
            out = torch.softmax(out, 1)
        return out * self.get_buffer("output_scale") + self.get_buffer("output_shift")

    def _first(self, x: Tensor) -> Tensor:
        """Layer 0, ``(N, H_0)``."""
        kept, shift, scale = (self.get_buffer(name) for name in ("kept", "input_shift", "input_scale"))
        if self.stem is None:
            return (x.index_select(1, kept) - shift) / scale
        layers = range(1, len(self.stem.layers) + 1)
        kernels = {n: self.get_parameter(f"kernel_{n}") for n in layers}
        biases = {n: self.get_parameter(f"kernel_bias_{n}") for n in layers}
        return self.stem(kernels, biases, ((x - shift) / scale).T)[0].index_select(0, kept).T

    @property
    def first_names(self) -> list[str]:
        """A name a neuron of layer 0: the features that are read, or those of the stem."""
        names = self.record["features"] if self.stem is None else self.record["stem"]["names"]
        return [str(names[i]) for i in self.record["kept_inputs"]]

    def extra_repr(self) -> str:
        """What stands between the brackets when it is printed."""
        size, features = self.record["sizes"], self.first_names
        shown = ", ".join(features[:6]) + (", ..." if len(features) > 6 else "")
        return f"widths={self.widths}, edges={size['edges']}, parameters={size['parameters']}, inputs: {shown}"

    @property
    def parameter_count(self) -> int:
        """Non-zero weights and biases: what the network is made of (the matrices may hold zeros between them)."""
        return sum(int((p != 0).sum()) for p in self.parameters())


def _link(task: Task | None) -> Link:
    if task is None or task.loss == "mse":
        return "identity"
    return "sigmoid" if task.loss == "logistic" else "softmax"


def _thin_stem(one: Networks, features: Tensor) -> tuple[dict[str, Any], dict[str, Tensor], Tensor]:
    """The stem without its unused channels: its record, its weights, and where the used ``features (F,)`` are now."""
    assert one.stem is not None  # for the type checker
    used = one.stem.used(one.kernels, features.unsqueeze(0))
    keep = {0: torch.arange(one.stem.image[0])}
    for number, mask in used.items():
        mask = mask[0].clone()
        mask[0] |= not bool(mask.any())  # a layer of which the next reads nothing still has to be one
        keep[number] = mask.nonzero().squeeze(1)
    layers = range(1, len(used) + 1)
    thin = one.stem.thinned([len(keep[number]) for number in layers])
    state = {}
    for number in layers:
        kernel, bias = one.kernels[number], one.kernel_biases[number]
        state[f"kernel_{number}"] = kernel[:, keep[number]][:, :, keep[number - 1]].contiguous()
        state[f"kernel_bias_{number}"] = bias[:, keep[number]].contiguous()
    places = features.reshape(one.stem.shapes[-1])[keep[len(used)]].flatten().nonzero().squeeze(1)
    return thin.model_dump() | {"names": thin.names}, state, places


@torch.no_grad()
def compact(nets: Networks, k: int, task: Task | None = None) -> CompactNetwork:
    """Row ``k`` of ``nets`` (in direct space) as a small module.

    With a ``task`` the module takes raw features and puts out what a user asks for: scaling, units and probabilities are
    inside. Without one it is the bare function of scaled inputs. Soft gates are rounded first (`nasplug.networks.harden`).
    """
    device = next(iter(nets.blocks.values())).device
    one = alive(harden(take(nets, torch.tensor([k], device=device))).map(lambda t: t.detach().cpu().float()))
    masks = {0: torch.zeros(one.widths[0], dtype=torch.bool)}
    for (_, source), gate in one.edge_gates.items():
        if source == 0:
            masks[0] |= (gate[0] > 0).any(0)
    for layer in range(1, one.depth):
        masks[layer] = one.gates[layer][0] > 0
    masks[one.depth] = torch.ones(one.widths[-1], dtype=torch.bool)

    keep: dict[int, Tensor] = {0: masks[0].nonzero().squeeze(1)}  # layer -> indices of kept neurons, in module order
    groups: dict[int, list[tuple[str, int]]] = {}
    for layer in range(1, one.depth):
        index = masks[layer].nonzero().squeeze(1)
        if layer in one.choices:
            chosen = one.choices[layer][0].argmax(-1).expand(one.widths[layer])[index]
            order = torch.argsort(chosen, stable=True)
            index, chosen = index[order], chosen[order]
        else:
            chosen = torch.zeros(len(index), dtype=torch.long)
        keep[layer] = index
        groups[layer] = [(one.candidates[c], int((chosen == c).sum())) for c in sorted(set(chosen.tolist()))]
    keep[one.depth] = torch.arange(one.widths[-1])
    layers = [0, *(layer for layer in range(1, one.depth) if len(keep[layer])), one.depth]
    place = {layer: position for position, layer in enumerate(layers)}

    state: dict[str, Tensor] = {}
    blocks: list[tuple[int, int]] = []
    for (to, source), w in one.blocks.items():
        if to in place and source in place and len(keep[source]):
            small = w[0][keep[to]][:, keep[source]]
            if bool((small != 0).any()):
                blocks.append((place[to], place[source]))
                state[f"weight_{place[to]}_{place[source]}"] = small.contiguous()
    for layer in layers[1:]:
        bias = one.biases[layer][0] if layer in one.biases else torch.zeros(one.widths[layer])
        state[f"bias_{place[layer]}"] = bias[keep[layer]].contiguous()
    before: dict[str, Any] = {}
    read = keep[0]  # indices of x
    if one.stem is not None and len(read):
        before["stem"], kernels, keep[0] = _thin_stem(one, masks[0])
        state |= kernels
        read = torch.arange(one.stem.inputs)
    state["kept"] = keep[0]
    ones = {"input": len(read), "output": one.widths[-1]}
    for end, width in ones.items():
        state[f"{end}_shift"], state[f"{end}_scale"] = torch.zeros(width), torch.ones(width)
    if task is not None:
        state["input_shift"] = task.input_shift.float()[read]
        state["input_scale"] = task.input_scale.float()[read]
        if task.kind == "regression":
            state["output_shift"], state["output_scale"] = task.output_shift.float(), task.output_scale.float()
    size = {name: int(value) for name, value in sizes(one).items()}
    record: dict[str, Any] = {
        "format": FORMAT,
        "inputs": one.inputs,
        "features": list(task.features) if task else [f"x{i}" for i in range(one.inputs)],
        "kept_inputs": keep[0].tolist(),
        "widths": [len(keep[layer]) for layer in layers],
        "activations": [groups[layer] for layer in layers[1:-1]],
        "blocks": blocks,
        "link": _link(task),
        "targets": list(task.targets) if task else [f"y{i}" for i in range(one.widths[-1])],
        "sizes": size,
        **before,
    }
    module = CompactNetwork(json.loads(json.dumps(record)))
    module.load_state_dict(state)
    return module.eval()


def export(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """The module as a graph (`torch.export`) whose batch axis is free; ``example (N, I)`` with N >= 2."""
    return torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("samples", min=1)},))


def save(network: CompactNetwork, folder: Path) -> None:
    """Write ``network.json`` and ``weights.safetensors``: all that is needed, and no code in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.json").write_text(json.dumps(network.record, indent=1) + "\n")
    save_file({name: t.contiguous() for name, t in network.state_dict().items()}, folder / "weights.safetensors")


def load(folder: Path) -> CompactNetwork:
    """Rebuild a network that `save` wrote.

    Raises:
        ConfigError: when the folder does not hold one, or its record and weights do not fit.
    """
    try:
        record = json.loads((folder / "network.json").read_text())
        if not isinstance(record, dict):
            raise ConfigError(f"{folder / 'network.json'} does not hold a network's record")
        network = CompactNetwork(record)
        network.load_state_dict(load_file(folder / "weights.safetensors"))
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{folder} does not hold a network saved by nasplug: {error}") from error
    return network.eval()
