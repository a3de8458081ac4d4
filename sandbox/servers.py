"""Real servers on a bare machine: Valkey and PostgreSQL, from wheels, as children that never outlive us.

``EmbeddedRedis`` and ``EmbeddedPostgres`` share one life: ``start``, ``stop``, ``kill`` (SIGKILL, as a power cut), and
``restart`` on the same port and data. Each keeps its files in a folder of its own in ``data_dir``. A ``data_dir``
serves one process at a time: hold its lock (``sandbox.stack.hold_data_dir``) where two could meet.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox import binaries
from sandbox.failure import ServerError, last_line
from sandbox.files import write_private
from sandbox.processes import Account, Child, end_orphan, free_port, run_as

__all__ = ["EmbeddedPostgres", "EmbeddedRedis", "ServerError"]

# A server that was killed replays its log before it answers; a large one takes its time.
START_SECONDS_MAX = 60.0
# A free port can be taken between the asking and the listening.
PORT_TRIES_MAX = 5
POLL_SECONDS = 0.02
CONNECT_SECONDS = 2


class _Server(ABC):
    """What both servers share. ``port=None`` takes a free one, and keeps it for every restart of this object."""

    name: str
    folder: str
    death_signal: signal.Signals

    def __init__(self, data_dir: Path, port: int | None = None, *, options: Mapping[str, str] | None = None) -> None:
        self.home = Path(data_dir).absolute() / self.folder
        self.log = self.home / "server.log"
        self._options = dict(options or {})
        self._record = self.home / "server.pid"
        self._wanted_port = port
        self._port = port or 0
        self._child: Child | None = None
        self._password = ""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it listens, with its password: not for logs."""

    @abstractmethod
    def _launch(self) -> Child: ...

    @abstractmethod
    def _answers(self) -> bool:
        """Tries once, by really connecting."""

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _end(self, child: Child) -> None: ...

    @property
    def port(self) -> int:
        if not self._port:
            raise ServerError(f"{self.name} was not started")
        return self._port

    @property
    def pid(self) -> int:
        if self._child is None:
            raise ServerError(f"{self.name} is not running")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def start(self) -> Self:
        """Returns once it answers. Raises ``ServerError`` with its log's last line. Running already: nothing."""
        if self.running:
            return self
        self.home.mkdir(parents=True, exist_ok=True)
        end_orphan(self._record)
        self._password = self._kept_password()
        self._prepare()
        for last_try in [False] * (PORT_TRIES_MAX - 1) + [True]:
            self._port = self._port or free_port()
            start_of_log = self.log.stat().st_size if self.log.exists() else 0
            self._child = self._launch()
            if self._wait():
                return self
            written = self.log.read_bytes()[start_of_log:]
            if last_try or self._wanted_port or b"ddress already in use" not in written:
                break
            self._port = 0
        raise ServerError(f"{self.name} did not start: {last_line(self.log)} (log: {self.log})")

    def _wait(self) -> bool:
        assert self._child is not None
        end = time.monotonic() + START_SECONDS_MAX
        while self._child.running and time.monotonic() < end:
            if self._answers():
                return True
            time.sleep(POLL_SECONDS)
        self._child.kill()
        self._child = None
        return False

    def stop(self) -> None:
        """Ends it cleanly; what it had acknowledged is on disk. Not running: nothing."""
        child, self._child = self._child, None
        if child is not None:
            self._end(child)

    def kill(self) -> None:
        """SIGKILL, to its own children too."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def restart(self) -> Self:
        """Ends it if it runs, and starts it again on the same port and data."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _kept_password(self) -> str:
        """Made once for this data: other users of the machine can reach the port."""
        path = self.home / "password"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24) + "\n")
        return path.read_text().strip()


