"""Orders and the payment provider's events. All of it is sync work, done in threads."""

from litestar import get, post

import payments.once
from api import examples, ordering, receiving
from api.bodies import Body, EmptyBody, EventBody, OrderBody, PayBody
from api.docs import doc
from api.once import do_once, given
from api.routes.common import AnyRequest, body_of, headers_of, json_body_of, path_of, services_of
from api.services import Services
from api.wire import Answer, read_key
from engine import ids, shapes
from engine.shapes import Order
from payments.cancel import cancel_order
from payments.once import Once
from payments.pay import PayRequest, pay_order
from persistence import orders
from persistence.database import reading
from persistence.refusals import Refusal

_PAY = Body(PayBody)
_EMPTY = Body(EmptyBody)


@post(
    "/v1/orders",
    opt=doc(
        summary="Order what a hold holds",
        description="The hold enters payment, and the payment provider makes an intent for its total. With a saved "
        "card it is confirmed at once; where that card is declined, the answer is 402 and the order stays payable.",
        tag="orders",
        auth="shop",
        status=201,
        answer=Order,
        example=examples.ORDER,
        body=OrderBody,
        body_examples={
            "client_pays": {"hold_id": examples.HOLD_ID, "metadata": {"cart": "8812"}},
            "saved_card": {
                "hold_id": examples.HOLD_ID,
                "payment_method_id": "pm_1PqT0bLkdIwHu7ix",
                "payment_customer_id": "cus_QZ1x",
            },
        },
        keyed=True,
        codes=(
            "hold_not_found",
            "hold_expired",
            "hold_released",
            "hold_lost",
            "hold_already_used",
            "sale_unavailable",
            "card_declined",
            "order_not_payable",
            "payment_provider_unavailable",
            "overloaded",
            "unavailable",
        ),
    ),
)
async def post_order(request: AnyRequest) -> Answer:
    headers = headers_of(request)
    return await ordering.order(services_of(request), headers, await body_of(request, headers))


@get(
    "/v1/orders/{order_id:str}",
    opt=doc(
        summary="An order as it is now",
        tag="orders",
        auth="shop",
        answer=Order,
        example=examples.PAID_ORDER,
        codes=("order_not_found", "overloaded", "unavailable"),
    ),
)
async def get_order(request: AnyRequest) -> Answer:
    services = services_of(request)
    services.shop.check(headers_of(request).authorization)
    order = await services.quick.run(_read_order, services, path_of(request, "order_id"))
    return Answer(200, shapes.encode(order))


def _read_order(services: Services, order_id: str) -> Order:
    if ids.parse("order", order_id) is not None:
        with reading(services.db) as conn:
            order = orders.read_order(conn, order_id)
        if order is not None:
            return order
    raise Refusal("order_not_found", f"There is no order {order_id[:100]!r}.")


@post(
    "/v1/orders/{order_id:str}/pay",
    status_code=200,
    opt=doc(
        summary="Try to pay with another card",
        tag="orders",
        auth="shop",
        answer=Order,
        example=examples.PAID_ORDER,
        body=PayBody,
        body_examples={"another_card": {"payment_method_id": "pm_1PqT0bLkdIwHu7ix"}},
        keyed=True,
        codes=(
            "order_not_found",
            "order_not_payable",
            "card_declined",
            "payment_provider_unavailable",
            "overloaded",
            "unavailable",
        ),
    ),
)
async def post_payment(request: AnyRequest) -> Answer:
    services, headers = services_of(request), headers_of(request)
    services.shop.check(headers.authorization)
    body = await json_body_of(request, headers, _PAY)
    wanted = PayRequest(payment_method_id=body.payment_method_id)
    order_id = path_of(request, "order_id")
    return given(await services.slow.run(pay_order, services.payments, order_id, wanted, read_key(headers)))


@post(
    "/v1/orders/{order_id:str}/cancel",
    status_code=200,
    opt=doc(
        summary="Cancel an order",
        description="Gives the units back and voids an authorisation. Again: the same answer.",
        tag="orders",
        auth="shop",
        answer=Order,
        example=examples.CANCELLED_ORDER,
        body=EmptyBody,
        body_required=False,
        keyed=True,
        codes=(
            "order_not_found",
            "order_not_cancellable",
            "payment_provider_unavailable",
            "sale_unavailable",
            "overloaded",
            "unavailable",
        ),
    ),
)
async def post_cancellation(request: AnyRequest) -> Answer:
    services, headers = services_of(request), headers_of(request)
    services.shop.check(headers.authorization)
    await json_body_of(request, headers, _EMPTY, optional=True)
    order_id = path_of(request, "order_id")
    return given(await services.slow.run(_cancel, services, order_id, read_key(headers)))


def _cancel(services: Services, order_id: str, key: str | None) -> payments.once.Answer:
    parsed = ids.parse("order", order_id)
    if parsed is None:
        raise Refusal("order_not_found", f"There is no order {order_id[:100]!r}.")
    route = f"POST /v1/orders/{order_id}/cancel"

    def act() -> bytes:
        return cancel_order(services.payments, order_id).body

    return do_once(Once(services.payments, route, key, EmptyBody(), parsed[0]), act)


@post(
    "/v1/payments/webhook",
    status_code=200,
    opt=doc(
        summary="An event of the payment provider",
        description="Verified, stored once by its id, and answered; it is handled afterwards, in any order.",
        tag="payments",
        auth="signature",
        answer=dict[str, bool],
        example={"received": True},
        body=EventBody,
        body_examples={"event": examples.EVENT},
        codes=("invalid_signature", "validation_error", "body_too_large", "forbidden", "overloaded", "unavailable"),
    ),
)
async def post_event(request: AnyRequest) -> Answer:
    headers = headers_of(request)
    return await receiving.receive(services_of(request), headers, await body_of(request, headers))


ROUTES = [post_order, get_order, post_payment, post_cancellation, post_event]
