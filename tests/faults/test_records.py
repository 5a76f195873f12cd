"""A network's record that was tampered with: refused before memory is taken, or a network that works when it is called."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import create_engine, text

from nasplug.compact import CompactNetwork, compact, digest_of, load, save
from nasplug.errors import ConfigError
from nasplug.files import read_tensors, write_json, write_tensors
from nasplug.testing import example_networks
from nasplug.tracking.places import database_of, default_uri, store_of

ODD: list[Any] = [None, True, -1, 0, 1, 2, 10**9, 2**63, 1e30, "", "relu", "exec", [], {}, [[]], [0, 0], {"a": 1}, [10**9] * 3]


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return compact(example_networks(0, 1, (3, 4, 3, 2), ("biases", "choices")), 0).record


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def tampered(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every place with every odd value, and without it; and a few hundred with two such at once."""
    found = [path for path in places(record) if path]

    def put(one: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
        here: Any = one
        try:
            for key in path[:-1]:
                here = here[key]
            here[path[-1]] = copy.deepcopy(value)
        except (TypeError, LookupError):
            return  # the first change took this place away

    for path in found:
        for value in ODD:
            one = copy.deepcopy(record)
            put(one, path, value)
            yield one
    noise = random.Random(0)
    for _ in range(300):
        one = copy.deepcopy(record)
        for path in noise.sample(found, 2):
            put(one, path, noise.choice(ODD))
        yield one
    for key in record:
        yield {name: value for name, value in record.items() if name != key}


def test_a_tampered_record_is_refused_or_works(record: dict[str, Any]) -> None:
    refused = worked = 0
    for one in tampered(record):
        try:
            network = CompactNetwork(one)
        except ConfigError:
            refused += 1
            continue
        inputs = one["inputs"]
        assert network(torch.zeros(3, inputs)).shape == (3, network.widths[-1])
        assert repr(network)
        assert len(network.first_names) == network.widths[0]
        worked += 1
    assert refused > 500
    assert worked > 10  # features of other names, say


def test_a_width_of_a_billion_takes_no_memory(record: dict[str, Any]) -> None:
    rss = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    for layer in range(4):
        one = copy.deepcopy(record)
        one["widths"][layer] = 10**9
        if 0 < layer < 3:
            one["activations"][layer - 1] = [["relu", 10**9]]
        with pytest.raises(ConfigError, match="network record"):
            CompactNetwork(one)
    assert int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") < rss + 50 * 2**20


@pytest.mark.parametrize("how", ["nan", "inf", "float64", "int64", "shape", "missing", "extra", "kept", "another record"])
def test_weights_that_no_network_has_are_refused(how: str, record: dict[str, Any], tmp_path: Path) -> None:
    """Sealed anew, as who tampers would: a seal tells damage, the schema tells nonsense."""
    network = compact(example_networks(0, 1, (3, 4, 3, 2), ("biases", "choices")), 0)
    save(network, tmp_path)
    assert load(str(tmp_path)).record == network.record
    tensors, told = read_tensors(tmp_path / "weights.safetensors")
    name = next(name for name in tensors if name.startswith("weight_"))
    changed = {
        "nan": torch.full_like(tensors[name], float("nan")),
        "inf": torch.full_like(tensors[name], float("inf")),
        "float64": tensors[name].double(),
        "int64": tensors[name].long(),
        "shape": tensors[name][:-1],
    }
    if how in changed:
        tensors[name] = changed[how]
    elif how == "missing":
        del tensors[name]
    elif how == "extra":
        tensors["weight_9_9"] = torch.zeros(1)
    elif how == "kept":
        tensors["kept"] = tensors["kept"] + 10**6
    else:
        write_json(tmp_path / "network.json", {**network.record, "digest": digest_of(network)[::-1]})
    write_tensors(tmp_path / "weights.safetensors", tensors, told)
    with pytest.raises(ConfigError, match="does not hold a network saved by nasplug"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["what?now", "50%25 #1", "ü & b"])
def test_a_store_with_an_odd_name_has_its_own_database(name: str, tmp_path: Path) -> None:
    uri = default_uri(tmp_path / name)
    (tmp_path / name).mkdir()
    assert database_of(uri) == tmp_path / name / "mlflow.db"
    with create_engine(uri).connect() as connection:  # as MLflow reads the address
        connection.execute(text("CREATE TABLE things (b INTEGER)"))
    assert [path.name for path in (tmp_path / name).iterdir()] == ["mlflow.db"]
    assert store_of(tmp_path / name) == uri


def test_a_store_that_moved_is_found_where_it_is(tmp_path: Path) -> None:
    study = tmp_path / "new" / "study"
    study.mkdir(parents=True)
    (tmp_path / "new" / "mlflow.db").touch()
    write_json(study / "mlflow.json", {"uri": default_uri(tmp_path / "old")})
    assert store_of(study) == default_uri(tmp_path / "new")
