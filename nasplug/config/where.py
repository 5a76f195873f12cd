"""Where a study runs and who is told of it: what a pack takes, and MLflow."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from nasplug.config.sweeps import Strict

__all__ = ["REGISTERED", "REGISTERED_WORDS", "MLflow", "Resources"]


class Resources(BaseModel):
    """What a pack (one Ray Tune trial) takes, and how many networks it holds."""

    model_config = Strict

    cpus: float = Field(1, gt=0)
    gpus: float = Field(0, ge=0)
    pack: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    retries: int = Field(2, ge=0)

    cpu_below: Annotated[int, Field(ge=2)] | None = None

    @field_validator("gpus")
    @classmethod
    def _one_gpu(cls, gpus: float) -> float:
        if gpus > 1:
            raise ValueError(f"{gpus:g}; needed: 1 or a share of one GPU (0 to 1): a pack trains on one, and others beside it")
        return gpus

    @model_validator(mode="after")
    def _beside(self) -> Resources:
        if self.cpu_below is not None and not self.gpus:
            raise ValueError(
                f"cpu_below: {self.cpu_below} with gpus: 0, where all packs train on CPUs; remove it, or write gpus: 1"
            )
        return self

    @property
    def threads(self) -> int:
        """Of a pack: the whole cpus that it takes."""
        return max(1, int(self.cpus))

    def of(self, rows: int) -> Resources:
        """What a pack of so many rows takes: with ``cpu_below`` a smaller one trains on CPUs, beside those on GPUs."""
        small = self.cpu_below is not None and rows < self.cpu_below
        return self.model_copy(update={"gpus": 0.0, "device": "cpu", "cpu_below": None}) if small else self


REGISTERED = (
    r"""^[^\s/:@?#%'"\x00-\x1f]([^/:@?#%'"\x00-\x1f]{0,198}[^\s/:@?#%'"\x00-\x1f])?$"""  # more than MLflow refuses: the
)
# others end or escape a name in the addresses of models and in searches
REGISTERED_WORDS = "a model's name of at most 200 characters, without / : @ ? # %, quotes, and spaces around it"


STORES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks", "file")
"""What addresses of MLflow begin with, and the names of MLflow's own plugins beside them."""


class MLflow(BaseModel):
    """Where the study is tracked, and under which name its chosen network is registered (null: not).

    ``promote``: which alias it may get. ``if-better``: ``champion``, if it passes the gate (`nasplug.tracking.gate`), else
    ``challenger``. ``challenger``: that alone. ``never``: none.
    """

    model_config = Strict

    uri: str | None = Field(None, min_length=1)
    experiment: str | None = Field(None, min_length=1)
    register_: str | None = Field(
        None, alias="register", pattern=REGISTERED, description=f"{REGISTERED_WORDS}, or null for no registering"
    )
    promote: Literal["if-better", "challenger", "never"] = "if-better"
    children: int = Field(12, ge=0)
    wait: float | None = Field(
        None,
        ge=0,
        description="the seconds that a study's end waits for MLflow (a number >= 0; null: 60 for a server, 300 for files)",
    )

    @field_validator("uri")
    @classmethod
    def _known(cls, uri: str | None) -> str | None:
        scheme = urlsplit(uri or "").scheme
        known = {*STORES, *(entry.name for entry in entry_points(group="mlflow.tracking_store"))}
        if scheme and scheme.partition("+")[0] not in known:
            raise ValueError(
                f"begins with {scheme}:, where MLflow keeps nothing; needed: the address of a server (http://host:5000) or "
                "of a database (sqlite:///mlflow.db, postgresql://...), or null"
            )
        return uri
