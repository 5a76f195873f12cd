"""MLflow's page on a local store: a server that ends, with all it started, when the one who asked for it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

from nasplug.tracking.places import SAFE, talking
from nasplug.tracking.schema import alone

__all__ = ["serve"]

QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
PATIENCE = 5.0  # seconds that the server has to end by itself


def serve(uri: str, host: str, port: int) -> int:
    """Run ``mlflow server`` on a database until it ends, or until this process gets SIGINT or SIGTERM; its exit status.

    The server and its helpers are a process group of their own, which ends as a whole.

    Raises:
        NasplugError: for a database that this MLflow cannot use.
    """
    with talking(uri, retries=0, seconds=5, told=""), alone(uri):
        pass
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", host, "--port", str(port)]
    server = subprocess.Popen(command, env={**QUIET, **SAFE, **os.environ}, start_new_session=True)

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return server.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(PATIENCE)
        except ProcessLookupError:  # the whole group is gone
            return
        except subprocess.TimeoutExpired:
            continue
