"""A process that is asked to stop at the worst moment stops."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from workers.stop import Stop


def test_it_is_set_once_and_wakes_everybody() -> None:
    stop = Stop()
    assert not stop.wait(0.01)
    waiters = [threading.Thread(target=stop.wait) for _ in range(3)]
    for each in waiters:
        each.start()
    stop.set()
    stop.set()
    for each in waiters:
        each.join(5)
        assert not each.is_alive()
    assert stop.wait()
    assert stop.is_set()
    with pytest.raises(NotImplementedError):
        stop.clear()


def test_a_signal_may_come_at_any_moment_of_a_wait() -> None:
    """With ``threading.Event`` this hangs within a second: the handler waits for a lock of the very thread that it
    interrupted.
    """
    stop = Stop()
    before = signal.signal(signal.SIGUSR1, lambda *_: stop.set())
    ended = threading.Event()

    def interrupt() -> None:
        while not ended.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            stop.set()
            stop.wait(0)
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_its_descriptors_go_with_it() -> None:
    before = _descriptors()
    for _ in range(50):
        Stop().set()
    assert _descriptors() == before


def _descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))
