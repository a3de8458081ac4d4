"""Holds: taken through the batcher, read and released one by one.

``take`` is the hot path: a function from a request's headers and body to the answer's bytes.
"""

from math import ceil
from typing import Final

from api.bodies import Body, HoldBody, hold_faults, is_name, lines_of
from api.services import Services
from api.wire import REPLAYED_HEADERS, Answer, Headers, check_json, invalid, read_key
from engine import ids, shapes
from engine.commands import HoldAnswer, HoldRequest
from engine.outcomes import Outcome
from engine.records import HoldRecord
from persistence import archive
from persistence.refusals import Refusal

ROUTE: Final = "POST /v1/holds"
PAUSED_RETRY_SECONDS: Final = 5
UNAVAILABLE_RETRY_SECONDS: Final = 1

_BODY: Final = Body(HoldBody, hold_faults)
_COPY_IS_OLD: Final = (Outcome.ENDED, Outcome.UNKNOWN_PRODUCT, Outcome.NO_SALE)

Lines = tuple[tuple[str, int], ...]


async def take(services: Services, headers: Headers, body: bytes) -> Answer:
    """``POST /v1/holds``. Raises ``Refusal``, ``Overloaded`` and ``RedisError``."""
    services.shop.check(headers.authorization)
    check_json(headers)
    key = read_key(headers)
    wanted = _BODY.decode(body)
    lines = lines_of(wanted)
    sale_id = await _sale_of(services, wanted, lines)
    token, answer = await _ask(services, wanted, lines, sale_id, key)
    if answer.outcome in _COPY_IS_OLD:
        # The products may be in another sale by now, which this process's copy does not know yet.
        await services.catalogue.refresh([product for product, _ in lines])
        moved_to = await _sale_of(services, wanted, lines)
        if moved_to != sale_id:
            sale_id = moved_to
            token, answer = await _ask(services, wanted, lines, sale_id, key)
    if answer.hold is None:
        raise await _refusal(services, sale_id, wanted, answer)
    hold = shapes.encode(shapes.first_hold(sale_id, token, answer.hold))
    if key is not None and answer.outcome is Outcome.REPLAYED:
        return Answer(201, hold, REPLAYED_HEADERS)
    return Answer(201, hold)


async def _ask(
    services: Services, wanted: HoldBody, lines: Lines, sale_id: str, key: str | None
) -> tuple[str, HoldAnswer]:
    customer = wanted.customer_id
    if key is None:
        token = ids.new_token()
    else:
        token = ids.derived_token(await services.ids_secret(), ROUTE, customer, sale_id, key)
    return token, await services.batcher.take(sale_id, HoldRequest(token, customer, lines))


async def _sale_of(services: Services, wanted: HoldBody, lines: Lines) -> str:
    """The one sale of all products. Raises ``Refusal``: product_not_found, sale_unavailable, sale_ended,
    validation_error.
    """
    sale_id = services.catalogue.known(lines[0][0])
    if sale_id is not None and len(lines) == 1:
        return sale_id
    products = [product for product, _ in lines]
    found = await services.catalogue.find([each for each in products if is_name(each)])
    for product in products:
        if product not in found:
            raise await _not_on_sale(services, product)
    for product in products[1:]:
        if found[product] != found[products[0]]:
            message = f"is in sale {found[product]}, the first line's in {found[products[0]]}: a hold is of one sale"
            raise invalid([(_field_of(wanted, product), message)])
    return found[products[0]]


async def _not_on_sale(services: Services, product_id: str) -> Refusal:
    """Why Redis has no sale for a product: nobody knows it, or Redis lost it, or its sale left Redis long ago."""
    known = await services.old_product(product_id) if is_name(product_id) else None
    if known is None:
        return Refusal("product_not_found", f"There is no product {product_id!r} on sale.")
    return gone(known.standing.sale.id, retired=known.standing.retired)


def gone(sale_id: str, *, retired: bool) -> Refusal:
    """What a sale that Redis does not have answers."""
    if retired:
        return Refusal("sale_ended", f"Sale {sale_id} has ended.")
    return Refusal("sale_unavailable", f"Sale {sale_id} is being restored.", retry_after=UNAVAILABLE_RETRY_SECONDS)


def _field_of(wanted: HoldBody, product_id: str) -> str:
    for i, line in enumerate(wanted.lines or ()):
        if line.product_id == product_id:
            return f"lines[{i}].product_id"
    return "product_id"


