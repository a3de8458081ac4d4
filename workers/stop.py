"""What ends a process's loops."""

import os
import select
import threading
import weakref


class Stop(threading.Event):
    """Set once, by anybody, above all by a signal handler. ``threading.Event`` takes a lock for that, and the thread
    that the signal interrupts may be the one that has it: it would wait for itself for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_set = False
        self._reader, self._writer = os.pipe()
        weakref.finalize(self, _close, self._reader, self._writer)

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        if not self._is_set:
            self._is_set = True
            os.write(self._writer, b"\0")  # nobody reads it, so it wakes everybody who waits or ever will

    def clear(self) -> None:
        """Raises ``NotImplementedError``: who was asked to stop stays so."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is set, after ``timeout`` seconds at most."""
        if not self._is_set:
            asked = select.poll()
            asked.register(self._reader, select.POLLIN)
            asked.poll(None if timeout is None else max(timeout, 0) * 1000)
        return self._is_set


def _close(*descriptors: int) -> None:
    for each in descriptors:
        os.close(each)
