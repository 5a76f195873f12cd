"""`compact()`: one row of hard networks as a plain, physically small `torch.nn.Module`.

Dead neurons, empty layers and unused inputs are gone for real; what stays is a few small dense matrices. The module
knows no K and no nasplug; beside it stands a JSON record from which it is rebuilt with its safetensors weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nasplug import additive, files, notebook
from nasplug.activations import FUNCTIONS, Function, non_decreasing
from nasplug.console import visible
from nasplug.data.transforms import Transform, undone
from nasplug.errors import ConfigError
from nasplug.monotone import certified
from nasplug.networks import Networks, alive, folded, harden, sizes, take
from nasplug.networks.thinning import kept, passed, small, thin_stem
from nasplug.records import FORMAT, answers, check_record, reading
from nasplug.stems import Stem
from nasplug.tasks import FURTHEST, Facts, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CompactNetwork", "compact", "digest_of", "export", "load", "save"]

RECORD, WEIGHTS = "network.json", "weights.safetensors"
DIGEST = "digest"  # of record and weights together, written into both files


class CompactNetwork(nn.Module):
    """``x (N, I)`` -> ``(N, O)``, rows are samples as everywhere outside nasplug; outputs are float64.

    Raw inputs are centred and scaled in float64 and only then cast to the type of the weights: what is large beside its spread,
    as times in milliseconds, keeps its digits.

    ``h_0 = (x[:, kept] - shift) / scale``; ``h_l = f_l(sum_m h_m W_lm^T + b_l)``, where some h_m are passed on without weights
    (``passes`` in the record); the output is ``link(z) * scale + shift``,
    of which a transform of the target is undone.
    With a stem, ``h_0 = stem((x - shift) / scale)[:, kept]``: x is the image, row after row, channel after channel.
    Neurons of a layer are ordered by activation, so that each function is called once per layer.
    Built from its record and what its activations mean; weights come by ``load_state_dict``.
    """

    def __init__(self, record: dict[str, Any], functions: Mapping[str, Function] = FUNCTIONS) -> None:
        super().__init__()
        check_record(record)
        self.record = record
        self.widths: list[int] = record["widths"]
        self.activations: list[list[tuple[str, int]]] = [[(n, c) for n, c in layer] for layer in record["activations"]]
        self.edges: list[tuple[int, int]] = [(to, source) for to, source in record["blocks"]]
        self.stem: Stem | None = None
        if "stem" in record:
            self.stem = Stem(**{key: record["stem"][key] for key in ("image", "layers")})
            for number, (shape, part) in enumerate(zip(self.stem.shapes, self.stem.layers, strict=False), start=1):
                kernel = torch.zeros(1, part.channels, shape[0], *part.window)
                self.register_parameter(f"kernel_{number}", nn.Parameter(kernel))
                self.register_parameter(f"kernel_bias_{number}", nn.Parameter(torch.zeros(1, part.channels)))
        self.functions = dict(functions)
        for name in self.names:
            if name not in functions:
                raise ConfigError(
                    f"network record has activation {name!r}; known here: {', '.join(sorted(functions))}. If a plugin offers "
                    "it, install that and load with functions=nasplug.plugins.load_plugins().functions"
                )
        read = self.widths[0] if self.stem is None else self.stem.inputs
        self.register_buffer("kept", torch.tensor(record["kept_inputs"], dtype=torch.long))
        for end, width in (("input", read), ("output", self.widths[-1])):
            self.register_buffer(f"{end}_shift", torch.zeros(width, dtype=torch.float64))
            self.register_buffer(f"{end}_scale", torch.ones(width, dtype=torch.float64))
        self.transform = Transform.from_plain(record["transform"]) if "transform" in record else None
        for place, knots in enumerate(self.transform.knots() if self.transform else []):
            self.register_buffer(f"knots_{place}", knots, persistent=False)  # they are in the record
        for to, source in self.edges:
            self.register_parameter(f"weight_{to}_{source}", nn.Parameter(torch.zeros(self.widths[to], self.widths[source])))
        self.whole: set[tuple[int, int]] = set()  # edges that pass a layer on as it is
        for to, source, places in record.get("passes", []):
            into = (torch.tensor(places).unsqueeze(1) == torch.arange(self.widths[source])).float()
            self.register_buffer(f"pass_{to}_{source}", into, persistent=False)  # it is in the record
            self.edges.append((to, source))
            if places == list(range(self.widths[source])):
                self.whole.add((to, source))
        for layer in range(1, len(self.widths)):
            self.register_parameter(f"bias_{layer}", nn.Parameter(torch.zeros(self.widths[layer])))

    def forward(self, x: Tensor) -> Tensor:
        """Raw features ``(N, I)`` -> predictions ``(N, O)``: units of the target, or probabilities."""
        values = [self._first(x)]
        for layer in range(1, len(self.widths)):
            z = self.get_parameter(f"bias_{layer}").expand(x.shape[0], -1)
            for to, source in self.edges:
                if to == layer:
                    z = z + values[source] if (to, source) in self.whole else z + values[source] @ self.weight(to, source).T
            if layer < len(self.widths) - 1:
                groups, first = [], 0
                for name, count in self.activations[layer - 1]:
                    groups.append(self.functions[name](z[:, first : first + count]))
                    first += count
                z = torch.cat(groups, 1) if len(groups) > 1 else groups[0]
            values.append(z)
        out = values[-1]
        if self.record["link"] == "sigmoid":
            out = torch.sigmoid(out)
        elif self.record["link"] == "softmax":
            out = torch.softmax(out, 1)
        elif self.record["link"] == "exp":
            out = out.clamp(max=FURTHEST).exp()
        out = out.double() * self.get_buffer("output_scale") + self.get_buffer("output_shift")
        if self.transform is None:
            return out
        return undone(out, [self.get_buffer(f"knots_{place}") for place in range(len(self.transform.values))])

    def weight(self, to: int, source: int) -> Tensor:
        """The weights from a layer to a later one, ``(H_to, H_from)``: learned, or 0 and 1 where values are passed on."""
        name = f"weight_{to}_{source}"
        return self.get_parameter(name) if name in self._parameters else self.get_buffer(f"pass_{to}_{source}")

    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of the user's table -> named answers, one row each, with the table's index.

        A regression has a column per target, in its units. Labels have the column ``label`` and ``P(LABEL)`` for each label,
        or, of a network without probabilities, ``score of LABEL``. The table needs the columns that the network reads, by
        name: in any order, beside others; words and gaps are taken as in training.

        Raises:
            ConfigError: for a column that is missing, or a value that cannot be read.
        """
        with torch.no_grad():
            outputs = self(torch.from_numpy(self.features(table)))
        return answers(self.record, outputs.double().numpy(), table.index)

    def features(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        """What `forward` takes, ``(N, I)``, of rows of the user's table; columns that the network does not read are 0.

        Raises:
            ConfigError: as `predict`.
        """
        encoder, read = reading(self.record)
        return encoder.features(table, read=read)

    def _first(self, x: Tensor) -> Tensor:
        """Layer 0, ``(N, H_0)``."""
        kept, shift, scale = (self.get_buffer(name) for name in ("kept", "input_shift", "input_scale"))
        dtype = self.get_parameter("bias_1").dtype
        if self.stem is None:
            return ((x.index_select(1, kept).double() - shift) / scale).to(dtype)
        layers = range(1, len(self.stem.layers) + 1)
        kernels = {n: self.get_parameter(f"kernel_{n}") for n in layers}
        biases = {n: self.get_parameter(f"kernel_bias_{n}") for n in layers}
        return self.stem(kernels, biases, ((x.double() - shift) / scale).to(dtype).T, self.functions)[0].index_select(0, kept).T

    @property
    def names(self) -> list[str]:
        """All activations."""
        stem = [part.activation for part in self.stem.layers] if self.stem is not None else []
        return list(dict.fromkeys([*stem, *(name for layer in self.activations for name, _ in layer)]))

    @property
    def proven(self) -> bool:
        """Whether the weights prove what the record says of ``monotone`` features, and of its ``structure``.

        ``monotone``: feature -> +1 or -1 of every output. ``structure``: `nasplug.additive.STRUCTURES`.
        """
        told: dict[str, int] = self.record.get("monotone", {})
        most = additive.STRUCTURES.get(self.record.get("structure", ""))
        weights = {edge: self.weight(*edge).detach().unsqueeze(0) for edge in self.edges}
        if not weights:
            return True
        if told and not all(non_decreasing(name, self.functions) for name in self.names):
            return False
        if told and not bool(certified(weights, self.widths, [told.get(name, 0) for name in self.first_names]).all()):
            return False
        places = {at: column for column, (_, where) in enumerate(self.columns) for at in where}
        groups = tuple(places[at] for at in range(self.widths[0]))
        return most is None or bool(additive.certified(weights, self.widths, groups, most).all())

    @property
    def columns(self) -> list[tuple[str, list[int]]]:
        """Columns of the user's table that are read, and where in layer 0 their numbers are; with a stem, its features.

        A column of which one number is left bears that number's name.
        """
        names = self.first_names
        if self.stem is not None or "groups" not in self.record:
            return [(name, [place]) for place, name in enumerate(names)]
        found: dict[int, list[int]] = {}
        for place, feature in enumerate(self.record["kept_inputs"]):
            found.setdefault(self.record["groups"][feature], []).append(place)
        return [
            (str(self.record["columns"][column]) if len(at) > 1 else names[at[0]], at) for column, at in sorted(found.items())
        ]

    @property
    def first_names(self) -> list[str]:
        """One name per neuron of layer 0: the features that are read, or those of the stem."""
        names = self.record["features"] if self.stem is None else self.record["stem"]["names"]
        return [str(names[i]) for i in self.record["kept_inputs"]]

    def extra_repr(self) -> str:
        """What stands between the brackets when it is printed."""
        size, features = self.record["sizes"], self.first_names
        shown = ", ".join(features[:6]) + (", ..." if len(features) > 6 else "")
        return f"widths={self.widths}, edges={size['edges']}, parameters={size['parameters']}, inputs: {visible(shown)}"

    def _repr_html_(self) -> str:
        size, names = self.record["sizes"], [name for name, _ in self.columns]
        told = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        layers = [" + ".join(f"{count} {name}" for name, count in layer) for layer in self.activations]
        return notebook.facts(
            "Compact network",
            {
                "predicts": ", ".join(map(str, self.record["targets"][:20])),
                "reads": told or "nothing: it always says the same",
                "parameters": self.parameter_count,
                "edges": size["edges"],
                "hidden layers": "; ".join(layers) or "none: it is linear",
            },
        )

    @property
    def parameter_count(self) -> int:
        """Non-zero weights and biases: what the network is made of (the matrices may hold zeros between them)."""
        return sum(int((p != 0).sum()) for p in self.parameters())


class Recorded(Protocol):
    """A module with a record of plain data."""

    record: dict[str, Any]

    def state_dict(self) -> dict[str, Any]: ...


@torch.no_grad()
def compact(nets: Networks, k: int, task: Task | Facts | None = None) -> CompactNetwork:
    """Row ``k`` of ``nets`` (in direct space) as a small module.

    With a ``task`` the module takes raw features and returns predictions in the target's units, or probabilities: scaling
    is inside. Without one it is the bare function of scaled inputs. Soft gates are rounded first (`nasplug.networks.harden`).
    """
    device = next(iter(nets.blocks.values())).device
    row = folded(take(nets, torch.tensor([k], device=device)))
    one = alive(harden(row).map(lambda t: t.detach().cpu().float()))
    keep, groups = kept(one)
    layers = [0, *(layer for layer in range(1, one.depth) if len(keep[layer]) and layer not in one.passes), one.depth]
    blocks, state = small(one, keep, layers)
    before: dict[str, Any] = {}
    read = keep[0]  # indices of x
    if one.stem is not None and len(read):
        features = torch.zeros(one.widths[0], dtype=torch.bool)
        features[read] = True
        before["stem"], kernels, keep[0] = thin_stem(one, features)
        state |= kernels
        read = torch.arange(one.stem.inputs)
    state["kept"] = keep[0]
    ones = {"input": len(read), "output": one.widths[-1]}
    for end, width in ones.items():
        state[f"{end}_shift"], state[f"{end}_scale"] = torch.zeros(width).double(), torch.ones(width).double()
    if task is not None:
        state["input_shift"] = task.input_shift.double()[read]
        state["input_scale"] = task.input_scale.double()[read]
        if task.kind == "regression":
            state["output_shift"], state["output_scale"] = task.output_shift.double(), task.output_scale.double()
        if task.columns != task.features:
            before |= {"columns": list(task.columns), "groups": list(task.groups)}
        if task.transform is not None:
            before["transform"] = dict(task.transform)
        if task.encoder is not None:
            before["encoder"] = dict(task.encoder)
    size = {name: int(value) for name, value in sizes(one).items() if name != "macs"}  # a network's digest has never had it
    record: dict[str, Any] = {
        "format": FORMAT,
        "inputs": one.inputs,
        "features": list(task.features) if task else [f"x{i}" for i in range(one.inputs)],
        "kept_inputs": keep[0].tolist(),
        "widths": [len(keep[layer]) for layer in layers],
        "activations": [groups[layer] for layer in layers[1:-1]],
        "blocks": blocks,
        "link": "identity" if task is None else task.link,
        "targets": list(task.targets) if task else [f"y{i}" for i in range(one.widths[-1])],
        "sizes": size,
        **before,
    }
    if one.monotone:
        record["monotone"] = {name: way for name, way in zip(record["features"], one.monotone, strict=True) if way}
    if passes := passed(one, keep, layers):
        record["passes"] = passes
    if one.terms:
        record["structure"] = additive.structure_of(one.terms)
    module = CompactNetwork(json.loads(json.dumps(record)), nets.functions)
    module.load_state_dict(state)
    return module.eval()


def digest_of(network: Recorded) -> str:
    """SHA-256 of a network's record and weights, hexadecimal."""
    h = hashlib.sha256(json.dumps(network.record, sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        h.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return h.hexdigest()


def export(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """The module as a graph (`torch.export`) whose batch axis is free; ``example (N, I)`` with N >= 2."""
    return torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("samples", min=1)},))


def save(network: CompactNetwork, folder: str | Path) -> None:
    """Write ``network.json`` and ``weights.safetensors``: all that is needed, and no code in it.

    Both are sealed (`nasplug.files`), and say which record and which weights belong together.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    digest = digest_of(network)
    files.write_json(folder / RECORD, {**network.record, DIGEST: digest})
    files.write_tensors(folder / WEIGHTS, network.state_dict(), {DIGEST: digest})


def load(folder: str | Path, functions: Mapping[str, Function] = FUNCTIONS) -> CompactNetwork:
    """Rebuild a network that `save` wrote.

    ``functions``: name -> activation; those of plugins are in `nasplug.plugins.Plugins.functions`.

    Raises:
        ConfigError: if the folder holds no network, if it was damaged, or if record and weights do not belong together.
    """
    folder = Path(folder)
    try:
        record = files.read_json(folder / RECORD)
        weights, told = files.read_tensors(folder / WEIGHTS)
        if record.pop(DIGEST, None) != told.get(DIGEST):
            raise ConfigError(f"{RECORD} and {WEIGHTS} are not of one network")
        network = CompactNetwork(record, functions)
        for name, own in network.state_dict().items():
            if name in weights and weights[name].dtype != own.dtype:
                raise ConfigError(f"{WEIGHTS}: {name} is of {weights[name].dtype}; needed: {own.dtype}")
            if name in weights and not bool(torch.isfinite(weights[name]).all()):
                raise ConfigError(f"{WEIGHTS}: {name} has values that are not finite")
        network.load_state_dict(weights)
        if network.get_buffer("kept").tolist() != record["kept_inputs"]:
            raise ConfigError(f"{WEIGHTS} and {RECORD} read different inputs")
        if not network.proven:
            what = [f"monotone in {', '.join(record['monotone'])}"] if record.get("monotone") else []
            what += [record["structure"]] if record.get("structure") else []
            raise ConfigError(f"{RECORD} says that it is {' and '.join(what)}; its weights are not")
    except (ConfigError, RuntimeError) as error:
        raise ConfigError(f"{folder} does not hold a network saved by nasplug: {error}") from error
    return network.eval()
