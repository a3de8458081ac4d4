"""The embedded servers keep what they acknowledged, come back on the same port, and never outlive their parent."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest

from sandbox.processes import Account, Child
from sandbox.servers import EmbeddedPostgres, EmbeddedRedis, ServerError

AnyServer = EmbeddedRedis | EmbeddedPostgres
KINDS = [EmbeddedRedis, EmbeddedPostgres]


def _write(server: AnyServer, value: int) -> None:
    if isinstance(server, EmbeddedRedis):
        with closing(server.client()) as client:
            client.rpush("kept", value)
    else:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (value integer)")
            connection.execute("INSERT INTO kept VALUES (%s)", [value])


def _read(server: AnyServer) -> list[int]:
    if isinstance(server, EmbeddedRedis):
        with closing(server.client()) as client:
            return [int(value) for value in client.lrange("kept", 0, -1)]
    with psycopg.connect(server.url) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM kept ORDER BY value")]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyServer]:
    with request.param(tmp_path) as running:
        yield running


def _eventually(what: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return what()


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _family(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def test_data_survives_a_stop_a_kill_and_a_restart_on_the_same_port(server: AnyServer) -> None:
    port = server.port
    _write(server, 1)
    server.stop()
    assert not server.running
    server.start()
    _write(server, 2)
    first = server.pid
    server.kill()
    server.start()
    _write(server, 3)
    server.restart()
    assert _read(server) == [1, 2, 3]
    assert server.port == port
    assert server.pid != first


def test_another_start_on_the_same_data_finds_it(server: AnyServer, tmp_path: Path) -> None:
    _write(server, 1)
    server.stop()
    with type(server)(tmp_path) as again:
        assert _read(again) == [1]


def test_start_and_stop_may_be_repeated(server: AnyServer) -> None:
    pid = server.pid
    assert server.start().pid == pid
    server.stop()
    server.stop()
    server.kill()
    with pytest.raises(ServerError, match="is not running"):
        _ = server.pid


def test_only_this_machine_and_only_with_the_password(server: AnyServer) -> None:
    for connection in psutil.Process(server.pid).net_connections("inet"):
        if connection.status == psutil.CONN_LISTEN:
            assert connection.laddr == ("127.0.0.1", server.port)
    without = server.url.replace(server.url.split(":")[2].split("@")[0], "wrong")
    assert without != server.url
    if isinstance(server, EmbeddedRedis):
        with socket.create_connection(("127.0.0.1", server.port)) as stranger:
            stranger.sendall(b"PING\r\n")
            assert stranger.recv(64).startswith(b"-NOAUTH")
    else:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(without)
    assert (server.home / "password").stat().st_mode & 0o077 == 0


def test_the_redis_is_durable_and_never_evicts(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, closing(server.client()) as client:
        settings = client.config_get("appendonly", "appendfsync", "maxmemory-policy", "bind")
    assert settings == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "bind": "127.0.0.1",
    }


def test_the_postgres_is_durable_and_not_root(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as server:
        with psycopg.connect(server.url) as connection:
            for name, value in {"fsync": "on", "synchronous_commit": "on", "server_encoding": "UTF8"}.items():
                row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
                assert row == (value,)
            assert 180_000 <= connection.info.server_version < 190_000
        assert psutil.Process(server.pid).uids().effective != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that an unprivileged user cannot enter")
def test_as_root_the_data_may_lie_in_a_folder_that_is_closed_to_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    account = Account.unprivileged()
    assert account is not None
    assert not account.reaches(closed)
    with EmbeddedPostgres(closed) as server:
        _write(server, 1)
        server.kill()
        server.start()
        assert _read(server) == [1]
    assert closed.stat().st_mode & 0o777 == 0o700


def test_options_override_the_configuration(tmp_path: Path) -> None:
    with (
        EmbeddedRedis(tmp_path, options={"maxmemory": "64mb"}) as server,
        closing(server.client()) as client,
    ):
        assert client.config_get("maxmemory") == {"maxmemory": str(64 * 1024 * 1024)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_port_that_is_taken_is_said_in_one_line(kind: type[AnyServer], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"{kind.name} did not start: .+ \\(log: .+server.log\\)") as caught:
            kind(tmp_path, port).start()
    assert "\n" not in str(caught.value)


def test_a_stale_pid_file_of_a_process_that_is_now_another_is_dropped(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as server:
        _write(server, 1)
        server.kill()
        lock = tmp_path / "postgres" / "data" / "postmaster.pid"
        lines = lock.read_text().splitlines()
        lock.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")
        (tmp_path / "postgres" / "server.pid").write_text(f"{os.getppid()} 1.0\n")
        server.start()
        assert _read(server) == [1]
    assert psutil.pid_exists(os.getppid())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_orphan_on_the_same_data_is_ended_before_a_start(kind: type[AnyServer], tmp_path: Path) -> None:
    orphan = kind(tmp_path).start()
    _write(orphan, 1)
    family = _family(orphan.pid)
    with kind(tmp_path) as server:
        assert all(_gone(pid) for pid in family)
        assert _read(server) == [1]
    orphan.stop()


def test_data_of_another_major_version_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    with pytest.raises(ServerError, match="is PostgreSQL 15's, not 18's"):
        EmbeddedPostgres(tmp_path).start()


PARENT = """
import sys, time
from pathlib import Path
from sandbox.servers import EmbeddedPostgres, EmbeddedRedis
folder = Path(sys.argv[1])
with EmbeddedRedis(folder) as redis, EmbeddedPostgres(folder) as postgres:
    print(redis.pid, postgres.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_parent_is_gone_so_are_its_servers(how: signal.Signals, tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    family = [each for pid in pids for each in _family(pid)]
    assert len(family) > 4
    parent.send_signal(how)
    parent.wait()
    parent.stdout.close()
    assert _eventually(lambda: all(_gone(pid) for pid in family))
    with EmbeddedRedis(tmp_path), EmbeddedPostgres(tmp_path):
        pass


def test_where_the_system_has_no_death_signal_a_watchdog_does_it(tmp_path: Path) -> None:
    script = (
        "import signal, sys, time; from pathlib import Path; from sandbox.processes import Child\n"
        "folder = Path(sys.argv[1])\n"
        "child = Child(['/bin/sleep', '600'], log=folder / 'log', record=folder / 'pid',\n"
        "              death_signal=signal.SIGKILL, watchdog=True)\n"
        "print(child.pid, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not _gone(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert _eventually(lambda: _gone(pid))


def test_a_watchdog_is_dismissed_with_its_child(tmp_path: Path) -> None:
    child = Child(
        ["/bin/sleep", "600"],
        log=tmp_path / "log",
        record=tmp_path / "pid",
        death_signal=signal.SIGKILL,
        watchdog=True,
    )
    others = {process.pid for process in psutil.Process().children()} - {child.pid}
    child.stop((signal.SIGTERM, 5))
    assert not child.running
    assert not others & {process.pid for process in psutil.Process().children() if process.name() == "sh"}
