"""One reader a process looks at everything once a second while somebody watches; all who watch are told the same."""

import asyncio
import time
from collections import deque
from typing import Any, Final

import msgspec
import structlog

from api.pages import rates
from api.pages.rates import Rates, Reading, Window
from api.services import Services
from api.threads import Threads
from persistence import live, live_rows
from persistence.live import Live, LiveSale
from persistence.live_rows import Rows

EVERY_SECONDS: Final = 1.0
LINGER_SECONDS: Final = 300.0
"""How long the reader goes on after the last viewer left: who comes back finds the curves."""
HISTORY_MAX: Final = 300
ROWS_SHARE: Final = 20
"""Orders and money are left alone for so many times as long as Postgres needed to count them: watching costs it a
twentieth of one connection. How far the drain is, one short query, is asked each second.
"""
ROWS_WAIT_SECONDS: Final = 0.3
"""How long Redis's counters wait for Postgres's."""
ROWS_OLD_SECONDS: Final = 5.0
"""What Postgres said before that is not shown any more: it does not answer."""
READ_SECONDS: Final = 10.0
VIEWERS_MAX: Final = 64

log = structlog.get_logger("api")


class SalePoint(msgspec.Struct, array_like=True, frozen=True):
    """A sale at one moment: milliseconds since 1970, units, holds taken and events written a second since the point
    before.
    """

    at_ms: int
    available: int
    held: int
    sold: int
    holds_per_second: float
    events_per_second: float


class SpeedPoint(msgspec.Struct, array_like=True, frozen=True):
    """Of the API behind this port: requests for holds a second, and their times (milliseconds, None without any)."""

    at_ms: int
    holds_per_second: float
    p50_ms: float | None
    p99_ms: float | None


class Now(msgspec.Struct, frozen=True):
    """What a viewer is told each second. ``live`` is None where Redis did not answer. ``sales`` and ``speed`` are the
    newest points of the curves.
    """

    at_ms: int
    live: Live | None
    rates: Rates
    sales: dict[str, SalePoint]
    speed: SpeedPoint
    viewers: int


class History(msgspec.Struct, frozen=True):
    """What a viewer is told first: the curves of the last minutes."""

    sales: dict[str, list[SalePoint]]
    speed: list[SpeedPoint]


class TooManyViewers(RuntimeError):
    """There is no room for another."""


_encode = msgspec.json.Encoder().encode


