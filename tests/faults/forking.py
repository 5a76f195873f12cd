"""nasplug's commands in processes forked from one that has imported what they need: a run begins at once, and may be disturbed.

`Forks` starts this file as a program of its own, which has no threads and no Ray, whatever the suite did before; it takes and
gives one line of JSON per question.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Forks", "forks"]

TOUCHES = {"open", "os.chmod", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "os.truncate"}
"""Audit events of Python that are told of a file or a folder: between any two of them a process may end."""


class Forks:
    """Starts commands, each a process with its own group, and says how they ended."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self._program = program

    def _ask(self, **question: Any) -> Any:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(question) + "\n")
        self._program.stdin.flush()
        return json.loads(self._program.stdout.readline())

    def start(self, *command: object, log: Path, store: Path | None = None, touch: int = 0, number: int = 0) -> int:
        """A command of nasplug.

        Args:
            command: its words.
            log: where its output goes, behind what is there.
            store: of files that are counted.
            touch: before it touches files for the so-many-th time, it gets the signal ``number``; 0: it never does.

        Returns:
            Its process. When it ends by itself, its log ends with the count of touches.
        """
        words = [str(word) for word in command]
        return int(self._ask(command=words, log=str(log), store=str(store or "/none"), touch=touch, number=number))

    def ended(self, pid: int, seconds: float) -> int | None:
        """The status with which it ended, negative for a signal; None when it has not after so many seconds."""
        until = time.monotonic() + seconds
        while (status := self._ask(ended=pid)) is None and time.monotonic() < until:
            time.sleep(0.01)
        return status if status is None else int(status)


@contextmanager
def forks(paths: Sequence[Path], environment: Mapping[str, str], *imports: str) -> Iterator[Forks]:
    """The program, with folders on its path, until the block ends. ``imports``: modules that commands will need."""
    path = os.pathsep.join([*map(str, paths), *sys.path])
    with subprocess.Popen(
        [sys.executable, __file__, *imports],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
    ) as program:
        try:
            yield Forks(program)
        finally:
            program.kill()


def _serve(imports: Sequence[str]) -> None:
    import importlib

    from nasplug.plugins import load_plugins

    for name in ("nasplug.study", "nasplug.cli", "nasplug.linear", *imports):
        importlib.import_module(name)
    load_plugins()  # once for all
    for line in sys.stdin:
        asked = json.loads(line)
        answer: int | None
        if "ended" in asked:
            pid, status = os.waitpid(asked["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                _run(**asked)
        print(json.dumps(answer), flush=True)


def _run(command: Sequence[str], log: str, store: str, touch: int, number: int) -> None:
    """In the new process; does not return."""
    status = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
        for there, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY | os.O_CREAT | os.O_APPEND)):
            handle = os.open(log if there else os.devnull, flags, 0o644)
            os.dup2(handle, there)
        os.dup2(1, 2)
        touches = 0

        def seen(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal touches
            if event in TOUCHES and arguments and str(arguments[0]).startswith(store):
                touches += 1
                if touches == touch:
                    os.kill(os.getpid(), number)

        sys.addaudithook(seen)
        from nasplug.cli import main
        from nasplug.study import Study

        assert Study.run.__kwdefaults__ is not None
        Study.run.__kwdefaults__["report"] = False  # it takes seconds, and comes when all results are there
        try:
            main(list(command))
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        print(f"\ntouches {touches}", flush=True)
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1:])
