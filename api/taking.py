"""Taking a hold: the hot path, from a request's headers and body to the answer's bytes.

``begin`` is for the express way, which has no task for a request; ``take`` is the same for a handler that can wait.
"""

from typing import Final, NamedTuple

from api import problems
from api.asker import Asker
from api.bodies import Body, HoldBody, customer_faults, hold_faults, is_name, lines_of
from api.refusing import field_of, gone, refusal_of
from api.services import Services
from api.wire import REPLAYED_HEADERS, Answer, Headers, check_json, invalid, read_key
from engine import ids, shapes
from engine.batcher import Waiting
from engine.commands import HoldAnswer, HoldRequest
from engine.outcomes import Outcome
from persistence.refusals import Refusal

ROUTE: Final = "POST /v1/holds"

_BODY: Final = Body(HoldBody, hold_faults)
_COPY_IS_OLD: Final = (Outcome.ENDED, Outcome.UNKNOWN_PRODUCT, Outcome.NO_SALE)


class Wish(NamedTuple):
    """What a request wants; ``lines`` as (product, qty), each product once."""

    body: HoldBody
    lines: tuple[tuple[str, int], ...]
    key: str | None


def read_wish(services: Services, headers: Headers, body: bytes) -> Wish:
    """Raises ``Refusal``."""
    services.shop.check(headers.authorization)
    check_json(headers)
    key = read_key(headers)
    wanted = _BODY.decode(body)
    if faults := customer_faults(wanted.customer_id):
        raise invalid(faults)
    return Wish(wanted, lines_of(wanted), key)


def begin(services: Services, asker: Asker, headers: Headers, body: bytes) -> Waiting | None:
    """``POST /v1/holds``: straight to the batcher where this process knows all that it needs. Gives what withdraws the
    request, if anything does. Raises ``Refusal`` and ``Overloaded``.
    """
    wish = read_wish(services, headers, body)
    sale_id = services.catalogue.known(wish.lines[0][0])
    if sale_id is None or len(wish.lines) > 1 or (wish.key is not None and services.known_ids_secret is None):
        asker.later(take(services, wish))
        return None
    if wish.key is None:

        def refuse(said: HoldAnswer) -> Answer:
            return problems.answer(refusal_of(sale_id, wish.body, said))

        if known := services.sold_out.answer(sale_id, *wish.lines[0], refuse):
            asker.answer(known)
            return None
    token = _token(services.known_ids_secret, wish, sale_id)

    def done(found: HoldAnswer | Exception) -> None:
        if isinstance(found, Exception):
            asker.fail(found)
        elif found.hold is not None:
            asker.answer(_held(wish, sale_id, token, found))
        elif found.outcome in _COPY_IS_OLD:
            asker.later(_finish(services, wish, sale_id, token, found))
        else:
            if found.outcome is Outcome.SOLD_OUT:
                services.sold_out.remember(sale_id, found)
            asker.fail(refusal_of(sale_id, wish.body, found))

    return services.batcher.submit(sale_id, HoldRequest(token, wish.body.customer_id, wish.lines), done)


async def take(services: Services, wish: Wish) -> Answer:
    """``POST /v1/holds``. Raises ``Refusal``, ``Overloaded`` and ``RedisError``."""
    sale_id = await _sale_of(services, wish)
    token, answer = await _ask(services, wish, sale_id)
    return await _finish(services, wish, sale_id, token, answer)


async def _finish(services: Services, wish: Wish, sale_id: str, token: str, answer: HoldAnswer) -> Answer:
    if answer.outcome in _COPY_IS_OLD:
        # The products may be in another sale by now, which this process's copy does not know yet.
        await services.catalogue.refresh([product for product, _ in wish.lines])
        moved_to = await _sale_of(services, wish)
        if moved_to != sale_id:
            sale_id = moved_to
            token, answer = await _ask(services, wish, sale_id)
    if answer.hold is not None:
        return _held(wish, sale_id, token, answer)
    if answer.outcome is Outcome.NO_SALE:
        raise await _no_sale(services, sale_id)
    raise refusal_of(sale_id, wish.body, answer)


async def _ask(services: Services, wish: Wish, sale_id: str) -> tuple[str, HoldAnswer]:
    token = _token(None if wish.key is None else await services.ids_secret(), wish, sale_id)
    request = HoldRequest(token, wish.body.customer_id, wish.lines)
    return token, await services.batcher.take(sale_id, request)


def _token(secret: bytes | None, wish: Wish, sale_id: str) -> str:
    if wish.key is None or secret is None:
        return ids.new_token()
    return ids.derived_token(secret, ROUTE, wish.body.customer_id, sale_id, wish.key)


def _held(wish: Wish, sale_id: str, token: str, answer: HoldAnswer) -> Answer:
    assert answer.hold is not None
    hold = shapes.encode(shapes.first_hold(sale_id, token, answer.hold))
    if answer.outcome is Outcome.REPLAYED and wish.key is not None:
        return Answer(201, hold, REPLAYED_HEADERS)
    return Answer(201, hold)


async def _sale_of(services: Services, wish: Wish) -> str:
    """The one sale of all products. Raises ``Refusal``: product_not_found, sale_unavailable, sale_ended,
    validation_error.
    """
    products = [product for product, _ in wish.lines]
    found = await services.catalogue.find([each for each in products if is_name(each)])
    for product in products:
        if product not in found:
            raise await _not_on_sale(services, product)
    for product in products[1:]:
        if found[product] != found[products[0]]:
            message = f"is in sale {found[product]}, the first line's in {found[products[0]]}: a hold is of one sale"
            raise invalid([(field_of(wish.body, product), message)])
    return found[products[0]]


async def _not_on_sale(services: Services, product_id: str) -> Refusal:
    """Why Redis has no sale for a product: nobody knows it, or Redis lost it, or its sale left Redis long ago."""
    known = await services.old_product(product_id) if is_name(product_id) else None
    if known is None:
        return Refusal("product_not_found", f"There is no product {product_id!r} on sale.")
    return gone(known.standing.sale.id, retired=known.standing.retired)


async def _no_sale(services: Services, sale_id: str) -> Refusal:
    known = await services.standing(sale_id)
    if known is None:
        return Refusal("product_not_found", "There is no such product on sale.")
    return gone(sale_id, retired=known.retired)
