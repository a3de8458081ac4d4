"""Sold out is the common answer of a sale. For a few milliseconds after Redis gave it, a process gives it by itself."""

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from msgspec.structs import replace

from engine.commands import HoldAnswer

PRODUCTS_MAX: Final = 10_000


class _Said(NamedTuple):
    answer: HoldAnswer
    at: float
    until: float


class SoldOut:
    """What Redis last said of products that are sold out.

    Only of products without a limit a customer: the limit is checked before the stock, and only Redis knows what a
    customer has. Nor does it answer a request with an Idempotency-Key, which may have its hold already.
    """

    def __init__(self, window_ms: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window_ms / 1000
        self._clock = clock
        self._said: dict[tuple[str, str], _Said] = {}

    def remember(self, sale_id: str, answer: HoldAnswer) -> None:
        """Until a unit could be back, and never longer than the window."""
        if not self._window or answer.limit:
            return
        window = self._window if answer.wait_ms < 0 else min(self._window, answer.wait_ms / 1000)
        if len(self._said) >= PRODUCTS_MAX:
            self._said.clear()
        now = self._clock()
        self._said[sale_id, answer.product] = _Said(answer, now, now + window)

    def answer(self, sale_id: str, product: str, qty: int) -> HoldAnswer | None:
        """What Redis would say to this, as far as is known here."""
        said = self._said.get((sale_id, product))
        if said is None:
            return None
        now = self._clock()
        if now >= said.until:
            del self._said[sale_id, product]
            return None
        if qty <= said.answer.available:
            return None
        if said.answer.wait_ms < 0:
            return said.answer
        return replace(said.answer, wait_ms=said.answer.wait_ms - int((now - said.at) * 1000))

    def forget(self, sale_id: str, products: Iterable[str]) -> None:
        """Units came back by this process's own doing."""
        for product in products:
            self._said.pop((sale_id, product), None)
