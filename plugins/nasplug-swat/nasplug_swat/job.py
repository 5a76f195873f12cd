"""What the jobs of `nasplug swat` have in common: a YAML file, a folder, and a registered model for the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from nasplug.config import read_mapping, refusing
from nasplug.config.checking import check, plain

if TYPE_CHECKING:
    from nasplug.tracking import Entry

__all__ = ["Job", "read_job"]

Made = TypeVar("Made", bound="Job")


class Job(BaseModel):
    """Where the files of a job go, and whether MLflow gets the result.

    ``<store>/<name>`` is its folder. ``register`` is the name of the registered model (null: not logged), ``uri`` of the store
    of MLflow (null: the database in ``store``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120)
    store: str = Field("runs", min_length=1)
    register_: str | None = Field(None, alias="register", pattern=r"^[^/:]+$")
    uri: str | None = Field(None, min_length=1)

    @property
    def folder(self) -> Path:
        """Everything the job writes."""
        return Path(self.store).expanduser() / self.name

    @property
    def mlflow(self) -> str:
        """The tracking URI that the result is registered at."""
        from nasplug.tracking import default_uri

        return self.uri or default_uri(Path(self.store).expanduser())

    def entry(
        self, name: str, experiment: str, tags: Mapping[str, str], metrics: Mapping[str, float], files: Sequence[str]
    ) -> Entry:
        """How the result stands in MLflow, as the registered model ``name``; ``files`` are those of the job's folder."""
        from nasplug.tracking import Entry

        made = [self.folder / file for file in files]
        return Entry(name, self.mlflow, self.store, experiment, self.name, tags, metrics, made)

    def reach(self) -> None:
        """Ask MLflow before the work, which takes long; nothing without ``register``.

        Raises:
            NasplugError: where it does not answer.
        """
        from nasplug.tracking import reach

        if self.register_ is not None:
            reach(self.mlflow)


def read_job(path: Path, job: type[Made], overrides: tuple[str, ...] = ()) -> Made:
    """A job from its YAML file.

    Raises:
        ConfigError: when the file cannot be read, or is something else.
    """
    keys = [field.alias or name for name, field in job.model_fields.items()]
    with refusing(f"the job in {path}"):
        return check(job, plain(read_mapping(path, overrides, "a job", keys)))
