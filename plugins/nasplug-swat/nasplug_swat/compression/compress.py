"""A deep network made shallower: split between layers, each piece searched through a shallower decoder, joined, polished."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from nasplug import files
from nasplug.compact import CompactNetwork, compact, digest_of
from nasplug.compact import save as save_network
from nasplug.errors import ConfigError
from nasplug.finetune import refit
from nasplug.networks import Networks, alive, sizes, sums, values
from nasplug.tasks import Split, Task
from nasplug_swat.compression.joining import Activations, activations_at, joined
from nasplug_swat.compression.pictures import compared
from nasplug_swat.compression.plan import BEGUN, Compression, planned
from nasplug_swat.compression.task import as_task, swat_piece
from nasplug_swat.search import in_raw_units, opened, rescaled, scaling_of

if TYPE_CHECKING:
    from nasplug import Study

__all__ = ["NETWORK", "PICTURE", "Outcome", "compress"]

RECORD, PICTURE, NETWORK = "compression.json", "compression.png", "network"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a compression came to: the small network, and what ``compression.json`` says of it."""

    network: CompactNetwork
    record: Mapping[str, Any]


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
    module = opened(job.network)
    job.reach()
    job.folder.mkdir(parents=True, exist_ok=True)
    with files.locked(job.folder, "this compression"):
        _claim(job, module)
        return _compressed(job, module, [_searched(study, runner, say, observers) for study in studies])


@dataclass(frozen=True, slots=True)
class _Piece:
    """The network that stands for a piece, in raw units, its name (study/pack/row), and its row of the study's table."""

    name: str
    nets: Networks
    row: Mapping[str, Any]


def _searched(
    study: Study, runner: Literal["ray", "serial"], say: Callable[[str], None], observers: Sequence[object]
) -> _Piece:
    """The network of a piece's study that fits best on validation data."""
    say(f"{study.config.study}: layers {study.task.name.removeprefix('piece ')}")
    frame = study.run(runner, observers=observers).frame
    finished = frame[frame["status"] == "finished"]
    best: dict[Any, Any] = finished.sort_values("valid_error").to_dict("records")[0]
    say(f"  R2 {best['test_r2']:.5f} with {int(best['parameters'])} parameters, of {len(frame)} networks")
    replica = str(best["replica"])
    return _Piece(f"{study.config.study}/{replica}", in_raw_units(study.network(replica)), best)


def _compressed(job: Compression, module: CompactNetwork, found: Sequence[_Piece]) -> Outcome:
    """The pieces joined, polished and written down."""
    nets = in_raw_units(module)
    small, stays = [piece.nets for piece in found], [activations_at(nets, cut) for cut in job.cuts]
    task = swat_piece(network=job.network, **job.points.model_dump())
    x, places = _raw(task, task.test), itertools.accumulate(piece.depth for piece in small[:-1])
    stay = dict(zip(job.cuts, places, strict=True))  # a layer that stays -> where it stands in the joined network
    whole = joined(small, stays)
    final = joined(_polished(job, task, nets, small, stays), stays) if job.polish.steps else whole
    made = _module(final, task, module)
    record = {
        "network": str(job.network),
        "network_digest": digest_of(module),
        "autoencoders": [json.loads(piece.row["owners"])["method.autoencoder"] for piece in found],
        "replicas": [piece.name for piece in found],
        "pieces_r2": [float(piece.row["test_r2"]) for piece in found],
        "joined": _agreement(x, stay, nets, whole),
        "polished": _agreement(x, stay, nets, final),
        "before": _size(nets),
        "after": _size(final),
    }
    save_network(made, job.folder / NETWORK)
    files.write_text(job.folder / RECORD, json.dumps(record, indent=1) + "\n")
    with files.beside(job.folder / PICTURE) as there:
        compared(x, stay, nets, final, record).savefig(there, dpi=130, format="png")
    if job.register_ is not None:
        record |= {"registered": _registered(job, job.register_, made, task, record)}
        files.write_text(job.folder / RECORD, json.dumps(record, indent=1) + "\n")
    return Outcome(made, record)


