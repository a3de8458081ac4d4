"""Sold out is the common answer of a sale. For a few milliseconds after Redis gave it, a process gives it by itself."""

import time
from collections.abc import Callable, Iterable
from math import ceil
from typing import Final

from msgspec.structs import replace

from api.wire import Answer
from engine.commands import HoldAnswer

PRODUCTS_MAX: Final = 10_000


class Said:
    """What Redis said, until when it may be said again, and the bytes that were last made of it."""

    __slots__ = ("_answer", "_at", "_made", "_made_for", "available", "until")

    def __init__(self, answer: HoldAnswer, now: float, until: float) -> None:
        self.available = answer.available
        self.until = until
        self._answer = answer
        self._at = now
        self._made: Answer | None = None
        self._made_for = -1

    def again(self, now: float, make: Callable[[HoldAnswer], Answer]) -> Answer:
        """The answer as Redis would give it now: only the seconds to the next deadline differ."""
        if self._answer.wait_ms < 0:
            seconds, answer = 0, self._answer
        else:
            wait_ms = max(self._answer.wait_ms - int((now - self._at) * 1000), 1)
            seconds, answer = ceil(wait_ms / 1000), replace(self._answer, wait_ms=wait_ms)
        if self._made is None or seconds != self._made_for:
            self._made, self._made_for = make(answer), seconds
        return self._made


class SoldOut:
    """What Redis last said of products that are sold out.

    Only of products without a limit a customer: the limit is checked before the stock, and only Redis knows what a
    customer has. Nor does it answer a request with an Idempotency-Key, which may have its hold already.
    """

    def __init__(self, window_ms: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window_ms / 1000
        self._clock = clock
        self._said: dict[tuple[str, str], Said] = {}

    def remember(self, sale_id: str, answer: HoldAnswer) -> None:
        """Until a unit could be back, and never longer than the window."""
        if not self._window or answer.limit:
            return
        window = self._window if answer.wait_ms < 0 else min(self._window, answer.wait_ms / 1000)
        if len(self._said) >= PRODUCTS_MAX:
            self._said.clear()
        now = self._clock()
        self._said[sale_id, answer.product] = Said(answer, now, now + window)

    def answer(self, sale_id: str, product: str, qty: int, make: Callable[[HoldAnswer], Answer]) -> Answer | None:
        """What Redis would say to this, as far as is known here, made into an answer by ``make``."""
        said = self._said.get((sale_id, product))
        if said is None:
            return None
        now = self._clock()
        if now >= said.until:
            del self._said[sale_id, product]
            return None
        return None if qty <= said.available else said.again(now, make)

    def forget(self, sale_id: str, products: Iterable[str]) -> None:
        """Units came back by this process's own doing."""
        for product in products:
            self._said.pop((sale_id, product), None)
