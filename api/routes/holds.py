"""Holds. Taking one is a raw ASGI route: between the socket and the batcher stands only what the contract asks for."""

from typing import cast

from litestar import asgi, delete, get
from litestar.exceptions import MethodNotAllowedException
from litestar.types import Receive, Scope, Send

from api import examples, holds, taking
from api.bodies import HoldBody
from api.docs import doc
from api.routes.common import AnyRequest, headers_of, path_of, services_of
from api.services import Services
from api.wire import Answer, read_body, read_headers
from engine.shapes import Hold

_ALLOW = "POST, OPTIONS"


@asgi(
    "/v1/holds",
    copy_scope=False,
    opt=doc(
        method="POST",
        summary="Hold units for a customer",
        description="Units of one or more products of one sale, until the hold's deadline. Duplicate products are "
        "summed. With an `Idempotency-Key` the same request again gives the first answer, and takes nothing twice.",
        tag="holds",
        auth="shop",
        status=201,
        answer=Hold,
        example=examples.HOLD,
        body=HoldBody,
        body_examples={
            "lines": {
                "customer_id": "customer-7",
                "lines": [{"product_id": examples.PRODUCT_ID, "qty": 1}],
            },
            "short": {"customer_id": "customer-7", "product_id": examples.PRODUCT_ID, "qty": 1},
        },
        keyed=True,
        codes=(
            "product_not_found",
            "sold_out",
            "limit_exceeded",
            "sale_not_started",
            "sale_ended",
            "sale_paused",
            "sale_unavailable",
            "overloaded",
            "unavailable",
        ),
    ),
)
async def take_hold(scope: Scope, receive: Receive, send: Send) -> None:
    method = scope.get("method")
    if method == "OPTIONS":
        await Answer(204, b"", ((b"allow", _ALLOW.encode()),))(scope, receive, send)
        return
    if method != "POST":
        raise MethodNotAllowedException(headers={"allow": _ALLOW})
    services = cast(Services, scope["litestar_app"].state.services)
    headers = read_headers(scope["headers"])
    wish = taking.read_wish(services, headers, await read_body(receive, headers))
    answer = await taking.take(services, wish)
    await answer(scope, receive, send)


@get(
    "/v1/holds/{hold_id:str}",
    opt=doc(
        summary="A hold as it is now",
        description="A hold past its deadline reads `expired`, swept or not.",
        tag="holds",
        auth="shop",
        answer=Hold,
        example=examples.HOLD,
        codes=("hold_not_found", "hold_lost", "sale_unavailable", "overloaded", "unavailable"),
    ),
)
async def get_hold(request: AnyRequest) -> Answer:
    services = services_of(request)
    services.shop.check(headers_of(request).authorization)
    return await holds.read(services, path_of(request, "hold_id"))


@delete(
    "/v1/holds/{hold_id:str}",
    status_code=200,
    opt=doc(
        summary="Give a hold back",
        description="One that was released or has expired before is answered as it is.",
        tag="holds",
        auth="shop",
        answer=Hold,
        example={**examples.HOLD, "status": "released"},
        codes=(
            "hold_not_found",
            "hold_lost",
            "hold_in_payment",
            "hold_already_used",
            "sale_unavailable",
            "overloaded",
            "unavailable",
        ),
    ),
)
async def release_hold(request: AnyRequest) -> Answer:
    services = services_of(request)
    services.shop.check(headers_of(request).authorization)
    return await holds.release(services, path_of(request, "hold_id"))


ROUTES = [take_hold, get_hold, release_hold]
