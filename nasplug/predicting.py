"""Rows of a user's file to a network's answers: the file is read as the one that the network was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nasplug import compact, ensemble, files
from nasplug.compact import CompactNetwork
from nasplug.config import StudyConfig
from nasplug.data.encoder import Encoder
from nasplug.data.reading import SUFFIXES, read
from nasplug.data.tables import READS, file_of, reading_of
from nasplug.ensemble import Ensemble
from nasplug.errors import ConfigError, NasplugError, did_you_mean
from nasplug.folder import STUDY_FILE
from nasplug.plugins import Plugins, load_plugins
from nasplug.rows import listed
from nasplug.study import Study
from nasplug.tasks import READING, Task
from nasplug.tracking import MODELS, served, store_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Source", "called", "check_out", "explained", "flat", "judge", "predict", "rows", "source", "write"]


ENSEMBLE = "ensemble"  # what it is called where a replica is asked for


class Source(NamedTuple):
    """A network, and how its study read its file.

    Attributes:
        network: that answers.
        reading: options of the task `table`, as the study has them.
    """

    network: CompactNetwork | Ensemble
    reading: Mapping[str, Any]


def source(where: str, store: str = "runs", replica: str | None = None) -> Source:
    """The network of a study's folder (the chosen one), of a network's or ensemble's own folder, or ``models:/NAME@ALIAS``.

    Args:
        where: of these.
        store: for ``models:/``: the folder of a store, or an address of MLflow.
        replica: of a study another network than the chosen one, or ``ensemble``.

    Raises:
        ConfigError: for a folder that holds none of these.
        NasplugError: for a model that MLflow does not have.
    """
    plugins = load_plugins()
    if replica is not None and (where.startswith(MODELS) or not (Path(where).expanduser() / STUDY_FILE).exists()):
        raise ConfigError(
            f"--replica {replica}: {where} is not the folder of a study; leave --replica out, or give the folder of one"
        )
    if where.startswith(MODELS):
        return Source(served(store if "://" in store else store_of(Path(store)), where, plugins.functions), {})
    folder = Path(where).expanduser()
    if (folder / compact.RECORD).exists():
        return Source(compact.load(folder, plugins.functions), _beside(folder, plugins))
    if (folder / ensemble.RECORD).exists():
        return Source(ensemble.load(folder, plugins.functions), _beside(folder, plugins))
    if not folder.is_dir():
        raise ConfigError(
            f"{where}: there is no such folder; needed: the folder of a study or of a network, or {MODELS}NAME@ALIAS"
        )
    study = Study.open(folder)
    return Source(study.network(replica), _reading(study.config, plugins))


def called(where: str) -> str:
    """What a network is called by: the name of its model, or of its study's folder."""
    if where.startswith(MODELS):
        return where.removeprefix(MODELS).split("@")[0].split("/")[0]
    folder = Path(where).expanduser().absolute()
    return folder.name if (folder / STUDY_FILE).exists() else f"{folder.parent.name}_{folder.name}"


def judge(where: str, replica: str | None = None) -> tuple[Task | None, str]:
    """The task of a study's folder, whose test split scores its networks; None for others, with the reason in words.

    A network's own folder has that of the study whose chosen network it is.
    """
    if where.startswith(MODELS):
        return None, "the registry keeps no rows"
    folder = Path(where).expanduser()
    if not (folder / STUDY_FILE).exists() and (folder / compact.RECORD).exists():
        folder = folder.absolute().parent
    try:
        study = Study.open(folder)
        name = str(study.best()["replica"]) if replica in (None, ENSEMBLE) else str(replica)
        if folder != Path(where).expanduser():
            own = compact.load(Path(where).expanduser(), study.plugins.functions)
            if compact.digest_of(own) != compact.digest_of(study.network(name)):
                return None, "the folder is not that of a study's chosen network"
        return study.task_of(name), ""
    except NasplugError as error:
        return None, str(error)


def _beside(folder: Path, plugins: Plugins) -> dict[str, Any]:
    """What the study says whose folder is the parent of this one; nothing, where there is none."""
    with suppress(ConfigError):
        return _reading(Study.open(folder.absolute().parent).config, plugins)
    return {}


def _reading(config: StudyConfig, plugins: Plugins) -> dict[str, Any]:
    if config.task.use != "table":
        return {}
    options = plugins.options("task", "table", config.task.options, "task")
    return {key: options[key] for key in READS if options.get(key) is not None}


def predict(found: Source, path: str, options: Mapping[str, Any] | None = None) -> tuple[pd.DataFrame, list[str]]:
    """A network's answers to the rows of a file, named as in `nasplug.compact.CompactNetwork.predict`, and what was assumed.

    See `rows`.

    Raises:
        ConfigError: for a file that cannot be read, columns that are missing, or values that are none of their column.
    """
    frame, notes = rows(found, path, options)
    try:
        return found.network.predict(frame), notes
    except ConfigError as error:
        raise ConfigError(f"{path}: {str(error).removeprefix('table: ')}") from None


