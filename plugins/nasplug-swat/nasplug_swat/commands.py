"""`nasplug swat ...`: train an autoencoder, look at one, draw its latent space; compress a network."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Literal

import click

from nasplug.errors import ConfigError
from nasplug.hookspecs import Progress, hookimpl
from nasplug_swat.autoencoder import CURVE, CURVE_PICTURE, RESULT, Autoencoder, Training, load, plane, read, train
from nasplug_swat.compression import NETWORK, PICTURE, Compression, compress
from nasplug_swat.job import Job, read_job

__all__ = ["TrainingJob", "commands"]

LINE_SECONDS = 5.0


class TrainingJob(Training, Job):
    """A training of an autoencoder as one YAML file, with where its files go."""


def commands() -> click.Command:
    """What method `swat` has beside studies."""
    return swat


@click.group()
def swat() -> None:
    """Method `swat`: train an autoencoder, look at one, draw its latent space; compress a network."""


@swat.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--quiet", is_flag=True, help="No progress.")
def train_autoencoder(config: Path, overrides: tuple[str, ...], quiet: bool) -> None:
    """Train an autoencoder, or go on with a training that was interrupted.

    OVERRIDES are path=value, for example: steps=500 size=tiny
    """
    job = read_job(config, TrainingJob, overrides)
    job.reach()
    for progress in train(job, job.folder):
        if not quiet:
            errors = "  ".join(f"depth {depth} {error:.5f}" for depth, error in enumerate(progress.errors, 1))
            if progress.trained:
                errors += "  trained " + "  ".join(f"{error:.5f}" for error in progress.trained)
            click.echo(
                f"step {progress.step}/{progress.steps}  loss {progress.loss:.4f}  {errors}  {progress.seconds:.0f} s", err=True
            )
    file = job.folder / RESULT
    if job.register_ is not None:
        click.echo(f"registered as {_registered(job, job.register_)}")
    click.echo(_told(read(file)))
    click.echo(f"{file}: use it as method: {{use: swat, autoencoder: {file}}}")


def _registered(job: TrainingJob, name: str) -> str:
    """The version's URI, ``models:/NAME/VERSION``; its files are the autoencoder and its curve."""
    from nasplug.tracking import publish_files

    autoencoder = read(job.folder / RESULT)
    about = autoencoder.about
    tags = {f"nasplug.swat.{part}": getattr(autoencoder, part).model_dump_json() for part in ("space", "size", "sampling")}
    if "networks" in about:
        tags["nasplug.swat.networks"] = about["networks"]["digest"]
    metrics = {
        f"{kind}_{pair.replace('->', '_in_')}_{word}": value
        for kind in ("soft", "hard", "trained")
        for pair, values in about.get(kind, {}).items()
        for word, value in values.items()
    }
    entry = job.entry(name, "autoencoders", tags, metrics, (RESULT, CURVE, CURVE_PICTURE))
    return f"models:/{name}/{publish_files(entry, autoencoder.digest)}"


def _told(autoencoder: Autoencoder) -> str:
    space = autoencoder.space
    lines = [
        f"{space.words}; latent {' x '.join(map(str, autoencoder.latent_shape))}; version {autoencoder.digest[:12]}",
        "median (90th percentile) of the normalised functional error, by depth (down) and decoder (across):",
    ]
    lines += _cells(autoencoder, "soft")
    if (networks := autoencoder.about.get("networks")) is not None:
        learned, held = (
            ", ".join(f"{count} of depth {depth}" for depth, count in networks[name].items()) or "none"
            for name in ("learned", "held_back")
        )
        folders = ", ".join(autoencoder.about["training"]["networks"]["folders"])
        lines.append(
            f"learned from trained networks of {folders}, digest {networks['digest'][:12]}: {learned}; held back: {held}"
        )
        for words, kind in (("", "trained"), (", where training began", "trained_before")):
            lines += [f"the same on those held back{words}:", *_cells(autoencoder, kind)]
    return "\n".join(lines)


