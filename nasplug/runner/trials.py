"""Packs as trials of Ray Tune, with a collector beside the driver that writes what they earn."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from nasplug.collecting import ENDING, RUNGS, Collector, tell_rungs
from nasplug.config import StudyConfig
from nasplug.errors import ConfigError, PluginError, cause
from nasplug.hookspecs import Progress
from nasplug.identity import versions
from nasplug.machine import cpus_here, pick_device
from nasplug.packs import TABLE, rung_file
from nasplug.plan import Pack, build_task, longest_first, study_of, tasks_of
from nasplug.plugins import Plugins
from nasplug.runner.joining import check_token, in_ready_workers, join, knock, last_line, leave
from nasplug.runner.serial import Watch
from nasplug.runner.workers import trial

__all__ = ["RayRunner"]

COLLECTOR_RESTARTS = 3


class Rungs:
    """Packs that wait at rungs in their workers: what goes on is compared as soon as all are there, and told to them.

    A pack that waits keeps its worker, which is warm, as long as no other pack needs one. Then it goes on in a later run.

    Args:
        folder: of the study.
        packs: of this run.
        watch: see `Runner.run`.
    """

    def __init__(self, folder: Path, packs: Sequence[Pack], watch: Watch) -> None:
        self._folder, self._watch = folder, watch
        self._kept = {pack.id: watch.kept(pack.id) for pack in packs}
        self._crowded = False
        (folder / RUNGS).unlink(missing_ok=True)
        self._tell()

    def look(self, running: Set[str], left: Set[str]) -> None:
        """To be called often: which packs have a worker, and which have not ended."""
        if not any(kept is not None for kept in self._kept.values()):
            return
        crowded = bool(left - running)  # what is not there yet, or shall be tried again, needs a worker
        if not crowded and running and all(self._waits(pack) for pack in running):
            if self._watch.decide():
                self._kept = {pack: self._watch.kept(pack) for pack in self._kept}
                self._tell()
            else:
                crowded = True  # others are missing, which are not of this run
        if crowded != self._crowded:
            self._crowded = crowded
            self._tell()

    def ended(self, pack: str) -> bool:
        """Whether a pack without a worker has neither its results nor is at its next rung."""
        if (self._folder / "packs" / pack / TABLE).exists():  # also where its worker died when all that it earned had come
            self._watch.finished(pack)
            return False
        return not self._waits(pack)

    def _waits(self, pack: str) -> bool:
        kept = self._kept[pack]
        return kept is not None and (self._folder / "packs" / pack / rung_file(len(kept))).exists()

    def _tell(self) -> None:
        tell_rungs(self._folder, self._kept, self._crowded)


@dataclass(slots=True)
class RayRunner:
    """Each pack is one Ray Tune trial. Actors are reused, and a killed worker's pack goes on from its checkpoint.

    Workers need no file system in common with the driver: what they earn travels through Ray to a collector on the driver's
    node, data through Ray's object store. Packs that take longest start first; no result depends on it.

    Attributes:
        address: of a cluster (``auto`` or ``host:port``); None starts Ray on this machine.
        cpus: of the local Ray; None takes all.
    """

    address: str | None = None
    cpus: int | None = None
    _started: bool = field(default=False, init=False)
    _collector: Any = field(default=None, init=False)
    _tasks: dict[str, Any] = field(default_factory=dict, init=False)

    def check(self, study: StudyConfig) -> None:
        """See `Runner.check`; what a cluster has is its own matter, as it may grow."""
        resources = study.resources
        if resources.device not in ("auto", "cpu") and resources.gpus == 0:
            raise ConfigError(
                f"resources.device: {resources.device} with gpus: 0; Ray hides the GPUs from trials that ask for none. "
                "Write gpus: 1 (or a share of one)"
            )
        if ":" in resources.device:
            raise ConfigError(f"resources.device: {resources.device}; Ray chooses which GPU a trial gets. Write device: cuda")
        if self.address is not None:
            check_token()
            knock(self.address)
            return
        if "ray" in sys.modules and sys.modules["ray"].is_initialized():
            return  # the user's own, which we shall use
        have = {"cpus": float(self.cpus or cpus_here()), "gpus": float(torch.cuda.device_count())}
        for name, there in have.items():
            asked = getattr(resources, name)
            if asked > there:
                less = f"{there:g} or less" if there else "0"
                raise ConfigError(
                    f"resources.{name}: {asked:g} for a pack; this machine has {there:g}, so the first pack would wait "
                    f"for ever. Write {name}: {less}, or give the address of a cluster that has more (--address)"
                )
        pick_device(resources.device, resources.gpus)

    def start(self) -> None:
        """Start Ray on this machine, or connect to the cluster; once."""
        if not (self._started and sys.modules["ray"].is_initialized()):
            self._started = join(self.address, self.cpus) or self._started

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
        """See `Runner.run`."""
        if not packs:
            return
        self.start()
        _restore_signals()
        from ray import tune

        folder = study.folder.resolve()
        if study.plateau is None:  # it is judged in the order of the plan
            packs = sorted(longest_first(study, packs, plugins), key=lambda pack: not pack.linear)
        waiting = {pack.id for pack in packs}
        ending = folder / ENDING
        ending.unlink(missing_ok=True)  # of a run that was killed
        training: set[str] = set()  # trials that run
        rungs = Rungs(folder, packs, watch)

        class End(tune.Stopper):
            def __call__(self, trial_id: str, result: Any) -> bool:
                return False  # a pack ends by itself, with its checkpoint

            def stop_all(self) -> bool:
                return not training and ending.exists()

            def __reduce__(self) -> Any:
                return (tune.stopper.NoopStopper, ())  # as of `Tell`

        class Tell(tune.Callback):
            def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
                if watch.ending():
                    ending.touch()

            def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
                training.clear()
                running = [trial for trial in trials if trial.status == "RUNNING"]
                training.update(trial.trial_id for trial in running)
                rungs.look({trial.config["pack"] for trial in running}, waiting)

            def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
                numbers = {each.name: result[each.name] for each in fields(Progress) if each.name in result}
                if len(numbers) == len(fields(Progress)):
                    watch.reported(trial.config["pack"], Progress(**numbers))

            def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                pack = trial.config["pack"]
                waiting.discard(pack)
                if rungs.ended(pack) and not ending.exists():
                    watch.failed(pack, f"the trial ended, and its results are not in {folder}")

            def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                pack = trial.config["pack"]
                waiting.discard(pack)
                if rungs.ended(pack):
                    watch.failed(pack, _reason(trial))

            def __reduce__(self) -> Any:
                # Tune pickles the experiment for its own way of resuming, which we do not use; observers stay here.
                return (tune.Callback, ())

        trainable = tune.with_parameters(
            trial,
            study=study.plain(),
            packs={pack.id: pack.plain() for pack in packs},
            tasks=self._put(study, packs, plugins),
            manifest=plugins.manifest,
            driver=versions(study, plugins),
            collector=self._collect(folder / "packs"),
            home=os.getcwd(),
        )
        rows = {pack.id: pack.rows for pack in packs}

        def takes(config: Mapping[str, Any]) -> Any:
            found = study.resources.of(rows[config["pack"]])
            return tune.PlacementGroupFactory([{"CPU": found.cpus, "GPU": found.gpus}])

        tuner = tune.Tuner(
            tune.with_resources(trainable, takes),
            param_space={"pack": tune.grid_search([pack.id for pack in packs])},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder / "ray"),
                callbacks=[Tell()],
                stop=End(),
                failure_config=tune.FailureConfig(max_failures=study.resources.retries),
                verbose=0,
            ),
        )
        stopped = False
        try:
            with in_ready_workers():
                tuner.fit()
        except KeyboardInterrupt:
            stopped = True
        ended = ending.exists()
        for path in (ending, folder / RUNGS):
            path.unlink(missing_ok=True)
        if stopped or (waiting and not ended):  # Tune returns as if all were done when it gets a signal of its own
            del tuner
            gc.collect()  # the trials of a Ray that is not ours end with the last word of them here
            raise KeyboardInterrupt

    def _collect(self, packs: Path) -> Any:
        """The collector, on the node of the driver, whose file system it shares; it ends with the driver."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if self._collector is None:
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            actor = ray.remote(num_cpus=0, max_restarts=COLLECTOR_RESTARTS, max_task_retries=COLLECTOR_RESTARTS)(Collector)
            self._collector = actor.options(scheduling_strategy=here).remote(str(packs))
        return self._collector

    def _put(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins) -> dict[str, Any]:
        """The packs' tasks in Ray's object store, each once for all generations of a study.

        Raises:
            PluginError: for a task that cannot be sent.
        """
        import ray

        found = {}
        for pack in packs:
            for key, settled in tasks_of(study_of(study, pack), pack).items():
                if key not in self._tasks:
                    try:
                        self._tasks[key] = ray.put(build_task(settled, plugins))
                    except (TypeError, AttributeError, ValueError) as error:
                        raise PluginError(
                            f"{plugins.offer('task', settled.task.use)}: its task cannot be sent to workers ({cause(error)}); "
                            "use --runner serial, or tell its author"
                        ) from error
                found[key] = self._tasks[key]
        return found

    def close(self) -> None:
        """End what this runner started: the collector, and Ray if it is not the user's own."""
        self._tasks.clear()
        collector, self._collector = self._collector, None
        started, self._started = self._started, False
        if collector is None and not started:
            return
        import ray

        try:
            if collector is not None and ray.is_initialized():
                ray.kill(collector)
        finally:
            leave(started=started)


def _restore_signals() -> None:
    """Python's answer to SIGTERM again: Ray's takes it for a crash, prints a stack and aborts within three seconds."""
    handler = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is threading.main_thread() and handler is not None:
        signal.signal(signal.SIGTERM, handler)


def _reason(trial: Any) -> str:
    """Why a trial of Tune's failed."""
    try:
        return last_line(Path(trial.error_file).read_text(encoding="utf-8", errors="replace"))
    except (OSError, TypeError):  # no path where it failed before it had a folder
        return "the trial ended with an error; see the logs under the study's folder ray/tune"
