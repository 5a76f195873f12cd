"""Studies as jobs of a Ray cluster that this machine is no part of: sent, followed, listed and stopped over HTTP.

A job is `nasplug run` on the cluster's head node. It goes on when whoever follows it goes away.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from nasplug.config import StudyConfig
from nasplug.errors import ConfigError, NasplugError, scrub
from nasplug.runner.joining import check_token, greet, last_line, refused
from nasplug.runner.parcel import Parcel

__all__ = ["Job", "end", "follow", "listed", "submit"]

ENTRY = "python -m nasplug arrive"
ASK_SECONDS = 60.0  # for one request
LOST_SECONDS = 120.0  # without an answer, until the job is no longer followed
READY_SECONDS = 60.0  # that a head which has just started may take to be ready for jobs
UNREADY = "No available agent"
PAUSE_SECONDS = 1.0
OVER = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})
NAME, FOLDER, DIGEST = "nasplug.study", "nasplug.folder", "nasplug.digest"
NOISY = ("ray._private.runtime_env.packaging", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
RAYS = ("Running entrypoint for job", "Runtime env is setting up")  # lines of Ray's own in a job's log
OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray takes them even where an address was given
HEAD = "Ray's head needs its job server: pip install 'ray[default]' there, then ray start --head --include-dashboard=true"


@dataclass(frozen=True, slots=True)
class Job:
    """A study that was sent to a cluster.

    Attributes:
        id: of the job; `nasplug stop` takes it.
        study, folder: its name, and where its folder is on the cluster.
        state: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        why: what Ray says of a job that has failed.
        node: the address of the node that it ran on; empty before it is known.
        status: the exit status of its command; None before it has one.
        digest: of what was sent.
    """

    id: str
    study: str
    folder: str
    state: str
    why: str = ""
    node: str = ""
    status: int | None = None
    digest: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in OVER

    def plain(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "digest"}


@contextmanager
def _asked(address: str) -> Iterator[Any]:
    """Ray's client of a job server; its errors in plain words.

    Raises:
        ConfigError: for what is no address.
        NasplugError: where nobody answers, or the cluster wants another token.
    """
    parts = urlsplit("")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port = None, 0
    if not host or parts.username or parts.password or parts.query:
        raise ConfigError(
            f"address {scrub(address)!r}; needed: http://HOST:8265 or https://HOST, without a name or password in it"
        )
    check_token()
    greet(host, port, f"Ray's job server at {address}", HEAD)
    kept = {name: os.environ.pop(name) for name in OVERRIDING if name in os.environ}
    try:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        for name in NOISY:
            logging.getLogger(name).setLevel(logging.ERROR)

        class Client(JobSubmissionClient):
            def _do_request(self, *place: Any, **named: Any) -> Any:
                return super()._do_request(*place, **{"timeout": ASK_SECONDS} | named)  # it would wait for ever

        yield Client(address)
    except AuthenticationError:
        raise NasplugError(refused(f"Ray's job server at {address}")) from None
    except NasplugError:
        raise
    except Exception as error:  # noqa: BLE001 - of Ray, requests and aiohttp; those of requests are an OSError
        remedy = f". {HEAD}" if isinstance(error, OSError) else ""
        raise NasplugError(f"Ray's job server at {address}: {scrub(last_line(error)).rstrip('.')}{remedy}") from None
    finally:
        os.environ.update(kept)


def _job(found: Any) -> Job:
    said = found.metadata or {}
    driver = found.driver_info
    return Job(
        found.submission_id or "",
        said.get(NAME, ""),
        said.get(FOLDER, ""),
        str(getattr(found.status, "value", found.status)),
        last_line(found.message) if found.message and found.status == "FAILED" else "",
        "" if driver is None else driver.node_ip_address,
        found.driver_exit_code,
        said.get(DIGEST, ""),
    )


def listed(address: str) -> list[Job]:
    """The studies that were sent to a cluster, the last one first.

    Raises:
        ConfigError, NasplugError: as `submit`.
    """
    with _asked(address) as client:
        found = sorted(client.list_jobs(), key=lambda each: -(each.start_time or 0))
    return [_job(each) for each in found if NAME in (each.metadata or {})]


def submit(study: StudyConfig, parcel: Parcel, address: str, options: str = "") -> tuple[Job, bool]:
    """Send a study, or find the job that runs it already; whether it was sent now.

    Args:
        study: it decides the job's name.
        parcel: what is sent.
        address: of the job server.
        options: of the command there; it stands in the cluster's logs.

    Raises:
        ConfigError: for a wrong address, or another config of the study that runs there now.
        NasplugError: where nobody answers, the token is refused, or the job server has its own trouble.
    """
    folder = f"{study.store}/{study.study}"
    for job in listed(address):
        if job.folder == folder and not job.over:
            if job.digest != parcel.digest:
                raise ConfigError(
                    f"{folder} is written by the job {job.id} of this cluster, which was sent another config or other data; "
                    f"wait until it ends, or stop it: nasplug stop {job.id} --address {address}"
                )
            return job, False
    job = Job(f"nasplug-{study.study}-{secrets.token_hex(4)}", study.study, folder, "PENDING", digest=parcel.digest)
    until = time.monotonic() + READY_SECONDS
    while True:
        try:
            with _asked(address) as client:
                client.submit_job(
                    entrypoint=f"{ENTRY} {options}".strip(),
                    submission_id=job.id,
                    runtime_env={"working_dir": str(parcel.folder)},
                    metadata={NAME: study.study, FOLDER: folder, DIGEST: parcel.digest},
                )
        except NasplugError as error:  # a head that has just started has no agent yet
            if UNREADY not in str(error) or time.monotonic() > until:
                raise
            time.sleep(PAUSE_SECONDS)
        else:
            return job, True


def follow(job: Job, address: str, say: Callable[[str], None]) -> Job:
    """Tell each line of a job's log, until it has ended; the job as it is then.

    Raises:
        NasplugError: where the cluster no longer answers.
    """
    log, heard = _Log(say), time.monotonic()
    while True:
        try:
            with _asked(address) as client:
                asyncio.run(_tail(client, job.id, log))
                now = _job(client.get_job_info(job.id))
            heard = time.monotonic()
        except NasplugError as error:
            if time.monotonic() - heard > LOST_SECONDS:
                raise NasplugError(f"{error}. The job {job.id} may go on; the same command follows it again") from None
        else:
            if now.over:
                log.end()
                return now
        time.sleep(PAUSE_SECONDS)


async def _tail(client: Any, name: str, log: _Log) -> None:
    log.again()
    async for part in client.tail_job_logs(name):
        log.take(part)


class _Log:
    """Whole lines of a log that may be read from its beginning again, each told once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told = 0  # characters of whole lines
        self._seen = 0  # of this reading
        self._rest = ""

    def again(self) -> None:
        self._seen, self._rest = 0, ""

    def take(self, part: str) -> None:
        self._rest += part
        while "\n" in self._rest:
            line, _, self._rest = self._rest.partition("\n")
            self._seen += len(line) + 1
            if self._seen > self._told:
                self._told = self._seen
                if not any(words in line for words in RAYS):
                    self._say(line)

    def end(self) -> None:
        if self._rest:
            self._say(self._rest)


def end(name: str, address: str, seconds: float) -> Job:
    """Ask a job to stop, as Ctrl-C does, and wait until it has.

    Raises:
        ConfigError: for a name that is no study's job there, or a wrong address.
        NasplugError: for one that does not end in time; else as `submit`.
    """
    found = {job.id: job for job in listed(address)}
    if name not in found:
        there = f"those there: {', '.join(found)}" if found else "there is none"
        raise ConfigError(f"{name!r} is no study's job at {address}; {there}")
    if found[name].over:
        raise ConfigError(f"the job {name} has ended already ({found[name].state}); nothing to stop")
    until = time.monotonic() + seconds
    with _asked(address) as client:
        client.stop_job(name)
        while not (job := _job(client.get_job_info(name))).over:
            if time.monotonic() > until:
                raise NasplugError(
                    f"the job {name} was asked to stop and has not ended within {seconds:g} s; it may still do so"
                )
            time.sleep(PAUSE_SECONDS / 4)
    return job
