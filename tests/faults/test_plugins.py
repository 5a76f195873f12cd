"""Plugins that are broken in every way we know: each is named where it is caught, and stops only what needs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nasplug import testing
from nasplug.cli import main
from nasplug.config import json_schema, parse
from nasplug.errors import ConfigError, ContractError, PluginError
from nasplug.observers import listeners
from nasplug.plugins import KINDS, Plugins, load_plugins
from nasplug.plugins.defects import ONLY, SKIP
from nasplug.plugins.registration import COMMANDS
from nasplug.study import Study

from .broken_plugins import (
    BROKEN,
    HEAD,
    LAWLESS,
    PLANNED,
    REGISTERED,
    STOPPED,
    TRIED,
    UNKIND,
    BrokenPlugin,
    penalty,
    put,
    registering,
)

ROOT = Path(__file__).parent.parent.parent
Install = Callable[..., str]

STUDY = """
study: small
store: {store}
task: {{use: xor, samples: 20}}
method: {{use: edges, mode: l1, hidden: [2]}}
train: {{steps: 2}}
mlflow: null
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts distributions on the path, here and in processes that are started."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    modules = set()

    def add(distribution: str, code: str, **more: str) -> str:
        modules.add(put(folder, distribution, code, **more))
        load_plugins.cache_clear()
        return str(folder)

    yield add
    load_plugins.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


def loaded() -> Plugins:
    """As `load_plugins`, but now and not from memory."""
    return load_plugins.__wrapped__()


def ask(*command: str) -> Result:
    return CliRunner().invoke(main, command)


def names(plugins: Plugins) -> dict[str, list[str]]:
    return {kind: list(plugins.offers(kind)) for kind in KINDS}


# what is caught while plugins are loaded


@pytest.mark.parametrize("one", REGISTERED, ids=lambda one: one.slug)
def test_a_broken_plugin_is_named_and_leaves_nothing_behind(install: Install, one: BrokenPlugin) -> None:
    before = loaded()
    install("nasplug-bad", one.code, version="1.2", entry="bad")
    after = loaded()
    assert [str(broken.owner) for broken in after.broken] == ["plugin 'bad' (nasplug-bad 1.2)"]
    (broken,) = after.broken
    assert one.said in broken.error
    assert broken.remedy.endswith(f"Repair, update or uninstall it, or leave it out: {SKIP}=nasplug-bad")
    assert "\n" not in str(broken)
    assert (names(after), after.manifest, after.clashes) == (names(before), before.manifest, [])
    assert len(after.manager.get_plugins()) == len(before.manager.get_plugins())
    json_schema(after.models)


def test_all_of_them_at_once_stop_nothing_else(install: Install, tmp_path: Path) -> None:
    for number, one in enumerate(REGISTERED):
        install(f"nasplug-bad-{number:02d}", f"print('I am being imported')\n{one.code}" if "import" in one.code else one.code)
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(store=tmp_path / "runs"))

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nasplug", *command], capture_output=True, text=True, check=False, cwd=tmp_path
        )

    done = call("plugins", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [broken["distribution"] for broken in found["broken"]] == [f"nasplug-bad-{n:02d}" for n in range(len(REGISTERED))]
    for broken, one in zip(found["broken"], REGISTERED, strict=True):
        assert one.said in broken["error"]
    assert "edges" in [offer["name"] for offer in found["offers"]["method"]]
    for command in (("plan", str(study), "--json"), ("config", "schema"), ("config", "validate", str(study), "--json")):
        result = ask(*command)
        assert result.exit_code == 0, (command, result.stderr)
        json.loads(result.stdout)


def test_what_nobody_offers_may_be_a_broken_plugins(install: Install, tmp_path: Path) -> None:
    install("nasplug-odd", "import nowhere_to_be_found", version="1.2", entry="odd")
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(store=tmp_path / "runs"))
    refused = ask("plan", str(study), "method.use=odd")
    assert refused.exit_code == 2
    assert "method 'odd' is not installed; installed: edges, " in refused.stderr
    assert (
        "The plugin 'odd' (nasplug-odd 1.2) may offer it, but failed to import nasplug_odd: ModuleNotFoundError: "
        in refused.stderr
    )
    assert refused.stderr.endswith(f"leave it out: {SKIP}=nasplug-odd.\n")
    unknown = ask("odd")
    assert unknown.exit_code == 2
    assert "command 'odd' is not installed" in unknown.stderr
    assert "nasplug-odd 1.2" in unknown.stderr


