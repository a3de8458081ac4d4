"""``serve``: the API under uvicorn, in one process or several on one port."""

import contextlib
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from http.client import HTTPConnection, HTTPException
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn
from uvicorn.supervisors import Multiprocess

from api.app import create_app
from api.express import ExpressHttp
from engine import garbage
from engine.settings import PREFIX, Settings

log = structlog.get_logger("api")

KEEP_ALIVE_SECONDS: Final = 15
"""How long a connection may rest between two requests."""
BACKLOG: Final = 4096
FINISH_SECONDS: Final = 25
"""How long requests that are under way may take after SIGTERM; Kubernetes kills after 30."""

WORKER_SILENT_SECONDS: Final = 60
"""A process that says nothing for so long hangs, and is replaced. Starting one on a busy machine takes many seconds."""


def serve(
    settings: Settings, host: str, port: int, workers: int = 1, *, on_ready: Callable[[], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, finish what is under way, and return. ``on_ready`` is called once requests are
    answered. Raises ``SettingError``, ``OSError`` where the address cannot be had, and ``SystemExit`` where the signal
    came before anything was served.
    """
    listener = _listen(host, port)
    if on_ready is not None:
        _call_when_serving(listener, on_ready)
    with contextlib.closing(listener), _leaving_on_signals() as begun:
        if workers == 1:
            config = uvicorn.Config(create_app(settings), host=host, port=port, **OPTIONS)
            garbage.rest()
            begun.append(config)
            _tell_address(listener)
            uvicorn.Server(config).run([listener])
            return
        create_app(settings)  # so that a setting that is missing is said here, once
        _tell_address(listener)
        with tempfile.TemporaryDirectory(prefix="flashsale-metrics-") as folder:
            _to_environment(settings, folder)
            config = uvicorn.Config("api.app:from_env", factory=True, host=host, port=port, workers=workers, **OPTIONS)
            Multiprocess(config, [listener]).run()


OPTIONS: Final[dict[str, Any]] = {
    "loop": "uvloop",
    "http": ExpressHttp,
    "ws": "none",
    "lifespan": "on",
    "interface": "asgi3",
    "log_config": None,
    "access_log": False,
    "proxy_headers": False,
    "server_header": False,
    "backlog": BACKLOG,
    "timeout_keep_alive": KEEP_ALIVE_SECONDS,
    "timeout_graceful_shutdown": FINISH_SECONDS,
    "timeout_worker_healthcheck": WORKER_SILENT_SECONDS,
}


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except TypeError as error:  # a name that no encoding of names can hold
        listener.close()
        raise OSError(f"{host!r} is no address") from error
    except BaseException:
        listener.close()
        raise
    listener.set_inheritable(True)
    return listener


def _tell_address(listener: socket.socket) -> None:
    """Which port is known only now, where any free one was asked for."""
    host, port = listener.getsockname()[:2]
    log.info("listening", url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")


def _to_environment(settings: Settings, metrics_folder: str) -> None:
    """The processes that serve read the environment, as every other process does."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_folder
    for each in fields(settings):
        value = getattr(settings, each.name)
        if value != "":
            os.environ[PREFIX + each.name.upper()] = str(value)


@contextlib.contextmanager
def _leaving_on_signals() -> Iterator[list[uvicorn.Config]]:
    """For as long as uvicorn does not listen for signals itself: before it does, they end us at once. When it is done,
    it raises the one that ended it again, and that was a good end: its config, which is to be added, is loaded then.
    """
    begun: list[uvicorn.Config] = []
    if threading.current_thread() is not threading.main_thread():
        yield begun
        return

    def leave(_number: int, _frame: FrameType | None) -> None:
        if not any(config.loaded for config in begun):
            raise SystemExit(0)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield begun
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _call_when_serving(listener: socket.socket, on_ready: Callable[[], None]) -> None:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - an address to reach, not to bind

    def wait() -> None:
        while True:
            connection = HTTPConnection(host, port, timeout=1)
            try:
                connection.request("GET", "/health/live")
                if connection.getresponse().status == 200:
                    on_ready()
                    return
            except (OSError, HTTPException):
                time.sleep(0.02)
            finally:
                connection.close()

    threading.Thread(target=wait, name="ready", daemon=True).start()
