"""`operations`: what leads from one layer to another is a point of the simplex over operations, each with its own weights."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.contracts import Params, SearchMethod, Traits
from nasplug.errors import ConfigError
from nasplug.networks import Edge, Networks, check_hidden
from nasplug.replicas import uniform
from nasplug.stems import Stem, drawn, entrance, parts
from nasplug.tasks import Task
from nasplug_mixture.simplex import Parametrisation, Sampling, check_sampling, flat, points, start_of, starts
from nasplug_mixture.skeleton import Skeleton, rank, skeleton
from nasplug_mixture.stages import Stages, check_stages, dropped, mask_of, masks, still_open

__all__ = ["USUAL_OPERATIONS", "Operations", "operations"]

USUAL_OPERATIONS = ("linear", "rank_2", "residual", "none")
"""The operations unless others are named."""

MOST_RANK = 1024
MOST_LAYERS = 2**16  # of networks, those of operations among them: a compiled step sorts by whole numbers, not by edges
Between = Literal["next", "all"]


@dataclass(frozen=True, slots=True)
class Operations(SearchMethod):
    """See `operations`."""

    hidden: tuple[int, ...]
    operations: tuple[str, ...]
    activation: str
    between: Between
    parametrisation: Parametrisation
    sampling: Sampling
    bias: bool
    narrower: tuple[int, ...] = ()
    stem: Stem | None = None
    stages: Stages = ()

    @property
    def traits(self) -> Traits:
        """Its architecture: ``operation <to> <from>`` of edges and ``width <layer>`` of layers with something to choose, and
        the shares of sizes in a stem.
        """
        leaves = frozenset(f"operation {to} {source}" for to, source in self._edges() if len(self._offered(to, source)) > 1)
        leaves |= {f"width {layer}" for layer in range(1, len(self.hidden) + 1) if len(self._widths(layer)) > 1}
        leaves |= frozenset(self.stem.choosing if self.stem else ())
        return Traits(
            architecture=leaves,
            simplex=leaves if self.parametrisation == "simplex" else frozenset(),
            untrained=frozenset(mask_of(name) for name in leaves) if self.stages else frozenset(),
            stochastic=self.sampling != "none",
        )

    def _edges(self) -> list[Edge]:
        """(to, from) of the method's layers."""
        depth = len(self.hidden) + 1
        return [(to, source) for to in range(1, depth + 1) for source in range(to) if self.between == "all" or source == to - 1]

    def _offered(self, to: int, source: int, inputs: int | None = None, outputs: int | None = None) -> tuple[str, ...]:
        """The operations of an edge: residual where two hidden layers are as wide, a rank below both widths.

        Without the task's numbers its ends count as wide enough for any rank: which leaves there are is no matter of the task.
        """
        widths = (inputs, *self.hidden, outputs)
        ends = [width for width in (widths[to], widths[source]) if width is not None]
        inner = source > 0 and to <= len(self.hidden)
        found = []
        for name in self.operations:
            if name == "residual" and not (inner and widths[to] == widths[source]):
                continue
            if name.startswith("rank_") and not all(rank(name) < width for width in ends):
                continue
            found.append(name)
        return tuple(found)

    def _widths(self, layer: int) -> tuple[int, ...]:
        """The widths of a hidden layer to choose from, ascending, its own last."""
        full = self.hidden[layer - 1]
        return (*(width for width in self.narrower if width < full), full)

    def skeleton(self, inputs: int, outputs: int) -> Skeleton:
        """The layers of networks with so many inputs and outputs."""
        offered = {edge: self._offered(*edge, inputs, outputs) for edge in self._edges()}
        return skeleton((inputs, *self.hidden, outputs), offered)

    def accept(self, task: Task) -> None:
        """Refuse operations that no edge has, networks that they leave in two, and a task in which no edge has a choice.

        Raises:
            ConfigError: naming them.
        """
        inputs = entrance(self.stem, task)
        offered = {edge: self._offered(*edge, inputs, task.outputs) for edge in self._edges()}
        for name in self.operations:
            if not any(name in some for some in offered.values()):
                why = (
                    "needs two hidden layers of equal width"
                    + (" after one another" if self.between == "next" else "")
                    + ": write hidden: [16, 16]"
                    if name == "residual"
                    else "fits no edge, as it has to be below the widths of both ends: take a smaller rank, or wider layers"
                )
                raise ConfigError(f"operations: {name} {why}; or remove it from operations")
        wide = (inputs, *self.hidden, task.outputs)
        for end, width, what in ((0, wide[0], "input"), (len(wide) - 1, wide[-1], "output")):
            if not any({*some} - {"none"} for edge, some in offered.items() if end in edge):
                raise ConfigError(
                    f"operations: no one of {', '.join(self.operations)} leads over the edges of the {what}, of width {width}; "
                    "add linear or gated, or a rank below the widths of both ends"
                )
        for (to, source), some in offered.items() if self.between == "next" else ():
            if not some:
                raise ConfigError(
                    f"operations: no one of {', '.join(self.operations)} leads from layer {source} of width {wide[source]} to "
                    f"layer {to} of width {wide[to]}; add linear or gated, or a rank below the widths of both ends"
                )
        if all(len(some) < 2 for some in offered.values()):
            raise ConfigError(
                f"operations: with {inputs} inputs and {task.outputs} outputs no edge has two of "
                f"{', '.join(self.operations)} to choose from; add none (with between: all), or a smaller rank"
            )

    def init(self, task: Task, seeds: Tensor) -> Params:
        """Leaves by layer of the method; float64.

        ``linear <to> <from> (K, H_to, H_from)``, ``rank_R down <to> <from> (K, R, H_from)``, ``rank_R up <to> <from> (K, H_to,
        R)``, ``gated <to> <from> (K, 2 H_to, H_from)`` and ``gated bias <to> <from> (K, 2 H_to)`` (the sums', then the gates'),
        ``bias <to> (K, H)``: ``U[-1, 1] / sqrt(columns)``, as `torch.nn.Linear` draws.
        ``operation <to> <from> (K, A)``, ``width <layer> (K, C)``: all operations, and all widths, start alike.
        A stem's leaves are those of `nasplug.stems.drawn`. With stages also ``kept <leaf>`` of each leaf of the architecture,
        ones (`nasplug_mixture.stages`).
        """
        sides = (entrance(self.stem, task), *self.hidden, task.outputs)
        params: Params = drawn(self.stem, seeds) | starts(self.stem, self.parametrisation, seeds)
        gate_biases: list[Edge] = []

        def draw(name: str, rows: int, columns: int) -> None:
            bound = 1.0 / math.sqrt(columns)
            params[name] = uniform(seeds, f"operations/{name}", (rows, columns), -bound, bound)

        for to, source in self._edges():
            offered = self._offered(to, source, sides[0], sides[-1])
            for name in offered:
                if name == "linear":
                    draw(f"linear {to} {source}", sides[to], sides[source])
                elif name == "gated":
                    draw(f"gated {to} {source}", 2 * sides[to], sides[source])
                    gate_biases += [(to, source)] if self.bias else []
                elif name.startswith("rank_"):
                    draw(f"{name} down {to} {source}", rank(name), sides[source])
                    draw(f"{name} up {to} {source}", sides[to], rank(name))
            if f"operation {to} {source}" in self.traits.architecture:
                start = start_of(self.parametrisation, len(offered))
                params[f"operation {to} {source}"] = torch.full(
                    (len(seeds), len(offered)), start, dtype=torch.float64, device=seeds.device
                )
        for layer in range(1, len(self.hidden) + 1):
            if f"width {layer}" in self.traits.architecture:
                count = len(self._widths(layer))
                start = start_of(self.parametrisation, count)
                params[f"width {layer}"] = torch.full((len(seeds), count), start, dtype=torch.float64, device=seeds.device)
        for to, source in gate_biases:
            bound = 1.0 / math.sqrt(sides[source])
            name = f"gated bias {to} {source}"
            params[name] = uniform(seeds, f"operations/{name}", (2 * sides[to],), -bound, bound)
        for to in range(1, len(sides)) if self.bias else ():
            bound = 1.0 / math.sqrt(sides[to - 1])
            params[f"bias {to}"] = uniform(seeds, f"operations/bias {to}", (sides[to],), -bound, bound)
        return params | masks(params, [name for name in params if name in self.traits.architecture] if self.stages else [])

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """The mixtures at temperature ``tau``; with ``noise``, one seed per row, one draw of them."""
        inputs, outputs = self._ends(params)
        found = self.skeleton(inputs, outputs)
        widths = found.widths
        like, depth = next(iter(params.values())), len(found.widths) - 1
        k = len(like)
        blocks: dict[Edge, Tensor] = {}
        gates: dict[int, Tensor] = {}
        edge_gates: dict[Edge, Tensor] = {}
        kept: dict[int, Tensor] = {}

        def shares(name: str, called: str) -> Tensor:
            left = still_open(params, name)
            return points(params[name], f"operations/{called}", tau, noise, self.parametrisation, self.sampling, left)

        for group, ((to, source), ways) in enumerate(found.ways.items()):
            share, name = like.new_ones(k, 1), f"operation {to} {source}"
            if len(ways) > 1:
                share = shares(name, f"{to} {source}")  # (K, A)
                if (left := still_open(params, name)) is not None:
                    kept[group] = left.to(like)
            for at, (name, way) in enumerate(ways.items()):
                ends = (found.place[to], found.place[source])
                if name == "gated":
                    first, way = found.gated[to, source]
                    blocks[first, ends[1]] = params[f"gated {to} {source}"]
                    blocks[way, first], blocks[ends[0], way] = _products(widths[ends[0]], like)
                    gates[way] = share[:, at : at + 1].expand(k, widths[way])
                elif isinstance(way, int):
                    down, up = self._factors(params, name, (to, source), like)
                    blocks[way, ends[1]], blocks[ends[0], way] = down, up
                    gates[way] = share[:, at : at + 1].expand(k, found.widths[way])
                elif way is not None:
                    blocks[way] = params[f"linear {to} {source}"]
                    edge_gates[way] = share[:, at, None, None].expand_as(blocks[way])
        for layer, full in enumerate(self.hidden, 1):
            if f"width {layer}" in params:
                share = shares(f"width {layer}", f"width {layer}")  # (K, C)
                masks = torch.arange(full, device=like.device) < torch.tensor(self._widths(layer), device=like.device)[:, None]
                gates[found.place[layer]] = share @ masks.to(like)  # neuron j has the shares of all widths above j
        candidates = tuple(dict.fromkeys((self.activation, "identity", *(("sigmoid", "square") if found.gated else ()))))
        own = {layer: [self.activation] for layer in found.place}
        for first, second in found.gated.values():
            half = widths[first] // 2
            own |= {first: ["identity"] * half + ["sigmoid"] * half, second: ["square"]}
        hot = {
            layer: F.one_hot(
                torch.tensor([candidates.index(name) for name in own.get(layer, ["identity"])], device=like.device),
                len(candidates),
            ).to(like)
            for layer in range(1, depth)
        }
        biases = {found.place[to]: params[f"bias {to}"] for to in range(1, len(found.place))} if self.bias else {}
        biases |= {layers[0]: params[f"gated bias {to} {source}"] for (to, source), layers in found.gated.items() if self.bias}
        return Networks(
            widths=found.widths,
            blocks={edge: blocks[edge] for edge in sorted(blocks, key=lambda edge: MOST_LAYERS * edge[0] + edge[1])},
            biases={layer: biases[layer] for layer in sorted(biases)},
            gates=gates,
            edge_gates=edge_gates,
            choices={layer: one.expand(k, -1, -1) for layer, one in hot.items()},
            candidates=candidates,
            alternatives=tuple(tuple(ways.values()) for ways in found.ways.values()),
            passes=found.passes,
            concentrations=flat(params, self.traits.architecture) if self.sampling == "dirichlet" else {},
            kept=kept,
            constants=tuple(
                edge for (to, _), (first, way) in found.gated.items() for edge in ((way, first), (found.place[to], way))
            ),
            **parts(self.stem, params, lambda name, _: shares(name, name)),
        )

    def _factors(self, params: Params, name: str, edge: Edge, like: Tensor) -> tuple[Tensor, Tensor]:
        """The weights into and out of an operation's own layer."""
        to, source = edge
        if name == "residual":
            one = torch.eye(self.hidden[to - 1], dtype=like.dtype, device=like.device).expand(len(like), -1, -1)
            return one, one
        return params[f"{name} down {to} {source}"], params[f"{name} up {to} {source}"]

    def _ends(self, params: Params) -> tuple[int, int]:
        """How many inputs and outputs the task of these parameters has."""
        depth = len(self.hidden) + 1
        inputs = outputs = 0
        for name, leaf in params.items():
            if not name.startswith(("linear", "rank_", "gated")) or name.startswith("gated bias"):
                continue
            *_, to, source = name.split()
            if source == "0" and " up " not in name:
                inputs = leaf.shape[2]
            if to == str(depth) and " down " not in name:
                outputs = leaf.shape[1] // (2 if name.startswith("gated") else 1)
        return inputs, outputs


