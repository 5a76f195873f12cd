"""What a version was worth on its test rows: ``test.parquet`` beside its model, one row per test row, and what it is of.

It holds errors and no data of the user: neither inputs nor targets nor predictions. It is read back to compare two versions on
the same rows, whatever encoding, method or loss each of them has.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nasplug import files
from nasplug.compact import CompactNetwork, digest_of
from nasplug.data.transforms import Transform, undone
from nasplug.ensemble import Ensemble, outputs_of
from nasplug.errors import NasplugError
from nasplug.records import output_names
from nasplug.tasks import Kind, Loss, Task
from nasplug.tasks.metrics import calibration, labels_of
from nasplug.tracking.places import variables

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TEST", "Evidence", "Measured", "ensure_evidence", "evidence_of", "measure", "read_evidence", "write_evidence"]

TEST = "test.parquet"
KEY = "nasplug.evidence"
CERTIFICATE = "certificate.json"
WRONG, SQUARED = "share of wrong labels", "squared error"
CLOSE = 1e-5  # of the range of scores: targets are stored in float32
Array = npt.NDArray[np.float64]
Size = Annotated[int, Field(ge=0)]


class Measured(BaseModel):
    """What the errors of a ``test.parquet`` are of.

    Attributes:
        digest: of the network (`nasplug.compact.digest_of`).
        kind: of the task.
        targets: their names, or those of the labels.
        outputs: what the network answers, by name, in order.
        reads: the columns of the user's table that it needs, by name.
        columns: those that its study had.
        data: digest of the raw data, however they are encoded.
        rows: digest of which rows of them are the test rows.
        metric: ``share of wrong labels``, or what is meant by an error of a regression.
        samples: test rows.
        error: the mean error, weighted as the rows are.
        parameters: non-zero numbers that the network is made of.
        edges: its connections; of an ensemble those of all members.
        calibration: expected calibration error of the probabilities on the test rows, 0 to 1; None without probabilities.
        certificate: the verdict of ``certificate.json``; None without one.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    format: Literal["nasplug.test/1"] = "nasplug.test/1"
    digest: str
    kind: Kind
    targets: list[str]
    outputs: list[str]
    reads: list[str]
    columns: list[str]
    data: str
    rows: str
    metric: str
    samples: Annotated[int, Field(ge=1)]
    error: Annotated[float, Field(ge=0)]
    parameters: Size
    edges: Size
    calibration: float | None = None
    certificate: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a network did on each test row of its task.

    Attributes:
        of: what was measured.
        errors: ``(N,)``, >= 0: 0 or 1 where answers are labels; of a regression the squared error in the target's own units,
            the mean over targets. In the order of the test split.
        weights: ``(N,)``, >= 0; None where each row counts as much.
    """

    of: Measured
    errors: Array
    weights: Array | None = None


@torch.no_grad()
def measure(network: CompactNetwork | Ensemble, task: Task, certificate: str | None = None) -> Evidence | None:
    """A network on the test split of its task, as it is served: raw features in, answers in the target's units out.

    None for a network with answers that are not finite.
    """
    split = task.test
    shift, scale = task.input_shift.double().view(-1, 1), task.input_scale.double().view(-1, 1)
    served = network((split.x.double() * scale + shift).T).double()  # (N, O)
    y = split.y if split.y.dtype == torch.long else split.y.double()
    metric, errors = _squared(served, y, task) if task.kind == "regression" else _wrong(served, y)
    if not (np.isfinite(errors).all() and bool(torch.isfinite(served).all())):
        return None
    weights = None if split.weights is None else split.weights.double().numpy()
    known = task.origin
    parts = list(network.members) if isinstance(network, Ensemble) else [network]
    records: list[dict[str, Any]] = [part.record for part in parts]  # type: ignore[misc]
    sure = None
    if task.kind != "regression" and task.link in ("sigmoid", "softmax"):
        sure = float(calibration()(served.T.unsqueeze(0), y, split.weights)[0])
    return Evidence(
        Measured(
            digest=digest_of(network),
            kind=task.kind,
            targets=[str(target) for target in task.targets],
            outputs=output_names(records[0]),
            reads=list(dict.fromkeys(name for record in records for name in _columns_of(record))),
            columns=[str(column) for column in task.columns],
            data=known.digest if known else f"task {task.digest}",
            rows=known.splits["test"] if known else f"task {task.digest}",
            metric=metric,
            samples=split.samples,
            error=float(np.average(errors, weights=weights)),
            parameters=network.parameter_count,
            edges=sum(int(record["sizes"]["edges"]) for record in records),
            calibration=sure,
            certificate=certificate,
        ),
        errors,
        weights,
    )


def _wrong(served: torch.Tensor, y: torch.Tensor) -> tuple[str, Array]:
    found, wanted = labels_of(served.T.unsqueeze(0), y)
    return WRONG, (found[0] != wanted).double().numpy()


def _squared(served: torch.Tensor, y: torch.Tensor, task: Task) -> tuple[str, Array]:
    """The squared error in the target's own units, ``(N,)``; of a loss with an error of its own that, with its name."""
    scale, shift = task.output_scale.double().view(-1, 1), task.output_shift.double().view(-1, 1)
    if type(task.loss).error is not Loss.error:
        units = ", ".join(f"{unit:.6g}" for unit in scale.flatten().tolist())
        return f"{task.loss}, in units of {units}", task.loss.error(outputs_of(served, task), y)[0].double().numpy()
    wanted = (y * scale + shift).T
    metric = SQUARED
    if task.transform is not None:
        transform = Transform.from_plain(task.transform)
        metric += _cut(wanted, transform)
        wanted = undone(wanted, transform.knots())
    return metric, (served - wanted).square().mean(1).numpy()