def test_one_that_is_left_out_is_not_even_imported(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("nasplug-odd", "raise SystemExit(3)", entry="odd")
    assert len(loaded().broken) == 1
    monkeypatch.setenv(SKIP, " NASPLUG.odd ,nasplug_swat")
    plugins = loaded()
    assert plugins.broken == []
    assert [owner.distribution for owner in plugins.left_out] == ["nasplug-odd", "nasplug-swat"]
    assert {p["distribution"] for p in plugins.manifest} >= {"nasplug", "nasplug-edges"}
    with pytest.raises(ConfigError, match=r"'swat' is not installed; .* Left out by the environment: nasplug-odd 1\.0, "):
        plugins.offer("method", "swat")
    assert "Left out by the environment: plugin 'swat' (nasplug-swat " in ask("plugins").stdout


@pytest.mark.parametrize(("variable", "name"), [(SKIP, "nasplug-swta"), (ONLY, "nasplug-swta"), (SKIP, "nasplug")])
def test_a_variable_that_names_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, name: str) -> None:
    monkeypatch.setenv(variable, name)
    with pytest.raises(PluginError) as refused:
        loaded()
    assert f"{variable} names {name!r}, which is not installed; installed: " in str(refused.value)
    assert "Did you mean" in str(refused.value)


# what is caught when a study is planned


def study_with(one: BrokenPlugin, store: Path, **more: Any) -> Study:
    raw = {
        "study": "odd",
        "store": str(store),
        "task": {"use": "xor", "samples": 20},
        "method": {"use": "edges", "mode": "l1", "hidden": [3]},
        "train": {"steps": 2},
        "mlflow": None,
    }
    return Study(parse({**raw, **one.more}), loaded(), **more)


@pytest.mark.parametrize("one", LAWLESS, ids=lambda one: one.slug)
def test_what_breaks_a_law_is_refused_when_it_is_planned(install: Install, tmp_path: Path, one: BrokenPlugin) -> None:
    install("nasplug-bad", one.code, version="1.2", entry="bad")
    study = study_with(one, tmp_path)
    assert study.plugins.broken == []
    with pytest.raises(ContractError) as refused:
        study.plan()
    told = str(refused.value)
    assert one.said in told
    assert "'odd' of plugin 'bad' (nasplug-bad 1.2)" in told
    assert "Tell its author" in told
    assert "--fast" in told
    assert not study.folder.exists()
    study_with(one, tmp_path, fast=True).plan()


@pytest.mark.parametrize("one", TRIED, ids=lambda one: one.slug)
def test_what_breaks_on_one_network_is_refused_when_it_is_planned(install: Install, tmp_path: Path, one: BrokenPlugin) -> None:
    install("nasplug-bad", one.code, version="1.2", entry="bad")
    with pytest.raises((ContractError, ConfigError)) as refused:
        study_with(one, tmp_path, fast=True).plan()
    told = str(refused.value)
    assert one.said in told
    assert "'odd' of plugin 'bad' (nasplug-bad 1.2)" in told


# what the kit catches, and a run


@pytest.mark.parametrize("one", UNKIND, ids=lambda one: one.slug)
def test_the_kit_says_which_law_is_broken_and_what_to_do(install: Install, one: BrokenPlugin) -> None:
    install("nasplug-bad", one.code, version="1.2", entry="bad")
    plugins = loaded()
    assert plugins.broken == []
    ((kit, law),) = one.more.items()
    name = "bad" if kit == "ObserverLaws" else "odd"
    toy = type("Toy", (getattr(testing, kit),), {"name": name, "plugins": lambda self: plugins})()
    with pytest.raises(AssertionError) as broken:
        getattr(toy, law)()
    assert one.said in str(broken.value)
    assert "plugin 'bad' (nasplug-bad 1.2). " in str(broken.value).splitlines()[-1]


