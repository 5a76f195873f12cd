"""The command line. Heavy packages are imported inside the commands, so that ``nasplug --help`` answers at once."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from nasplug.console import alone, say, speak
from nasplug.errors import ConfigError, NasplugError, PluginError, cause, scrub

__all__ = ["main"]

OFFER = "nasplug.offer"  # in a context: whose command runs
P = ParamSpec("P")
R = TypeVar("R")

config_argument = click.argument("config", type=Path)
overrides_argument = click.argument("overrides", nargs=-1)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
fast_option = click.option("--fast", is_flag=True, help="Skip trials of method, penalties and discretizers on two networks.")


def _refusing(command: Callable[P, R]) -> Callable[P, R]:
    """Print errors of nasplug as one message without secrets; status 2 for a refused study or option, 1 for a failure."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            say(f"Error: {scrub(str(error))}", error=True)
            sys.exit(2)
        except NasplugError as error:
            say(f"Error: {scrub(str(error))}", error=True)
            sys.exit(1)
        except KeyboardInterrupt:
            say("Stopped. What finished is kept; run the same command again to go on.", error=True)
            sys.exit(130)

    return run


def _ours(command: Callable[P, R]) -> Callable[P, R]:
    """A command of nasplug: only what it prints itself goes to standard output."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with alone():
            return command(*args, **kwargs)

    return run


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP stop a command as Ctrl-C does, with the same status."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _left_behind() -> bool:
    """Whether an observer still runs although the study no longer waits for it."""
    observers = sys.modules.get("nasplug.observers")
    return observers is not None and any(thread.name == observers.THREAD for thread in threading.enumerate())


def _print_json(value: Any) -> None:
    say(json.dumps(value, indent=2, default=str))


def _rows(frame: Any) -> list[dict[str, Any]]:
    """One mapping per network: numbers with all their digits, null for what is not there, owners as a mapping."""
    return [{name: _plain(name, value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(name: str, value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.loads(value) if name == "owners" and isinstance(value, str) else value


def _results(study: Any) -> dict[str, Any]:
    """The results of a study, for `--json`."""
    from nasplug import stability
    from nasplug.files import DamageError, read_json
    from nasplug.plan import task_places
    from nasplug.report import LINEAR

    best = study.best()
    found = {"folder": str(study.folder), "best": _rows(best.to_frame().T)[0], "front": _rows(study.front("all"))}
    found["trivial"] = dict(study.facts_of(str(best["replica"])).trivial)
    with suppress(DamageError):  # the front does not need it, and another run writes it anew
        found["linear"] = read_json(study.folder / LINEAR)
    with suppress(DamageError):
        found |= {"stability": words} if (words := stability.words(study.folder)) else {}
    if study.config.monotone:
        found["monotone"] = study.config.monotone
    return found | ({"choices": _rows(study.choices())} if task_places(study.axes) else {})


class _Commands(click.Group):
    """The commands of nasplug. For any other name the plugins are loaded, as one of them may offer it."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Look among nasplug's own first, so that these start without loading plugins."""
        found = super().get_command(context, name)
        if found is not None:
            return found
        with alone():
            return _of_plugins(context, name)

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Any:
        """Whatever is printed, the output's encoding takes it; no observer left behind is waited for."""
        speak()
        try:
            return super().main(args, *more, **named)
        except SystemExit as end:
            if args is None and _left_behind():  # this process is ours
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(end.code if isinstance(end.code, int) else end.code is not None)
            raise

    def invoke(self, context: click.Context) -> Any:
        """Plugins' commands refuse as ours do, and where they break they are named."""
        with _signals():
            return _refusing(self._invoke)(context)

    def _invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (NasplugError, click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if OFFER not in context.meta:
                raise
            raise PluginError(f"{context.meta[OFFER]} broke with {cause(error)}. Tell its author") from error


@_refusing
def _of_plugins(context: click.Context, name: str) -> click.Command | None:
    from nasplug.plugins import load_plugins

    plugins = load_plugins()
    if name not in plugins.offers("command") and not plugins.perhaps and not any(c.name == name for c in plugins.clashes):
        return None  # click says that there is none, and what may have been meant
    offer = plugins.offer("command", name)
    context.meta[OFFER] = str(offer)
    try:
        command = offer.factory()
    except Exception as error:
        raise PluginError(f"{offer} broke with {cause(error)}. Tell its author") from error
    if not isinstance(command, click.Command):
        raise PluginError(f"{offer}: its factory returned {type(command).__name__}; needed: a click.Command. Tell its author")
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
@click.option("--runner", type=click.Choice(["ray", "serial"]), default="ray", show_default=True, help="Where packs are run.")
@click.option("--address", help="Address of a Ray cluster: auto or host:port. Default: start Ray on this machine.")
@click.option("--accept-changes", is_flag=True, help="If data, plugins or nasplug changed: train all packs again.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@fast_option
@json_option
@_ours
def run(
    config: Path,
    overrides: tuple[str, ...],
    runner: str,
    address: str | None,
    accept_changes: bool,
    quiet: bool,
    fast: bool,
    as_json: bool,
) -> None:
    """Run a study, or resume one that was interrupted.

    OVERRIDES are path=value, for example: train.steps=500 penalties.0.level=0.01
    """
    from nasplug.progress import Watcher
    from nasplug.study import Study
    from nasplug.summary import print_summary

    study = Study.from_yaml(config, overrides, fast=fast)
    with nullcontext() if quiet else Watcher() as watcher:
        observers = [] if watcher is None else [watcher]
        study.run(runner, address=address, observers=observers, accept_changes=accept_changes)  # type: ignore[arg-type]
    if as_json:
        _print_json(_results(study))
    else:
        print_summary(study)
    if study.untracked:
        raise NasplugError(
            f"MLflow was not told all of it: {study.untracked}. All results are in {study.folder}; the same command again "
            "tells MLflow the rest and trains nothing again"
        )


@main.command()
@config_argument
@overrides_argument
@fast_option
@json_option
@_ours
def plan(config: Path, overrides: tuple[str, ...], fast: bool, as_json: bool) -> None:
    """Show what a study would do: what varies, its packs, its size. Nothing is run."""
    from nasplug.plan import inside, most_halves
    from nasplug.study import Study
    from nasplug.summary import about, print_plan

    study = Study.from_yaml(config, overrides, fast=fast)
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
                "data": about(study.task),
                "networks_on_half_samples": 0 if study.config.counted is None else most_halves(study.config.counted),
            }
        )
    else:
        print_plan(study, packs)


