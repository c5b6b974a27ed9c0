"""A real PostgreSQL server in a temporary folder, for the tests that need one."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psycopg

# PostgreSQL refuses to run as root; this is the user that its Debian package makes.
USER = "postgres"
AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
READY_SECONDS = 30


class PostgresqlServer:
    """One server on a Unix socket of its own: no port to clash with, and it dies with the tests."""

    def __init__(self, *, durable: bool = False) -> None:
        self._removable = tempfile.TemporaryDirectory(prefix="svi-postgresql-")
        self.folder = Path(self._removable.name)
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER, USER)
        self.data = self.folder / "data"
        # What makes a server safe against power cuts only makes tests slow.
        self._fsync = "on" if durable else "off"
        self._run("initdb", "--auth=trust", f"--username={USER}", "--no-sync", "--locale=C.UTF-8")
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        until = time.monotonic() + READY_SECONDS
        self._launch()
        while not self._answers():
            if time.monotonic() > until:
                raise RuntimeError("PostgreSQL did not start")
            if self._process.poll() is not None:  # what a kill left of the last one is still there
                self._launch()
            time.sleep(0.05)

    def _launch(self) -> None:
        self._process = subprocess.Popen(
            [
                *_unprivileged(),
                "--pdeathsig=INT",  # should the tests be killed
                _program("postgres"),
                f"-D{self.data}",
                f"-cunix_socket_directories={self.folder}",
                "-clisten_addresses=",
                f"-cfsync={self._fsync}",
                "-cmax_connections=200",
            ],
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """Cut every connection; it may have ended with the thread that started it (pdeathsig)."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def kill(self) -> None:
        """Kill -9 the process that all others of the server are children of; they end with it."""
        self._process.kill()
        self._process.wait()

    def kill_a_backend(self) -> None:
        """Kill -9 one that serves a connection: the server cuts all others, and recovers."""
        any_of_them = (
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " ORDER BY random() LIMIT 1"
        )
        with suppress(psycopg.OperationalError), self._connect("postgres") as witness:
            [[pid]] = witness.execute(any_of_them).fetchall()
            os.kill(pid, signal.SIGKILL)
            while True:  # until it is cut off as well
                witness.execute("SELECT 1")
        while not self._answers():
            time.sleep(0.01)

    def remove(self) -> None:
        """Stop it and delete all it wrote."""
        self.stop()
        self._removable.cleanup()

    def create(self) -> str:
        """Make an empty database; give its name."""
        name = f"svi_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        return name

    def drop(self, name: str) -> None:
        """Delete a database, whoever is still connected."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement of the server's owner, outside any transaction."""
        with self._connect(database) as connection:
            connection.execute(statement.encode())

    def disconnect(self, name: str) -> None:
        """Cut every connection to a database."""
        with self._connect("postgres") as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )

    def url(self, name: str) -> str:
        """Give the address of a database, for SQLAlchemy."""
        return f"postgresql+psycopg://{USER}@/{name}?host={self.folder}"

    def _answers(self) -> bool:
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(host=str(self.folder), user=USER, dbname=database, autocommit=True)

    def _run(self, program: str, *options: str) -> None:
        subprocess.run(
            [*_unprivileged(), _program(program), f"-D{self.data}", *options],
            check=True,
            stdout=subprocess.DEVNULL,
        )


def _unprivileged() -> list[str]:
    return AS_USER if os.geteuid() == 0 else ["setpriv"]


def _program(name: str) -> str:
    """Find a program that Debian keeps off the PATH."""
    return str(max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))
