"""The record of a running stack, by which a command without URLs finds it, and the lock that keeps two off one folder.

Whoever runs a stack holds ``flock`` on ``DATA_DIR/lock`` for as long as it runs. The kernel drops the lock with its
holder, so it alone says whether a stack still runs: a record whose lock is free is what a killed one left behind.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self

from sandbox.files import write_private

DEFAULT_DATA_DIR = ".flashsale"
# A command that looks whether a stack runs holds the lock for an instant; a start waits that long for it.
LOCK_PATIENCE_SECONDS = 0.5


class DataDirInUseError(RuntimeError):
    """Another stack runs on this data dir. The message names its process and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStack:
    """Where a running stack is found. Everything is text; what it has not is empty."""

    data_dir: str
    cwd: str = ""
    """Where it was started: commands that start there mean this one."""
    pid: int = 0
    redis_url: str = field(default="", repr=False)
    queue_redis_url: str = field(default="", repr=False)
    database_url: str = field(default="", repr=False)
    api_url: str = ""
    admin_token: str = field(default="", repr=False)
    shop_token: str = field(default="", repr=False)
    stripe_api_base: str = ""
    stripe_secret_key: str = field(default="", repr=False)
    stripe_webhook_secret: str = field(default="", repr=False)
    capture_method: str = ""

    def environment(self) -> dict[str, str]:
        """The ``FLASHSALE_`` variables that speak to this stack, without the empty ones."""
        apart = {"cwd", "pid", "api_url"}
        values = {each.name: str(getattr(self, each.name)) for each in fields(self) if each.name not in apart}
        return {f"FLASHSALE_{name.upper()}": value for name, value in values.items() if value}

    @classmethod
    def read(cls, data_dir: Path) -> Self | None:
        """The record in ``data_dir``, running or not; None where there is none that we can read."""
        try:
            values = json.loads((Path(data_dir) / "run.json").read_text())
            known = {each.name for each in fields(cls)}
            return cls(**{name: value for name, value in values.items() if name in known})
        except (OSError, ValueError, TypeError, AttributeError):
            return None


class DataDir:
    """A data dir that we hold: ``announce`` the stack once it serves, ``close`` when it is down."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._registered: Path | None = None

    def announce(self, stack: RunningStack, environ: Mapping[str, str] = os.environ) -> None:
        """Writes ``run.json`` (mode 0600, for it holds secrets) and the entry in the registry of this user."""
        write_private(self.path / "run.json", json.dumps(asdict(stack), indent=2) + "\n")
        registry = _registry(environ)
        # A registry that cannot be written only costs the convenience: FLASHSALE_DATA_DIR still finds the stack.
        with contextlib.suppress(OSError):
            registry.mkdir(mode=0o700, parents=True, exist_ok=True)
            entry = registry / f"{stack.pid}.json"
            write_private(entry, json.dumps({"data_dir": str(self.path)}) + "\n")
            self._registered = entry

    def close(self) -> None:
        """Takes the record back and gives up the lock."""
        if self._lock < 0:
            return
        (self.path / "run.json").unlink(missing_ok=True)
        if self._registered:
            self._registered.unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = -1


def data_dir_of(environ: Mapping[str, str], cwd: Path) -> Path:
    """Where the embedded stack's data is: ``FLASHSALE_DATA_DIR``, else ``.flashsale`` in ``cwd``."""
    return cwd / (environ.get("FLASHSALE_DATA_DIR", "").strip() or DEFAULT_DATA_DIR)


@contextlib.contextmanager
def hold_data_dir(path: Path) -> Iterator[DataDir]:
    """Makes ``path`` where it is missing and holds its lock.

    Raises ``DataDirInUseError`` where another process holds it.
    """
    path = Path(path).absolute()
    path.mkdir(parents=True, exist_ok=True)
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    held = DataDir(path, lock)
    try:
        _take(lock, path)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        (path / "run.json").unlink(missing_ok=True)  # a killed stack's
        with contextlib.suppress(FileExistsError), (path / ".gitignore").open("x") as ignore:
            ignore.write("*\n")
    except BaseException:
        os.close(lock)
        raise
    try:
        yield held
    finally:
        held.close()


def _take(lock: int, path: Path) -> None:
    end = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < end:
                time.sleep(0.02)
                continue
            pid = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise DataDirInUseError(
                f"{path} is in use by process {pid}; stop it, or choose another folder with --data-dir"
            ) from error
        else:
            return


def is_running(data_dir: Path) -> bool:
    """Whether a stack holds this data dir now."""
    try:
        lock = os.open(Path(data_dir) / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def running_stacks(environ: Mapping[str, str]) -> list[RunningStack]:
    """The stacks that this user runs, oldest entry first. Entries that a killed one left are removed."""
    found = []
    try:
        entries = sorted(_registry(environ).glob("*.json"), key=lambda path: path.stat().st_mtime)
    except OSError:
        return []
    for entry in entries:
        try:
            data_dir = Path(json.loads(entry.read_text())["data_dir"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        stack = RunningStack.read(data_dir)
        if stack and stack.pid == _pid(entry) and is_running(data_dir):
            found.append(stack)
        else:
            entry.unlink(missing_ok=True)
    return found


def find_running_stack(environ: Mapping[str, str], cwd: Path) -> RunningStack | None:
    """The stack that a command means which was given no URLs.

    ``FLASHSALE_DATA_DIR`` names it; else it is the one that was started in ``cwd``, or whose data is there; else the
    only one that runs. None where nothing runs there, and where several run and none of them is nearer.
    """
    if environ.get("FLASHSALE_DATA_DIR", "").strip():
        return _running_in(data_dir_of(environ, cwd))
    stacks = running_stacks(environ)
    here = [stack for stack in stacks if Path(stack.cwd) == cwd]
    near = here or ([nearby] if (nearby := _running_in(cwd / DEFAULT_DATA_DIR)) else stacks)
    return near[-1] if here or len(near) == 1 else None


def _running_in(data_dir: Path) -> RunningStack | None:
    return RunningStack.read(data_dir) if is_running(data_dir) else None


def _registry(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_STATE_HOME", "").strip()
    return (Path(home) if home.startswith("/") else Path.home() / ".local" / "state") / "flashsale" / "running"


def _pid(entry: Path) -> int:
    return int(entry.stem) if entry.stem.isdigit() else -1
