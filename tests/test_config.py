"""A study as it is written: sweeps, YAML, overrides, conversions, words, JSON Schema, and the configs that come along."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field

from nasplug.config import Sweep, as_sweep, from_yaml, json_schema, leaves, override, parse, read_yaml, to_yaml
from nasplug.config.checking import check, in_words, shown
from nasplug.errors import ConfigError
from nasplug.plugins import load_plugins
from nasplug.study import Study

ROOT = Path(__file__).parent.parent
JOBS = {"swat_compress.yaml"}  # files that a plugin's own command reads, with a test there
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.name not in JOBS)
QUICKSTART = ROOT / "configs" / "quickstart.yaml"
SMALL: dict[str, Any] = {"study": "small", "task": {"use": "xor"}, "method": {"use": "edges"}}


# sweeps


def test_values_of_lists() -> None:
    assert Sweep(choice=[[8], [4, 4]]).values == [[8], [4, 4]]
    assert Sweep(grid=["a", 1, None]).values == ["a", 1, None]
    assert Sweep(grid=["a", 1, None]).ends == ["a", 1, None]


@given(low=st.floats(1e-6, 1e3), factor=st.floats(1.5, 1e6), points=st.integers(2, 40))
def test_values_of_ranges(low: float, factor: float, points: int) -> None:
    high = low * factor
    even = Sweep(uniform=(low, high), points=points).values
    steps = [b - a for a, b in pairwise(even)]
    geometric = Sweep(log=(low, high), points=points).values
    ratios = [b / a for a, b in pairwise(geometric)]
    for values in (even, geometric):
        assert len(values) == points
        assert values[0] == pytest.approx(low)
        assert values[-1] == pytest.approx(high)
    assert steps == pytest.approx([(high - low) / (points - 1)] * (points - 1), rel=1e-6)
    assert ratios == pytest.approx([factor ** (1 / (points - 1))] * (points - 1))


def test_a_range_of_one_point_and_its_ends() -> None:
    assert Sweep(log=(0.1, 1), points=1).values == [0.1]
    assert Sweep(log=(0.1, 1), points=9).ends == [0.1, 1.0]


def test_what_is_a_sweep() -> None:
    assert as_sweep({"choice": [1]}) == Sweep(choice=[1])
    assert as_sweep(Sweep(choice=[1])) == Sweep(choice=[1])
    for value in (1, "choice", ["choice"], {}, {"use": "linear"}, None):
        assert as_sweep(value) is None
    with pytest.raises(ConfigError, match=r"method\.hidden\.choice: \[\]; needed: a list of values"):
        as_sweep({"choice": []}, "method.hidden")


def test_leaves_end_at_sweeps() -> None:
    plain = {"a": {"b": [1, {"choice": [2, 3]}]}, "c": {"log": [1, 2], "points": 3}}
    assert list(leaves(plain)) == [(("a", "b", "0"), 1), (("a", "b", "1"), {"choice": [2, 3]}), (("c",), plain["c"])]


# YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.5e3", 1500.0),
        (".5E-2", 0.005),
        ("-2e+1", -20.0),
        ("1.0e-3", 1e-3),
        ("12", 12),
        ("'1e-3'", "1e-3"),
        ("e3", "e3"),
        ("1e", "1e"),
        ("1e3x", "1e3x"),
        ("[1e-3, 2]", [1e-3, 2]),
        ("", None),
        (".nan", math.nan),
    ],
)
def test_numbers_in_yaml(text: str, value: Any) -> None:
    found = from_yaml(text, "here")
    assert type(found) is type(value)
    assert found == value or (found != found and value != value)


words = st.text(st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="\x85\u2028\u2029"), max_size=6)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | words
    | st.sampled_from(["1e-3", "yes", "0x1", "~"])
)
plain_data = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))


@given(plain=st.dictionaries(words, plain_data, max_size=4))
def test_plain_data_survive_yaml(plain: dict[str, Any]) -> None:
    assert from_yaml(to_yaml(plain), "here") == plain


def test_merged_mappings_are_not_keys_that_come_twice() -> None:
    text = "base: &base {a: 1, b: 2}\nmine: &mine {<<: *base, b: 3}\nyours: {<<: *mine, a: 4}\n"
    assert from_yaml(text, "here")["yours"] == {"a": 4, "b": 3}


# overrides


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("train.steps=500", ("train", "steps"), 500),
        ("train.lr=1e-3", ("train", "lr"), 1e-3),
        ("penalties.0.level=0.5", ("penalties", 0, "level"), 0.5),
        ("penalties.0.level={log: [1e-3, 1], points: 3}", ("penalties", 0, "level"), {"log": [1e-3, 1], "points": 3}),
        ("penalties.0.level.points=4", ("penalties", 0, "level", "points"), 4),
        ("method.hidden=[8, 8]", ("method", "hidden"), [8, 8]),
        ("method.hidden.0=9", ("method", "hidden", 0), 9),
        ("mlflow.uri=http://host:5000?a=b", ("mlflow", "uri"), "http://host:5000?a=b"),
        ("mlflow=null", ("mlflow",), None),
        ("penalties=[]", ("penalties",), []),
        ("temperature.use=linear", ("temperature", "use"), "linear"),
    ],
)
def test_an_override_sets_one_value(text: str, path: tuple[str | int, ...], value: Any) -> None:
    raw: dict[str, Any] = {
        "train": {"steps": 1, "batch": "full"},
        "method": {"hidden": [4]},
        "penalties": [{"use": "l1", "level": {"log": [1, 2], "points": 2}}],
        "temperature": None,
    }
    override(raw, text)
    found: Any = raw
    for key in path:
        found = found[key]
    assert found == value
    assert raw["train"]["batch"] == "full"


@pytest.mark.parametrize("uri", ["sqlite:///x.db", "postgresql+psycopg2://me:word@host/db", "https://host", "databricks"])
def test_an_address_of_mlflow_is_taken(uri: str) -> None:
    assert parse(SMALL | {"mlflow": {"uri": uri}}).mlflow.uri == uri  # type: ignore[union-attr]


def test_an_address_that_mlflow_does_not_know_is_refused_with_no_password() -> None:
    with pytest.raises(ConfigError, match=r"mlflow.uri: begins with ftp:, where MLflow keeps nothing") as told:
        parse(SMALL | {"mlflow": {"uri": "ftp://me:word@host/x"}})
    assert "word" not in str(told.value)


def test_overrides_apply_in_order_and_before_the_check(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(to_yaml(SMALL | {"seeds": "wrong"}))
    config = read_yaml(
        tmp_path / "s.yaml", ["seeds=3", "train.steps=5", "train.steps=7", "train={steps: 8, lr: 0.5}", "train.lr=1"]
    )
    assert (config.seeds, config.train.steps, config.train.lr) == (3, 8, 1)


# studies


def test_defaults_are_filled_in_and_plain_data_make_the_same_study() -> None:
    for path in CONFIGS:
        config = read_yaml(path)
        assert parse(config.plain()) == config
        assert parse(from_yaml(to_yaml(config.plain()), "here")) == config
        assert json.loads(json.dumps(config.plain())) == config.plain()
    plain = parse(SMALL).plain()
    assert plain["train"]["steps"] == 1000
    assert plain["mlflow"]["register"] is None
    assert set(plain["penalties"]) == set()


def test_plain_data_hold_sweeps_as_they_were_written() -> None:
    raw = SMALL | {
        "train": {"lr": {"choice": [0.1, 0.2]}},
        "penalties": [{"use": "l1", "level": {"log": [0.1, 1], "points": 3}}],
    }
    plain = parse(raw).plain()
    assert plain["train"]["lr"] == {"choice": [0.1, 0.2]}
    assert plain["penalties"][0]["level"] == {"log": [0.1, 1.0], "points": 3}


def test_seeds_and_folder() -> None:
    assert parse(SMALL | {"seeds": 3}).seed_list == [0, 1, 2]
    assert parse(SMALL | {"seeds": [7, 3]}).seed_list == [7, 3]
    assert parse(SMALL).folder == Path("runs/small")
    assert parse(SMALL | {"store": "~/x"}).folder == Path.home() / "x/small"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_configs_that_come_along_can_be_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert Study.from_yaml(path, [f"store={tmp_path}"]).check()
    assert not list(tmp_path.iterdir())


def test_there_are_configs_that_come_along() -> None:
    assert QUICKSTART in CONFIGS
    assert any(path.parent.name == "papers" for path in CONFIGS)


# conversions


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    whole: int = 1
    real: float = 1.0
    truth: bool = True
    text: str = ""
    either: int | str = 1
    pair: tuple[float, float] = (0, 1)
    many: list[Annotated[int, Field(ge=0)]] = []
    named: dict[str, float] = {}
    path: Path | None = None
    kind: Literal["a", "b"] | None = None


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"whole": 2.0}, 2),
        ({"real": 2}, 2.0),
        ({"pair": [1, 2]}, (1.0, 2.0)),
        ({"either": "2"}, "2"),
        ({"many": [1, 2.0]}, [1, 2]),
        ({"named": {"a": 1}}, {"a": 1.0}),
        ({"path": "x"}, Path("x")),
        ({"kind": "a"}, "a"),
    ],
)
def test_what_loses_nothing_is_converted(given: dict[str, Any], value: Any) -> None:
    made = getattr(check(Options, given), next(iter(given)))
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"whole": "2"}, "x.whole: '2'; needed: a whole number"),
        ({"whole": True}, "x.whole: true; needed: a whole number"),
        ({"real": "1.5"}, "x.real: '1.5'; needed: a number"),
        ({"real": False}, "x.real: false; needed: a number"),
        ({"truth": 1}, "x.truth: 1; needed: true or false"),
        ({"truth": "yes"}, "x.truth: 'yes'; needed: true or false"),
        ({"text": 3}, "x.text: 3; needed: text"),
        ({"pair": [1]}, "x.pair.1: is missing; needed: a number"),
        ({"pair": [1, 2, 3]}, "x.pair: [1, 2, 3]; needed: a list of 2: a number, a number"),
        ({"many": ["2"]}, "x.many.0: '2'; needed: a whole number >= 0"),
        ({"many": [-1]}, "x.many.0: -1; needed: a whole number >= 0"),
        ({"many": 1}, "x.many: 1; needed: a list of whole numbers >= 0"),
        ({"named": {"a": "1"}}, "x.named.a: '1'; needed: a number"),
        ({"kind": "c"}, "x.kind: 'c'; needed: 'a' or 'b' or null"),
        ({"zzz": 1}, "x.zzz: unknown key; accepted here: whole, real, truth"),
        ({3: 1}, "the key 3 is not text; needed: one of whole, real"),
    ],
)
def test_what_would_be_guessed_is_refused(given: dict[Any, Any], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(Options, given, "x")
    assert told in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (int, "a whole number"),
        (float | None, "a number or null"),
        (Annotated[float, Field(gt=0, lt=1)], "a number > 0 and < 1"),
        (Annotated[int, Field(ge=1)] | None, "a whole number >= 1 or null"),
        (list[list[int]], "a list of a list of whole numbers"),
        (tuple[int, ...], "a list of whole numbers"),
        (Literal["a", 1, True], "'a', 1 or true"),
        (int | Literal["full"], "a whole number or 'full'"),
        (dict[str, int], "a mapping"),
        (Mapping[str, int], "a mapping"),
        (complex, ""),
        (int | complex, ""),
    ],
)
def test_types_in_words(hint: Any, said: str) -> None:
    assert in_words(hint) == said


def test_values_in_words() -> None:
    assert [shown(v) for v in (None, True, "a", 1.5, [1])] == ["null", "true", "'a'", "1.5", "[1]"]
    assert len(shown("x" * 500)) == 80


# JSON Schema


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    found = json_schema(load_plugins().models)
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_schema_accepts_the_configs(schema: Draft202012Validator, path: Path) -> None:
    schema.validate(from_yaml(path.read_text(), str(path)))


def test_the_schema_accepts_what_we_write(schema: Draft202012Validator) -> None:
    schema.validate(read_yaml(QUICKSTART).plain())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("trian={}", ""),
        ("task.use=xorr", "task"),
        ("task.vaild=0.2", "task"),
        ("method.hidden=8", "method"),
        ("method.mode=nonsense", "method"),
        ("penalties.0.level=-1", "penalties"),
        ("penalties.0.level=big", "penalties"),
        ("penalties.0.zzz=1", "penalties"),
        ("discretizers.0.use=treshold", "discretizers"),
        ("temperature.use=lin", "temperature"),
        ("train.steps=0", "train"),
        ("train.lr={lgo: [1, 2]}", "train"),
        ("seeds=0", "seeds"),
        ("resources.device=gpu", "resources"),
        ("study=a/b", "study"),
    ],
)
def test_the_schema_refuses_mistakes(schema: Draft202012Validator, text: str, place: str) -> None:
    raw = from_yaml(QUICKSTART.read_text(), "here")
    override(raw, text)
    found = list(schema.iter_errors(raw))
    assert found
    assert {str(error.absolute_path[0]) if error.absolute_path else "" for error in found} == {place}


def test_the_schema_knows_every_name(schema: Draft202012Validator) -> None:
    text = json.dumps(schema.schema)
    plugins = load_plugins()
    for kind in ("task", "method", "regularizer", "discretizer", "schedule"):
        for name in plugins.offers(kind):
            assert f'"title": "{kind} {name}"' in text
