"""Who runs packs: one after another in this process, or each as a Ray Tune trial. The only module that imports ray.

Both runners do the same work (`nasplug.packs.run_pack`), write the same files, and tell the same observers.
"""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from nasplug.config import StudyConfig, parse
from nasplug.errors import ConfigError, NasplugError
from nasplug.packs import TABLE, arithmetic, pick_device, run_pack
from nasplug.plan import Pack, cpus_here
from nasplug.plugins import Plugins, load_plugins

__all__ = ["RayRunner", "Runner", "SerialRunner", "Watch"]

KNOCK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Watch:
    """What a runner tells while it runs; called in the driver's process."""

    reported: Callable[[str, Mapping[str, float]], None]
    finished: Callable[[str], None]


class Runner(Protocol):
    """Runs packs until each has its results or has failed for good."""

    def check(self, study: StudyConfig) -> None:
        """Refuse, before anything is started or written, resources that this runner can never give.

        Raises:
            ConfigError: with what there is.
        """
        ...

    def start(self) -> None:
        """Get ready; may be called from another thread, before `run`, so that slow starts overlap."""
        ...

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> dict[str, str]:
        """Run ``packs``; returns why the failed ones failed, ``{pack: message}``. A failure leaves the others' results."""
        ...

    def close(self) -> None:
        """Give back what the runner started."""
        ...


def threads(study: StudyConfig) -> int:
    """Threads of a pack: the whole cpus it takes."""
    return max(1, int(study.resources.cpus))


@dataclass(frozen=True, slots=True)
class SerialRunner:
    """In this process, a pack at a time: for notebooks, debugging and small studies."""

    def check(self, study: StudyConfig) -> None:
        """See `Runner.check`."""
        pick_device(study.resources.device, study.resources.gpus)

    def start(self) -> None:
        """Nothing to start."""

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> dict[str, str]:
        """See `Runner.run`."""
        failed: dict[str, str] = {}
        device = pick_device(study.resources.device, study.resources.gpus)
        for pack in packs:
            try:
                with arithmetic(threads(study)):
                    for metrics in run_pack(study, pack, plugins, study.folder / "packs" / pack.id, device=device):
                        watch.reported(pack.id, metrics)
            except Exception as error:  # noqa: BLE001 - strangers' code runs here; its failure is reported, and packs go on
                failed[pack.id] = "".join(traceback.format_exception_only(error)).strip()
                continue
            watch.finished(pack.id)
        return failed

    def close(self) -> None:
        """Nothing was started."""


def _trial(
    config: Mapping[str, Any],
    *,
    study: dict[str, Any],
    packs: Mapping[str, Mapping[str, Any]],
    manifest: Any,
    folder: str,
    home: str,
) -> None:
    """The trainable: plain data in, files out, small numbers reported. Everything else is rebuilt here by name."""
    from ray import tune

    if os.path.isdir(home):  # Tune has moved to the trial's own folder, from which the study's relative paths lead nowhere
        os.chdir(home)
    settled = parse(study)
    plugins = load_plugins()
    plugins.require(manifest)
    pack = Pack(**packs[config["pack"]])
    device = pick_device(settled.resources.device, settled.resources.gpus)
    metrics: dict[str, float] = {"progress": 1.0}
    with arithmetic(threads(settled)):
        for metrics in run_pack(settled, pack, plugins, Path(folder) / "packs" / pack.id, device=device):
            tune.report(dict(metrics))
    if metrics.get("steps") is None:  # the pack was complete already: Tune wants a word all the same
        tune.report(metrics)


@dataclass(slots=True)
class RayRunner:
    """Each pack is one Ray Tune trial. Actors are reused, and a killed worker's pack goes on from its checkpoint.

    On a cluster the study's folder must be on a file system that every node sees under the same path.

    Attributes:
        address: of a cluster (``auto`` or ``host:port``); None starts Ray on this machine.
        cpus: of the local Ray; None takes all.
    """

    address: str | None = None
    cpus: int | None = None
    _started: bool = field(default=False, init=False)

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
            _knock(self.address)
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
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked
        os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
        os.environ.setdefault("RAY_TUNE_DISABLE_STORAGE_WARNING", "1")
        if self.address is None and not any(name.startswith("RAY_AUTH") for name in os.environ):
            # A local Ray wants a token; one in the environment leaves the user's home folder as it was.
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(16)
        if self.address is not None:
            os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # the default is to try for a quarter of an hour
        import ray  # reads the variables above when it is first imported

        if ray.is_initialized():
            return
        local: dict[str, Any] = (
            {"include_dashboard": False, "num_cpus": self.cpus or cpus_here()} if self.address is None else {}
        )
        try:
            ray.init(address=self.address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
        except (OSError, RuntimeError, ValueError) as error:  # a ConnectionError is an OSError
            where = "on this machine" if self.address is None else f"at address {self.address!r}"
            raise NasplugError(f"Ray {where} does not answer: {_last_line(error)}. {_ADDRESSES}") from error
        self._started = True
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a pack's failure is told by us, once
        importlib.import_module("ray.tune")

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> dict[str, str]:
        """See `Runner.run`."""
        if not packs:
            return {}
        self.start()
        from ray import tune

        class Tell(tune.Callback):
            def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
                numbers = {k: float(v) for k, v in result.items() if k in REPORTED}
                watch.reported(trial.config["pack"], numbers)

            def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                watch.finished(trial.config["pack"])

            def __reduce__(self) -> Any:
                # Tune pickles the experiment for its own way of resuming, which we do not use; observers stay here.
                return (tune.Callback, ())

        folder = study.folder.resolve()
        trainable = tune.with_parameters(
            _trial,
            study=study.plain(),
            packs={pack.id: pack.plain() for pack in packs},
            manifest=plugins.manifest,
            folder=str(folder),
            home=os.getcwd(),
        )
        resources = study.resources
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            param_space={"pack": tune.grid_search([pack.id for pack in packs])},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder / "ray"),
                callbacks=[Tell()],
                failure_config=tune.FailureConfig(max_failures=resources.retries),
                verbose=0,
            ),
        )
        grid = tuner.fit()
        ended = [grid[position] for position in range(len(grid))]  # only now: an error is not readable while its trial stops
        failed = {(trial.config or {})["pack"]: _last_line(trial.error) for trial in ended if trial.error is not None}
        for pack in packs:
            if pack.id not in failed and not (folder / "packs" / pack.id / TABLE).exists():
                failed[pack.id] = "the trial ended without results; see the logs under the study's folder ray/tune"
        return failed

    def close(self) -> None:
        """Shut Ray down if this runner started it."""
        if self._started:
            import ray

            ray.shutdown()
            self._started = False


_ADDRESSES = "Give the address of a running cluster (auto, host:port), none to start Ray here, or take the runner serial"


def _knock(address: str) -> None:
    """Refuse an address where nobody listens; ``auto`` is known to Ray alone.

    Raises:
        ConfigError: for what is no address.
        NasplugError: when nobody answers within seconds.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise ConfigError(f"address {address!r}; needed: auto or host:port")
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:  # an OverflowError is a port above 65535
        raise NasplugError(f"Ray at address {address!r} does not answer: {error}. {_ADDRESSES}") from None


REPORTED = frozenset(
    {
        "progress",
        "step",
        "steps",
        "networks",
        "diverged",
        "best_valid_error",
        "seconds",
        "network_steps_per_second",
    }
)


def _last_line(error: object) -> str:
    """The cause in one line: Ray wraps it in the worker's traceback."""
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
