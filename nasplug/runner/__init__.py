"""Who runs packs: one after another in this process, or each as a Ray Tune trial. The only package that imports ray.

Both runners do the same work (`nasplug.packs.run_pack`), leave the same files, and tell the same observers.
"""

from __future__ import annotations

from dataclasses import replace

from nasplug.errors import ConfigError, did_you_mean
from nasplug.runner.jobs import Job, end, follow, listed, submit
from nasplug.runner.joining import at_jobs
from nasplug.runner.parcel import Parcel, check_store, packed, unpacked
from nasplug.runner.serial import Runner, SerialRunner, Watch
from nasplug.runner.trials import RayRunner

__all__ = [
    "Job",
    "Parcel",
    "RayRunner",
    "Runner",
    "SerialRunner",
    "Watch",
    "at_jobs",
    "check_store",
    "end",
    "follow",
    "listed",
    "packed",
    "runner_of",
    "submit",
    "unpacked",
]


def runner_of(runner: str | Runner, address: str | None) -> Runner:
    """The runner of a name, ``ray`` or ``serial``; of a `RayRunner` one like it, as what it holds is one study's.

    Raises:
        ConfigError: for another name, or an address with ``serial``.
    """
    if isinstance(runner, RayRunner):
        return replace(runner)
    if not isinstance(runner, str):
        return runner
    if runner == "ray":
        return RayRunner(address)
    if runner == "serial":
        if address is not None:
            raise ConfigError(f"address {address!r} with runner 'serial', which runs here; leave it out, or take runner 'ray'")
        return SerialRunner()
    raise ConfigError(f"runner {runner!r} is not known; known: ray, serial.{did_you_mean(runner, ('ray', 'serial'))}")
