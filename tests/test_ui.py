"""What is served for a page ends with who asked for it; where it is found, and what is refused."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from nasplug.errors import ConfigError
from nasplug.files import write_json
from nasplug.tracking import page_of, serve

from .processes import PATIENCE, descendants, outliving

PARENT = """
import sys
from nasplug.tracking.page import attend
sys.exit(attend([sys.executable, "-c", sys.argv[1]], {}))
"""
SERVER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("up", flush=True)
time.sleep(600)
"""
ENDS = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
sys.exit(3)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_server_and_its_helpers_end_with_who_asked(number: signal.Signals) -> None:
    """Also when that process is killed and can see to nothing."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, SERVER], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "up\n"
    started = descendants(parent.pid)
    assert len(started) == 3  # the guard, the server, its helper
    parent.send_signal(number)
    assert parent.wait(PATIENCE) == (128 + number if number != signal.SIGKILL else -number)
    assert not outliving(started)


def test_a_server_that_ends_by_itself_leaves_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT, ENDS], stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 3
    assert not outliving([int(done.stdout)])


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--port {port}: Address already in use; give another port"):
            serve(f"sqlite:///{tmp_path}/mlflow.db", "127.0.0.1", port)
    assert not list(tmp_path.iterdir())


def test_the_address_of_a_study(tmp_path: Path) -> None:
    assert page_of(tmp_path, "0.0.0.0", 5000) == "http://127.0.0.1:5000"
    write_json(tmp_path / "mlflow.json", {"uri": "sqlite:///x", "experiment_id": "4", "run_id": "abc"})
    assert page_of(tmp_path, "127.0.0.1", 5001) == "http://127.0.0.1:5001/#/experiments/4/runs/abc"