def _cells(autoencoder: Autoencoder, kind: str) -> list[str]:
    """One line per depth, one cell per decoder."""
    found = autoencoder.about.get(kind, {})
    depths = range(1, autoencoder.space.deepest + 1)
    lines = []
    for depth in depths:
        cells = [found.get(f"{depth}->{decoder}") for decoder in depths]
        lines.append(f"  {depth}: " + "  ".join(f"{c['median']:.5f} ({c['q90']:.5f})" if c else "-" for c in cells))
    return lines


@swat.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def show(file: Path | None, as_json: bool) -> None:
    """Say what an autoencoder is for and how well it does: FILE, or the name of one that comes along (default: paper-7x64)."""
    autoencoder = load(None if file is None else str(file))
    if as_json:
        plain = {
            "digest": autoencoder.digest,
            "space": autoencoder.space.model_dump(),
            "size": autoencoder.size.model_dump(),
            "sampling": autoencoder.sampling.model_dump(),
            **autoencoder.about,
        }
        click.echo(json.dumps(plain, indent=2))
    else:
        click.echo(_told(autoencoder))


@swat.command()
@click.argument("picture", type=click.Path(path_type=Path))
@click.option(
    "--autoencoder",
    "file",
    type=click.Path(path_type=Path),
    help="A file that training wrote, or the name of one that comes along; default: paper-7x64.",
)
@click.option("--depth", default=2, show_default=True, help="Hidden layers of the networks.")
@click.option("--neighbours", default=200, show_default=True, help="Points around the first network.")
@click.option("--seed", default=0, show_default=True, help="Of the points.")
def smoothness(picture: Path, file: Path | None, depth: int, neighbours: int, seed: int) -> None:
    """Draw how a network's function changes around a point of the latent space, to PICTURE (.png, .svg or .pdf)."""
    if picture.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"{picture}: a picture of kind {picture.suffix!r}; needed: .png, .svg or .pdf")
    figure, told = plane(load(None if file is None else str(file)), depth, neighbours, seed)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=150)
    click.echo(json.dumps(told))
    click.echo(str(picture))


class _Told:
    """A line of progress now and then."""

    def __init__(self) -> None:
        self.said = time.monotonic()

    @hookimpl
    def pack_reported(self, pack: str, progress: Progress) -> None:
        """See `nasplug.hookspecs.pack_reported`."""
        if time.monotonic() - self.said > LINE_SECONDS:
            self.said = time.monotonic()
            click.echo(f"  pack {pack}: {100.0 * progress.progress:.0f} % of {progress.networks} networks", err=True)


@swat.command(name="compress")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--runner", type=click.Choice(["ray", "serial"]), default="ray", show_default=True, help="Where packs are run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")
def compress_network(config: Path, overrides: tuple[str, ...], runner: Literal["ray", "serial"], as_json: bool) -> None:
    """Make a saved network shallower: split it, search each piece, join them, or go on with that.

    OVERRIDES are path=value, for example: search.seeds=4 cuts=[3]
    """
    job = read_job(config, Compression, overrides)
    record = compress(job, runner=runner, say=lambda text: click.echo(text, err=True), observers=[_Told()]).record
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    before, after = record["before"], record["after"]
    click.echo(
        f"{before['hidden_layers']} hidden layers, {before['parameters']} parameters -> {after['hidden_layers']}, "
        f"{after['parameters']}"
    )
    for stage in ("joined", "polished"):
        between = ", ".join(f"layer {cut} {r2:.5f}" for cut, r2 in record[stage]["r2_between"].items())
        click.echo(f"R2 when {stage}: outputs {record[stage]['r2']:.5f}, {between}")
    if "registered" in record:
        click.echo(f"registered as {record['registered']}")
    click.echo(f"{job.folder / NETWORK}, {job.folder / PICTURE}")