class EmbeddedRedis(_Server):
    """Valkey, which speaks Redis: every acknowledged write is on disk, and memory that runs out refuses, never evicts.

    ``options`` overrides lines of its configuration, such as ``{"maxmemory": "64mb"}``.
    """

    name = "Valkey"
    folder = "valkey"
    death_signal = signal.SIGKILL

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A client that tries once."""
        return redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), socket_timeout=CONNECT_SECONDS)

    def _prepare(self) -> None:
        pass

    def _launch(self) -> Child:
        data = self.home / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "requirepass": self._password,
            "dir": f'"{data}"',
            "appendonly": "yes",
            "appendfsync": "always",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "maxclients": "10000",
            "tcp-backlog": "1024",
            "daemonize": "no",
            "logfile": '""',
        } | self._options
        config = self.home / "valkey.conf"
        write_private(config, "".join(f"{name} {value}\n" for name, value in settings.items()))
        return Child(
            [binaries.valkey_server(), config],
            log=self.log,
            record=self._record,
            death_signal=self.death_signal,
        )

    def _answers(self) -> bool:
        try:
            with contextlib.closing(self.client()) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _end(self, child: Child) -> None:
        child.stop((signal.SIGTERM, 10))


class EmbeddedPostgres(_Server):
    """PostgreSQL 18 with one database, ``flashsale``, whose owner may make others.

    Commits are on disk before they are acknowledged. ``options`` overrides its settings, such as ``{"fsync": "off"}``.
    As root it runs as an unprivileged user, for PostgreSQL refuses to be root.
    """

    name = "PostgreSQL"
    folder = "postgres"
    # Immediate shutdown: nothing of it is left a moment after we are gone; its log repairs the rest.
    death_signal = signal.SIGQUIT
    user = "flashsale"
    major = 18

    def __init__(self, data_dir: Path, port: int | None = None, *, options: Mapping[str, str] | None = None) -> None:
        super().__init__(data_dir, port, options=options)
        self._account = Account.unprivileged()
        self._data = self.home / "data"

    @property
    def url(self) -> str:
        return self.url_of(self.user)

    def url_of(self, database: str) -> str:
        """The URL of another database of this server."""
        return f"postgresql://{self.user}:{self._password}@127.0.0.1:{self.port}/{database}"

    def _prepare(self) -> None:
        self._bin = binaries.postgres_folder(self._account)
        if not (self._data / "PG_VERSION").exists():
            self._initdb()
        made_by = (self._data / "PG_VERSION").read_text().strip()
        if made_by != str(self.major):
            raise ServerError(f"{self._data} is PostgreSQL {made_by}'s, not {self.major}'s; choose another data dir")
        self._drop_stale_lock()

    def _initdb(self) -> None:
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password_file = fresh.parent / "initdb.password"
        write_private(password_file, self._password)
        if self._account:
            for path in (fresh, password_file):
                os.chown(path, self._account.uid, self._account.gid)
        with self._reachable(fresh) as (data, fds), password_file.open() as password:
            done = subprocess.run(
                [
                    str(self._bin / "initdb"),
                    f"--pgdata={data}",
                    f"--username={self.user}",
                    "--pwfile=/dev/stdin",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--locale=C",
                ],
                stdin=password,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd="/",
                env=_environment(),
                pass_fds=fds,
                check=False,
                **run_as(self._account),
            )
        password_file.unlink()
        if done.returncode:
            line = next((text for text in reversed(done.stdout.splitlines()) if text.strip()), "no output")
            raise ServerError(f"PostgreSQL's initdb failed in {fresh}: {line}")
        fresh.rename(self._data)

    def _drop_stale_lock(self) -> None:
        """A pid file whose pid is now another program's (pids are few in a container) would refuse the start."""
        lock = self._data / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(lock.read_text().splitlines()[0])
            try:
                process = psutil.Process(pid)
                ours = process.name().startswith("postgres") and Path(process.cwd()) == self._data.resolve()
            except psutil.Error:
                ours = False
            if not ours:
                lock.unlink()

    def _launch(self) -> Child:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "max_wal_size": "1GB",
            "checkpoint_timeout": "15min",
            "synchronous_commit": "on",
            # As fits a solid state disk. A prepared statement keeps its plan, and a sale's first ones are planned while
            # its tables are small: by the default they would go on reading whole tables as these grow.
            "random_page_cost": "1.1",
            # One server, no replicas: less to write for each commit.
            "wal_level": "minimal",
            "max_wal_senders": "0",
            # Parallel plans need /dev/shm, which containers keep tiny, and short queries gain nothing by them.
            "max_parallel_workers_per_gather": "0",
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
        } | self._options
        with self._reachable(self._data) as (path, fds):
            return Child(
                [
                    self._bin / "postgres",
                    "-D",
                    path,
                    *(f"--{name}={value}" for name, value in settings.items()),
                ],
                log=self.log,
                record=self._record,
                death_signal=self.death_signal,
                account=self._account,
                env=_environment(),
                pass_fds=fds,
            )

    @contextlib.contextmanager
    def _reachable(self, folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
        """A path by which the server's user reaches its data, and the open files that the path needs.

        A data folder below, say, root's home is closed to that user. Rather than to open the folders above it, or to
        put the data elsewhere, we hand the folder itself over, open: ``/proc/self/fd/N``.
        """
        if self._account is None or self._account.reaches(folder.parent):
            yield str(folder), ()
            return
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{handle}", (handle,)
        finally:
            os.close(handle)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(
                self.url_of("postgres"), connect_timeout=CONNECT_SECONDS, autocommit=True
            ) as connection:
                made = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.user]).fetchone()
                if not made:
                    connection.execute(f"CREATE DATABASE {self.user}")
        except psycopg.OperationalError:
            return False
        return True

    def _end(self, child: Child) -> None:
        child.stop((signal.SIGINT, 20), (signal.SIGQUIT, 5))


def _environment() -> dict[str, str]:
    """Ours without what would change a server's or initdb's mind."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
