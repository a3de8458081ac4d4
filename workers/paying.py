"""The payments slice's work: stored payment events, what is owed to the provider, refunds, and payment periods that
ran out.
"""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait

import redis
import structlog
from redis.exceptions import RedisError

from payments import dues, inbox, overdue, refunds, wake
from payments.context import Context
from payments.tally import Tally
from workers.sales import Every, read_cursors

LIMIT = 64
"""Rows that a step takes up at once: a few rounds of the threads, so that a batch is done within seconds."""
BUSY_SECONDS = 0.05
"""How long a pass waits for a step that runs before it looks at the others again."""
LINGER_SECONDS = 0.03
"""Pause of a step after news: what comes meanwhile shares its next set, which costs about the same however large it is.
"""
OVERDUE_SECONDS = 0.5
"""How often payment periods that ran out are looked for."""
FAILED_SECONDS = 1.0
TALLY_SECONDS = 1.0
"""How often what was counted is brought to where the API reads it."""

Step = Callable[[Context, int, Executor], int]

log = structlog.get_logger()


def release_overdue(context: Context, limit: int, calls: Executor) -> int:
    """Payment periods that ran out, of every sale. One sale's failure is told, and the others go on."""
    taken = 0
    for sale_id in read_cursors(context.db):
        try:
            taken += overdue.run_once(context, sale_id, calls, limit)
        except RedisError as error:
            log.warning("overdue_payments_not_read", sale_id=sale_id, error=str(error))
    return taken


class _Loop:
    """One step, over and over: while it finds something, else each ``period``; and when somebody calls, where ``hears``
    says that a call may be about it.
    """

    def __init__(self, name: str, step: Step, period: float, *, hears: bool = True) -> None:
        self.name = name
        self.step = step
        self._hears = hears
        self.future: Future[int] | None = None
        self._due = Every(period)
        self._failed = Every(FAILED_SECONDS)
        self._called = False
        self._lingers_until = 0.0

    @property
    def lingers(self) -> bool:
        """It is called for, and about to run."""
        return self._called and self.future is None

    def collect(self) -> int:
        """What the last run did; 0 while it runs. A failure is told, at most once a second, and tried again at its
        next turn.
        """
        if self.future is None or not self.future.done():
            return 0
        future, self.future = self.future, None
        error = future.exception()
        if error is None:
            done = future.result()
            if 0 < done < LIMIT:
                self._lingers_until = time.monotonic() + LINGER_SECONDS
            self._called = self._called or done > 0
            return done
        if self._failed.due():
            log.error("payments_step_failed", step=self.name, error=f"{type(error).__name__}: {error}")
        return 0

    def is_due(self, *, called: bool) -> bool:
        """A call that comes while the step runs may be for what it has looked past: it counts for the next run."""
        self._called = self._called or (called and self._hears)
        if self.future is not None or time.monotonic() < self._lingers_until:
            return False
        if not (self._called or self._due.due()):
            return False
        self._called = False
        return True


class Payer:
    """Each step takes its own rows, locked, so any number of workers may do the same one. The steps run beside each
    other: a provider that is slow to answer one of them does not hold up the rest.
    """

    def __init__(self, context: Context, queue: redis.Redis, tally: Tally, steps: Executor, calls: Executor) -> None:
        self._context = context
        self._queue = queue
        self._tally = tally
        self._tally_due = Every(TALLY_SECONDS)
        self._steps = steps
        self._calls = calls
        self._loops = [
            _Loop("inbox", inbox.handle_once, wake.WAIT_SECONDS),
            _Loop("dues", dues.run_once, wake.WAIT_SECONDS),
            # Whoever begins a refund does it himself: one is due a second later at the earliest, and calls for none.
            _Loop("refunds", refunds.run_once, wake.WAIT_SECONDS, hears=False),
            _Loop("overdue", release_overdue, OVERDUE_SECONDS, hears=False),
        ]

    def run_once(self) -> int:
        """How much the steps that ended since the last pass did. Waits ``wake.WAIT_SECONDS`` at most where there is
        nothing.
        """
        running = [loop.future for loop in self._loops if loop.future]
        if running:
            wait(running, BUSY_SECONDS, FIRST_COMPLETED)
            called = bool(self._queue.delete(wake.WAKE_KEY))
        elif any(loop.lingers for loop in self._loops):
            time.sleep(LINGER_SECONDS)
            called = bool(self._queue.delete(wake.WAKE_KEY))
        else:
            called = wake.wait(self._queue)
        total = 0
        for loop in self._loops:
            done = loop.collect()
            total += done
            if loop.is_due(called=called):
                loop.future = self._steps.submit(loop.step, self._context, LIMIT, self._calls)
        if self._tally_due.due():
            self._tally.flush()
        return total

    def close(self) -> None:
        """A step that runs goes on to its end beside the next slice; each holds its own rows."""
        with contextlib.suppress(RedisError):
            self._tally.flush()
