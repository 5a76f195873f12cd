"""Runs a command until it ends, or until who asked for it has ended in any way, SIGKILL too; then all that it started ends.

A program of its own, with a pipe as its input: the other end closes when its holder is gone. It is the first of a group of
processes, which it ends as a whole. It imports nothing but Python's own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

PATIENCE = 5.0  # seconds that a command has to end by itself


def main() -> int:
    """The command's exit status."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # the group's: the command gets it too, and this waits for it
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.killpg(0, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            command.wait(PATIENCE)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    return command.wait()


if __name__ == "__main__":
    sys.exit(main())
