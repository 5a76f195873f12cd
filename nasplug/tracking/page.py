"""MLflow's page on a local store: a server that ends, with all it started, when the one who asked for it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType

from nasplug import files
from nasplug.errors import ConfigError
from nasplug.tracking.ledger import STATE_FILE
from nasplug.tracking.places import SAFE, talking
from nasplug.tracking.schema import alone

__all__ = ["attend", "page_of", "serve"]

QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
PATIENCE = 5.0  # seconds that the server has to end by itself
STARTING = 120.0  # seconds that it has to answer
ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
GUARD = Path(__file__).with_name("guard.py")


def page_of(folder: Path, host: str, port: int) -> str:
    """The address of a study's run on the page, or that of the page for a store."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    page = f"http://{shown}:{port}"
    try:
        state = files.read_json(folder / STATE_FILE)
        return f"{page}/#/experiments/{state['experiment_id']}/runs/{state['run_id']}"
    except (files.DamageError, OSError, LookupError):
        return page


def serve(uri: str, host: str, port: int, ready: Callable[[], object] = lambda: None) -> int:
    """Run ``mlflow server`` on a database until it ends, or until this process ends; its exit status.

    Args:
        uri: of the database.
        host: where it listens.
        port: where it listens.
        ready: called once when it answers.

    Raises:
        ConfigError: where it cannot listen there.
        NasplugError: for a database that this MLflow cannot use.
    """
    _listen(host, port)
    with talking(uri, retries=0, seconds=5, told=""), alone(uri):
        pass
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", host, "--port", str(port)]
    threading.Thread(target=_wait, args=(page_of(Path(os.devnull), host, port), ready), daemon=True).start()
    return attend(command, {**QUIET, **SAFE})


def _listen(host: str, port: int) -> None:
    """Refuse a place that is taken, or is none of this machine."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind)) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(place)
    except (OSError, OverflowError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"--host {host} --port {port}: {words}; give another port (--port {port + 1}, say)") from None


def _wait(page: str, ready: Callable[[], object]) -> None:
    end = time.monotonic() + STARTING
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(f"{page}/health", timeout=5):
            ready()
            return
        time.sleep(0.3)


def attend(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command until it ends, or this process gets SIGTERM, SIGINT or SIGHUP, or is killed; its exit status.

    The command and whatever it starts are a process group of their own, which ends as a whole. A small process between it and
    this one sees to that where this one cannot.
    """
    guarded = [sys.executable, "-I", str(GUARD), *command]
    server: subprocess.Popen[bytes] | None = None

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in ENDINGS}
    try:
        server = subprocess.Popen(guarded, env={**environment, **os.environ}, stdin=subprocess.PIPE, start_new_session=True)
        return server.wait()
    finally:
        for number in before:  # a second one would cut the ending short
            signal.signal(number, signal.SIG_IGN)
        if server is not None:  # one that was cut short while it began ends by its guard
            _end(server)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(PATIENCE)
        except ProcessLookupError:  # the whole group is gone
            return
        except subprocess.TimeoutExpired:
            continue
