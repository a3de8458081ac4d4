"""Servers to compare with: several processes behind one socket, as uvicorn's own workers are, and gone with us."""

import contextlib
import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import uvicorn

from sandbox.failure import last_line
from sandbox.processes import Child

BACKLOG: Final = 4096
READY_SECONDS: Final = 20.0


def serve_process(app: Any, fd: int) -> None:
    """One process. The options are those of ``api.server``, so that only the handlers differ."""
    listener = socket.socket(fileno=fd)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=15,
    )
    uvicorn.Server(config).run([listener])


@contextlib.contextmanager
def served(
    module: str, folder: Path, *, processes: int, env: Mapping[str, str] | None = None, probe: str = "/raw"
) -> Iterator[int]:
    """``python -m MODULE FD`` so many times on one free port of 127.0.0.1: that port. Raises ``RuntimeError``."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    port: int = listener.getsockname()[1]
    children: list[Child] = []
    name = module.rpartition(".")[2]
    log = folder / f"{name}.log"
    try:
        for number in range(processes):
            child = Child(
                [sys.executable, "-m", module, str(listener.fileno())],
                log=log,
                record=folder / f"{name}-{number}.pid",
                death_signal=signal.SIGKILL,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), **(env or {})},
                pass_fds=(listener.fileno(),),
            )
            children.append(child)
        _wait(port, children, log, probe)
        yield port
    finally:
        for child in children:
            child.stop((signal.SIGTERM, 5))
        listener.close()


def _wait(port: int, children: list[Child], log: Path, probe: str) -> None:
    """Until it was answered a few times in a row: each process must have begun."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if not all(child.running for child in children):
            raise RuntimeError(f"{log.stem} ended before it served: {last_line(log)}")
        if all(answers(port, probe) for _ in range(4)):
            time.sleep(0.5)
            return
        time.sleep(0.05)
    raise RuntimeError(f"{log.stem} did not serve within {READY_SECONDS:g} s: {last_line(log)}")


def end_on_sigterm() -> None:
    """SIGTERM ends us as Ctrl-C does: with every server stopped and every folder removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def answers(port: int, path: str) -> bool:
    """Whether 127.0.0.1 answers this path with something below 500."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
