"""A slice: for some seconds one kind of work, looping and blocking on what it waits for; then it hands over to its
successor.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Protocol

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from workers import slots
from workers.draining import Drainer
from workers.paying import Payer
from workers.queues import SLICE_SECONDS, Kind, wake
from workers.runtime import Runtime, installed
from workers.sweeping import Sweeper

BACKOFF_SECONDS = (0.05, 0.5)
"""First and longest pause after a step that failed as a whole: Redis or Postgres is away. A Redis that comes back
without its last data is to be noticed within a second.
"""
STARVED_CHECK_SECONDS = 0.5

log = structlog.get_logger()


class Work(Protocol):
    """What a slice does over and over. ``run_once`` does a bounded piece, waits a moment where there is nothing,
    and returns how much it did; ``close`` ends what it started.
    """

    def run_once(self) -> int: ...

    def close(self) -> None: ...


def make_work(kind: Kind, runtime: Runtime) -> Work:
    match kind:
        case Kind.DRAIN:
            return Drainer(runtime.db, runtime.redis, runtime.stop)
        case Kind.SWEEP:
            return Sweeper(runtime.db, runtime.redis, runtime.stop)
        case Kind.PAYMENTS:
            return Payer(runtime.payments, runtime.queue, runtime.tally, runtime.steps, runtime.calls)


def run_job(kind: str) -> None:
    """What RQ calls."""
    run_slice(installed(), Kind(kind))


def run_slice(runtime: Runtime, kind: Kind, seconds: float = SLICE_SECONDS) -> bool:
    """Run a slice if a slot is free, and enqueue its successor. Whether there was a slot. Errors of the work stay
    inside.
    """
    try:
        with slots.take(runtime.queue, kind) as slot:
            if slot is None:
                return False
            _run(runtime, slot, seconds)
    except RedisError as error:
        log.warning("slice_without_redis", kind=kind.value, error=str(error))
    with contextlib.suppress(RedisError):  # the scheduler wakes it all the same
        wake(kind, runtime.queue)
    return True


def _run(runtime: Runtime, slot: slots.Slot, seconds: float) -> None:
    starving = _Starving(runtime, slot.kind)
    ends_at = time.monotonic() + seconds
    work = make_work(slot.kind, runtime)
    pause = BACKOFF_SECONDS[0]
    away = False  # then there is no queue to hand over by, and whoever stays sees first what came back
    try:
        while not (runtime.stop.is_set() or starving()):
            if not away and (slot.lost.is_set() or time.monotonic() >= ends_at):
                break
            away = False
            try:
                work.run_once()
                pause = BACKOFF_SECONDS[0]
            except (RedisError, SQLAlchemyError) as error:
                away = isinstance(error, RedisError)
                log.warning("slice_backs_off", kind=slot.kind.value, seconds=pause, error=_first_line(error))
                pause = back_off(runtime.stop, pause)
            except Exception:
                log.exception("slice_failed", kind=slot.kind.value, seconds=pause)
                pause = back_off(runtime.stop, pause)
    finally:
        work.close()


class _Starving:
    """Whether another kind was without a slice twice in a row: its worker was killed or there are too few, and this
    one should make room.
    """

    def __init__(self, runtime: Runtime, kind: Kind, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = runtime.queue
        self._others = set(Kind) - {kind}
        self._clock = clock
        self._next = clock() + STARVED_CHECK_SECONDS
        self._before: set[Kind] = set()

    def __call__(self) -> bool:
        if self._clock() < self._next:
            return False
        self._next = self._clock() + STARVED_CHECK_SECONDS
        try:
            without = slots.kinds_without_slice(self._queue) & self._others
        except RedisError:
            return False
        starved, self._before = without & self._before, without
        return bool(starved)


def back_off(stop: threading.Event, pause: float) -> float:
    """Wait ``pause`` seconds or until ``stop``; the next pause."""
    stop.wait(pause)
    return min(pause * 2, BACKOFF_SECONDS[1])


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
