"""MLflow's tables in PostgreSQL: the database crashes in the middle of a study, and two studies begin at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from nasplug import hookimpl
from nasplug.study import Study
from nasplug.tracking import tracker, untold

from .faults.clusters import free_port
from .processes import PATIENCE
from .test_sync import Server, client_of, raw, whole

OWNER = "postgres"  # PostgreSQL does not run as root


class Database:
    """A PostgreSQL cluster of its own, in a folder of its owner."""

    def __init__(self, programs: Path, home: Path, port: int) -> None:
        self._programs, self._home, self._port = programs, home, port
        self._as_owner = ["runuser", "-u", OWNER, "--"] if os.geteuid() == 0 else []
        self._call("initdb", "-A", "trust", "-U", "nasplug", "--no-sync", "-E", "UTF8", "--locale=C")

    def _call(self, program: str, *options: str) -> None:
        command = [*self._as_owner, str(self._programs / program), "-D", str(self._home / "data"), *options]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self._home, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = f"-p {self._port} -k {self._home} -c listen_addresses=127.0.0.1 -c fsync=off"
        # its output goes to a file: a pipe would be open for as long as it runs
        self._call("pg_ctl", "start", "-w", "-t", f"{PATIENCE:.0f}", "-l", str(self._home / "log"), "-o", options)

    def crash(self) -> None:
        """Without a word to those who are connected; what was committed is found again."""
        self._call("pg_ctl", "stop", "-m", "immediate")

    def uri(self, name: str) -> str:
        """Of a new, empty database."""
        create = [str(self._programs / "createdb"), "-h", "127.0.0.1", "-p", str(self._port), "-U", "nasplug", name]
        subprocess.run(create, check=True, timeout=PATIENCE, cwd="/")
        return f"postgresql://nasplug@127.0.0.1:{self._port}/{name}"


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))
    if programs is None or (os.geteuid() == 0 and shutil.which("runuser") is None):
        pytest.skip("needs PostgreSQL (Debian: postgresql) and, for root, runuser; .ci/run installs it")
    if find_spec("psycopg") is None:
        pytest.skip("needs psycopg, which the extra `dev` has")
    home = Path(tempfile.mkdtemp(prefix="pg"))  # of its owner, and short: a socket lies in it
    if os.geteuid() == 0:
        shutil.chown(home, OWNER)
    try:
        found = Database(programs, home, free_port())
        found.start()
        yield found
        found.crash()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.slow
def test_a_database_that_crashes_meanwhile_is_told_the_rest_once(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's server stays, and finds its database again."""
    server = Server(tmp_path, database.uri("crashes"))
    server.start()
    try:

        class Crashing:
            down = False

            @hookimpl
            def pack_finished(self) -> None:
                if not self.down:
                    self.down = True
                    database.crash()

        place = {"uri": f"http://127.0.0.1:{server.port}", "register": "served"}
        with monkeypatch.context() as patched:
            patched.setattr(tracker, "PAUSES", ())
            patched.setattr(tracker, "ANSWER", 3)
            done = Study.from_dict(raw(tmp_path, mlflow=place)).run("serial", observers=[Crashing()])
        assert set(done.frame["status"]) == {"finished"}
        assert done.untracked
        assert untold(done.folder)
        database.start()
        monkeypatch.setattr(tracker, "ANSWER", int(PATIENCE))  # it connects anew
        assert done.sync()
        whole(done, f"http://127.0.0.1:{server.port}")
        assert not done.sync()
    finally:
        server.kill()


@pytest.mark.slow
def test_two_studies_begin_at_once_on_an_empty_database(tmp_path: Path, database: Database) -> None:
    """Without a server between; each in a process of its own."""
    uri = database.uri("fresh")
    begun = []
    for name in ("one", "other"):
        config = tmp_path / f"{name}.yaml"
        config.write_text(json.dumps(raw(tmp_path, study=name, mlflow={"uri": uri, "children": 0})))  # JSON is YAML
        command = [sys.executable, "-m", "nasplug", "run", str(config), "--runner", "serial", "--quiet"]
        begun.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    told = [one.communicate(timeout=2 * PATIENCE)[1] for one in begun]
    assert [one.returncode for one in begun] == [0, 0], told
    assert not any(untold(tmp_path / name) for name in ("one", "other")), told
    client = client_of(uri)
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert sorted(one.info.run_name for one in runs) == ["one", "other"]
    assert {one.info.status for one in runs} == {"FINISHED"}