@dataclass(frozen=True, slots=True)
class StagedOperations(Operations):
    """`Operations` with stages."""

    def project(self, params: Params, step: int, steps: int) -> Params:
        """See `nasplug_mixture.stages.dropped`."""
        simplex = self.parametrisation == "simplex"
        return dropped(params, sorted(self.traits.architecture), self.stages, step, steps, simplex=simplex)


def _products(width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The constants into and out of the squares that make ``u s`` of sums u and gates s: ``((u/2 + 2s)^2 - (u/2 - 2s)^2) / 4``.

    Halves and doubles, as s is below 1 and u larger: the two squares then differ by less of their own size.
    """
    one = torch.eye(width, dtype=like.dtype, device=like.device)
    into = torch.cat([torch.cat([0.5 * one, 2.0 * one], 1), torch.cat([0.5 * one, -2.0 * one], 1)])
    return into.expand(len(like), -1, -1), (0.25 * torch.cat([one, -one], 1)).expand(len(like), -1, -1)


def operations(
    *,
    hidden: Sequence[int] = (16, 16),
    operations: Sequence[str] = USUAL_OPERATIONS,
    activation: str = "relu",
    between: Between = "all",
    parametrisation: Parametrisation = "softmax",
    sampling: Sampling = "none",
    bias: bool = True,
    widths: Sequence[int] = (),
    stem: Stem | None = None,
    stages: Sequence[tuple[float, int]] = (),
) -> SearchMethod:
    """A choice among operations on each edge between layers, each operation with weights of its own.

    ``a_l = f(sum_m sum_o p_lmo o(a_m) + b_l)``, the output layer without f; ``p_lm`` a point of the simplex. Operations:

    - ``linear``: ``W a``;
    - ``rank_R`` (``rank_2``): ``U V a`` with R rows in V: R (H_to + H_from) numbers instead of H_to H_from;
    - ``gated``: ``(W a + c) * sigmoid(V a + b)``, elementwise (GLU), 2 H_to (H_from + 1) numbers;
    - ``residual``: ``a`` itself, no numbers; between hidden layers of equal width;
    - ``none``: 0, no numbers.

    ``between: all`` has an edge from each layer to each later one, ``next`` from each layer to the next alone, where ``none``
    would cut the network. An edge has the operations that fit it: a rank is below the widths of both ends.

    ``parametrisation``, ``sampling`` and ``train.architecture`` as for `mixture`: the leaves ``operation <to> <from>`` are
    logits of a softmax at the temperature, or the points themselves for exponentiated gradient; ``straight_through`` draws one
    path per step (GDAS), ``dirichlet`` a point of the simplex (DrNAS). `closest`, `least` or `argmax` choose, and must come
    before discretizers that cut.

    ``widths: [4, 8]`` lets each hidden layer also be that narrow: its first 4 or 8 neurons, or all of ``hidden``. The widths
    share their weights, and neuron j has the sum of the shares of all widths above j as its gate, which ``compactness`` can
    push (it reads the shares of ranks and residuals, too). Gates are rounded: the median of the shares is the width that stays.

    ``stages: [[0.5, 2]]`` as for `mixture`: two operations at most stay on each edge after half of the steps, and two widths.

    ``stem``: convolutions in front (`nasplug.stems.Stem`), as for `mixture`; layer 0 is then what they put out.

    What is left is a plain network: a low rank as a layer of straight neurons, which count as neurons and a layer, a residual
    as values passed on, which are edges and no parameters. A gated operation is two layers: 2 H sums, half of them through a
    sigmoid, and 2 H squares, ``u s = ((u/2 + 2s)^2 - (u/2 - 2s)^2) / 4``, exactly but for rounding; its 6 H constants count as
    parameters, and no training moves them. All exports take it, ``fixed`` while its
    squares stay below 16.

    Fails: an operation that was trained in a mixture is not trained alone, so give ``train.finetune`` steps. Operations that
    can do the same (linear can do what each other does) keep equal shares for long, and nothing here prefers the smaller one:
    add a penalty such as l1, or read the front. l1, neurons and soft_count see the share of linear alone: low rank, residual
    and none are alike to them. Shares compare operations with the weights that they have, which learn at a pace set by their
    share: what starts fast stays ahead.

    Raises:
        ConfigError: for hidden layers that are missing or empty; for operations that are fewer than 2, twice there, unknown, or
            none without ``between: all``; for widths that do not ascend from 1 on, or that no layer is wider than; for a
            stem that does not fit its image; for stages as `mixture` does. What fits no edge of the task is refused when the
            study is planned.

    Source: DARTS (Liu et al. 2019) for mixed operations on the edges of a graph, GAEA (Li et al. 2021), GDAS (Dong and Yang
    2019), FBNetV2 (Wan et al. 2020) for widths by masks. We differ: the nodes are layers, the graph is whole, one network is
    one row, and the result keeps the weights that the search left.
    """
    check_hidden("operations", hidden)
    if not hidden or min(hidden) < 1:
        raise ConfigError(
            f"operations: hidden={list(hidden)}; needed: at least one hidden layer of at least one neuron, such as [16, 16]"
        )
    for name in operations:
        ranked = re.fullmatch(r"rank_[1-9][0-9]{0,3}", name) and rank(name) <= MOST_RANK
        if not ranked and name not in ("linear", "gated", "residual", "none"):
            raise ConfigError(
                f"operations: {name!r} is none; needed: linear, gated, residual, none, or rank_1 to rank_{MOST_RANK}"
            )
    if twice := sorted({name for name in operations if list(operations).count(name) > 1}):
        raise ConfigError(f"operations: {', '.join(twice)} more than once; list each once")
    if len(operations) < 2:
        raise ConfigError(f"operations: operations={list(operations)}; needed: two or more. For linear alone, take 'edges'")
    if not any(name in ("linear", "gated") or name.startswith("rank_") for name in operations):
        raise ConfigError("operations: neither linear, gated nor a rank among them, so no edge could learn; add linear")
    if "none" in operations and between == "next":
        raise ConfigError("operations: none with between: next would cut networks in two; write between: all, or remove none")
    if list(widths) != sorted(set(widths)) or min(widths, default=1) < 1 or max(widths, default=0) >= max(hidden):
        raise ConfigError(
            f"operations: widths={list(widths)} with hidden={list(hidden)}; needed: ascending whole numbers from 1, below the "
            "width of at least one hidden layer, such as widths: [4, 8] with hidden: [16, 16]"
        )
    check_sampling("operations", parametrisation, sampling)
    if stem is not None:
        stem.check_shapes()
    some, kinds, narrower = check_stages("operations", stages, len(operations)), tuple(operations), tuple(widths)
    made = StagedOperations if some else Operations
    return made(tuple(hidden), kinds, activation, between, parametrisation, sampling, bias, narrower, stem, some)
