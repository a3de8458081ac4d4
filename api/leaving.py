"""Leaving well: readiness turns off and streams end first; only then does the server stop taking connections."""

import asyncio
import multiprocessing
import os
import signal
import threading
from types import FrameType
from typing import Any, Final

from api.services import Services

NOTICE_SECONDS: Final = 0.5
"""How long a process that was asked to stop still takes requests, so that balancers which probe see it leave. A
balancer that probes more slowly wants a pause of its own before the signal.
"""


def on_sigterm(services: Services) -> None:
    """Put a notice before the server's own handler of SIGTERM, and a word before that of SIGINT, after which nobody
    waits for balancers. Does nothing outside the main thread, where nobody handles signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    inner: Any = signal.getsignal(signal.SIGTERM)
    if not callable(inner):
        return
    loop = asyncio.get_running_loop()

    def give_notice(number: int, frame: FrameType | None) -> None:
        first, services.leaving = not services.leaving, True
        if first:
            loop.call_soon_threadsafe(loop.call_later, NOTICE_SECONDS, inner, number, None)
        else:
            inner(number, frame)

    at_once: Any = signal.getsignal(signal.SIGINT)

    def say_so(number: int, frame: FrameType | None) -> None:
        services.leaving = True
        at_once(number, frame)

    signal.signal(signal.SIGTERM, give_notice)
    if callable(at_once):
        signal.signal(signal.SIGINT, say_so)


def with_parent() -> None:
    """A process that was started as one of several leaves when the one that started it was killed."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
