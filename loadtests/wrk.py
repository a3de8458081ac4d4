"""Peaks by wrk: as many requests as the connections carry. Its latencies are closed-loop: see ``openloop``."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.wire import Request

SECONDS_MAX: Final = 60
MISSING: Final = (
    "wrk is missing: install it (Debian, Ubuntu: apt-get install wrk; macOS: brew install wrk) and run again"
)
_SCRIPT: Final = Path(__file__).with_name("load.lua")


class WrkMissing(RuntimeError):
    """There is no wrk on this machine. The message says how to get it."""

    def __init__(self) -> None:
        super().__init__(MISSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """``refused`` are the answers of 400 and above, ``broken`` the connections that failed."""

    requests: int
    microseconds: int
    refused: int
    broken: int
    timeouts: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def per_second(self) -> float:
        return self.requests / self.microseconds * 1e6


def require() -> None:
    """Raises ``WrkMissing``."""
    if shutil.which("wrk") is None:
        raise WrkMissing


def peak(port: int, request: Request, *, connections: int, seconds: int, first: int = 0, threads: int = 1) -> Peak:
    """Load on 127.0.0.1. One thread: the servers need the cores. Raises ``RuntimeError`` where wrk fails."""
    require()
    headers = [f"{name}: {value}" for name, value in request.headers.items()]
    argv = [
        "wrk",
        f"-t{threads}",
        f"-c{connections}",
        f"-d{min(seconds, SECONDS_MAX)}s",
        "--timeout=10s",
        f"-s{_SCRIPT}",
        f"http://127.0.0.1:{port}",
        "--",
        request.method,
        request.path,
        request.body,
        str(first),
        *headers,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS_MAX + 30, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return Peak(**json.loads(line.removeprefix("RESULT ")))
    raise RuntimeError(f"wrk failed: {(done.stderr or done.stdout).strip()[-400:]}")