@pytest.mark.parametrize("one", STOPPED, ids=lambda one: one.slug)
def test_what_breaks_while_it_runs_is_named(install: Install, tmp_path: Path, one: BrokenPlugin) -> None:
    install("nasplug-bad", one.code, version="1.2", entry="bad")
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(store=tmp_path / "runs"))
    training = [f"{key}={value}" for key, value in one.more.items()]
    observing = "study_finished" in one.code
    running = ["run", str(study), *training, "--runner", "serial", "--quiet"]
    done = ask(*running) if observing or training else ask("odd")
    assert one.said in done.stderr
    assert "nasplug-bad 1.2" in done.stderr
    assert done.exit_code == (0 if observing else 1)
    assert not observing or (tmp_path / "runs" / "small" / "report.html").exists()


def test_the_end_of_a_study_waits_for_an_installed_observer_as_it_asks(install: Install) -> None:
    install("nasplug-slow", f"{HEAD}patience_seconds = 3.5\n@hookimpl\ndef study_finished(folder): pass")
    assert [listener.patience for listener in listeners(loaded(), [])] == [3.5]


def test_the_table_for_authors_is_this_suite() -> None:
    section = (
        (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8").split("## When something is wrong")[1].split("\n## ")[0]
    )
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in section.splitlines() if line.startswith("|")]
    assert rows[2:] == [(one.defect, one.caught, f"`{one.said}`") for one in BROKEN]


@pytest.mark.parametrize("one", PLANNED, ids=lambda one: one.slug)
def test_what_nobody_would_read_is_refused_when_a_study_is_planned(install: Install, tmp_path: Path, one: BrokenPlugin) -> None:
    install("nasplug-odd", one.code, entry="odd")
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(store=tmp_path / "runs"))
    kind = "penalties=[{use: odd, level: 1}]" if "register_regularizers" in one.code else "method={use: odd}"
    refused = ask("plan", str(study), kind)
    assert isinstance(refused.exception, SystemExit)
    assert one.said in refused.stderr


# names of two plugins