@main.command()
@click.argument("table", type=str)
@click.argument("options", nargs=-1)
@click.option("--target", "targets", multiple=True, help="The column to predict (again for several).")
@click.option("--write", "file", type=Path, help="Write the study to start from into this file, which must not be there.")
@json_option
@_ours
def look(table: str, options: tuple[str, ...], targets: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Show what a CSV or Parquet file is taken for, and a study to start from.

    OPTIONS are those of the task 'table', for example: missing_codes=[-999] exclude=[id]
    """
    from nasplug.config import override
    from nasplug.looking import look, write_study
    from nasplug.summary import print_look

    given: dict[str, Any] = {}
    for text in options:
        override(given, text)
    found = look(table, targets, given)
    if as_json:
        _print_json(found.plain())
    else:
        print_look(found)
    if file is not None:
        write_study(found, file)
        say(f"Written: {file}. To see what it would do: nasplug plan {file}", error=as_json)


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
@click.argument("folder", type=Path)
@click.option("--limit", "limits", multiple=True, help="COLUMN=NUMBER: the largest value allowed. latency_us is measured.")
@click.option("--stable", type=float, help="A share: only networks whose inputs were all kept in so many half samples.")
@json_option
@_ours
def front(folder: Path, limits: tuple[str, ...], stable: float | None, as_json: bool) -> None:
    """Show the Pareto front of a study that has run. FOLDER is <store>/<study>.

    With --limit (it may be given several times): the network with the smallest validation error within all limits.
    """
    from nasplug.study import Study
    from nasplug.summary import print_stable, print_summary, print_within
    from nasplug.tracking import end_killed

    study = Study.open(folder)
    end_killed(study.folder)
    if limits:
        row = study.within(stable, **_limits(limits))
        if as_json:
            _print_json(_rows(row.to_frame().T)[0])
        else:
            print_within(study, row)
    elif stable is not None:
        if as_json:
            _print_json({"folder": str(study.folder), "stable": stable, "front": _rows(study.front("all", stable=stable))})
        else:
            print_stable(study, stable)
    elif as_json:
        _print_json(_results(study))
    else:
        print_summary(study)


@main.command()
@click.argument("network", type=str)
@click.argument("table", type=str)
@click.argument("options", nargs=-1)
@click.option("--out", type=Path, help="Write the answers into this .csv or .parquet file.")
@click.option(
    "--store", default="runs", show_default=True, help="For models:/: a store (the folder with mlflow.db) or an address."
)
@click.option("--explain", "why", is_flag=True, help="Of a study: what each column adds, which sums to the prediction.")
@json_option
@_ours
def predict(network: str, table: str, options: tuple[str, ...], out: Path | None, store: str, why: bool, as_json: bool) -> None:
    """Answer the rows of a CSV or Parquet file with a network: CSV, one line per row.

    NETWORK is the folder of a study (its chosen network) or of a network, or models:/NAME@ALIAS. OPTIONS say how the file is
    read, where it is written otherwise than the training file, for example: separator=; decimal=,
    """
    from nasplug.config import override
    from nasplug.predicting import check_out, explained, predict, source, write

    given: dict[str, Any] = {}
    for text in options:
        override(given, text)
    check_out(out, table)
    found = source(network, store)
    answers, notes = explained(network, found, table, given) if why else predict(found, table, given)
    for note in notes:
        say(f"Read: {note}", error=True)
    if out is not None:
        write(answers, out)
        say(f"Written: {out}, {len(answers)} rows", error=True)
    if as_json:
        _print_json(_rows(answers))
    elif out is None:
        say(answers.to_csv(index=False), end="")


@main.command()
@click.argument("folder", type=Path)
@click.argument("table", type=str, required=False)
@click.option("--replica", help="Another network than the chosen one, p0001/0017 say.")
@click.option("--out", type=Path, help="With TABLE: write contributions into this .csv or .parquet file.")
@json_option
@_ours
def explain(folder: Path, table: str | None, replica: str | None, out: Path | None, as_json: bool) -> None:
    """Explain a network: its formula, the effect of each column, the pairs that interact. FOLDER is <store>/<study>.

    With TABLE, a CSV or Parquet file: what each column adds to each prediction, which it sums to.
    """
    from nasplug.explain import explainable
    from nasplug.predicting import check_out, flat, rows, source, write
    from nasplug.report import explained_of
    from nasplug.study import Study
    from nasplug.summary import print_contributions, print_explained

    check_out(out, table or "")
    study = Study.open(folder).snapshot()
    name = replica or str(study.best()["replica"])
    if table is None:
        if out is not None:
            raise ConfigError(f"--out {out}: contributions are written there, of the rows of a TABLE; name one, or take --json")
        found = explained_of(study, name)
        _print_json(found.plain()) if as_json else print_explained(found)
        return
    read, notes = rows(source(str(folder))._replace(network=explainable(study.network(name))), table)
    for note in notes:
        say(f"Read: {note}", error=True)
    frame = study.explain(read, name)
    if out is not None:
        write(flat(frame), out)
    if as_json:
        _print_json({**frame.attrs, "rows": _rows(flat(frame))})
    elif out is None:
        print_contributions(frame)


@main.command()
@json_option
@_ours
def plugins(as_json: bool) -> None:
    """List plugins, the names they offer with options, observers, and broken plugins."""
    from nasplug.plugins import listing
    from nasplug.summary import print_plugins

    found = listing()
    if as_json:
        _print_json(found)
    else:
        print_plugins(found)


@main.group()
def config() -> None:
    """Print, check or describe studies without running them."""


@config.command()
@config_argument
@overrides_argument
@json_option
@_ours
def show(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print a study as nasplug reads it, with defaults and overrides."""
    from nasplug.config import read_yaml, to_yaml

    plain = read_yaml(config, overrides).plain()
    if as_json:
        _print_json(plain)
    else:
        say(to_yaml(plain), end="")


@config.command()
@config_argument
@overrides_argument
@json_option
@_ours
def validate(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check a study as `run` would: plugins, data, store. The status is 2 if it is refused.

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
        say(f"{config}: good; {networks} networks in {len(packs)} packs{words}.")


@config.command()
@_ours
def schema() -> None:
    """Print the JSON Schema of a study, with the options of every installed plugin, for editors."""
    from nasplug.config import json_schema
    from nasplug.plugins import load_plugins

    _print_json(json_schema(load_plugins().models))


@main.command()
@click.argument("folder", type=Path, default=Path("runs"))
@click.option("--port", default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@_ours
def ui(folder: Path, port: int, host: str) -> None:
    """Open the page of MLflow for a store. FOLDER is a store or the folder of a study (default: runs)."""
    from nasplug.tracking import serve, store_of

    uri = store_of(folder)
    if uri.startswith(("http://", "https://")):
        say(f"This study was tracked on a server; its page is {uri}")
        return
    say(f"MLflow on {uri}: http://{host}:{port} (stop with Ctrl-C)")
    raise SystemExit(serve(uri, host, port))


if __name__ == "__main__":
    main()
