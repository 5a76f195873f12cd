"""Nodes of a Ray cluster on this machine, as ``ray start`` makes them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import PATIENCE, descendants, end

__all__ = ["TOKEN", "free_port", "head", "node"]

TOKEN = "0123456789abcdef" * 2
ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def head(**environment: str) -> Iterator[tuple[str, int]]:
    """The address and the process of a Ray head with one CPU that wants `TOKEN`; ``environment``: of its workers."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:  # its sockets want a short path
        more = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}", "--node-ip-address=127.0.0.1"]
        with _started(*more, **environment) as pid:
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                with socket.socket() as knock:
                    if knock.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            yield f"127.0.0.1:{port}", pid


@contextmanager
def node(address: str, **environment: str) -> Iterator[int]:
    """The process of one more node of a cluster, which has one CPU and an IP address of its own."""
    with _started(f"--address={address}", "--node-ip-address=127.0.0.2", **environment) as pid:
        until = time.monotonic() + PATIENCE
        while not descendants(pid, "raylet/raylet") and time.monotonic() < until:
            time.sleep(0.2)
        yield pid


@contextmanager
def _started(*options: str, **environment: str) -> Iterator[int]:
    command = [str(Path(sys.executable).parent / "ray"), "start", "--num-cpus=1", "--block", *options]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT, **environment}, stdout=quiet, stderr=quiet)
    try:
        yield process.pid
    finally:
        end(process.pid)
        process.wait()
