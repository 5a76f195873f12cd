"""A deep network made shallower: split between layers, each piece searched through a shallower decoder, joined, polished."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from nasplug import Study
from nasplug.compact import CompactNetwork, compact
from nasplug.compact import load as load_network
from nasplug.compact import save as save_network
from nasplug.discretize import refit
from nasplug.errors import ConfigError
from nasplug.networks import Networks, alive, forward, sizes
from nasplug.tasks import Split, Task
from nasplug.tracking import default_uri, digest_of, publish, reach
from nasplug_swat.pieces import (
    Activations,
    activations_at,
    as_task,
    cut_out,
    in_raw_units,
    joined,
    rescaled,
    swat_piece,
    values_at,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Compression", "Outcome", "Points", "compress", "planned"]

RECORD, PICTURE, NETWORK, BEGUN = "compression.json", "compression.png", "network", "begun.json"


class Points(BaseModel):
    """Where the two networks shall agree: uniform on ``[-reach, reach]`` in the units that the network was trained in."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    reach: float = Field(1.0, gt=0)
    train: int = Field(3750, ge=4)
    test: int = Field(1250, ge=1)
    seed: int = Field(0, ge=0)


class Polish(BaseModel):
    """Training each piece but the first on what those before it really put out, its zeros kept; 0 steps: none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: int = Field(1000, ge=0)
    lr: float = Field(1e-3, gt=0)


class Compression(BaseModel):
    """A compression as one YAML file. Everything it writes is in ``<store>/<name>``.

    ``network``: the folder of a saved network. ``cuts``: the hidden layers that stay as they are, in order; each piece between
    them becomes one of ``depth`` hidden layers (a number, or one a piece). ``begin``: searches start from the ``encoding`` of
    their piece, or from ``open`` networks. ``search``: sections of a study for the pieces (``method`` takes options of `swat`).
    ``register``: the name of the registered model in MLflow that gets the result (null: not logged), ``uri`` of the store.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120)
    store: str = Field("runs", min_length=1)
    network: str = Field(min_length=1)
    cuts: tuple[int, ...] = Field(min_length=1)
    depth: int | tuple[int, ...] = 2
    begin: Literal["encoding", "open"] = "encoding"
    points: Points = Points()
    search: dict[str, Any] = Field(default_factory=dict)
    polish: Polish = Polish()
    register_: str | None = Field(None, alias="register", pattern=r"^[^/:]+$")
    uri: str | None = Field(None, min_length=1)

    @property
    def folder(self) -> Path:
        """Everything the compression writes."""
        return Path(self.store).expanduser() / self.name


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a compression came to: the small network, and what ``compression.json`` says of it."""

    network: CompactNetwork
    record: Mapping[str, Any]


OURS = frozenset({"study", "store", "task"})


def planned(job: Compression) -> list[Study]:
    """The study of each piece, checked: all that can be refused is refused here.

    Raises:
        ConfigError: for a network that is not there or cannot be cut so, for pieces that the autoencoder has no space for,
            and whatever a study refuses.
    """
    nets = in_raw_units(load_network(Path(job.network).expanduser()))
    hidden = nets.depth - 1
    if any(not 1 <= cut <= hidden for cut in job.cuts) or list(job.cuts) != sorted(set(job.cuts)):
        raise ConfigError(f"cuts: {list(job.cuts)}; needed: hidden layers of the network, 1 to {hidden}, in order")
    ends = [0, *job.cuts, nets.depth]
    if 1 in (b - a for a, b in itertools.pairwise(ends)):
        raise ConfigError(f"cuts: {list(job.cuts)}; needed: a hidden layer at least in each piece of layers 0 to {nets.depth}")
    depths = (job.depth,) * (len(ends) - 1) if isinstance(job.depth, int) else job.depth
    if len(depths) != len(ends) - 1:
        raise ConfigError(f"depth: {list(depths)}; needed: one number, or one a piece ({len(ends) - 1})")
    if taken := sorted(OURS & set(job.search)):
        raise ConfigError(f"search: {', '.join(taken)} is set by the compression; leave it out")
    method = job.search.get("method", {})
    if not isinstance(method, dict) or (reserved := {"use", "depth", "ends", "start", "piece", "begin"} & set(method)):
        given = method if not isinstance(method, dict) else ", ".join(sorted(reserved))
        raise ConfigError(f"search.method: {given}; needed: options of swat that the compression does not set itself")
    studies = []
    for number, ((first, last), depth) in enumerate(zip(itertools.pairwise(ends), depths, strict=True), start=1):
        cut_out(nets, first, last)
        start = {"start": job.network, "piece": [first, last]} if job.begin == "encoding" else {"begin": "open"}
        shape = {"depth": depth, "ends": [nets.widths[first], nets.widths[last]]}
        raw = {
            "mlflow": None,
            **job.search,
            "study": f"piece-{number}",
            "store": str(job.folder),
            "task": {"use": "swat_piece", "network": job.network, "first": first, "last": last, **job.points.model_dump()},
            "method": {"use": "swat", **method, **shape, **start},
        }
        study = Study.from_dict(raw)
        if not (job.folder / BEGUN).exists():  # a folder that was begun says itself what is different
            study.check()
        studies.append(study)
    return studies


def compress(
    job: Compression,
    *,
    runner: Literal["ray", "serial"] = "ray",
    say: Callable[[str], None] = lambda text: None,
    observers: Sequence[object] = (),
) -> Outcome:
    """Split, search each piece, join the pieces that fit best on validation data, polish, save.

    Writes beside the pieces' studies ``network/`` (as `nasplug.compact.save`), ``compression.json`` and ``compression.png``.
    Run again it goes on where it stopped. R2 is on fresh points, pooled over neurons: of the outputs, and of what each layer
    that stays puts out.

    Args:
        job: what to do.
        runner: of the pieces' studies.
        say: gets a line before and after each piece.
        observers: of the pieces' studies, objects with any of the observer hooks.

    Raises:
        ConfigError: as `planned`, and for a folder that was begun with something else.
        NasplugError: where MLflow shall get the result and does not answer, or no network of a piece finished.

    Source: SWAT-NN, section F.5 (9 hidden layers to 5 through two latents). We differ: pieces keep the sizes of their ends,
    whatever they are; each is fitted to its piece's outputs; and then polished.
    """
    studies = planned(job)
    module = load_network(Path(job.network).expanduser())
    if job.register_ is not None:
        reach(_uri(job))
    _claim(job, module)
    nets = in_raw_units(module)
    small, rows = [], []
    for study in studies:
        say(f"{study.config.study}: layers {study.task.name.removeprefix('piece ')}")
        frame = study.run(runner, observers=observers).frame
        finished = frame[frame["status"] == "finished"]
        best = finished.sort_values("valid_error").iloc[0]
        rows.append(best)
        small.append(in_raw_units(study.network(str(best["replica"]))))
        say(f"  R2 {best['test_r2']:.5f} with {int(best['parameters'])} parameters, of {len(frame)} networks")
    stays = [activations_at(nets, cut) for cut in job.cuts]
    whole = joined(small, stays)
    task = swat_piece(network=job.network, **job.points.model_dump())
    x, places = _raw(task, task.test), list(itertools.accumulate(piece.depth for piece in small[:-1]))
    stay = dict(zip(job.cuts, places, strict=True))  # a layer that stays -> where it stands in the joined network
    before = _agreement(x, stay, nets, whole)
    final = joined(_polished(job, task, nets, small, stays), stays) if job.polish.steps else whole
    after = _agreement(x, stay, nets, final)
    made = _module(final, task, module)
    record = {
        "network": str(job.network),
        "network_digest": digest_of(module),
        "autoencoders": [json.loads(row["owners"])["method.autoencoder"] for row in rows],
        "replicas": [f"{study.config.study}/{row['replica']}" for study, row in zip(studies, rows, strict=True)],
        "pieces_r2": [float(row["test_r2"]) for row in rows],
        "joined": before,
        "polished": after,
        "before": _size(nets),
        "after": _size(final),
    }
    save_network(made, job.folder / NETWORK)
    (job.folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    _figure(x, stay, nets, final, record).savefig(job.folder / PICTURE, dpi=130)
    if job.register_ is not None:
        record |= {"registered": _registered(job, job.register_, made, task, record)}
        (job.folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return Outcome(made, record)


def _uri(job: Compression) -> str:
    return job.uri or default_uri(Path(job.store).expanduser())


def _claim(job: Compression, module: CompactNetwork) -> None:
    """Write down what the pieces are of; pieces of something else are not gone on with.

    Raises:
        ConfigError: for a folder that was begun with another network or other settings.
    """
    settings = job.model_dump(mode="json", include={"network", "cuts", "depth", "begin", "points", "search"})
    settings |= {"the network in that folder": digest_of(module)}
    path = job.folder / BEGUN
    if path.exists():
        before = json.loads(path.read_text())
        if changed := [key for key, value in json.loads(json.dumps(settings)).items() if before.get(key) != value]:
            raise ConfigError(
                f"{job.folder} was begun with something else (different: {', '.join(changed)}); give this one another name "
                "(name: ...), or remove that folder"
            )
        return
    job.folder.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(settings, indent=1) + "\n")
    beside.replace(path)


def _registered(job: Compression, name: str, made: CompactNetwork, task: Task, record: Mapping[str, Any]) -> str:
    """The version's URI: ``models:/NAME/VERSION``."""
    tags = {
        "nasplug.method": "swat compress",
        "nasplug.method.autoencoder": ", ".join(dict.fromkeys(record["autoencoders"])),
        "nasplug.made_from": record["network_digest"],
        "nasplug.pieces": ", ".join(record["replicas"]),
    }
    between = {f"r2_layer_{cut}": r2 for cut, r2 in record["polished"]["r2_between"].items()}
    version = publish(
        made,
        task,
        name,
        uri=_uri(job),
        experiment="compressions",
        store=job.store,
        run_name=job.name,
        tags=tags,
        metrics={"r2": record["polished"]["r2"], **between, **{key: float(n) for key, n in record["after"].items()}},
        files=[job.folder / RECORD, job.folder / PICTURE],
    )
    return f"models:/{name}/{version}"


