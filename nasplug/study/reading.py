"""What a study has found, read from its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from nasplug import ensemble, identity, lineage, results, stability
from nasplug.compact import CompactNetwork, digest_of
from nasplug.config import StudyConfig
from nasplug.ensemble import Ensemble
from nasplug.errors import ConfigError
from nasplug.explain import Formula, explainable
from nasplug.networks import Networks
from nasplug.packs import load_networks
from nasplug.plan import LOSS, TASK, Axis, axes, build_task, row_of, settle, task_places
from nasplug.plugins import Plugins
from nasplug.report import ENSEMBLE, contributions_of, ensemble_scores, formula_of, html, narrow
from nasplug.tasks import Facts, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Results"]


class Results:
    """The results of a study that has run, or runs. Everything is read from its folder; the data are read where it says so.

    Attributes:
        config: of the study.
        plugins: where names are looked up.
    """

    def __init__(self, config: StudyConfig, plugins: Plugins) -> None:
        self.config = config
        self.plugins = plugins
        self._frame: pd.DataFrame | None = None

    @property
    def folder(self) -> Path:
        """Everything the study writes."""
        return self.config.folder

    @property
    def axes(self) -> list[Axis]:
        """What varies, and whether it varies between rows or between packs."""
        return axes(self.config)

    @property
    def task(self) -> Task:
        """The study's task; the first one if tasks are swept."""
        first = {axis.path: axis.sweep.first for axis in self.axes if axis.path.startswith((TASK, LOSS))}
        return build_task(settle(self.config, first), self.plugins)

    def task_of(self, replica: str) -> Task:
        """The task a replica was trained on, built from its data.

        Raises:
            ConfigError: when its pack has not finished, or the data are not those it was trained on.
        """
        facts, (pack, row) = self.facts_of(replica), row_of(replica)
        task = build_task(settle(self.config, results.plan_of(self.folder, pack, self.axes).task(row)), self.plugins)
        if task.digest != facts.digest:
            raise ConfigError(f"task {task.name!r}: its data have changed since {replica} was trained on them; put those back")
        return task

    def facts_of(self, replica: str) -> Facts:
        """Facts about the task that a replica was trained on, from the study's folder alone.

        Raises:
            ConfigError: when its pack has not finished.
        """
        return results.facts_of(self.folder, replica)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per replica; see the README for its columns."""
        return results.read(self.folder) if self._frame is None else self._frame

    def snapshot(self) -> Self:
        """The same as it is now: its table is read once, for all that is asked of it, and later files are not seen."""
        there = copy(self)
        there._frame = results.read(self.folder)
        return there

    def front(self, columns: Literal["narrow", "all"] = "narrow", *, stable: float | None = None) -> pd.DataFrame:
        """The Pareto set of validation error and edges, smallest network first.

        Args:
            columns: ``narrow``: names, sizes, validation and test scores, what varies; ``all``: every column of `frame`.
            stable: of networks alone all of whose inputs were kept in this share of the half samples (`stability`).
        """
        found = results.standing(self._some(stable), self.facts_of, self.config.choose)
        return self.narrow(found) if columns == "narrow" else found

    def narrow(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of `frame` with the columns of a narrow `front`."""
        return narrow(rows, self.axes)

    def _repr_html_(self) -> str:
        return html(self)

    def _some(self, stable: float | None) -> pd.DataFrame:
        """The table of replicas, or its rows with inputs that are so stable."""
        return self.frame if stable is None else stability.stable(self.frame, stable)

    def stability(self) -> pd.DataFrame:
        """How often each input, pair, activation and depth was kept on half samples, one row per configuration and item.

        Raises:
            ConfigError: for a study without ``stability:``.
        """
        return stability.read(self.folder)

    def best(self) -> pd.Series[Any]:
        """The row of the chosen network: the smallest that is as good as the best, by the rule in ``choose:``."""
        return results.choose(self.frame, self.facts_of, self.config.choose)

    def within(self, stable: float | None = None, /, **limits: float) -> pd.Series[Any]:
        """The row with the smallest validation error within limits, for example ``within(parameters=30, latency_us=50)``.

        A limit is the largest value allowed in a column, or in what is measured on this machine: ``latency_us`` of one sample
        per call, ``flash_bytes`` of its C (`nasplug.results.flash`). Nothing is trained. ``stable`` as in `front`.

        Raises:
            ConfigError: for a limit that is no column, or that no network keeps; for ``flash_bytes`` without a C compiler.
        """
        frame, error = results.judged(self._some(stable), self.facts_of, self.config.choose)
        return results.within(frame, limits, self._measures, error)

    def measured(self, *names: str, stable: float | None = None) -> pd.DataFrame:
        """The front with all columns, and ``latency_us`` and ``flash_bytes`` as columns: measured here, as by `within`.

        Raises:
            ConfigError: for another name; for ``flash_bytes`` without a C compiler.
        """
        return results.measured(self.front("all", stable=stable), names, self._measures)

    @property
    def _measures(self) -> Mapping[str, Callable[[str], float]]:
        return results.measures(self.folder, self.network, self.task_of, identity.makers(self.config, self.plugins)["nasplug"])

    def schedule(self, replica: str | None = None) -> pd.DataFrame:
        """The levels, learning rate and temperature that a network of a population trained with (default: the chosen one).

        Raises:
            ConfigError: for a network of no population (`nasplug.results.schedule_of`).
        """
        return results.schedule_of(self.folder, str(self.best()["replica"]) if replica is None else replica)

    def choices(self) -> pd.DataFrame:
        """The chosen network of each data set and loss that the study has, one row for each, as `best` is one."""
        return results.choices(self.frame, task_places(self.axes), self.facts_of, self.config.choose)

    @overload
    def network(self, replica: Literal["ensemble"]) -> Ensemble: ...  # type: ignore[overload-overlap]

    @overload
    def network(self, replica: str | None = None) -> CompactNetwork: ...

    def network(self, replica: str | None = None) -> CompactNetwork | Ensemble:
        """The small network of a replica, on raw features (default: the chosen one); of ``"ensemble"`` the mean of several."""
        if replica == "ensemble":
            if self.config.ensemble is None:
                raise ConfigError("this study has no ensemble; write ensemble: 8, say, and run it again: nothing is retrained")
            return ensemble.load(self.folder / ENSEMBLE, self.plugins.functions)
        name = str(self.best()["replica"]) if replica is None else replica
        return results.network(self.folder, name, self.facts_of(name), self.plugins.functions)

    def predict(self, table: pd.DataFrame, replica: str | None = None) -> pd.DataFrame:
        """Rows of the user's table -> named answers of the chosen network, or of a ``replica`` or ``"ensemble"``.

        See `nasplug.compact.CompactNetwork.predict`.

        Raises:
            ConfigError: for a column that is missing, a value that cannot be read, or a name that is no replica.
        """
        return (self.network() if replica is None else self.network(replica)).predict(table)

    def explain(self, rows: pd.DataFrame, replica: str | None = None) -> pd.DataFrame:
        """What each column adds to each prediction, beside a base, on the scale on which they sum exactly to it.

        ``rows`` of the user's table; default network: the chosen one. They are compared with development rows that the study's
        folder keeps. See `nasplug.explain.contributions`.

        Raises:
            ConfigError: for a network that reads images or is an ensemble, a column that is missing, or a replica of another
                data set than the chosen one, whose data are gone.
        """
        return contributions_of(self, rows, str(self.best()["replica"]) if replica is None else replica)

    def formula(self, replica: str | None = None) -> Formula:
        """A network (default: the chosen one) as a formula in the user's columns and units, with digits that keep its score.

        ``str(study.formula())`` is text; ``latex()`` and ``sympy()`` are the others. The chosen one needs the folder alone,
        others also the data, by which they are rounded.

        Raises:
            ConfigError: for a network that reads images or is an ensemble, or data that are gone.
        """
        name = str(self.best()["replica"]) if replica is None else replica
        return formula_of(self, name, explainable(self.network(name)))

    def lineage(self, replica: str | None = None) -> dict[str, Any]:
        """Where a network (default: the chosen one) came from, as plain JSON: what stands in ``best/lineage.json``.

        Raises:
            ConfigError: for a name that is not a replica, or a pack that has not finished.
        """
        if replica == ENSEMBLE:
            mean = self.network("ensemble")
            members = [self.lineage(str(member["name"])) for member in mean.record["members"]]
            return lineage.mean_of(members, digest_of(mean), ensemble_scores(self.folder))
        name = str(self.best()["replica"]) if replica is None else replica
        network, rows = self.network(name), self.frame[self.frame["replica"] == name].to_dict("records")
        return lineage.lineage_of(self.folder, self.config, {str(key): value for key, value in rows[0].items()}, network)

    def networks(self, pack: str) -> Networks:
        """The hard networks of a finished pack, ``p0001`` say, on scaled features: ``p0001/0017`` is row 17.

        Raises:
            ConfigError: when there is no such pack, or it has not finished.
        """
        return load_networks(self.folder / "packs" / pack, self.plugins.functions)
