"""Ordering what a hold holds: a request's headers and body, then a thread that does it."""

from typing import Final

from api.asker import Asker
from api.bodies import Body, OrderBody
from api.once import given
from api.services import Services
from api.wire import Answer, Headers, check_json, read_key
from payments.checkout import OrderRequest, place_order

_BODY: Final = Body(OrderBody)


def begin(services: Services, asker: Asker, headers: Headers, body: bytes) -> None:
    """``POST /v1/orders`` for the express way. Raises ``Refusal``."""
    wanted, key = _read(services, headers, body)
    asker.later(_place(services, wanted, key))


async def order(services: Services, headers: Headers, body: bytes) -> Answer:
    """The same for a handler that can wait. Raises ``Refusal``, ``Overloaded`` and what Redis and Postgres raise."""
    return await _place(services, *_read(services, headers, body))


def _read(services: Services, headers: Headers, body: bytes) -> tuple[OrderRequest, str | None]:
    services.shop.check(headers.authorization)
    check_json(headers)
    wanted = _BODY.decode(body)
    request = OrderRequest(
        hold_id=wanted.hold_id,
        payment_method_id=wanted.payment_method_id,
        payment_customer_id=wanted.payment_customer_id,
        metadata=wanted.metadata or {},
    )
    return request, read_key(headers)


async def _place(services: Services, wanted: OrderRequest, key: str | None) -> Answer:
    return given(await services.slow.run(place_order, services.payments, wanted, key))
