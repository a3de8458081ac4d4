"""Children that never outlive their parent, and the small things that servers of our own need."""

import contextlib
import ctypes
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sandbox.failure import ServerError

PR_SET_PDEATHSIG = 1
# Enough for a rush's connections; the hard limit of the machine caps it.
FILES_WANTED = 65_536


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged user that a server runs as where we are root ourselves."""

    uid: int
    gid: int

    @classmethod
    def unprivileged(cls) -> "Account | None":
        """None where we are not root: a server then runs as we do."""
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(entry.pw_uid, entry.pw_gid)
        return cls(65_534, 65_534)

    def reaches(self, path: Path) -> bool:
        """Whether every folder above ``path`` lets this user through, and ``path`` itself lets it read."""
        path = path.resolve()
        return all(self._may(folder, 0o1) for folder in path.parents) and self._may(path, 0o5)

    def _may(self, path: Path, wanted: int) -> bool:
        stat = path.stat()
        shift = 6 if stat.st_uid == self.uid else 3 if stat.st_gid == self.gid else 0
        return (stat.st_mode >> shift) & wanted == wanted


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now; another process may still take it first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _bind_to_parent(death_signal: signal.Signals | None) -> Callable[[], None]:
    """What a child does between fork and exec: die with us, and be allowed many files.

    Linux ties the child to the *thread* that starts it: start servers from a thread that lives as long as they should.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" and death_signal else None

    def prepare() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        if libc is not None and death_signal is not None:
            libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:  # it died before we asked to be told
                os._exit(1)

    return prepare


class Child:
    """A server process of ours: in a session of its own (a Ctrl-C is for us, not for it), dead when we are."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        record: Path,
        death_signal: signal.Signals,
        account: Account | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        watchdog: bool = sys.platform != "linux",
    ) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=dict(env) if env is not None else None,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
                preexec_fn=_bind_to_parent(None if watchdog else death_signal),  # noqa: PLW1509 - two system calls
                **run_as(account),
            )
        self._record = record
        self._watchdog = _Watchdog(self.pid, death_signal) if watchdog else None
        record.write_text(f"{self.pid} {psutil.Process(self.pid).create_time()}\n")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, *signals_and_patience: tuple[signal.Signals, float]) -> None:
        """Sends each signal in turn and waits its seconds for the end; then SIGKILL."""
        for number, seconds in signals_and_patience:
            if not self.running:
                break
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to it and to all that it forked, as a power cut would do it."""
        if self.running:
            _kill_tree(psutil.Process(self.pid))
        self._process.wait()
        if self._watchdog:
            self._watchdog.dismiss()
        self._record.unlink(missing_ok=True)


class _Watchdog:
    """Stands in for PDEATHSIG where the system has none: a shell that reads a pipe whose other end dies with us."""

    def __init__(self, pid: int, death_signal: signal.Signals) -> None:
        read, self._write = os.pipe()
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", f"read _; kill -{int(death_signal)} {pid} 2>/dev/null"],
            stdin=read,
            start_new_session=True,
        )
        os.close(read)

    def dismiss(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)


def run_as(account: Account | None) -> dict[str, Any]:
    """The keywords of ``subprocess`` that start a process as this user; none: as ourselves."""
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


def _kill_tree(process: psutil.Process) -> None:
    """The children are listed first: a database's children leave their parent's group."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        end = time.monotonic() + 5
        while any(_lives(each) for each in family[1:]) and time.monotonic() < end:
            time.sleep(0.005)


def _lives(process: psutil.Process) -> bool:
    """A zombie is gone: whoever is init here reaps it when it likes."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_orphan(record: Path) -> None:
    """Ends the server that an earlier, killed parent left behind, if it is still the process that was recorded.

    The caller holds the data's lock, so nobody else can be using it.
    """
    try:
        pid, created = record.read_text().split()
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(created)) < 1
    except (OSError, ValueError, psutil.NoSuchProcess):
        same = False
    if same:
        _kill_tree(process)
        end = time.monotonic() + 5
        while _lives(process) and time.monotonic() < end:
            time.sleep(0.005)
    record.unlink(missing_ok=True)


def publish_copy(source: Path, target: Path, *, leave_out: Sequence[str]) -> Path:
    """Copies a tree to where every user can read and only root can write, once; safe against a copy made meanwhile."""
    if target.exists():
        stat = target.stat()
        if stat.st_uid != os.geteuid() or stat.st_mode & 0o022:
            raise ServerError(f"{target} is not ours alone to write; remove it and start again")
        return target
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        shutil.copytree(source, scratch, symlinks=True, ignore=shutil.ignore_patterns(*leave_out), dirs_exist_ok=True)
        scratch.chmod(0o755)
        with contextlib.suppress(OSError):  # another process was faster
            scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target
