"""Lists of sales, from Postgres, in the order of ids: those that a shop shows, and all of them for operators."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from api.caching import tagged
from api.paging import LIMIT_DEFAULT, LIMIT_MAX, make_cursor, read_cursor, read_limit
from api.reads import Together
from api.threads import Threads
from api.wire import Answer, invalid
from engine import shapes
from engine.shapes import PublicSale, SaleSummary
from payments.context import Context
from persistence import overview

KEPT_SECONDS: Final = 0.5
"""How long one process gives the same page again. A loaded sale is in every list within a second."""
KEPT_MAX: Final = 100


class SalePage(msgspec.Struct, frozen=True):
    """Sales that have not ended. ``next_cursor`` is null on the last page."""

    data: list[PublicSale]
    next_cursor: str | None


class AdminSalePage(msgspec.Struct, frozen=True):
    """``next_cursor`` is null on the last page."""

    data: list[SaleSummary]
    next_cursor: str | None


class SaleList:
    """``GET /v1/sales`` for all callers at once: a page is read once and given again for ``KEPT_SECONDS``."""

    def __init__(self, threads: Threads, ctx: Context, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads
        self._ctx = ctx
        self._clock = clock
        self._kept: dict[tuple[str, int], tuple[float, Answer]] = {}
        self._reads: Together[tuple[str, int], Answer] = Together(self._read)

    async def page(self, query: dict[str, str]) -> Answer:
        """Raises ``Refusal``: validation_error, overloaded."""
        key = read_page(query)
        kept = self._kept.get(key)
        if kept is not None and self._clock() - kept[0] < KEPT_SECONDS:
            return kept[1]
        return await self._reads.get(key)

    async def _read(self, key: tuple[str, int]) -> Answer:
        after, limit = key
        began = self._clock()
        found = await self._threads.run(overview.shown_sales, self._ctx.db, after, limit + 1)
        answer = tagged(shapes.encode(SalePage(found[:limit], _next(found, limit))))
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[key] = began, answer
        return answer


def admin_page(ctx: Context, after: str, limit: int) -> AdminSalePage:
    found = overview.list_summaries(ctx.db, ctx.redis, after, limit + 1)
    return AdminSalePage(found[:limit], _next(found, limit))


def read_page(query: dict[str, str]) -> tuple[str, int]:
    """The id to go on after, and how many. Raises ``Refusal``: validation_error."""
    if unknown := [name for name in query if name not in ("limit", "cursor")]:
        raise invalid([(name[:64] or "query", "is no parameter of this route") for name in unknown])
    after = read_cursor(query.get("cursor", ""))
    return after, read_limit(query, LIMIT_DEFAULT, LIMIT_MAX)


def _next(found: Sequence[PublicSale | SaleSummary], limit: int) -> str | None:
    return make_cursor(found[limit - 1].id) if len(found) > limit else None
