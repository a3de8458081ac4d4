"""What a shop shows: sales and products with live stock, from Redis; those that left Redis long ago, from Postgres."""

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from api.asker import Asker
from api.bodies import is_name
from api.caching import keepable, tagged, unless_known
from api.paging import LIMIT_DEFAULT, LIMIT_MAX, make_cursor, read_cursor, read_limit
from api.reads import Together
from api.refusing import gone
from api.services import Services
from api.wire import Answer, Headers
from engine import shapes
from engine.commands import Shown
from engine.shapes import Product
from persistence import archive
from persistence.refusals import Refusal

KEPT_MAX: Final = 10_000
"""Products whose answers one process keeps for ``product_stale_ms``."""


class ProductPage(msgspec.Struct, frozen=True):
    """``next_cursor`` is null on the last page."""

    data: list[Product]
    next_cursor: str | None


async def read_sale(services: Services, sale_id: str) -> Answer:
    """``GET /v1/sales/{id}``. Raises ``Refusal``: sale_not_found, sale_unavailable."""
    shown = await services.reads.show(sale_id, ()) if is_name(sale_id) else None
    if shown is not None and shown.sale is not None:
        return _json(shapes.public_sale(shown.sale, shown.now_ms))
    old = await _retired(services, sale_id)
    return _json(shapes.public_sale(old.sale, 0))


async def read_product(services: Services, product_id: str) -> Answer:
    """``GET /v1/products/{id}``. Raises ``Refusal``: product_not_found, sale_unavailable."""
    if not is_name(product_id):
        raise _no_product(product_id)
    shown = await _show_product(services, product_id)
    if shown is None or shown.sale is None or product_id not in shown.products or _ended(shown):
        # The copy of where the product is may be old.
        await services.catalogue.refresh([product_id])
        shown = await _show_product(services, product_id)
    if shown is not None and shown.sale is not None and product_id in shown.products:
        return _json(shapes.product(shown.sale, shown.products[product_id], shown.now_ms))
    old = await services.old_product(product_id)
    if old is None:
        raise _no_product(product_id)
    if not old.standing.retired:
        raise gone(old.standing.sale.id, retired=False)
    return _json(shapes.product(old.standing.sale, old.product, 0))


class Products:
    """``GET /v1/products/{id}`` for everybody at once: one read, one answer's bytes. With ``product_stale_ms`` an
    answer is given again for so long, and tells a CDN how much of that time is left.
    """

    def __init__(self, services: Services, clock: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._clock = clock
        self._stale_seconds = services.settings.product_stale_ms / 1000
        self._kept: dict[str, tuple[float, Answer]] = {}
        self._reads: Together[str, Answer] = Together(self._read)

    def begin(self, product_id: str, asker: Asker, headers: Headers, _: bytes) -> None:
        """Tell ``asker`` the answer."""

        def done(found: Answer | Exception) -> None:
            if isinstance(found, Exception):
                asker.fail(found)
            else:
                asker.answer(unless_known(found, headers.if_none_match))

        kept = self._kept.get(product_id)
        if kept is not None:
            age = self._clock() - kept[0]
            if age <= self._stale_seconds:
                done(keepable(kept[1], self._stale_seconds - age))
                return
        self._reads.ask(product_id, done)

    async def _read(self, product_id: str) -> Answer:
        began = self._clock()
        answer = await read_product(self._services, product_id)
        if not self._stale_seconds:
            return answer
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[product_id] = began, answer
        return keepable(answer, self._stale_seconds - (self._clock() - began))


def _ended(shown: Shown) -> bool:
    return shown.sale is not None and shown.sale.status_at(shown.now_ms) == "ended"


async def _show_product(services: Services, product_id: str) -> Shown | None:
    sale_id = (await services.catalogue.find([product_id])).get(product_id)
    return None if sale_id is None else await services.reads.show(sale_id, (product_id,))


def _no_product(product_id: str) -> Refusal:
    return Refusal("product_not_found", f"There is no product {product_id[:64]!r}.")


async def list_products(services: Services, query: dict[str, str]) -> Answer:
    """``GET /v1/products``, in the order of the products' ids. Raises ``Refusal``: validation_error, sale_not_found."""
    limit = read_limit(query, LIMIT_DEFAULT, LIMIT_MAX)
    after = read_cursor(query.get("cursor", ""))
    sale_id = query.get("sale_id", "")
    found = await (_of_sale(services, sale_id, after, limit) if sale_id else _of_all(services, after, limit))
    more = len(found) > limit
    page = found[:limit]
    return _json(ProductPage(page, make_cursor(page[-1].id) if more else None))


async def _of_sale(services: Services, sale_id: str, after: str, limit: int) -> list[Product]:
    shown = await services.reads.show(sale_id) if is_name(sale_id) else None
    if shown is not None and shown.sale is not None:
        states = [state for state in shown.products.values() if state.id > after]
        return [shapes.product(shown.sale, state, shown.now_ms) for state in states[: limit + 1]]
    old = await _retired(services, sale_id)
    states = await services.quick.run(archive.read_products, services.db, sale_id)
    return [shapes.product(old.sale, state, 0) for state in states if state.id > after][: limit + 1]


async def _of_all(services: Services, after: str, limit: int) -> list[Product]:
    sale_of = await services.catalogue.everything()
    wanted = sorted(product for product in sale_of if product > after)[: limit + 1]
    of_sale: dict[str, list[str]] = {}
    for product in wanted:
        of_sale.setdefault(sale_of[product], []).append(product)
    found: dict[str, Product] = {}
    for sale_id, products in of_sale.items():
        shown = await services.reads.show(sale_id, products)
        if shown.sale is not None:
            for state in shown.products.values():
                found[state.id] = shapes.product(shown.sale, state, shown.now_ms)
    return [found[product] for product in wanted if product in found]


async def _retired(services: Services, sale_id: str) -> archive.Standing:
    known = await services.standing(sale_id) if is_name(sale_id) else None
    if known is None:
        raise Refusal("sale_not_found", f"There is no sale {sale_id[:64]!r}.")
    if not known.retired:
        raise gone(sale_id, retired=False)
    return known


def _json(shape: Any) -> Answer:
    return tagged(shapes.encode(shape))
