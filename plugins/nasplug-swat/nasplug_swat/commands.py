"""`nasplug swat ...`: train an autoencoder, look at one, draw its latent space; compress a network; compare studies."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

import click
from pydantic import BaseModel, Field

from nasplug.checking import check
from nasplug.config import from_yaml, override
from nasplug.errors import ConfigError
from nasplug.hookspecs import hookimpl
from nasplug_swat.autoencoder import Autoencoder, load, read
from nasplug_swat.training import RESULT, Training, train

__all__ = ["Job", "commands", "read_job"]

LINE_SECONDS = 5.0
Model = TypeVar("Model", bound=BaseModel)


class Job(Training):
    """A training, where its files go, and whether MLflow gets the result.

    ``<store>/<name>`` is its folder. ``register`` is the name of the registered model (null: not logged), ``uri`` of the store.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120)
    store: str = Field("runs", min_length=1)
    register_: str | None = Field(None, alias="register", pattern=r"^[^/:]+$")
    uri: str | None = Field(None, min_length=1)

    @property
    def folder(self) -> Path:
        """Everything the training writes."""
        return Path(self.store).expanduser() / self.name


def read_job(path: Path, model: type[Model], overrides: tuple[str, ...] = ()) -> Model:
    """A training (`Job`) or a compression (`nasplug_swat.compression.Compression`) from its YAML file.

    Raises:
        ConfigError: when the file cannot be read, or is something else.
    """
    try:
        raw = from_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give the path of a YAML file") from None
    if not isinstance(raw, dict):
        keys = [field.alias or name for name, field in model.model_fields.items()]
        raise ConfigError(f"{path}: holds {raw!r}; needed: a mapping of keys ({', '.join(keys)})")
    for text in overrides:
        override(raw, text)
    return check(model, raw)


def commands() -> click.Command:
    """What method `swat` has beside studies."""
    return swat


@click.group()
def swat() -> None:
    """Method `swat`: train an autoencoder, look at one, draw its latent space; compress a network; compare studies."""


@swat.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--quiet", is_flag=True, help="No progress.")
def train_autoencoder(config: Path, overrides: tuple[str, ...], quiet: bool) -> None:
    """Train an autoencoder, or go on with a training that was interrupted.

    OVERRIDES are path=value, for example: steps=500 size=tiny
    """
    job = read_job(config, Job, overrides)
    uri = ""
    if job.register_ is not None:
        from nasplug.tracking import default_uri, reach

        uri = job.uri or default_uri(Path(job.store).expanduser())
        reach(uri)  # before the training, which takes long
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
        from nasplug_swat.registry import log

        version = log(job.folder, job.register_, uri)
        click.echo(f"registered as models:/{job.register_}/{version}")
    click.echo(_told(read(file)))
    click.echo(f"{file}: use it as method: {{use: swat, autoencoder: {file}}}")


def _told(autoencoder: Autoencoder) -> str:
    space = autoencoder.space
    lines = [
        f"{space.words}; latent {space.rows} x {autoencoder.size.numbers}; version {autoencoder.digest[:12]}",
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
    """A line a depth, a cell a decoder."""
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
@click.option("--seed", default=0, show_default=True)
def smoothness(picture: Path, file: Path | None, depth: int, neighbours: int, seed: int) -> None:
    """Draw how a network's function changes around a point of the latent space, to PICTURE (.png, .svg or .pdf)."""
    from nasplug_swat.pictures import plane

    if picture.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"{picture}: a picture of kind {picture.suffix!r}; needed: .png, .svg or .pdf")
    figure, told = plane(load(None if file is None else str(file)), depth, neighbours, seed)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=150)
    click.echo(json.dumps(told))
    click.echo(str(picture))


@swat.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--against", metavar="LABEL", default="direct", show_default=True, help="The label that errors are compared with."
)
@click.option(
    "--functions",
    "rows",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A CSV file to write: a row a function, label, level and depth.",
)
@click.option(
    "--pictures",
    "drawn",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder to draw functions.png, levels.png and depths.png into.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def compare(folders: tuple[Path, ...], against: str, rows: Path | None, drawn: Path | None, as_json: bool) -> None:
    """Compare the modes of studies over many functions, and baselines with them: FOLDERS are <store>/<study>.

    A study's rows are labelled by its mode: latent, switch, untrained, direct; "latent + admm" where a discretizer came after;
    "dense" for another method without penalties; "direct, 3000 steps" where an earlier folder has "direct".
    """
    from nasplug_swat import comparison, figures

    each = comparison.by_function(comparison.studies(folders))
    found = comparison.table(each, against)
    click.echo(found.to_json(orient="records", indent=2) if as_json else comparison.told(found))
    if rows is not None:
        rows.parent.mkdir(parents=True, exist_ok=True)
        each.to_csv(rows, index=False)
        click.echo(str(rows), err=as_json)
    for path in figures.draw(each, found, drawn, against) if drawn is not None else ():
        click.echo(str(path), err=as_json)


class _Told:
    """A line of progress now and then."""

    def __init__(self) -> None:
        self.said = time.monotonic()

    @hookimpl
    def pack_reported(self, pack: str, metrics: Mapping[str, float]) -> None:
        """See `nasplug.hookspecs.pack_reported`."""
        if time.monotonic() - self.said > LINE_SECONDS:
            self.said = time.monotonic()
            click.echo(f"  pack {pack}: {100.0 * metrics['progress']:.0f} % of {metrics['networks']:.0f} networks", err=True)


@swat.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--runner", type=click.Choice(["ray", "serial"]), default="ray", show_default=True, help="Who runs the packs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")
def compress(config: Path, overrides: tuple[str, ...], runner: Literal["ray", "serial"], as_json: bool) -> None:
    """Make a saved network shallower: split it, search each piece, join them, or go on with that.

    OVERRIDES are path=value, for example: search.seeds=4 cuts=[3]
    """
    from nasplug_swat.compression import NETWORK, PICTURE, Compression
    from nasplug_swat.compression import compress as compressed

    job = read_job(config, Compression, overrides)
    record = compressed(job, runner=runner, say=lambda text: click.echo(text, err=True), observers=[_Told()]).record
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
