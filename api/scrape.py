"""A scrape: what the stores say now beside what this process counted. It never fails, and no store holds it up."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import sqlalchemy

from api.metrics import Metrics
from api.threads import Threads
from engine.command import Client
from payments import tally
from persistence import figures, promises
from persistence.drift import Promise
from persistence.figures import Figures, SaleFigures

KEPT_SECONDS: Final = 2.0
PROMISES_KEPT_SECONDS: Final = 10.0
"""The promises' look reads most: it is taken about once a scrape."""
WAIT_SECONDS: Final = 1.5
"""How long a scrape waits for a store: Prometheus gives up after ten seconds unless told otherwise."""

T = TypeVar("T")


class Kept(Generic[T]):
    """A value that is read when it is asked for, at most each ``seconds``, and once at a time."""

    def __init__(self, read: Callable[[], Awaitable[T]], seconds: float = KEPT_SECONDS) -> None:
        self._read = read
        self._seconds = seconds
        self._reading: asyncio.Task[T | None] | None = None
        self._began = 0.0

    async def get(self) -> T | None:
        """None where it cannot be read in time."""
        task = self._reading
        if task is None or (task.done() and time.monotonic() - self._began > self._seconds):
            self._began = time.monotonic()
            task = self._reading = asyncio.create_task(self._try())
        done, _ = await asyncio.wait([task], timeout=WAIT_SECONDS)
        return task.result() if done else None

    async def _try(self) -> T | None:
        try:
            return await self._read()
        except Exception:  # noqa: BLE001 - whatever it is, there is nothing to show
            return None

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._reading is not None:
            self._reading.cancel()


class Scrape:
    """Reads in ``threads``; ``redis`` has the sales, ``queue`` what the workers counted."""

    def __init__(
        self,
        metrics: Metrics,
        threads: Threads,
        *,
        db: sqlalchemy.Engine,
        redis: Client,
        queue: Client,
        grace_seconds: int,
    ) -> None:
        self._metrics = metrics

        async def read_workers() -> dict[str, int]:
            return await threads.run(tally.read, queue)

        async def read_figures() -> Figures:
            return await threads.run(figures.read, db)

        async def read_sales() -> dict[str, SaleFigures] | None:
            found = await self._figures.get()
            return await threads.run(figures.read_sales, redis, found.cursors, time.time()) if found else None

        async def read_promises() -> dict[Promise, int]:
            return await threads.run(promises.read, db, redis, now_seconds=time.time(), grace_seconds=grace_seconds)

        self._workers = Kept(read_workers)
        self._figures = Kept(read_figures)
        self._sales = Kept(read_sales)
        self._promises = Kept(read_promises, PROMISES_KEPT_SECONDS)

    async def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        workers, found, sales, broken = await asyncio.gather(
            self._workers.get(), self._figures.get(), self._sales.get(), self._promises.get()
        )
        gauges = self._metrics.gauges
        gauges.workers, gauges.figures, gauges.sales, gauges.promises = workers, found, sales, broken
        self._metrics.flush()
        # Not in one of our own threads: those may all be waiting for a store that is away.
        return await asyncio.to_thread(self._metrics.text)

    def close(self) -> None:
        """Wait for nothing any more."""
        for each in (self._workers, self._figures, self._sales, self._promises):
            each.close()
