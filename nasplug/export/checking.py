"""`export`: forms of a network, each run on rows before it is written, and refused where it says something else."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from nasplug import files
from nasplug.compact import CompactNetwork, digest_of
from nasplug.data.transforms import Transform
from nasplug.ensemble import scores_of
from nasplug.errors import ConfigError, NasplugError, cause, did_you_mean
from nasplug.export.forms import FORMS, Form, Network
from nasplug.export.program import program
from nasplug.export.rows import made_up, rows_of
from nasplug.records import output_names

if TYPE_CHECKING:
    import pandas as pd

    from nasplug.tasks import Task

__all__ = ["FAR_OFF", "MOST", "SLACK", "Export", "Exported", "alone", "asked", "export", "import_graphs"]

ALONE, GRAPH = "network", "graph"  # what the files are called that stand beside a study's chosen network
LARGE = 20_000  # numbers of a network: Python is no form for more, nobody waits for it
MOST = 1e-5  # units of the output's scale that an exact form may differ by
SLACK = 0.02  # of the trivial network's error: how much worse the score of an inexact one may be
FAR_OFF = 0.05  # units of the output's scale that an inexact form may differ by, where no score can be had
CLEAR = 1e-4  # of a probability: labels that are nearer to each other may change
ROWS = 256  # that are made up
RECORD, LABEL = "export.json", "label"


@dataclass(frozen=True, slots=True)
class Exported:
    """A form of a network.

    Attributes:
        form: its name.
        refused: why it was not written; empty where it was.
        files: that were written.
        bytes: of all of them.
        difference: the largest, of any row and output, in units of the output's scale.
        error: of the form on the test split (of a classification the share of wrong labels); None without one.
        microseconds: per row.
        figures: what else was measured.
        digests: SHA-256 of each file, hexadecimal.
    """

    form: str
    refused: str = ""
    files: tuple[str, ...] = ()
    bytes: int = 0
    difference: float | None = None
    error: float | None = None
    microseconds: float | None = None
    figures: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Export:
    """What was written of a network.

    Attributes:
        digest: of the network, SHA-256.
        rows: which they were run on, in words.
        error: of the network itself on the test split; None without one.
        forms: one for each that was asked for.
    """

    digest: str
    rows: str
    error: float | None
    forms: tuple[Exported, ...]

    def plain(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def asked(names: str) -> list[Form]:
    """The forms of ``pt2,c``.

    Raises:
        ConfigError: for a name that is none.
    """
    given = [name.strip() for name in names.split(",") if name.strip()]
    if odd := [name for name in given if name not in FORMS]:
        raise ConfigError(f"form {odd[0]!r}; accepted: {', '.join(FORMS)}.{did_you_mean(odd[0], FORMS)}")
    if not given:
        raise ConfigError(f"no form is named; accepted: {', '.join(FORMS)}")
    return [FORMS[name] for name in dict.fromkeys(given)]


def export(network: Network, name: str, forms: Sequence[Form], out: Path, task: Task | None = None) -> Export:
    """Write forms of a network into the folder ``out``, and ``export.json``, which says what was measured.

    Each form first answers every row of the task's test split, without a task 256 rows that are made up of the network's own
    scales. An exact form that differs by more than 1e-5 units of the output's scale is refused; an inexact one if its error on
    the test split is worse by more than 2 % of the error of always saying the same (of labels: and by more than one of them),
    without a task if it differs by more than 0.05 units. One that is refused does not keep others from being written. A file
    that no export wrote is never replaced: the form is refused.

    Raises:
        ConfigError: for a folder that cannot be written, or whose ``export.json`` is something else.
    """
    first = network if isinstance(network, CompactNetwork) else next(iter(network.members))
    assert isinstance(first, CompactNetwork)  # for the type checker
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be made ({error}); name another folder") from None
    before = _before(out)
    judge = _Judge(network, first, task, frozenset(before["written"]))
    found = []
    for form in forms:
        try:
            found.append(judge.written(form, name, out))
        except NasplugError as error:
            found.append(Exported(form.name, refused=str(error)))
        except Exception as error:  # noqa: BLE001 - compilers, checkers and generated code raise what they like
            found.append(Exported(form.name, refused=f"{form.name} cannot be written or run: {cause(error)}"))
    told = Export(digest_of(network), judge.words, judge.error, tuple(found))
    files.write_json(out / RECORD, _beside(out, told, before))
    return told


def _before(out: Path) -> dict[str, Any]:
    """What earlier exports told of a folder: ``digest``, ``rows``, ``forms``, and ``written``, the files of all of them.

    Raises:
        ConfigError: for an ``export.json`` that is something else.
    """
    if not (out / RECORD).exists():
        return {"digest": "", "rows": "", "forms": [], "written": []}
    try:
        found = files.read_json(out / RECORD)
        own = [str(file) for form in found["forms"] if form["form"] for file in form["files"]]
        return {
            **found,
            "written": [*map(str, found.get("written", [])), *own],
            "rows": found["rows"],
            "digest": found["digest"],
        }
    except (ConfigError, LookupError, OSError, TypeError):
        told = f"{out / RECORD} is there, and is nothing that an export wrote; name another folder, or move the file"
        raise ConfigError(told) from None


def _beside(out: Path, told: Export, before: Mapping[str, Any]) -> dict[str, Any]:
    """What is told now, and what was told of other forms of the same network that stand in the same folder.

    Files that stood there under the name of a form that is refused now are removed.
    """
    plain, new = told.plain(), {form.form: form for form in told.forms}
    for form in before["forms"]:
        if form["form"] in new and new[form["form"]].refused:
            for file in form["files"]:
                with suppress(OSError):
                    (out / Path(file).name).unlink(missing_ok=True)
    if before["digest"] == told.digest and before["rows"] == told.rows:
        plain["forms"] = [*(form for form in before["forms"] if form["form"] not in new), *plain["forms"]]
    plain["written"] = sorted({*before["written"], *(file for form in told.forms for file in form.files)})
    return plain


def import_graphs(seconds: float) -> None:
    """In so many seconds import what graphs are made with, in a thread of its own: for when this process waits for others.

    What fails to be imported fails again where it is needed, and is told there.
    """

    def work() -> None:
        for name in ("torch.export._trace", "onnx", "onnxruntime"):  # torch.export alone imports most at its first graph
            with suppress(Exception):
                import_module(name)

    later = threading.Timer(seconds, work)
    later.daemon = True
    later.start()


def alone(network: CompactNetwork, folder: Path, *, graphs: bool = True) -> None:
    """Write the forms beside a study's chosen network: ``network.py``, and as ``graphs`` ``graph.pt2`` and ``network.onnx``.

    Python and ONNX of at most 20,000 numbers, ONNX where its package is installed, and each if it can say the network. Rows are
    made up, so that no data are needed; what was there of another network goes.
    """
    for file in (f"{ALONE}.py", f"{GRAPH}.pt2", f"{ALONE}.onnx", f"{ALONE}_numbers.onnx", RECORD):
        (folder / file).unlink(missing_ok=True)
    small = network.parameter_count <= LARGE
    forms = ["python"] if small else []
    if graphs and small and all(map(find_spec, ("onnx", "onnxruntime"))):
        forms.append("onnx")
    if forms:
        export(network, ALONE, asked(",".join(forms)), folder)
    if graphs:
        export(network, GRAPH, asked("pt2"), folder)


class _Judge:
    """Rows, what the network says of them, its score, and the files that exports wrote before."""

    def __init__(self, network: Network, first: CompactNetwork, task: Task | None, ours: frozenset[str]) -> None:
        self.network, self.first, self.task, self.ours = network, first, task, ours
        self.names = output_names(first.record)
        self.scale = first.get_buffer("output_scale").numpy()
        self.trivial = 0.0
        if task is None or first.stem is not None or not task.test.samples:
            self.rows = _features(first) if first.stem is not None else made_up(program(first, "rows"), ROWS)
            self.words, self.task = f"{ROWS} rows made up of the network's own scales", None
        else:
            self.rows = rows_of(program(first, "rows"), task, task.test)
            self.words = f"the test split, {len(self.rows)} rows"
            self.trivial = task.trivial.get("test_error", 0.0)
        self.answers = network.predict(self.rows)
        self.labelled = LABEL in self.answers and LABEL not in self.names  # a target of numbers may be called so, too
        self.error = self._error(self.answers)

    def _outputs(self, answers: pd.DataFrame) -> npt.NDArray[np.float64]:
        return answers[self.names].to_numpy(dtype=np.float64, copy=True)

    def _error(self, answers: pd.DataFrame) -> float | None:
        if self.task is None:
            return None
        return scores_of(torch.from_numpy(self._outputs(answers)), self.task, self.task.test)["error"]

    def _scaled(self, answers: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Outputs in units of their scale."""
        outputs = self._outputs(answers)
        if self.first.transform is not None:
            outputs = Transform.from_plain(self.first.record["transform"]).forward(outputs)
        return np.asarray(outputs / self.scale)

    def _difference(self, answers: pd.DataFrame) -> float:
        """The largest, in units of the output's scale; of a rate beyond it, of the rate (an exponential)."""
        given = self._scaled(self.answers)
        apart = np.abs(self._scaled(answers) - given)
        return float((apart / np.maximum(1.0, np.abs(given)) if self.first.record["link"] == "exp" else apart).max())

    def written(self, form: Form, name: str, out: Path) -> Exported:
        """A form in its place, or the reason why not."""
        with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as there:
            folder = Path(there)
            for file, content in form.write(self.network, name).items():
                (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
            names = sorted(path.name for path in folder.iterdir())
            if theirs := [file for file in names if os.path.lexists(out / file) and file not in self.ours]:
                told = f"{out / theirs[0]} is there, and no export wrote it"
                raise ConfigError(f"{form.name}: {told}; name another folder, take another name, or move the file")
            size = sum((folder / file).stat().st_size for file in names)
            ran = form.run(folder, self.network, name, self.rows)
            difference = self._difference(ran.answers)
            if not np.isfinite(difference):
                raise ConfigError(f"{form.name} gives answers that are not finite, or other ones than numbers")
            error = self._error(ran.answers)
            refused = self._refusal(form, difference, error, ran.answers)
            done = () if refused else tuple(names)
            digests = {file: sha256((folder / file).read_bytes()).hexdigest() for file in done}
            if not refused:
                for file in names:
                    os.replace(folder / file, out / file)
        return Exported(form.name, refused, done, size, difference, error, ran.microseconds, dict(ran.figures), digests)

    def _refusal(self, form: Form, difference: float, error: float | None, answers: pd.DataFrame) -> str:
        if form.exact:
            if not difference <= MOST:
                return f"{form.name} differs by {difference:.2g} of the output's scale; at most {MOST:g} is allowed"
            if self.labelled and (odd := self._other_labels(answers)):
                return f"{form.name} gives {odd} rows another label"
            return ""
        if error is None or self.error is None:
            return "" if difference <= FAR_OFF else f"{form.name} differs by {difference:.2g}; at most {FAR_OFF:g} is allowed"
        least = 1 / len(self.rows) if self.labelled else 0.0
        if not error <= self.error + max(SLACK * self.trivial, least) + 1e-12:
            told = f"{form.name} has the error {error:.4g}, the network {self.error:.4g}"
            return f"{told}: worse by more than {SLACK:.0%} of the {self.trivial:.3g} of always saying the same"
        return ""

    def _other_labels(self, answers: pd.DataFrame) -> int:
        """How many rows have another label although theirs was clear."""
        outputs = self._outputs(self.answers)
        ordered = np.sort(outputs, axis=1)
        clear = np.abs(outputs[:, 0] - 0.5) > CLEAR if outputs.shape[1] == 1 else ordered[:, -1] - ordered[:, -2] > CLEAR
        return int(((answers[LABEL].to_numpy() != self.answers[LABEL].to_numpy()) & clear).sum())


def _features(network: CompactNetwork) -> pd.DataFrame:
    """Images for a network behind a stem: normal around the mean of each number."""
    import pandas as pd

    shift, scale = (network.get_buffer(f"input_{end}").numpy() for end in ("shift", "scale"))
    drawn = np.random.default_rng(0).standard_normal((ROWS, len(shift))) * scale + shift
    return pd.DataFrame(drawn, columns=pd.Index(map(str, network.record["features"])))
