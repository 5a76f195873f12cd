"""Which Ray is used: one of this machine, or a running cluster; and why it does not let us in."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from nasplug.errors import ConfigError, NasplugError
from nasplug.machine import cpus_here

__all__ = [
    "at_jobs",
    "check_token",
    "greet",
    "in_ready_workers",
    "join",
    "knock",
    "last_line",
    "leave",
    "refused",
    "unanswered",
]

KNOCK_SECONDS = 5.0
DENIED_SECONDS = 30.0
_JOINED = threading.Event()  # a study of this process has started Ray, or joined a cluster: a process has one Ray
TOKEN = "authentication token"
REMEDY = "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH, a file) to the cluster's own"
ADDRESSES = "Give the address of a running cluster (auto, host:port), none to start Ray here, or take the runner serial"


def at_jobs(address: str | None) -> bool:
    """Whether an address is that of a job server, and not of a cluster that is joined."""
    return address is not None and address.startswith(("http://", "https://"))


@cache
def _own_token() -> str:
    """For all local Rays of this process: Ray's library reads a token once."""
    return secrets.token_hex(16)


def leave(*, started: bool) -> None:
    """Let go of Ray, which ends if it was ``started`` here; a token that was made here leaves the environment."""
    import ray

    if started:
        _JOINED.clear()
        if ray.is_initialized():
            _end_monitor()
            with _uncollected():
                ray.shutdown()
    if not _JOINED.is_set():
        _forget()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's collector: Ray ends the process when a thread, whichever it is, lets go of one of its objects just then.

    Tune leaves such objects in cycles, which any thread that makes many objects (one that imports, say) may collect.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _end_monitor() -> None:
    """Kill Ray's autoscaler, which has nothing to scale here: it does not end when told, and Ray waits a second for it.

    What is not where it was in another version of Ray only costs that second again.
    """
    with suppress(ImportError, AttributeError):
        importlib.import_module("ray._private.worker")._global_node.kill_monitor(check_alive=False)  # none of a joined cluster


@contextmanager
def in_ready_workers() -> Iterator[None]:
    """Let Tune's trials take the workers that Ray has started already.

    Tune sets a variable of PyTorch Lightning's for its trials, and Ray starts other workers for whatever has variables.
    """
    try:
        variables: dict[str, str] = importlib.import_module("ray.tune.execution.class_cache").DEFAULT_ENV_VARS
    except (ImportError, AttributeError):  # another version of Ray: its workers start later, as they did
        yield
        return
    kept = dict(variables)
    variables.clear()
    try:
        yield
    finally:
        variables.update(kept)


def _forget() -> None:
    if os.environ.get("RAY_AUTH_TOKEN") == _own_token():
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            os.environ.pop(name, None)


def join(address: str | None, cpus: int | None) -> bool:
    """Start Ray on this machine, or connect to the cluster at an address; False for one that somebody else has started here.

    Raises:
        NasplugError: where nobody answers, the cluster wants another token, or another study of this process has started Ray.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Tune would take Ctrl-C for an end, also after its own
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_TUNE_DISABLE_STORAGE_WARNING", "1")
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        if _JOINED.is_set():
            raise NasplugError(
                "another study of this process has started Ray, which ends with it; run one after the other, in processes of "
                "their own, with runner serial, or call ray.init() before both"
            )
        return False
    if address is None and not any(name.startswith("RAY_AUTH") for name in os.environ):
        # A local Ray wants a token; one in the environment leaves the user's home folder as it was.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = _own_token()
    if address is not None:
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # the default is to try for a quarter of an hour
    import ray  # reads the variables above when it is first imported

    local: dict[str, Any] = {"include_dashboard": False, "num_cpus": cpus or cpus_here()} if address is None else {}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
    except Exception as error:  # Ray's own, and where one of its processes ends while it starts no other than this
        _forget()
        where = "on this machine" if address is None else f"at address {address!r}"
        told = last_line(error)
        denied = told if TOKEN in str(error).lower() or address is None else _denied(address)
        if TOKEN in f"{error} {denied}".lower():
            raise NasplugError(refused(f"Ray {where}")) from error
        raise NasplugError(unanswered(f"Ray {where}", told, ADDRESSES)) from error
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a pack's failure is told by us, once
    importlib.import_module("ray.tune")
    _JOINED.set()
    return True


def _source() -> str:
    """Where Ray takes its token from, in its own order; empty where there is none. What it is, nobody is told."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    if os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return "the file of RAY_AUTH_TOKEN_PATH"
    return "~/.ray/auth_token" if (Path.home() / ".ray" / "auth_token").exists() else ""


def _wanted() -> str:
    mode, source = os.environ.get("RAY_AUTH_MODE", "token"), _source()
    if not source:
        return "a token, and none is given"
    return f"another token than that in {source}" if mode == "token" else f"a token, and RAY_AUTH_MODE is {mode!r}"


def refused(who: str) -> str:
    """What is said where somebody wants another token."""
    return f"{who} wants {_wanted()}. {REMEDY}"


def check_token() -> None:
    """Refuse to join a cluster with a token that is asked for and is not there.

    Raises:
        ConfigError: for ``RAY_AUTH_MODE=token`` without a token, or a file of one that cannot be read or is empty.
    """
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if path and not os.environ.get("RAY_AUTH_TOKEN"):
        try:
            empty = not Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigError(f"RAY_AUTH_TOKEN_PATH: {path} cannot be read ({getattr(error, 'strerror', 'no text')})") from None
        if empty:
            raise ConfigError(f"RAY_AUTH_TOKEN_PATH: {path} is empty; needed: the cluster's token")
    if os.environ.get("RAY_AUTH_MODE") == "token" and not _source():
        raise ConfigError(f"RAY_AUTH_MODE is 'token', and no token is given. {REMEDY}")


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


def knock(address: str) -> None:
    """Refuse an address where nobody listens; ``auto`` is known to Ray alone.

    Raises:
        ConfigError: for what is no address.
        NasplugError: when nobody answers within seconds.
    """
    if address == "auto":
        return
    if at_jobs(address):
        raise ConfigError(f"address {address!r} takes jobs, and only nasplug run sends some; needed here: auto or host:port")
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise ConfigError(f"address {address!r}; needed: auto or host:port")
    greet(host, int(port), f"Ray at address {address!r}", ADDRESSES)


def greet(host: str, port: int, who: str, remedy: str) -> None:
    """Refuse a port where nobody listens.

    Raises:
        NasplugError: when nobody answers within seconds.
    """
    try:
        socket.create_connection((host, port), timeout=KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:  # an OverflowError is a port above 65535
        raise NasplugError(unanswered(who, str(error), remedy)) from None


def unanswered(who: str, why: str, remedy: str) -> str:
    """What is said where somebody does not answer; ``why`` may end with a full stop."""
    return f"{who} does not answer: {why.rstrip('.')}. {remedy}"


def last_line(error: object) -> str:
    """The cause in one line: Ray wraps it in the worker's traceback."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
