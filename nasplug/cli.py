"""The command line. Heavy packages are imported inside the commands, so that ``nasplug --help`` answers at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from nasplug.errors import ConfigError, NasplugError, PluginError

__all__ = ["main"]

P = ParamSpec("P")
R = TypeVar("R")

config_argument = click.argument("config", type=click.Path(path_type=Path))
overrides_argument = click.argument("overrides", nargs=-1)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def _refusing(command: Callable[P, R]) -> Callable[P, R]:
    """Our errors as one message: status 2 for what the user wrote wrong, 1 for what failed."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(2)
        except NasplugError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("Stopped. What finished is kept; run the same command again to go on.", err=True)
            sys.exit(130)

    return run


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=str))


def _rows(frame: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records"))
    return rows


def _results(study: Any) -> dict[str, Any]:
    """What a study earned, for a program."""
    from nasplug.plan import task_places

    found = {"folder": str(study.folder), "best": _rows(study.best().to_frame().T)[0], "front": _rows(study.front())}
    return found | ({"choices": _rows(study.choices())} if task_places(study.axes) else {})


class _Commands(click.Group):
    """Our commands; for any other name the plugins are loaded, as one of them may own it."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Ours first: plugins are loaded only for a name that is none of ours, so that ours answer at once."""
        found = super().get_command(context, name)
        return _of_plugins(name) if found is None else found

    def invoke(self, context: click.Context) -> Any:
        """Plugins' commands refuse as ours do."""
        return _refusing(super().invoke)(context)


@_refusing
def _of_plugins(name: str) -> click.Command | None:
    from nasplug.plugins import load_plugins

    offer = load_plugins().offers("command").get(name)
    if offer is None:
        return None
    command = offer.factory()
    if not isinstance(command, click.Command):
        raise PluginError(
            f"command {name!r} of {offer.owner} {offer.version}: its factory returned {type(command).__name__}; needed: a "
            "click.Command. Tell the plugin's author"
        )
    return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nasplug")
def main() -> None:
    """Find small neural networks by gradient descent, thousands at a time.

    A study is one YAML file. `nasplug plan` shows what it would do, `nasplug run` does it, `nasplug front` shows what came
    out, `nasplug ui` opens MLflow on it. Plugins may add commands; `nasplug plugins` lists them.
    """


@main.command()
@config_argument
@overrides_argument
@click.option("--runner", type=click.Choice(["ray", "serial"]), default="ray", show_default=True, help="Who runs the packs.")
@click.option("--address", help="Of a Ray cluster (auto, host:port); without it Ray starts on this machine.")
@click.option("--quiet", is_flag=True, help="No progress.")
@json_option
@_refusing
def run(config: Path, overrides: tuple[str, ...], runner: str, address: str | None, quiet: bool, as_json: bool) -> None:
    """Run a study, or go on with one that was interrupted.

    OVERRIDES are path=value, for example: train.steps=500 penalties.0.level=0.01
    """
    from nasplug.progress import Watcher
    from nasplug.study import Study
    from nasplug.summary import print_summary

    study = Study.from_yaml(config, overrides)
    if quiet:
        study.run(runner, address=address)  # type: ignore[arg-type]
    else:
        packs = study.check()
        generations = study.generations.sizes
        scale = sum(generations) / max(generations[0], 1)
        with Watcher(int(sum(p.rows for p in packs) * scale), round(len(packs) * scale)) as watcher:
            study.run(runner, address=address, observers=[watcher], packs=packs)  # type: ignore[arg-type]
    if as_json:
        _print_json(_results(study))
    else:
        print_summary(study)


@main.command()
@config_argument
@overrides_argument
@json_option
@_refusing
def plan(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show what a study would do: its axes, its packs, its size. Nothing is run."""
    from nasplug.plan import inside
    from nasplug.study import Study
    from nasplug.summary import print_plan

    study = Study.from_yaml(config, overrides)
    packs = study.plan()
    sizes = study.generations.sizes
    if as_json:
        _print_json(
            {
                "study": study.config.study,
                "folder": str(study.folder),
                "axes": [
                    {"path": a.path, "place": "row" if inside(a, packs) else "pack", **a.sweep.model_dump(exclude_none=True)}
                    for a in study.axes
                ],
                "seeds": len(study.config.seed_list),
                "configurations_a_generation": sizes,
                "packs": [{"id": p.id, "networks": p.rows, "values": p.values} for p in packs],
            }
        )
    else:
        print_plan(study, packs)


def _limits(given: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for text in given:
        name, _, most = text.partition("=")
        try:
            found[name] = float(most)
        except ValueError:
            raise ConfigError(f"--limit {text}; needed: COLUMN=NUMBER, for example parameters=30") from None
    return found


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--limit", "limits", multiple=True, help="COLUMN=NUMBER: the best network within it (latency_us is measured).")
@json_option
@_refusing
def front(folder: Path, limits: tuple[str, ...], as_json: bool) -> None:
    """Show the front of a study that has run: FOLDER is <store>/<study>.

    With --limit, as often as wanted, the one network with the smallest validation error within the limits.
    """
    from nasplug.study import Study
    from nasplug.summary import print_summary, print_within

    study = Study.open(folder)
    if limits:
        row = study.within(**_limits(limits))
        if as_json:
            _print_json(_rows(row.to_frame().T)[0])
        else:
            print_within(study, row)
    elif as_json:
        _print_json(_results(study))
    else:
        print_summary(study)


@main.command()
@json_option
@_refusing
def plugins(as_json: bool) -> None:
    """List the installed plugins and every name they offer."""
    from nasplug.plugins import KINDS, load_plugins
    from nasplug.summary import print_plugins

    loaded = load_plugins()
    if as_json:
        offers = {
            kind: [
                {"name": o.name, "distribution": o.owner, "version": o.version, "summary": o.summary}
                for o in loaded.offers(kind).values()
            ]
            for kind in KINDS
        }
        _print_json({"plugins": loaded.manifest, "offers": offers})
    else:
        print_plugins(loaded)


@main.group()
def config() -> None:
    """Look at studies without running them."""


@config.command()
@config_argument
@overrides_argument
@json_option
@_refusing
def show(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print a study as it is understood: defaults filled in, overrides applied."""
    from nasplug.config import read_yaml, to_yaml

    plain = read_yaml(config, overrides).plain()
    if as_json:
        _print_json(plain)
    else:
        click.echo(to_yaml(plain), nl=False)


@config.command()
@config_argument
@overrides_argument
@json_option
@_refusing
def validate(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check a study as `run` would: plugins, data and store; status 2 if it would be refused.

    Only CPUs and GPUs are not looked at: they are those of the machine that runs it.
    """
    from nasplug.study import Study

    study = Study.from_yaml(config, overrides)
    packs = study.check()
    networks = sum(p.rows for p in packs)
    later = len(study.generations.sizes) - 1
    if as_json:
        _print_json({"config": str(config), "networks": networks, "packs": len(packs)})
    else:
        words = f" in the first of {later + 1} generations" if later else ""
        click.echo(f"{config}: good; {networks} networks in {len(packs)} packs{words}.")


@config.command()
@_refusing
def schema() -> None:
    """Print the JSON Schema of a study, with the options of every installed plugin, for editors."""
    from nasplug.config import json_schema
    from nasplug.plugins import load_plugins

    _print_json(json_schema(load_plugins()))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--port", default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@_refusing
def ui(folder: Path, port: int, host: str) -> None:
    """Open MLflow's page on a study's store. FOLDER is a store or a study's folder (default: runs)."""
    import subprocess

    from nasplug.summary import store_of

    uri = store_of(folder)
    if uri.startswith(("http://", "https://")):
        click.echo(f"This study was tracked on a server; its page is {uri}")
        return
    click.echo(f"MLflow on {uri}: http://{host}:{port} (stop with Ctrl-C)")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", host, "--port", str(port)]
    raise SystemExit(subprocess.call(command))


if __name__ == "__main__":
    main()