def test_a_name_that_two_plugins_offer_is_nobodys(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    both = penalty("") + "    \n@hookimpl\ndef register_schedules(register):\n    register({!r}, lambda: float)\n"
    install("nasplug-one", both.format("mine"), entry="penalties")
    install("nasplug-two", both.format("yours"), entry="penalties")
    plugins = loaded()
    assert plugins.broken == []
    assert {"mine", "yours"} <= set(plugins.offers("schedule")), "the other names of both are there"
    with pytest.raises(PluginError) as refused:
        plugins.build("regularizer", "odd", {}, "penalties.0")
    assert str(refused.value) == (
        "penalties.0: regularizer 'odd' is offered by nasplug-one 1.0 and nasplug-two 1.0, so that it is nobody's. "
        f"Uninstall all but one of them, or leave them out: {SKIP}=nasplug-two"
    )
    (clash,) = json.loads(ask("plugins", "--json").stdout)["clashes"]
    assert (clash["kind"], clash["name"]) == ("regularizer", "odd")
    assert "Offered twice: regularizer 'odd' is offered by nasplug-one 1.0 and nasplug-two 1.0" in ask("plugins").stdout
    install("nasplug-three", penalty(""))
    (clash_of_three,) = loaded().clashes
    assert len(clash_of_three.owners) == 3
    monkeypatch.setenv(SKIP, "nasplug-two,nasplug-three")
    assert loaded().offer("regularizer", "odd").owner == "nasplug-one"


def test_a_command_that_two_plugins_offer_says_so(install: Install) -> None:
    for distribution in ("nasplug-one", "nasplug-two"):
        install(distribution, registering("register_commands", "register('odd', lambda: None)"))
    refused = ask("odd")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "command 'odd' is offered by nasplug-one 1.0 and nasplug-two 1.0" in refused.stderr


def test_our_own_commands_are_known_to_the_registry() -> None:
    assert set(main.commands) == COMMANDS


def test_models_of_options_may_bear_one_name(install: Install) -> None:
    code = "from pydantic import BaseModel\nclass Sweep(BaseModel):\n    {}: int\n"
    for name in ("one", "two"):
        offer = f"register({name!r}, make)"
        make = f"{code.format(name)}def make(*, of: Sweep):\n    'A task.'\n"
        install(f"nasplug-{name}", registering("register_tasks", offer, make))
    schema = json_schema(loaded().models)
    assert set(schema["$defs"]["task.one.Sweep"]["properties"]) == {"one"}
    assert set(schema["$defs"]["task.two.Sweep"]["properties"]) == {"two"}
    assert "choice" in schema["$defs"]["Sweep"]["properties"], "ours is as it was"


# what a plugin prints


def test_prints_of_a_plugin_are_no_part_of_json(install: Install, tmp_path: Path) -> None:
    loud = registering("register_tasks", "print('registering'), register('odd', lambda: None)", "print('hello')")
    install("nasplug-loud", loud)
    done = subprocess.run(
        [sys.executable, "-m", "nasplug", "plugins", "--json"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "odd" in [offer["name"] for offer in json.loads(done.stdout)["offers"]["task"]]
    assert "hello\nregistering\n" in done.stderr


# commands

COMMAND = """
import click

def hello():
    "Say hello."

    @click.command()
    def command():
        {}

    return command
"""


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        (COMMAND.format("raise KeyError('no')"), "broke with KeyError: 'no' ("),
        ("def hello():\n    return 5\n", "its factory returned int; needed: a click.Command"),
        ("def hello():\n    return {}['no']\n", "broke with KeyError: 'no' ("),
    ],
)
def test_a_command_that_breaks_is_named(install: Install, factory: str, told: str) -> None:
    install("nasplug-hello", registering("register_commands", "register('hello', hello)", factory), version="1.2")
    broken = ask("hello")
    assert broken.exit_code == 1
    assert broken.stderr.startswith("Error: command 'hello' of plugin 'nasplug-hello' (nasplug-hello 1.2)")
    assert told in broken.stderr
    assert "ell its author" in broken.stderr
    assert "Traceback" not in broken.stderr


def test_an_exception_of_our_own_commands_is_not_blamed_on_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasplug.summary.print_plugins", lambda listing: {}["no"])
    assert isinstance(ask("plugins").exception, KeyError)


# the listing


def listing(env: dict[str, str] | None = None) -> tuple[dict[str, Any], bool]:
    """What `nasplug plugins --json` says in a fresh process, and whether torch was imported for it."""
    code = (
        "import sys\nfrom nasplug.cli import main\n"
        "try:\n    main(['plugins', '--json'])\n"
        "except SystemExit:\n    pass\nprint('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return json.loads(done.stdout), done.stderr.split()[-1] == "True"


@pytest.mark.slow
def test_a_listing_is_kept_until_anything_has_changed(install: Install, tmp_path: Path) -> None:
    folder = Path(install("nasplug-balance", penalty("*, share: float = 0.5"), version="2.0"))
    first, torch = listing()  # writes byte code beside the module, so that the folder changes
    assert torch
    assert {"name": "share", "type": "a number", "default": 0.5} in [
        option for offer in first["offers"]["regularizer"] if offer["name"] == "odd" for option in offer["options"]
    ]
    assert listing() == (first, True) or listing() == (first, False)
    assert listing() == (first, False), "kept: nothing is imported to show it"
    module = folder / "nasplug_balance.py"
    module.write_text(penalty("*, part: float = 0.5"))
    changed, torch = listing()
    assert torch
    assert changed != first
    listing()
    assert listing() == (changed, False)
    kept = tmp_path / "cache" / "nasplug" / "plugins.json"
    kept.write_text(kept.read_text().replace('"part"', '"prat"'))
    assert listing() == (changed, True), "damaged, and made again"
    kept.write_text("[" * 100_000)
    assert listing()[0] == changed
    module.write_text("import nowhere_to_be_found")
    broken, _ = listing()
    assert broken["broken"]
    listing()
    assert listing() == (broken, True), "what is broken is tried again each time"
