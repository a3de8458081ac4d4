"""SIGINT and SIGTERM for commands that run for long."""

import signal
from types import FrameType

from workers.stop import Stop


class Stopped(Exception):
    """SIGINT or SIGTERM came before everything was up."""


class Signals:
    """``stop`` is set by SIGINT and SIGTERM; a second one changes nothing."""

    def __init__(self) -> None:
        self.stop = Stop()

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def go_on(self) -> None:
        """Raises ``Stopped``."""
        if self.stop.is_set():
            raise Stopped

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        self.stop.set()
