"""What is kept of every request, whichever way it came in: its id, its measure, and a line in the log where wanted."""

import time
from itertools import count
from secrets import token_hex
from typing import Final

import structlog

from api.metrics import Metrics

log = structlog.get_logger("api")

REQUEST_ID_MAX: Final = 128


class Visits:
    """One for a process."""

    def __init__(self, metrics: Metrics, *, log_requests: bool = False) -> None:
        self._metrics = metrics
        self._log_requests = log_requests
        self._prefix = token_hex(6)
        self._numbers = count(1)

    def begin(self, given: bytes | None) -> tuple[str, float]:
        """A request's id (the ``X-Request-Id`` that it brought, where that can be trusted in a log) and when it
        began.
        """
        if given is not None and 0 < len(given) <= REQUEST_ID_MAX and _PLAIN.issuperset(given):
            return given.decode(), time.perf_counter()
        return f"{self._prefix}-{next(self._numbers):x}", time.perf_counter()

    def end(self, request_id: str, began: float, method: str, route: str, status: int, code: str) -> None:
        """Count the answer. ``route`` is a template, ``code`` the problem's."""
        seconds = time.perf_counter() - began
        self._metrics.answered(method, route, status, code, seconds)
        if self._log_requests:
            log.debug(
                "request",
                request_id=request_id,
                method=method,
                route=route,
                status=status,
                code=code,
                ms=round(seconds * 1000, 2),
            )


_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-/+=")
