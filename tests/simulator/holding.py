"""A batch of hold requests: each decided by itself and in its turn."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from engine.commands import HoldRequest
from engine.outcomes import Outcome
from engine.records import HoldRecord, Line
from tests.simulator.book import Book

Decision = tuple[Outcome, dict[str, Any]]

LOOK_MAX = 100
"""Overdue holds that the script looks at in one go."""


class Batch:
    """``held`` and ``expired`` are the tokens of the batch's two events."""

    def __init__(self, book: Book, requests: Sequence[HoldRequest], reclaim_max: int) -> None:
        self.held: list[str] = []
        self.expired: list[str] = []
        self._book = book
        self._brought = dict.fromkeys(product for request in requests for product, _ in request.lines)
        self._left = reclaim_max
        self._looked_at = dict.fromkeys(self._brought, 0)
        # Redis's own sets do not change before the batch is decided.
        self._deadlines = {product: dict(book.deadlines.get(product, ())) for product in self._brought}
        self._payments = dict(book.payments)

    def decide(self, request: HoldRequest) -> Decision:
        return self._repeated(request) or self._closed() or self._refused(request) or self._take(request)

    def _repeated(self, request: HoldRequest) -> Decision | None:
        for product, _ in request.lines:
            if product not in self._book.products:
                return Outcome.UNKNOWN_PRODUCT, {"product": product}
        earlier = self._book.holds.get(request.token)
        if earlier is None:
            return None
        if tuple((line.product, line.qty) for line in earlier.lines) == request.lines:
            return Outcome.REPLAYED, {"hold": earlier}
        return Outcome.MISMATCH, {}

    def _closed(self) -> Decision | None:
        book = self._book
        if book.fenced:
            return Outcome.FENCED, {}
        if book.state == "paused":
            return Outcome.PAUSED, {}
        if book.now < book.sale.starts_ms:
            return Outcome.NOT_STARTED, {"starts_ms": book.sale.starts_ms}
        if book.state == "ended" or 0 < book.sale.ends_ms <= book.now:
            return Outcome.ENDED, {}
        return None

    def _refused(self, request: HoldRequest) -> Decision | None:
        book = self._book
        currency = book.products[request.lines[0][0]].currency
        for product, _ in request.lines:
            if book.products[product].currency != currency:
                return Outcome.MIXED_CURRENCIES, {"product": product}
        for product, qty in request.lines:
            limit, field = book.products[product].limit, f"{product}:{request.customer}"
            if 0 < limit < book.owned.get(field, 0) + qty:
                for token in list(book.tokens.get(field, ())):
                    if self._left > 0 and book.overdue(book.holds[token]):
                        self._expire(token)
                if limit < book.owned.get(field, 0) + qty:
                    tokens = tuple(book.tokens.get(field, ()))
                    owned = book.owned.get(field, 0)
                    said = {"product": product, "limit": limit, "held_or_bought": owned, "tokens": tokens}
                    return Outcome.LIMIT_EXCEEDED, said
        for product, qty in request.lines:
            self._reclaim(product, qty)
            if book.available(product) < qty:
                available, held = book.available(product), book.held[product]
                limit, wait_ms = book.products[product].limit, self._wait_ms(product)
                said = {"product": product, "available": available, "held": held, "wait_ms": wait_ms, "limit": limit}
                return Outcome.SOLD_OUT, said
        return None

    def _take(self, request: HoldRequest) -> Decision:
        book = self._book
        products = [book.products[product] for product, _ in request.lines]
        lines = tuple(
            Line(product, qty, label.price, label.rev)
            for (product, qty), label in zip(request.lines, products, strict=True)
        )
        expires_ms = book.now + book.sale.hold_ttl_ms
        record = HoldRecord("held", request.customer, products[0].currency, book.now, expires_ms, lines)
        book.put(request.token, record, self._brought)
        self.held.append(request.token)
        return Outcome.HELD, {"hold": record}

    def _expire(self, token: str) -> None:
        self._book.put(token, replace(self._book.holds[token], status="expired"), self._brought)
        self.expired.append(token)
        self._left -= 1

    def _reclaim(self, product: str, qty: int) -> None:
        """What nobody swept comes back for whoever asks, a bounded number in one call."""
        book = self._book
        overdue = sorted((ms, token) for token, ms in self._deadlines[product].items() if ms <= book.now)
        while book.available(product) < qty and self._left > 0:
            seen = self._looked_at[product]
            found = overdue[seen : seen + min(self._left, LOOK_MAX)]
            if not found:
                return
            self._looked_at[product] += len(found)
            for _, token in found:
                if book.overdue(book.holds.get(token)):
                    self._expire(token)
                else:
                    book.drop_deadline(product, token)
                    self._left -= 1

    def _wait_ms(self, product: str) -> int:
        """To the product's next deadline, else to the next payment's; -1 where nothing is held."""
        book = self._book
        if not book.held[product]:
            return -1
        for entries in (self._deadlines[product], self._payments):
            if later := [ms for ms in entries.values() if ms > book.now]:
                return min(later) - book.now
        return book.sale.hold_ttl_ms
