"""Studies that run as jobs of a Ray cluster: sent, followed, listed and stopped from here."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasplug.console import console, say, visible
from nasplug.errors import ConfigError, NasplugError, scrub
from nasplug.places import in_bucket

if TYPE_CHECKING:
    from nasplug.runner import Job
    from nasplug.study import Study

__all__ = ["print_jobs", "send", "stop_job"]

NONE_THERE = ("No module named 'nasplug", "No module named nasplug", "No such command 'arrive'")
NO_PYTHON = 127  # what a shell says of a command that it does not find


def send(study: Study, address: str, *, runner: str, quiet: bool, as_json: bool, accept_changes: bool) -> None:
    """Send a study to a cluster as a job, and follow it to its end; this process ends with its status.

    Raises:
        ConfigError: for what cannot be run, or not as a job.
        NasplugError: where the cluster does not answer, or has no nasplug.
    """
    from nasplug.runner import check_store, follow, packed, submit

    if runner != "ray":
        raise ConfigError(f"--runner {runner} with the job address {address}; leave it out: a job's packs are run by Ray")
    if as_json:
        raise ConfigError(
            f"--json with the job address {address}, whose log is text; leave it out, and read the study's folder"
        )
    check_store(study.config)
    study.plan()
    plain = study.config.plain()
    with tempfile.TemporaryDirectory(prefix="nasplug-") as own:
        parcel = packed(study.config, study.plugins, Path(own))
        flags = [flag for flag, given in (("--accept-changes", accept_changes), ("--quiet", quiet)) if given]
        job, new = submit(study.config, parcel, address, " ".join(flags))
    if not quiet:
        say(f"Sent as the job {job.id}{_with(parcel.files)}." if new else f"It runs already, as the job {job.id}.", error=True)
        if scrub(plain) != plain:
            say("The study's config holds a secret; whoever may use the cluster can read it with the job's files.", error=True)
    last: list[str] = []

    def tell(line: str) -> None:
        last[:] = [*last[-20:], line]
        say(visible(line))

    try:
        job = follow(job, address, tell)
    except KeyboardInterrupt:
        say(
            f"The job {job.id} goes on. The same command follows it again; to stop it: "
            f"nasplug stop {job.id} --address {address}",
            error=True,
        )
        sys.exit(130)
    if job.state == "SUCCEEDED":
        if not quiet:
            where = f"on the cluster{f', on the node {job.node}' if job.node else ''}"
            here = in_bucket(job.folder)
            say(f"To see it: nasplug front {job.folder}" if here else f"{job.folder} is {where}.", error=True)
        return
    if job.status == NO_PYTHON or any(words in line for line in last for words in NONE_THERE):
        need = ", ".join(f"{each['distribution']} {each['version']}" for each in _distributions(study.plugins.manifest))
        raise NasplugError(
            f"the Python of the cluster's head node has no nasplug, or another one; needed on every node: {need}"
        )
    if job.state == "STOPPED":
        raise NasplugError(f"the job {job.id} was stopped; the same command goes on with what it has finished")
    if job.status is None:
        raise NasplugError(f"the job {job.id} failed: {job.why or 'Ray does not say why'}")
    sys.exit(job.status)  # what was wrong stands in its log


def _with(files: Mapping[str, int]) -> str:
    """What travels, in words."""
    names = list(files) if len(files) < 4 else [*list(files)[:3], f"{len(files) - 3} more"]
    return f" with {', '.join(names)} ({sum(files.values()):,} bytes)" if files else ""


def _distributions(manifest: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({each["distribution"]: each for each in manifest}.values())


def stop_job(name: str, address: str, seconds: float) -> None:
    """Stop a study's job, and say so."""
    from nasplug.runner import end

    job = end(name, address, seconds)
    say(f"Stopped: the job {job.id}. Finished packs are kept; run the same nasplug run command again to resume.")


def print_jobs(found: Sequence[Job]) -> None:
    """One line per job."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for heading in ("job", "study", "state", "node", "folder on the cluster"):
        table.add_column(heading)
    for job in found:
        table.add_row(*(Text(visible(text)) for text in (job.id, job.study, job.state, job.node or "-", job.folder)))
    console().print(table)
