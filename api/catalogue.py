"""A process's own copy of which sale a product is in, and what is known of a sale that Redis does not have."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from api.reads import Together
from engine import keys
from engine.command import AsyncClient

MISSING_SECONDS: Final = 0.4
"""How long an unknown product stays unknown: less than the second within which a loaded sale is on sale everywhere."""
MISSING_MAX: Final = 10_000
CONNECTIONS_MAX: Final = 8


class Catalogue:
    """Product -> sale, from ``fs:products``. The copy is asked first; a new product, or a script's word that the copy
    is old, makes it ask Redis.
    """

    def __init__(self, client: AsyncClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._sales: dict[str, str] = {}
        self._missing: dict[str, float] = {}
        self._asked: Together[tuple[str, ...], None] = Together(self._ask)
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)

    def known(self, product_id: str) -> str | None:
        """The sale in the copy."""
        return self._sales.get(product_id)

    async def find(self, product_ids: Sequence[str]) -> dict[str, str]:
        """Each product's sale; those that are in none are left out. Raises ``RedisError``."""
        now = self._clock()
        unknown = [each for each in product_ids if each not in self._sales and self._missing.get(each, 0.0) <= now]
        if unknown:
            await self.refresh(unknown)
        return {each: self._sales[each] for each in product_ids if each in self._sales}

    async def refresh(self, product_ids: Sequence[str]) -> None:
        """Ask Redis again. Raises ``RedisError``."""
        await self._asked.get(tuple(product_ids))

    async def _ask(self, product_ids: tuple[str, ...]) -> None:
        async with self._room:
            found: Any = await self._client.hmget(keys.PRODUCTS, list(product_ids))
        if len(self._missing) > MISSING_MAX:
            self._missing.clear()
        until = self._clock() + MISSING_SECONDS
        for product_id, sale in zip(product_ids, found, strict=True):
            if sale is None:
                self._sales.pop(product_id, None)
                self._missing[product_id] = until
            else:
                self._sales[product_id] = sale.decode()
                self._missing.pop(product_id, None)

    async def everything(self) -> dict[str, str]:
        """Every product that is in a sale. Raises ``RedisError``."""
        found: Any = await self._client.hgetall(keys.PRODUCTS)
        self._sales = {product.decode(): sale.decode() for product, sale in found.items()}
        return dict(self._sales)
