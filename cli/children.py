"""The roles of a stack as child processes, started again when they die, and gone when we are."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from sandbox.failure import last_line

RESTART_SECONDS = (0.5, 10.0)
"""Pause before a dead role is started again; it grows where the role dies young."""
YOUNG_SECONDS = 20.0
TIED = "--tied"
"""The hidden option by which a role ends when its standard input does."""

log = structlog.get_logger()


def tie_to_parent() -> None:
    """End with SIGTERM when standard input ends: its other end is our parent's, so it ends however that died, on
    every system.
    """

    def watch() -> None:
        while os.read(0, 64):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def parent_is_gone() -> bool:
    """The same, for a role that asks now and then."""
    return bool(select.select([0], [], [], 0)[0]) and not os.read(0, 64)


class Role:
    """``flashsale NAME ARGUMENTS`` as a child in a session of its own: a Ctrl-C is for us, not for it."""

    def __init__(
        self, name: str, arguments: Sequence[str], env: Mapping[str, str], log_file: Path | None = None
    ) -> None:
        self.name = name
        self.log_file = log_file
        self._argv = [sys.executable, "-m", "cli.main", name, *arguments, TIED]
        root = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH", "")]))
        self._env = {**env, "PYTHONPATH": path}
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._start_at = 0.0
        self._pause = RESTART_SECONDS[0]

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.log_file.open("ab")) if self.log_file else sys.stderr
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=self._env,
                start_new_session=True,
            )
        self._started = time.monotonic()

    def watch(self) -> bool:
        """Start it again if it died, after a pause. Whether it was started."""
        now = time.monotonic()
        if self._process is not None:
            if self._process.poll() is None:
                return False
            log.warning("role_died", role=self.name, exit_code=self._process.returncode, said=self.last_words())
            self._close()
            first, longest = RESTART_SECONDS
            self._pause = first if now - self._started > YOUNG_SECONDS else min(self._pause * 2, longest)
            self._start_at = now + self._pause
        if now < self._start_at:
            return False
        self.start()
        return True

    def last_words(self) -> str:
        """The last line of its log, where it has one of its own."""
        return last_line(self.log_file) if self.log_file else ""

    def ask_to_stop(self) -> None:
        if self._process is not None and self.running:
            self._process.terminate()

    def stop(self, patience_seconds: float) -> None:
        """SIGTERM, and SIGKILL to what is left of it after that time."""
        process = self._process
        if process is None:
            return
        self.ask_to_stop()
        try:
            process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            log.warning("role_killed", role=self.name)
            # Its own children are in its session and nobody else is.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._close()

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process = None
