"""What a Ray worker does: it is given plain data and its tasks, trains in a scratch folder, and sends what it earned."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from nasplug.collecting import Courier
from nasplug.config import parse
from nasplug.identity import versions
from nasplug.packs import CHECKPOINT, TABLE, run_pack, rung_file
from nasplug.plan import Pack, take_tasks
from nasplug.plugins import load_plugins
from nasplug.runner.serial import placed
from nasplug.tasks import Task

__all__ = ["trial"]


def trial(
    config: Mapping[str, Any],
    *,
    study: dict[str, Any],
    packs: Mapping[str, Mapping[str, Any]],
    tasks: Mapping[str, Any],
    manifest: Any,
    driver: Mapping[str, str],
    collector: Any,
    home: str,
) -> None:
    """The trainable: plain data in, files to the collector, small numbers reported. Everything else is rebuilt here by name.

    Args:
        config: which pack.
        study, packs: plain data.
        tasks: the key of each task (`nasplug.plan.tasks_of`) -> its place in Ray's object store.
        manifest, driver: plugins and versions of the driver.
        collector: the actor `nasplug.collecting.Collector`.
        home: where the driver runs.
    """
    from ray import tune

    if os.path.isdir(home):  # as a serial run: relative paths in options of plugins lead where they lead the driver
        os.chdir(home)
    settled = parse(study)
    plugins = load_plugins()
    plugins.require(manifest, driver, versions(settled, plugins))
    take_tasks({key: partial(_got, place) for key, place in tasks.items()})
    pack = Pack(**packs[config["pack"]])
    told = False
    with tempfile.TemporaryDirectory(prefix="nasplug-") as own:
        courier = Courier(_caller(collector), pack.id, Path(own))
        kept = courier.rungs()
        wanted = [CHECKPOINT, *(rung_file(number) for number in range(len(kept or ())))]
        going_on = not courier.ending() and courier.fetch(wanted, unless=TABLE)
        while going_on:
            with (
                placed(settled, pack.rows) as device,
                closing(run_pack(settled, pack, plugins, courier.folder, device=device, kept=kept)) as going,
            ):
                for progress in going:
                    courier.send()
                    tune.report(asdict(progress))
                    told = True
                    if courier.ending():
                        break
            courier.finish(TABLE)
            done = kept is None or (courier.folder / TABLE).exists()
            kept = None if done else courier.next_rung(len(kept or ()))  # here, while nobody else needs this worker
            going_on = kept is not None
    if not told:  # the pack was complete already, or shall not begin: Tune wants a word all the same
        tune.report({"progress": 1.0})


def _got(place: Any) -> Task:
    import ray

    task: Task = ray.get(place)
    return task


def _caller(collector: Any) -> Callable[..., Any]:
    """Calls of the collector's methods; its errors are raised here as they were there."""
    import ray

    def call(method: str, *arguments: Any) -> Any:
        try:
            return ray.get(getattr(collector, method).remote(*arguments))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None

    return call
