"""What a compression is, as one YAML file, and the studies that it comes to."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nasplug.errors import ConfigError
from nasplug_swat.job import Job
from nasplug_swat.search import cut_out, in_raw_units, opened

if TYPE_CHECKING:
    from nasplug import Study

__all__ = ["BEGUN", "Compression", "planned"]

BEGUN = "begun.json"
"""In a compression's folder: what its pieces are of."""


class Points(BaseModel):
    """Where the two networks shall agree: uniform on ``[-reach, reach]`` in the units that the network was trained in."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    reach: float = Field(1.0, gt=0)
    train: int = Field(3750, ge=4)
    test: int = Field(1250, ge=1)
    seed: int = Field(0, ge=0)


class Polish(BaseModel):
    """Training each piece but the first on what those before it really put out, its zeros kept; 0 steps: none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: int = Field(1000, ge=0, le=10**9)
    lr: float = Field(1e-3, gt=0)


class Compression(Job):
    """A compression as one YAML file.

    ``network``: the folder of a saved network. ``cuts``: the hidden layers that stay as they are, in order; each piece between
    them becomes one of ``depth`` hidden layers (a number, or one per piece). ``begin``: searches start from the ``encoding`` of
    their piece, or from ``open`` networks. ``search``: sections of a study for the pieces (``method`` takes options of `swat`).
    """

    network: str = Field(min_length=1)
    cuts: tuple[int, ...] = Field(min_length=1)
    depth: int | tuple[int, ...] = 2
    begin: Literal["encoding", "open"] = "encoding"
    points: Points = Points()
    search: dict[str, Any] = Field(default_factory=dict)
    polish: Polish = Polish()


OURS = frozenset({"study", "store", "task"})


def planned(job: Compression) -> list[Study]:
    """The study of each piece, checked: all that can be refused is refused here.

    Raises:
        ConfigError: for a network that is not there or cannot be cut so, for pieces that the autoencoder has no space for,
            and whatever a study refuses.
    """
    from nasplug import Study  # a worker of a study has no use for studies

    nets = in_raw_units(opened(job.network))
    ends, depths = _parts(job, nets.depth)
    if taken := sorted(OURS & set(job.search)):
        raise ConfigError(f"search: {', '.join(taken)} is set by the compression; leave it out")
    method = job.search.get("method", {})
    if not isinstance(method, dict) or (reserved := {"use", "depth", "ends", "start", "piece", "begin"} & set(method)):
        given = method if not isinstance(method, dict) else ", ".join(sorted(reserved))
        raise ConfigError(f"search.method: {given}; needed: options of swat that the compression does not set itself")
    studies = []
    for number, ((first, last), depth) in enumerate(zip(itertools.pairwise(ends), depths, strict=True), start=1):
        cut_out(nets, first, last)
        start = {"start": job.network, "piece": [first, last]} if job.begin == "encoding" else {"begin": "open"}
        shape = {"depth": depth, "ends": [nets.widths[first], nets.widths[last]]}
        raw = {
            "mlflow": None,
            **job.search,
            "study": f"piece-{number}",
            "store": str(job.folder),
            "task": {"use": "swat_piece", "network": job.network, "first": first, "last": last, **job.points.model_dump()},
            "method": {"use": "swat", **method, **shape, **start},
        }
        study = Study.from_dict(raw)
        if not (job.folder / BEGUN).exists():  # a folder that was begun says itself what is different
            study.check()
        studies.append(study)
    return studies


def _parts(job: Compression, last: int) -> tuple[list[int], tuple[int, ...]]:
    """The layers that pieces begin and end at, and the hidden layers that each piece gets.

    Raises:
        ConfigError: for cuts that ``last`` layers do not have, and depths that are not as many as the pieces.
    """
    hidden = last - 1
    if any(not 1 <= cut <= hidden for cut in job.cuts) or list(job.cuts) != sorted(set(job.cuts)):
        raise ConfigError(f"cuts: {list(job.cuts)}; needed: hidden layers of the network, 1 to {hidden}, in order")
    ends = [0, *job.cuts, last]
    if 1 in (b - a for a, b in itertools.pairwise(ends)):
        raise ConfigError(f"cuts: {list(job.cuts)}; needed: a hidden layer at least in each piece of layers 0 to {last}")
    depths = (job.depth,) * (len(ends) - 1) if isinstance(job.depth, int) else job.depth
    if len(depths) != len(ends) - 1:
        raise ConfigError(f"depth: {list(depths)}; needed: one number, or one per piece ({len(ends) - 1})")
    return ends, depths
