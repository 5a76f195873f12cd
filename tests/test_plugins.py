"""Loading plugins: who owns a name, what its options are, and how a worker's differ."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from click.testing import CliRunner, Result
from pydantic import Field, ValidationError

from nasplug.cli import main
from nasplug.compact import load
from nasplug.config import parse
from nasplug.errors import ConfigError, PluginError
from nasplug.hookspecs import Register, hookimpl
from nasplug.identity import versions
from nasplug.plugins import KINDS, Plugins, load_plugins, options_model
from nasplug.plugins.defects import ONLY
from nasplug.plugins.loading import BUILT_IN
from nasplug.study import Study

from .faults.broken_plugins import put

FIRST_PARTY = {"nasplug", "nasplug-discretizers", "nasplug-edges", "nasplug-regularizers"}
Install = Callable[..., None]


def loaded() -> Plugins:
    """As `load_plugins`, but now and not from memory."""
    return load_plugins.__wrapped__()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution with one plugin module on the path, as pip would."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set()

    def add(distribution: str, code: str, **more: str) -> None:
        modules.add(put(tmp_path, distribution, textwrap.dedent(code), **more))

    yield add
    for module in modules:
        sys.modules.pop(module, None)


def penalty(name: str) -> str:
    return f"""
        from nasplug import hookimpl

        def factory(*, share: float = 1.0):
            '''A penalty.'''

        @hookimpl
        def register_regularizers(register):
            register({name!r}, factory)
        """


BROKEN = "import nowhere_to_be_found\n"
SWISH = """
    import torch
    from nasplug import hookimpl

    def make():
        "Twice the argument times its logistic function."
        return lambda z: 2.0 * z * torch.sigmoid(z)

    @hookimpl
    def register_activations(register):
        register("swish", make)
    """


def test_our_own_plugins_are_loaded() -> None:
    plugins = load_plugins()
    assert {p["distribution"] for p in plugins.manifest} >= FIRST_PARTY
    owners = {kind: {o.name: o.owner for o in plugins.offers(kind).values()} for kind in KINDS}
    assert owners["schedule"]["linear"] == owners["task"]["xor"] == "nasplug"
    assert owners["method"]["edges"] == "nasplug-edges"
    assert owners["regularizer"]["l1"] == "nasplug-regularizers"
    assert owners["discretizer"]["threshold"] == "nasplug-discretizers"
    assert load_plugins() is plugins


def test_every_name_says_what_it_is() -> None:
    plugins = load_plugins()
    for kind in KINDS:
        offers = plugins.offers(kind)
        assert list(offers) == sorted(offers)
        assert offers
        for offer in offers.values():
            if offer.owner in FIRST_PARTY:
                assert offer.summary.endswith((".", ")")) or offer.summary, offer.name
                assert offer.version


def test_a_strangers_plugin_is_loaded_with_its_owner(install: Install) -> None:
    install("nasplug-balance", penalty("balance"), version="2.3")
    offer = loaded().offer("regularizer", "balance")
    assert (offer.owner, offer.version, offer.summary) == ("nasplug-balance", "2.3", "A penalty.")


def test_a_strangers_activation_is_searched_and_served_by_name(install: Install, tmp_path: Path) -> None:
    install("nasplug-swish", SWISH)
    study = {
        "study": "stranger",
        "store": str(tmp_path),
        "task": {"use": "xor", "samples": 20},
        "method": {"use": "edges", "mode": "l1", "hidden": [4], "activation": "swish"},
        "train": {"steps": 5},
        "mlflow": None,
    }
    done = Study(parse(study), loaded()).run("serial")
    network = load(done.folder / "best", loaded().functions)
    assert network.record["activations"] == [[["swish", 4]]]
    offer = loaded().offer("activation", "swish")
    assert (offer.owner, offer.summary) == ("nasplug-swish", "Twice the argument times its logistic function.")


# which plugins are loaded


@pytest.mark.parametrize(
    ("only", "distributions"),
    [
        ("", {"nasplug"}),
        ("nasplug", {"nasplug"}),
        ("nasplug-edges", {"nasplug", "nasplug-edges"}),
        (" nasplug_edges , NASPLUG.Regularizers", {"nasplug", "nasplug-edges", "nasplug-regularizers"}),
    ],
)
def test_only_the_plugins_that_are_asked_for(
    install: Install, monkeypatch: pytest.MonkeyPatch, only: str, distributions: set[str]
) -> None:
    install("nasplug-bad", BROKEN)
    monkeypatch.setenv(ONLY, only)
    assert {p["distribution"] for p in loaded().manifest} == distributions


def test_a_plugin_that_is_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONLY, "nasplug-edgse")
    with pytest.raises(PluginError) as refused:
        loaded()
    message = str(refused.value)
    assert message.startswith(f"{ONLY} names 'nasplug-edgse', which is not installed; installed: ")
    assert message.endswith("Did you mean 'nasplug-edges'?")


# the driver and its workers


def test_the_same_plugins_are_good() -> None:
    loaded().require(load_plugins().manifest)


def test_differences_between_driver_and_worker_are_told(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("nasplug-balance", penalty("balance"), version="2.3")
    driver = loaded().manifest
    with pytest.raises(PluginError) as refused:
        load_plugins().require(driver)
    assert str(refused.value) == (
        "the driver and this worker differ; nasplug-balance: driver has 2.3, this worker has none; "
        "install the same on every node"
    )
    with pytest.raises(PluginError, match=r"nasplug-balance: driver has none, this worker has 2\.3; install"):
        loaded().require(load_plugins().manifest)


def test_versions_below_plugins_are_compared_too(install: Install) -> None:
    """A plugin of another version is told once, not also for its source."""
    install("nasplug-balance", penalty("balance"), version="2.3")
    here = loaded()
    mine = {"python": "3.11.7", "torch": "2.9.0", "nasplug": "0.1.0, source aaaa", "nasplug-balance": "2.3, source bbbb"}
    here.require(here.manifest, mine, mine)
    driver = mine | {"python": "3.11.9", "nasplug": "0.1.0, source cccc", "nasplug-balance": "2.2, source dddd", "numpy": "2.4"}
    manifest = [p | ({"version": "2.2"} if p["distribution"] == "nasplug-balance" else {}) for p in here.manifest]
    with pytest.raises(PluginError) as refused:
        here.require(manifest, driver, mine)
    assert str(refused.value) == (
        "the driver and this worker differ; nasplug-balance: driver has 2.2, this worker has 2.3; "
        "python: driver has 3.11.9, this worker has 3.11.7; "
        "nasplug: driver has 0.1.0, source cccc, this worker has 0.1.0, source aaaa; "
        "numpy: driver has 2.4, this worker has none; install the same on every node"
    )


def test_versions_are_those_of_python_torch_numpy_and_makers() -> None:
    study = parse({"study": "s", "task": {"use": "xor"}, "method": {"use": "edges"}, "train": {"steps": 1}})
    found = versions(study, load_plugins())
    assert {"python", "torch", "numpy", "nasplug", "nasplug-edges"} <= found.keys()
    assert "+" not in found["torch"]  # a build for the CPU works with one for GPUs


def test_every_difference_is_told_in_one_line(install: Install) -> None:
    install("nasplug-balance", penalty("balance"), version="2.3")
    install("nasplug-gone", BROKEN)
    here = loaded()

    def told(**changes: dict[str, Any]) -> str:
        driver = [p | changes.get(p["plugin"].replace("-", "_"), {}) for p in here.manifest]
        extra = {"plugin": "gone", "distribution": "nasplug-gone", "version": "1.0", "names": {}}
        with pytest.raises(PluginError) as refused:
            here.require([*driver, extra | {"plugin": "nasplug-gone"}])
        assert "\n" not in str(refused.value)
        return str(refused.value)

    more = told(nasplug_balance={"version": "2.2"}, edges={"names": {"method": ["edges", "more"]}}, swat={"version": "9"})
    assert "; nasplug-balance: driver has 2.2, this worker has 2.3; " in more
    assert (
        "; nasplug-edges: driver has 0.1.0 (alone with method more), this worker has 0.1.0 (alone with discretizer fold); "
        in more
    )
    assert "; nasplug-swat: driver has 9, this worker has 0.1.0; " in more
    assert "; nasplug-gone: driver has 1.0, this worker has none (it failed to import nasplug_gone: ModuleNotFound" in more


# options


def factory(
    *,
    size: int,
    share: Annotated[float, Field(ge=0, le=1)] = 0.5,
    mode: Literal["fast", "slow"] = "fast",
    hidden: list[int] | None = None,
    pair: tuple[float, float] = (0.0, 1.0),
) -> dict[str, Any]:
    """A component.

    Of no use.
    """
    return {"size": size, "share": share, "mode": mode, "hidden": hidden, "pair": pair}


def test_options_are_the_signature() -> None:
    model = options_model("x", factory)
    assert {name: field.is_required() for name, field in model.model_fields.items()} == {
        "size": True,
        "share": False,
        "mode": False,
        "hidden": False,
        "pair": False,
    }
    assert model(size=3).model_dump() == factory(size=3)
    properties = model.model_json_schema()["properties"]
    assert properties["mode"]["enum"] == ["fast", "slow"]
    assert (properties["share"]["minimum"], properties["share"]["maximum"]) == (0, 1)
    for wrong in ({}, {"size": "x"}, {"size": 1, "share": 2}, {"size": 1, "other": 1}, {"size": 1, "share": float("nan")}):
        with pytest.raises(ValidationError):
            model(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda positional: None,
        lambda *rest: None,
        lambda **rest: None,
        lambda *, untyped=1: None,
    ],
)
def test_a_factory_without_typed_keywords_is_refused(wrong: Callable[..., Any]) -> None:
    with pytest.raises(PluginError, match="which is not keyword-only and annotated; write def"):
        options_model("x", wrong)


class Offering:
    @hookimpl
    def register_regularizers(self, register: Register) -> None:
        register("made", factory)

    @hookimpl
    def register_schedules(self, register: Register) -> None:
        register("made", lambda: lambda progress: progress)


@pytest.fixture
def offering() -> Plugins:
    plugins = Plugins()
    plugins.add(Offering(), "offering", "nasplug-offering", "3.1")
    return plugins


def test_names_of_different_kinds_do_not_clash(offering: Plugins) -> None:
    assert set(offering.offers("regularizer")) == set(offering.offers("schedule")) == {"made"}
    assert offering.manifest == [
        {
            "plugin": "offering",
            "distribution": "nasplug-offering",
            "version": "3.1",
            "names": {"regularizer": ["made"], "schedule": ["made"]},
        }
    ]


def test_a_component_is_built_from_its_options(offering: Plugins) -> None:
    assert offering.build("regularizer", "made", {"size": 2.0, "hidden": [3.0]}) == factory(size=2, hidden=[3])
    assert offering.options("regularizer", "made", {"size": 2}) == {"size": 2}, "defaults are the factory's"
    assert offering.offer("regularizer", "made").summary == "A component."


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("maid", {}, "here: regularizer 'maid' is not installed; installed: made. Did you mean 'made'?"),
        ("made", {}, "here.size: is missing; needed: a whole number"),
        ("made", {"size": "2"}, "here.size: '2'; needed: a whole number, or a sweep of such values ({choice: [...]})"),
        ("made", {"size": 2, "share": 2}, "here.share: 2; needed: a number >= 0 and <= 1"),
        ("made", {"size": 2, "mode": "quick"}, "here.mode: 'quick'; needed: 'fast' or 'slow'"),
        (
            "made",
            {"size": 2, "sise": 2},
            "here.sise: unknown key; accepted here: size, share, mode, hidden, pair. Did you mean 'size'?",
        ),
    ],
)
def test_wrong_options_are_refused(offering: Plugins, name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        offering.build("regularizer", name, options, "here")
    assert str(refused.value).startswith(told)


def test_nothing_is_installed_of_a_kind(offering: Plugins) -> None:
    with pytest.raises(ConfigError, match="method 'edges' is not installed; installed: none"):
        offering.offer("method", "edges")


def test_what_is_built_in_is_registered_like_a_strangers() -> None:
    for module in BUILT_IN:
        plugins = Plugins()
        plugins.add(sys.modules[module], module, "nasplug", "0")
        assert any(plugins.offers(kind) for kind in KINDS)


COMMAND = """
    import click
    from nasplug import ConfigError, hookimpl

    def hello():
        "Say hello."

        @click.command()
        @click.argument("name")
        def command(name):
            "Say hello to NAME."
            if name == "nobody":
                raise ConfigError("nobody; needed: a name")
            click.echo(f"Hello, {name}.")

        return command

    @hookimpl
    def register_commands(register):
        register("hello", hello)
    """


def test_a_strangers_command_is_one_of_ours(install: Install) -> None:
    install("nasplug-hello", COMMAND)
    load_plugins.cache_clear()

    def ask(*command: str) -> Result:
        return CliRunner().invoke(main, command)

    try:
        assert ask("hello", "you").stdout == "Hello, you.\n"
        refused = ask("hello", "nobody")
        assert (refused.exit_code, refused.stderr) == (2, "Error: nobody; needed: a name\n")
        assert "Say hello to NAME." in ask("hello", "--help").stdout
        assert ask("helo").exit_code == 2
        assert "hello" not in ask("--help").stdout  # plugins are not loaded for what is ours
        assert load_plugins().offer("command", "hello").summary == "Say hello."
    finally:
        load_plugins.cache_clear()