def explained(where: str, found: Source, path: str, options: Mapping[str, Any] | None = None) -> tuple[pd.DataFrame, list[str]]:
    """What each column adds to each prediction (`nasplug.Study.explain`), and what was assumed when the file was read.

    The first columns are ``row`` and, of several outputs, ``output``.

    Raises:
        ConfigError: as `rows`, and for what is not the folder of a study, which keeps the rows to compare with.
    """
    if where.startswith(MODELS) or not (Path(where).expanduser() / STUDY_FILE).exists():
        raise ConfigError(
            f"{where}: contributions are compared with rows that a study's folder keeps; needed: the folder of a study, or a "
            "prediction without --explain"
        )
    frame, notes = rows(found, path, options)
    told = Study.open(Path(where).expanduser()).explain(frame)
    return flat(told), notes


def flat(told: pd.DataFrame) -> pd.DataFrame:
    """Contributions with their index as columns ``row`` and, of several outputs, ``output``.

    A user's column of these names keeps its own, ours gets an apostrophe.
    """
    names = []
    for name in ("row", "output")[: told.index.nlevels]:
        while name in told.columns:
            name += "'"
        names.append(name)
    return told.reset_index(names=names)


def rows(found: Source, path: str, options: Mapping[str, Any] | None = None) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a file for a network, and what was assumed.

    Columns that the network does not read need not be there, and can have no problems. Codes of gaps are those of training;
    separator, encoding and the like are as the study said, else found out anew.

    Args:
        found: the network.
        path: of a CSV or Parquet file.
        options: how the file is read, where that differs: keys of the task `table`.

    Raises:
        ConfigError: for a file that cannot be read, or columns that are missing.
    """
    options = dict(options or {})
    if odd := [key for key in options if key not in READS]:
        raise ConfigError(
            f"{odd[0]}={options[odd[0]]}; needed: how the file is read: {', '.join(READS)}.{did_you_mean(odd[0], READS)}"
        )
    columns, where = _read_by(found.network), str(path)
    given = dict(found.reading)
    given["words"] = [name for name in [*given.get("words", ()), *_numeric_words(columns)] if name in columns]
    given["missing_codes"] = {name: list(codes) for name, (codes, _) in columns.items()}
    checked = load_plugins().options("task", "table", {"path": where, "target": ""} | given | options, where)

    def used(names: Sequence[str]) -> list[str]:
        there = [str(name) for name in names]
        if gone := [name for name in columns if name not in there]:
            raise ConfigError(
                f"{where}: column(s) {listed(gone)} are missing; the network reads {listed(list(columns), 20)}, and the file "
                f"has {listed(there, 20)}.{did_you_mean(gone[0], there)}"
            )
        return list(columns)

    reading = replace(reading_of(checked), known={name: words for name, (_, words) in columns.items()})
    frame, notes, *_ = read(where, file_of(where, where, SUFFIXES), used, reading)
    return frame, [f"{key.removeprefix(READING)}: {text}" for key, text in notes.items()]


def _read_by(network: CompactNetwork | Ensemble) -> dict[str, tuple[tuple[str | float, ...], tuple[str, ...]]]:
    """Columns of the user's table that a network reads -> codes of their gaps, and words of a category."""
    members = [network] if isinstance(network, CompactNetwork) else list(network.members)
    found: dict[str, tuple[tuple[str | float, ...], tuple[str, ...]]] = {}
    for member in members:
        assert isinstance(member, CompactNetwork)  # for the type checker
        record = member.record
        if member.stem is not None or not record.get("encoder"):
            names = record["features"] if member.stem is not None else member.first_names
            found |= {str(name): ((), ()) for name in names}
            continue
        encoder = Encoder.from_plain(record["encoder"])
        for place in sorted({encoder.groups[feature] for feature in record["kept_inputs"]}):
            column = encoder.columns[place]
            found[column.name] = (column.codes, column.words)
    return found


def _numeric_words(columns: Mapping[str, tuple[tuple[str | float, ...], tuple[str, ...]]]) -> list[str]:
    """Categories whose words are all numbers: a file does not tell that they are words."""
    return [name for name, (_, words) in columns.items() if words and all(_is_number(word) for word in words)]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return word.lower() in ("true", "false")
    return True


def check_out(path: Path | None, table: str = "") -> None:
    """Refuse a place for answers before there are any: one that cannot be, or the ``table`` itself, which would be lost.

    Raises:
        ConfigError: for another ending than ``.csv`` and ``.parquet``, a folder that is not there, or the file that is read.
    """
    if path is None:
        return
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"{path}: ends in {path.suffix or 'nothing'!r}; accepted: .csv, .parquet")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {str(path.parent)!r}; make it first, or name another place")
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; needed: the name of a file")
    if table and path.exists() and Path(table).expanduser().exists() and path.samefile(Path(table).expanduser()):
        raise ConfigError(f"{path}: is the file that is read, whose rows would be lost; write the answers into another one")


def write(answers: pd.DataFrame, path: Path) -> None:
    """Answers as a ``.csv`` or ``.parquet`` file, one row per row of the file that was read. A file that is there is replaced.

    The ``.csv`` is a table for people: no label and no name of a column in it is a formula (`nasplug.files.guarded`).

    Raises:
        ConfigError: as `check_out`.
        NasplugError: for a place that cannot be written.
    """
    check_out(path)
    if path.suffix.lower() == ".csv":
        files.write_csv(path, answers)
        return
    with files.beside(path) as there:
        answers.to_parquet(there, index=False)