def _cut(t: torch.Tensor, transform: Transform) -> str:
    """Which targets a transform by ranks has cut: what lies outside of the training targets is not known any more."""
    for place, (values, scores) in enumerate(zip(transform.values, transform.scores, strict=True)):
        near = CLOSE * (scores[-1] - scores[0])
        if bool(((t[:, place] < scores[0] + near) | (t[:, place] > scores[-1] - near)).any()):
            return f" of targets cut at {values[0]:.6g} and {values[-1]:.6g}"
    return ""


def _columns_of(record: dict[str, Any]) -> list[str]:
    """Columns of the user's table that a network reads."""
    if record.get("stem"):
        return [str(name) for name in record["features"]]
    if record.get("groups") is not None:
        return [str(record["columns"][place]) for place in sorted({record["groups"][at] for at in record["kept_inputs"]})]
    return [str(record["features"][at]) for at in record["kept_inputs"]]


def write_evidence(network: CompactNetwork | Ensemble, task: Task, folder: Path) -> None:
    """Write ``test.parquet`` into a model's folder; what ``certificate.json`` there says is part of it.

    Nothing is written of a network with answers that are not finite: it has no error.
    """
    import pyarrow as pa

    path = folder / CERTIFICATE
    certificate = str(files.read_json(path).get("verdict", ""))[:500] if path.exists() else None
    found = measure(network, task, certificate)
    if found is None:
        return
    columns: dict[str, Any] = {"error": found.errors}
    if found.weights is not None:
        columns["weight"] = found.weights
    files.write_table(folder / TEST, pa.table(columns), {KEY: found.of.model_dump_json()})


def ensure_evidence(client: Any, version: Any, write: Callable[[Path], object]) -> None:
    """Put a ``test.parquet`` beside the model of a version that has none, as those of an older nasplug; ``write`` makes it."""
    model = str(version.source).removeprefix("models:/")
    if any(one.path == TEST for one in client.list_logged_model_artifacts(model)):
        return
    with tempfile.TemporaryDirectory() as there:
        write(Path(there))
        if (Path(there) / TEST).exists():
            client.log_model_artifact(model, str(Path(there) / TEST))


def read_evidence(path: Path) -> Evidence:
    """What `write_evidence` wrote.

    Raises:
        DamageError: for a file that is something else.
    """
    table: pa.Table = files.read_table(path)
    try:
        of = Measured.model_validate_json((table.schema.metadata or {})[KEY.encode()])
        errors = table["error"].to_numpy().astype(np.float64)
        weights = table["weight"].to_numpy().astype(np.float64) if "weight" in table.column_names else None
        for values in (errors, *(() if weights is None else (weights,))):
            if len(values) != of.samples or not np.isfinite(values).all() or (values < 0).any():
                raise ValueError("its rows are not those that it tells of")
    except (ValidationError, ValueError, LookupError, TypeError, json.JSONDecodeError) as error:
        raise files.DamageError(path, f"it holds no errors of a network: {' '.join(str(error).split())[:200]}") from None
    return Evidence(of, errors, weights)


def evidence_of(client: Any, uri: str, version: Any) -> Evidence | str:
    """The evidence of a registered version, or in words why there is none."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    source, words = str(version.source), f"version {version.version}"
    older = "it was registered by an older nasplug, or by something else; run its study again, or nasplug promote --force"
    if not source.startswith("models:/"):
        return f"{words} has no {TEST}: {older}"
    silent = variables({"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"})
    with silent, tempfile.TemporaryDirectory() as there:
        try:
            model = client.get_logged_model(source.removeprefix("models:/"))
            if not any(one.path == TEST for one in client.list_logged_model_artifacts(model.model_id)):
                return f"{words} has no {TEST}: {older}"
            place = f"{model.artifact_location}/{TEST}"
            found = read_evidence(Path(download_artifacts(artifact_uri=place, dst_path=there, tracking_uri=uri)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return f"the model of {words} is no longer there"
        except NasplugError as error:
            return f"{words}: {str(error).replace(f'{there}/', '')}"
    if version.tags.get("nasplug.digest", found.of.digest) != found.of.digest:
        return f"{words}: its {TEST} is of another network than its tag nasplug.digest"
    return found
