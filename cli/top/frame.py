"""One look at everything, and what changed since the one before."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from cli.servers import Stores
from cli.top import scrape
from cli.top.scrape import Counts
from engine import shapes
from persistence import live, live_rows
from persistence.live import Live, LiveSale
from persistence.live_rows import Rows

ROWS_SECONDS = 2.0
"""How often Postgres is asked: its part of the picture counts rows."""


class Rates(msgspec.Struct, frozen=True):
    """Of one sale between two looks. ``conversion``: paid orders of the holds that were taken in all, 0 to 1; None
    where there is no hold, or Postgres does not say.
    """

    holds_per_second: float
    conversion: float | None


class Api(msgspec.Struct, frozen=True):
    """Answers between two looks, by problem code or status, and how long holds took."""

    url: str
    answers: dict[str, int]
    per_second: float
    hold_p50_ms: float | None
    hold_p99_ms: float | None


class Frame(msgspec.Struct, frozen=True):
    """``api`` is None where none is known or it does not answer."""

    at: str
    seconds: float
    live: Live
    rates: dict[str, Rates]
    api: Api | None


class Watcher:
    """``look`` makes a frame; the first one's rates are 0."""

    def __init__(self, at: Stores, api_url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._at = at
        self.api_url = api_url
        self._clock = clock
        self._rows: Rows | None = None
        self._rows_at = float("-inf")
        self._last: Live | None = None
        self._last_counts: Counts | None = None
        self._last_at = 0.0

    def look(self) -> Frame:
        """Raises ``RedisError`` where Redis is away; Postgres and the API may be."""
        now = self._clock()
        rows = self._read_rows(now)
        found = live.picture(live.read_sales(self._at.redis, rows), rows)
        seconds = now - self._last_at if self._last else 0.0
        rates = {sale.id: self._rates(sale, seconds) for sale in found.sales}
        api = self._look_at_api(seconds)
        self._last, self._last_at = found, now
        return Frame(shapes.rfc3339(datetime.now(UTC)), round(seconds, 3), found, rates, api)

    def _read_rows(self, now: float) -> Rows | None:
        if now - self._rows_at >= ROWS_SECONDS:
            self._rows_at = now
            try:
                grace_seconds = self._at.settings.payment_grace_seconds
                self._rows = live_rows.read(self._at.db, self._at.redis, grace_seconds)
            except SQLAlchemyError:
                self._rows = None
        return self._rows

    def _rates(self, sale: LiveSale, seconds: float) -> Rates:
        before = next((each for each in self._last.sales if each.id == sale.id), None) if self._last else None
        taken = max(sale.holds - before.holds, 0) if before else 0
        paid = sum(sale.money.orders.get(status, 0) for status in ("paid", "refunded")) if sale.money else None
        return Rates(
            round(taken / seconds, 1) if seconds else 0.0,
            round(paid / sale.holds, 4) if paid is not None and sale.holds else None,
        )

    def _look_at_api(self, seconds: float) -> Api | None:
        counts = scrape.read(self.api_url) if self.api_url else None
        before, self._last_counts = self._last_counts, counts
        if counts is None:
            return None
        between = scrape.since(counts, before)
        answers = {name: int(value) for name, value in sorted(between.answers.items()) if value}
        return Api(
            self.api_url,
            answers,
            round(sum(answers.values()) / seconds, 1) if seconds else 0.0,
            _ms(scrape.quantile(between.buckets, 0.5)),
            _ms(scrape.quantile(between.buckets, 0.99)),
        )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
