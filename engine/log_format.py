"""Bounds on what one log line holds: no request makes a line many times its own size, however often it is sent."""

import sys
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

TRACE_MAX_CHARACTERS: Final = 8_000
"""What is logged of one traceback: its beginning and, what says most, its end."""
TRACES_A_MINUTE: Final = 20
"""Tracebacks that one process logs in a minute. A request that meets a defect can be sent again and again."""
TEXT_MAX_CHARACTERS: Final = 2_000
"""What is logged of any other text."""


def rendering(renderer: structlog.typing.Processor) -> list[structlog.typing.Processor]:
    """What makes a line of an event: its exception as text, and every text bounded, before ``renderer``."""
    return [
        Traces(TRACES_A_MINUTE),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        _bound,
        renderer,
    ]


class Traces:
    """Lets so many tracebacks through in a minute; of the others the line has the exception's name and place alone."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._a_minute = a_minute
        self._clock = clock
        self._began = clock()
        self._told = 0

    def __call__(self, _: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if not event.get("exc_info"):
            return event
        now = self._clock()
        if now - self._began >= 60:
            self._began, self._told = now, 0
        self._told += 1
        if self._told > self._a_minute:
            error = _exception_of(event.pop("exc_info"))
            event["error"] = type(error).__name__
            event["at"] = _place_of(error)
            event["trace"] = f"left out: more than {self._a_minute} in a minute"
        return event


def _exception_of(given: Any) -> BaseException | None:
    """What ``exc_info`` may be: the exception, its triple, or True for the one that is handled now."""
    if isinstance(given, BaseException):
        return given
    return given[1] if isinstance(given, tuple) else sys.exc_info()[1]


def _place_of(error: BaseException | None) -> str:
    """File and line where it was raised."""
    trace = error.__traceback__ if error else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "-"


def _bound(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for name, value in event.items():
        if isinstance(value, str):
            at_most = TRACE_MAX_CHARACTERS if name == "exception" else TEXT_MAX_CHARACTERS
            if len(value) > at_most:
                event[name] = f"{value[: at_most // 4]} ... {value[-at_most * 3 // 4 :]}"
    return event