async def _refusal(services: Services, sale_id: str, wanted: HoldBody, answer: HoldAnswer) -> Refusal:
    match answer.outcome:
        case Outcome.SOLD_OUT:
            return Refusal(
                "sold_out",
                f"{answer.available} of {answer.product} are available; {answer.held} are held and may come back.",
                retry_after=None if answer.wait_ms < 0 else ceil(answer.wait_ms / 1000),
                product_id=answer.product,
                available=answer.available,
                held=answer.held,
            )
        case Outcome.LIMIT_EXCEEDED:
            return Refusal(
                "limit_exceeded",
                f"A customer may have {answer.limit} of {answer.product}; this one has {answer.held_or_bought}.",
                product_id=answer.product,
                limit=answer.limit,
                held_or_bought=answer.held_or_bought,
                hold_ids=[ids.hold_id(sale_id, token) for token in answer.tokens],
            )
        case Outcome.NOT_STARTED:
            return Refusal(
                "sale_not_started",
                f"Sale {sale_id} starts at {shapes.rfc3339_ms(answer.starts_ms)}.",
                retry_after=ceil((answer.starts_ms - answer.now_ms) / 1000),
                starts_at=shapes.rfc3339_ms(answer.starts_ms),
            )
        case Outcome.MIXED_CURRENCIES:
            message = "is sold in another currency than the first line's: a hold is of one currency"
            return invalid([(_field_of(wanted, answer.product), message)])
        case Outcome.UNKNOWN_PRODUCT:
            return Refusal("product_not_found", f"There is no product {answer.product!r} on sale.")
        case Outcome.NO_SALE:
            known = await services.standing(sale_id)
            if known is None:
                return Refusal("product_not_found", "There is no such product on sale.")
            return gone(sale_id, retired=known.retired)
        case _:
            return _of_sale(sale_id, answer.outcome)


def _of_sale(sale_id: str, outcome: Outcome) -> Refusal:
    match outcome:
        case Outcome.MISMATCH:
            return Refusal("idempotency_mismatch", "This Idempotency-Key was used with another body.")
        case Outcome.PAUSED:
            return Refusal("sale_paused", f"Sale {sale_id} is paused.", retry_after=PAUSED_RETRY_SECONDS)
        case Outcome.FENCED:
            return gone(sale_id, retired=False)
        case Outcome.ENDED:
            return gone(sale_id, retired=True)
        case _:
            raise RuntimeError(f"a hold cannot be answered with {outcome}")


async def read(services: Services, hold_id: str) -> Answer:
    """``GET /v1/holds/{id}``: as Redis has it, else as Postgres has it. Raises ``Refusal``: hold_not_found."""
    sale_id, token = _parse(hold_id)
    record, now_ms = await _find(services, sale_id, token)
    return _answer(sale_id, token, record, now_ms)


async def release(services: Services, hold_id: str) -> Answer:
    """``DELETE /v1/holds/{id}``. Raises ``Refusal``: hold_not_found, hold_in_payment, hold_already_used,
    sale_unavailable.
    """
    sale_id, token = _parse(hold_id)
    record, now_ms = await _find(services, sale_id, token)
    change = await services.reads.release(sale_id, token, record.products)
    match change.outcome:
        case Outcome.RELEASED | Outcome.EXPIRED | Outcome.UNCHANGED if change.hold is not None:
            return _answer(sale_id, token, change.hold, change.now_ms)
        case Outcome.NO_SALE | Outcome.NO_HOLD:
            return _release_lost(sale_id, token, record, now_ms)
        case Outcome.IN_PAYMENT:
            await services.slow.run(services.payments.drain, sale_id, change.position)
            raise _in_order("hold_in_payment", "The hold is in payment: cancel its order.", sale_id, token)
        case Outcome.USED:
            await services.slow.run(services.payments.drain, sale_id, change.position)
            raise _in_order("hold_already_used", "The hold was paid for.", sale_id, token)
        case _:
            raise gone(sale_id, retired=False)


def _in_order(code: str, detail: str, sale_id: str, token: str) -> Refusal:
    return Refusal(code, detail, order_id=ids.order_id(sale_id, token))


def _release_lost(sale_id: str, token: str, record: HoldRecord, now_ms: int) -> Answer:
    """A hold that only Postgres knows: over, or waiting for its sale to be restored."""
    match record.status_at(now_ms):
        case "released" | "expired":
            return _answer(sale_id, token, record, now_ms)
        case "sold":
            raise _in_order("hold_already_used", "The hold was paid for.", sale_id, token)
        case _:
            raise gone(sale_id, retired=False)


async def _find(services: Services, sale_id: str, token: str) -> tuple[HoldRecord, int]:
    record, reply = await services.reads.peek(sale_id, token)
    if record is not None:
        return record, reply.now_ms
    kept = await services.quick.run(archive.read_hold, services.db, sale_id, token)
    if kept is not None:
        return kept
    if reply.position.epoch > 1:
        raise _lost()
    if reply.outcome is Outcome.NO_SALE:
        standing = await services.standing(sale_id)
        if standing and not standing.retired:
            raise _lost()
    raise _not_found()


def _parse(hold_id: str) -> tuple[str, str]:
    parsed = ids.parse("hold", hold_id)
    if parsed is None:
        raise _not_found()
    return parsed


def _not_found() -> Refusal:
    return Refusal("hold_not_found", "There is no such hold.")


def _lost() -> Refusal:
    return Refusal("hold_lost", "The hold was lost with data that Redis lost. Take a new one.")


def _answer(sale_id: str, token: str, record: HoldRecord, now_ms: int) -> Answer:
    return Answer(200, shapes.encode(shapes.hold(sale_id, token, record, now_ms)))
