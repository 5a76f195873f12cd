"""`Ensemble`: the mean of several small networks as one module with one signature, its files, and its scores."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nasplug import compact, files
from nasplug.activations import FUNCTIONS, Function
from nasplug.compact import CompactNetwork, digest_of
from nasplug.data.transforms import Transform
from nasplug.errors import ConfigError
from nasplug.records import answers
from nasplug.tasks import Split, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Ensemble", "load", "outputs_of", "remove", "save", "scores", "scores_of"]

FORMAT = "nasplug.ensemble/1"
RECORD = "ensemble.json"
SHARED = ("inputs", "features", "targets", "link", "encoder", "transform")  # what the records of all members agree in
LEAST = 1e-7  # of a probability whose logarithm is taken


class Ensemble(nn.Module):
    """``x (N, I)`` -> ``(N, O)``: the mean of the members' predictions, in units of the target or as probabilities.

    ``y = (1 / M) sum_m network_m(x)``. Members read the same raw features and predict the same targets.

    Raises:
        ConfigError: for no member, or members that differ in what they read or predict.
    """

    def __init__(self, members: Mapping[str, CompactNetwork]) -> None:
        super().__init__()
        networks = list(members.values())
        if not networks:
            raise ConfigError("an ensemble without members; needed: one network at least")
        first = networks[0].record
        for name, network in members.items():
            if odd := [key for key in SHARED if network.record.get(key) != first.get(key)]:
                raise ConfigError(f"ensemble: {name} has other {', '.join(odd)} than {next(iter(members))}; needed: the same")
        self.members = nn.ModuleList(networks)
        self.record: dict[str, Any] = {
            "format": FORMAT,
            **{key: first[key] for key in SHARED if key in first},
            "members": [{"name": name, "digest": digest_of(network)} for name, network in members.items()],
            "sizes": {"parameters": sum(network.parameter_count for network in networks)},
        }

    def forward(self, x: Tensor) -> Tensor:
        """Raw features ``(N, I)`` -> predictions ``(N, O)``."""
        return torch.stack([member(x) for member in self.members]).mean(0)

    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of the user's table -> named answers, as `nasplug.compact.CompactNetwork.predict`.

        Raises:
            ConfigError: for a column that is missing, or a value that cannot be read.
        """
        members = [member for member in self.members if isinstance(member, CompactNetwork)]
        with torch.no_grad():
            outputs = torch.stack([member(torch.from_numpy(member.features(table))) for member in members]).mean(0)
        return answers(members[0].record, outputs.double().numpy(), table.index)

    @property
    def parameter_count(self) -> int:
        """Non-zero weights and biases of all members."""
        return int(self.record["sizes"]["parameters"])

    def extra_repr(self) -> str:
        """What stands between the brackets when it is printed."""
        return f"{len(self.members)} networks, parameters={self.parameter_count}"


def save(network: Ensemble, folder: str | Path) -> None:
    """Write ``ensemble.json`` and each member into ``member-00``, ``member-01``, ...: all that is needed, no code in it.

    All files are sealed (`nasplug.files`); the record has the digest of each member. Members of a larger ensemble that was here
    before are removed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, member in enumerate(network.members):
        assert isinstance(member, CompactNetwork)  # for the type checker
        compact.save(member, folder / f"member-{number:02d}")
    files.write_json(folder / RECORD, network.record)
    _remove_members(folder, len(network.members))


def remove(folder: str | Path) -> None:
    """Remove what `save` wrote, and nothing else that is there."""
    (Path(folder) / RECORD).unlink(missing_ok=True)
    _remove_members(Path(folder), 0)


def _remove_members(folder: Path, first: int) -> None:
    """Members with this number and later ones, of an ensemble that was here before."""
    for member in folder.glob("member-*"):
        number = member.name.removeprefix("member-")
        if number.isdecimal() and int(number) >= first and (member / compact.RECORD).is_file():
            shutil.rmtree(member)


def load(folder: str | Path, functions: Mapping[str, Function] = FUNCTIONS) -> Ensemble:
    """Rebuild an ensemble that `save` wrote; ``functions`` as in `nasplug.compact.load`.

    Raises:
        ConfigError: if the folder holds none, if it was damaged, or if record and members do not belong together.
    """
    folder = Path(folder)
    record = files.read_json(folder / RECORD)
    if record.get("format") != FORMAT:
        raise ConfigError(f"{folder / RECORD} has format {record.get('format')!r}; this version reads {FORMAT!r}")
    try:
        names = [(str(member["name"]), str(member["digest"])) for member in record["members"]]
    except (LookupError, TypeError) as error:
        raise ConfigError(f"{folder / RECORD} is not the record of an ensemble: {type(error).__name__}: {error}") from None
    members: dict[str, CompactNetwork] = {}
    for number, (name, digest) in enumerate(names):
        members[name] = compact.load(folder / f"member-{number:02d}", functions)
        if digest_of(members[name]) != digest:
            raise ConfigError(f"{folder}: member-{number:02d} is not {name} of {RECORD}; write the ensemble anew")
    return Ensemble(members).eval()


@torch.no_grad()
def scores(network: nn.Module, task: Task, split: Split) -> dict[str, float]:
    """Metrics of a served module on a split of its task: raw features in, its predictions held against the targets."""
    shift, scale = task.input_shift.double().view(-1, 1), task.input_scale.double().view(-1, 1)
    return scores_of(network((split.x.double() * scale + shift).T).double(), task, split)


def scores_of(found: Tensor, task: Task, split: Split) -> dict[str, float]:
    """Metrics of what was served ``(N, O)``, float64, for the samples of a split."""
    y = split.y if split.y.dtype == torch.long else split.y.double()
    return {name: float(value[0]) for name, value in task.metrics(outputs_of(found, task), y, split.weights).items()}


def outputs_of(found: Tensor, task: Task) -> Tensor:
    """What was served ``(N, O)``, float64, as the outputs ``(1, O, N)`` that losses and metrics take."""
    if task.transform is not None:
        found = torch.from_numpy(Transform.from_plain(task.transform).forward(found.numpy()))
    found = found.T
    if task.kind == "regression":
        found = (found - task.output_shift.double().view(-1, 1)) / task.output_scale.double().view(-1, 1)
    if task.loss.link == "sigmoid":
        found = torch.logit(found, eps=LEAST)
    elif task.loss.link != "identity":
        found = found.clamp(min=LEAST).log()
    return found.unsqueeze(0)