def _claim(job: Compression, module: CompactNetwork) -> None:
    """Write down what the pieces are of; pieces of something else are not gone on with.

    Raises:
        ConfigError: for a folder that was begun with another network or other settings.
    """
    settings = job.model_dump(mode="json", include={"network", "cuts", "depth", "begin", "points", "search"})
    settings |= {"the network in that folder": digest_of(module)}
    path = job.folder / BEGUN
    if path.exists():
        try:
            before = files.read_json(path)
        except files.DamageError as error:
            raise ConfigError(f"{error}; give this one another name (name: ...), or remove that folder") from None
        if changed := [key for key, value in json.loads(json.dumps(settings)).items() if before.get(key) != value]:
            raise ConfigError(
                f"{job.folder} was begun with something else (different: {', '.join(changed)}); give this one another name "
                "(name: ...), or remove that folder"
            )
        return
    files.write_json(path, settings)


def _registered(job: Compression, name: str, made: CompactNetwork, task: Task, record: Mapping[str, Any]) -> str:
    """The version's URI: ``models:/NAME/VERSION``."""
    from nasplug.tracking import publish

    tags = {
        "nasplug.method": "swat compress",
        "nasplug.method.autoencoder": ", ".join(dict.fromkeys(record["autoencoders"])),
        "nasplug.made_from": record["network_digest"],
        "nasplug.pieces": ", ".join(record["replicas"]),
    }
    between = {f"r2_layer_{cut}": r2 for cut, r2 in record["polished"]["r2_between"].items()}
    metrics = {"r2": record["polished"]["r2"], **between, **{key: float(n) for key, n in record["after"].items()}}
    entry = job.entry(name, "compressions", tags, metrics, (RECORD, PICTURE))
    return f"models:/{name}/{publish(entry, made, task)}"


def _raw(task: Task, split: Split) -> Tensor:
    """Its inputs in raw units, ``(I, N)``."""
    shift, scale = scaling_of(task)[0]
    return split.x.double() * scale.unsqueeze(-1) + shift.unsqueeze(-1)


def _r2(found: Tensor, wanted: Tensor) -> float:
    """Pooled over neurons; ``(1, H, B)`` each."""
    spread = (wanted - wanted.mean(-1, keepdim=True)).square().sum()
    return float(1.0 - (found - wanted).square().sum() / spread)


def _agreement(x: Tensor, stay: Mapping[int, int], nets: Networks, made: Networks) -> dict[str, Any]:
    found, wanted = values(made, x), values(nets, x)
    between = {str(cut): _r2(found[place], wanted[cut]) for cut, place in stay.items()}
    return {"r2": _r2(found[-1], wanted[-1]), "r2_between": between}


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
            pairs = [(values(so_far, x, place)[place][0], sums(nets, x, end)[0]) for x in xs]
            here = as_task("polish", pairs)
            inputs, outputs = scaling_of(here)
            scaled = rescaled(piece, inputs, outputs)
            tuned = refit(here.to("cpu", torch.float64), scaled, job.polish.steps, job.polish.lr, batch=256)
            back = ((-shift / scale, 1.0 / scale) for shift, scale in (inputs, outputs))
            piece = rescaled(tuned.map(torch.Tensor.detach), *back)
        found.append(piece)
    return found


def _module(nets: Networks, task: Task, like: CompactNetwork) -> CompactNetwork:
    """The joined network on raw features, with the names and the link of the one it came from.

    Outputs stay in raw units: a link comes before a module's own scaling of outputs, which is there for targets.
    """
    none = torch.zeros_like(task.output_shift), torch.ones_like(task.output_scale)
    plain = replace(task, output_shift=none[0], output_scale=none[1])
    made = compact(rescaled(nets, *scaling_of(plain)), 0, plain)
    state = made.state_dict()
    module = CompactNetwork({**made.record, **{key: like.record[key] for key in ("link", "targets")}}, made.functions)
    module.load_state_dict(state)
    return module.eval()


def _size(nets: Networks) -> dict[str, int]:
    counted = {name: int(value) for name, value in sizes(alive(nets)).items()}
    return {"hidden_layers": nets.depth - 1, **counted}