class Watch:
    """Begun by the first viewer. ``wait`` gives each the newest picture; who is slow misses some, and nobody waits."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # Its own, for all others may be waiting for a store that is away.
        self._threads = Threads("watch", size=3, queue_max=3, seconds=READ_SECONDS)
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self._number = 0
        self._text = b""
        self._viewers = 0
        self._left_at = 0.0
        self._window = Window()
        self._rows: tuple[float, Rows] | None = None
        self._rows_task: asyncio.Task[None] | None = None
        self._rows_at = 0.0
        self._known: list[str] = []
        self._sales: dict[str, deque[SalePoint]] = {}
        self._before: dict[str, LiveSale] = {}
        self._speed: deque[SpeedPoint] = deque(maxlen=HISTORY_MAX)

    @property
    def leaving(self) -> bool:
        """Whether the process was asked to stop."""
        return self._services.leaving

    def enter(self) -> None:
        """Count a viewer in. Raises ``TooManyViewers``."""
        if self._viewers >= VIEWERS_MAX:
            raise TooManyViewers
        self._viewers += 1
        if self._reader is None or self._reader.done():
            self._number = 0  # what was seen long ago is nobody's news
            self._sales.clear()
            self._speed.clear()
            self._reader = asyncio.create_task(self._run())

    def leave(self) -> None:
        self._viewers -= 1
        self._left_at = time.monotonic()

    def history(self) -> bytes:
        """``History`` as JSON."""
        return _encode(History({sale: list(points) for sale, points in self._sales.items()}, list(self._speed)))

    async def wait(self, seen: int, seconds: float) -> tuple[int, bytes] | None:
        """The number and JSON of the newest picture once it is another than ``seen``; None after ``seconds``."""
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: self._number > seen)
        except TimeoutError:
            return None
        return self._number, self._text

    async def close(self) -> None:
        """End the reader."""
        for task in (self._reader, self._rows_task):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._threads.close()

    async def _run(self) -> None:
        while self._viewers or time.monotonic() - self._left_at < LINGER_SECONDS:
            began = time.monotonic()
            try:
                await self._look(began)
            except Exception:
                log.exception("watch_failed")
            await asyncio.sleep(max(EVERY_SECONDS - (time.monotonic() - began), 0.05))

    async def _look(self, began: float) -> None:
        rows = await self._rows_of_now(began)
        try:
            sales = await self._threads.run(self._read_sales, rows)
        except Exception:  # noqa: BLE001 - whatever it is, there are no counters, and the page says so
            sales = None
        reading: Reading = await self._threads.run(rates.read, self._services.metrics.registry, began)
        self._tell(rows, sales, self._window.add(reading))
        async with self._news:
            self._number += 1
            self._news.notify_all()

    def _read_sales(self, rows: Rows | None) -> list[LiveSale]:
        services = self._services
        found = live.read_sales(services.payments.redis, rows, self._known)
        self._known = [sale.id for sale in found]
        return found

    async def _rows_of_now(self, now: float) -> Rows | None:
        """What Postgres said last, if that is not long ago. It is asked beside the reader, and not waited for long:
        Redis's part must not be late because Postgres is.
        """
        if self._rows_task is None or self._rows_task.done():
            self._rows_task = asyncio.create_task(self._read_rows(now))
            await asyncio.wait([self._rows_task], timeout=ROWS_WAIT_SECONDS)
        if self._rows is None or now - self._rows[0] > ROWS_OLD_SECONDS:
            return None
        return self._rows[1]

    async def _read_rows(self, began: float) -> None:
        services, known = self._services, self._rows
        try:
            if known is not None and began < self._rows_at:
                rows = await self._threads.run(live_rows.with_cursors_of_now, services.db, known[1])
            else:
                grace_seconds = services.settings.payment_grace_seconds
                rows = await self._threads.run(live_rows.read, services.db, services.payments.redis, grace_seconds)
                self._rows_at = time.monotonic() + ROWS_SHARE * (time.monotonic() - began)
        except Exception:  # noqa: BLE001 - whatever it is, the picture goes on without, and the page says so
            self._rows = None
        else:
            self._rows = time.monotonic(), rows

    def _tell(self, rows: Rows | None, sales: list[LiveSale] | None, measured: Rates) -> None:
        at_ms = int(time.time() * 1000)
        points = {sale.id: self._point(sale, at_ms) for sale in sales or ()}
        for sale_id, point in points.items():
            self._sales.setdefault(sale_id, deque(maxlen=HISTORY_MAX)).append(point)
        if sales is not None:
            self._before = {sale.id: sale for sale in sales}
            for gone in self._sales.keys() - self._before.keys():
                del self._sales[gone]
        speed = SpeedPoint(at_ms, measured.holds_per_second, measured.p50_ms, measured.p99_ms)
        self._speed.append(speed)
        picture = None if sales is None else live.picture(sales, rows)
        self._text = _encode(Now(at_ms, picture, measured, points, speed, self._viewers))

    def _point(self, sale: LiveSale, at_ms: int) -> SalePoint:
        before = self._before.get(sale.id)
        holds = events = 0.0
        if before is not None and before.epoch == sale.epoch and sale.now_ms > before.now_ms:
            seconds = (sale.now_ms - before.now_ms) / 1000
            holds = max(sale.holds - before.holds, 0) / seconds
            events = max(sale.seq - before.seq, 0) / seconds
        stock: Any = sale.stock
        return SalePoint(at_ms, stock.available, stock.held, stock.sold, round(holds, 1), round(events, 1))
