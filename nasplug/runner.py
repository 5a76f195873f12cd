"""Who runs packs: one after another in this process, or each as a Ray Tune trial. The only module that imports ray.

Both runners do the same work (`nasplug.packs.run_pack`), write the same files, and tell the same observers.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch

from nasplug.config import StudyConfig, parse
from nasplug.errors import ConfigError, NasplugError, did_you_mean
from nasplug.hookspecs import Progress
from nasplug.machine import arithmetic, cpus_here, pick_device
from nasplug.packs import TABLE, run_pack
from nasplug.plan import Pack
from nasplug.plugins import Plugins, load_plugins

__all__ = ["RayRunner", "Runner", "SerialRunner", "Watch", "runner_of"]

KNOCK_SECONDS = 5.0
DENIED_SECONDS = 30.0
TOKEN = "authentication token"


@dataclass(frozen=True, slots=True)
class Watch:
    """What a runner tells while it runs, in the driver's process. Each pack ends with one word: finished, or failed and why."""

    reported: Callable[[str, Progress], None]
    finished: Callable[[str], None]
    failed: Callable[[str, str], None]


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

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
        """Run ``packs`` and tell ``watch`` of each. A failure leaves the others' results."""
        ...

    def close(self) -> None:
        """Give back what the runner started."""
        ...


@contextmanager
def placed(study: StudyConfig, rows: int) -> Iterator[str]:
    """The device of a pack of so many rows, with the arithmetic and the share of memory that it has there.

    Raises:
        ConfigError: for a device that is not here.
    """
    takes = study.resources.of(rows)
    device = pick_device(takes.device, takes.gpus)
    with arithmetic(takes.threads, device, share=takes.gpus or 1.0, tf32=study.train.allow_tf32):
        yield device


@dataclass(frozen=True, slots=True)
class SerialRunner:
    """In this process, one pack at a time: for notebooks, debugging and small studies."""

    def check(self, study: StudyConfig) -> None:
        """See `Runner.check`."""
        pick_device(study.resources.device, study.resources.gpus)

    def start(self) -> None:
        """Nothing to start."""

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
        """See `Runner.run`."""
        for pack in packs:
            try:
                with placed(study, pack.rows) as device:
                    for progress in run_pack(study, pack, plugins, study.folder / "packs" / pack.id, device=device):
                        watch.reported(pack.id, progress)
            except Exception as error:  # noqa: BLE001 - strangers' code runs here; its failure is reported, and packs go on
                watch.failed(pack.id, "".join(traceback.format_exception_only(error)).strip())
                continue
            watch.finished(pack.id)

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
    told = False
    with placed(settled, pack.rows) as device:
        for progress in run_pack(settled, pack, plugins, Path(folder) / "packs" / pack.id, device=device):
            tune.report(asdict(progress))
            told = True
    if not told:  # the pack was complete already: Tune wants a word all the same
        tune.report({"progress": 1.0})


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
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Tune would take Ctrl-C for an end, also after its own
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
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:  # a ConnectionError is an OSError
            where = "on this machine" if self.address is None else f"at address {self.address!r}"
            told = _last_line(error)
            denied = told if TOKEN in told.lower() or self.address is None else _denied(self.address)
            if TOKEN in denied.lower():
                raise NasplugError(
                    f"Ray {where} wants another token: {denied.partition('. ')[0]}. Set RAY_AUTH_MODE=token, and "
                    "RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the cluster's own"
                ) from error
            raise NasplugError(f"Ray {where} does not answer: {told}. {_ADDRESSES}") from error
        self._started = True
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a pack's failure is told by us, once
        importlib.import_module("ray.tune")

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
        """See `Runner.run`."""
        if not packs:
            return
        self.start()
        _restore_signals()
        from ray import tune

        folder = study.folder.resolve()
        waiting = {pack.id for pack in packs}

        class Tell(tune.Callback):
            def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
                numbers = {each.name: result[each.name] for each in fields(Progress) if each.name in result}
                if len(numbers) == len(fields(Progress)):
                    watch.reported(trial.config["pack"], Progress(**numbers))

            def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                pack = trial.config["pack"]
                waiting.discard(pack)
                if (folder / "packs" / pack / TABLE).exists():
                    watch.finished(pack)
                else:
                    watch.failed(pack, f"the trial ended without results in {folder}; every node must see that folder")

            def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                waiting.discard(trial.config["pack"])
                watch.failed(trial.config["pack"], _reason(trial))

            def __reduce__(self) -> Any:
                # Tune pickles the experiment for its own way of resuming, which we do not use; observers stay here.
                return (tune.Callback, ())

        trainable = tune.with_parameters(
            _trial,
            study=study.plain(),
            packs={pack.id: pack.plain() for pack in packs},
            manifest=plugins.manifest,
            folder=str(folder),
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
                failure_config=tune.FailureConfig(max_failures=study.resources.retries),
                verbose=0,
            ),
        )
        stopped = False
        try:
            tuner.fit()
        except KeyboardInterrupt:
            stopped = True
        if stopped or waiting:  # Tune returns as if all were done when it gets a signal of its own
            del tuner
            gc.collect()  # the trials of a Ray that is not ours end with the last word of them here
            raise KeyboardInterrupt

    def close(self) -> None:
        """Shut Ray down if this runner started it."""
        if self._started:
            import ray

            ray.shutdown()
            self._started = False


def _denied(address: str) -> str:
    """What Ray's own library writes about a token when it connects; empty where that is not the trouble.

    It goes past Python to the standard error, hence another process, whose errors can be read.
    """
    code = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, address], capture_output=True, text=True, timeout=DENIED_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line for line in done.stderr.splitlines() if TOKEN in line.lower()]
    return lines[0].rpartition(": ")[2].strip() if lines else ""


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


def _restore_signals() -> None:
    """Python's answer to SIGTERM again: Ray's takes it for a crash, prints a stack and aborts within three seconds."""
    handler = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is threading.main_thread() and handler is not None:
        signal.signal(signal.SIGTERM, handler)


def _reason(trial: Any) -> str:
    """Why a trial of Tune's failed."""
    try:
        return _last_line(Path(trial.error_file).read_text(encoding="utf-8", errors="replace"))
    except (OSError, TypeError):  # no path where it failed before it had a folder
        return "the trial ended with an error; see the logs under the study's folder ray/tune"


def _last_line(error: object) -> str:
    """The cause in one line: Ray wraps it in the worker's traceback."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def runner_of(runner: str | Runner, address: str | None) -> Runner:
    """The runner of a name, ``ray`` or ``serial``; a runner is given back as it is.

    Raises:
        ConfigError: for another name, or an address with ``serial``.
    """
    if not isinstance(runner, str):
        return runner
    if runner == "ray":
        return RayRunner(address)
    if runner == "serial":
        if address is not None:
            raise ConfigError(f"address {address!r} with runner 'serial', which runs here; leave it out, or take runner 'ray'")
        return SerialRunner()
    raise ConfigError(f"runner {runner!r} is not known; known: ray, serial.{did_you_mean(runner, ('ray', 'serial'))}")