def _raw(task: Task, split: Split) -> Tensor:
    """Its inputs in raw units, ``(I, N)``."""
    shift, scale = _units(task)[0]
    return split.x.double() * scale.unsqueeze(-1) + shift.unsqueeze(-1)


def _r2(found: Tensor, wanted: Tensor) -> float:
    """Pooled over neurons; ``(1, H, B)`` each."""
    spread = (wanted - wanted.mean(-1, keepdim=True)).square().sum()
    return float(1.0 - (found - wanted).square().sum() / spread)


def _agreement(x: Tensor, stay: Mapping[int, int], nets: Networks, made: Networks) -> dict[str, Any]:
    between = {str(cut): _r2(values_at(made, x, place), values_at(nets, x, cut)) for cut, place in stay.items()}
    return {"r2": _r2(forward(made, x), forward(nets, x)), "r2_between": between}


def _polished(
    job: Compression, task: Task, nets: Networks, small: Sequence[Networks], stays: Sequence[Activations]
) -> list[Networks]:
    """Each piece trained to correct the ones before it: on the values that these really give, towards the original's sums.

    What comes before is not moved, so the layers that stay keep what they have. A piece stays as it was where validation is
    not better.
    """
    ends = [*job.cuts, nets.depth]
    xs = [_raw(task, split) for split in task.splits]
    found: list[Networks] = []
    for piece, end in zip(small, ends, strict=True):
        if found:
            so_far = joined([*found, piece], stays[: len(found)])
            place = sum(each.depth for each in found)
            pairs = [(values_at(so_far, x, place)[0], forward(cut_out(nets, 0, end), x)[0]) for x in xs]
            here = as_task("polish", pairs)
            inputs, outputs = _units(here)
            scaled = rescaled(piece, inputs, outputs)
            tuned = refit(here.to("cpu", torch.float64), scaled, job.polish.steps, job.polish.lr, batch=256)
            back = ((-shift / scale, 1.0 / scale) for shift, scale in (inputs, outputs))
            piece = rescaled(tuned.map(torch.Tensor.detach), *back)
        found.append(piece)
    return found


def _units(task: Task) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Shift and scale of inputs and of outputs, float64."""
    return (task.input_shift.double(), task.input_scale.double()), (task.output_shift.double(), task.output_scale.double())


def _module(nets: Networks, task: Task, like: CompactNetwork) -> CompactNetwork:
    """The joined network on raw features, with the names and the link of the one it came from.

    Outputs stay in raw units: a link comes before a module's own scaling of outputs, which is there for targets.
    """
    none = torch.zeros_like(task.output_shift), torch.ones_like(task.output_scale)
    plain = replace(task, output_shift=none[0], output_scale=none[1])
    made = compact(rescaled(nets, *_units(plain)), 0, plain)
    state = made.state_dict()
    module = CompactNetwork({**made.record, **{key: like.record[key] for key in ("link", "targets")}})
    module.load_state_dict(state)
    return module.eval()


def _size(nets: Networks) -> dict[str, int]:
    counted = {name: int(value) for name, value in sizes(alive(nets)).items()}
    return {"hidden_layers": nets.depth - 1, **counted}


def _figure(x: Tensor, stay: Mapping[int, int], nets: Networks, made: Networks, record: Mapping[str, Any]) -> Figure:
    """Both networks' outputs against each other, and the values of each layer that stays; maps, where there are two inputs."""
    from matplotlib.figure import Figure

    maps = nets.widths[0] == 2
    count = (3 if maps else 1) + len(stay)
    figure = Figure(figsize=(3.1 * count, 3.2), layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    for panel in panels:
        panel.tick_params(labelsize=7)
    names = [f"{record[key]['hidden_layers']} hidden layers" for key in ("before", "after")]
    if maps:
        low, high = x.min(1).values, x.max(1).values
        axes = [torch.linspace(float(a), float(b), 61, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
        grid = torch.stack(torch.meshgrid(*axes, indexing="xy")).flatten(1)
        surfaces = [forward(each, grid)[0, 0].view(61, 61).numpy() for each in (nets, made)]
        extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
        least, most = float(surfaces[0].min()), float(surfaces[0].max())
        for name, surface in zip(names, surfaces, strict=True):
            panel = panels.pop(0)
            shown = panel.imshow(surface, origin="lower", extent=extent, aspect="auto", cmap="viridis", vmin=least, vmax=most)
            panel.set_title(name, fontsize=9)
        figure.colorbar(shown, ax=panel).ax.tick_params(labelsize=7)

    def scatter(found: Tensor, wanted: Tensor, title: str) -> None:
        panel = panels.pop(0)
        for one, other in zip(wanted[0], found[0], strict=True):
            panel.plot(one.numpy(), other.numpy(), ".", markersize=1.5, alpha=0.5)
        ends = (float(wanted.min()), float(wanted.max()))
        panel.plot(ends, ends, color="0.3", linewidth=0.8)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel(names[0], fontsize=8)
        panel.set_ylabel(names[1], fontsize=8)

    scatter(forward(made, x), forward(nets, x), f"outputs, R2 {record['polished']['r2']:.4f}")
    for cut, place in stay.items():
        r2 = record["polished"]["r2_between"][str(cut)]
        scatter(values_at(made, x, place), values_at(nets, x, cut), f"neurons of layer {cut}, R2 {r2:.4f}")
    return figure
