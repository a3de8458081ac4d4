"""What operators do: load and steer sales, adjust stock, refund, follow orders, reconcile."""

import contextlib
from typing import Any

from litestar import get, post, put
from redis.exceptions import RedisError

from api import admin, examples
from api.bodies import Body, EmptyBody, RefundBody, SaleFileBody, StockBody, is_name, stock_faults
from api.docs import Query, doc
from api.once import do_once, given
from api.paging import read_limit
from api.routes.common import (
    AnyRequest,
    body_of,
    headers_of,
    json_body_of,
    pages,
    path_of,
    query_of,
    services_of,
)
from api.saleslist import AdminSalePage, admin_page, read_page
from api.services import Services
from api.wire import Answer, Headers, check_json, read_key
from engine import shapes
from engine.shapes import Product, Refund, Sale
from payments.once import Once
from payments.refunding import RefundLine, RefundRequest, create_refund
from persistence import sales
from persistence.drift import Report
from persistence.refusals import Refusal

_STOCK = Body(StockBody, stock_faults)
_REFUND = Body(RefundBody)
_EMPTY = Body(EmptyBody)

_SALE_CODES = ("sale_not_found", "sale_unavailable", "overloaded", "unavailable")


def _admin(request: AnyRequest) -> tuple[Services, Headers]:
    """Raises ``Refusal``: unauthorized, forbidden."""
    services, headers = services_of(request), headers_of(request)
    services.admin.check(headers.authorization)
    return services, headers


@put(
    "/v1/admin/sales/{sale_id:str}",
    opt=doc(
        summary="Load a sale, or bring it up to date",
        description="The body is a sale file; its `id` is the path's, or left out. The same again changes nothing.",
        tag="admin",
        auth="admin",
        answer=Sale,
        example=examples.SALE,
        body=SaleFileBody,
        body_examples={"sale": examples.SALE_FILE},
        codes=(
            "product_in_other_sale",
            "stock_below_committed",
            "sale_ended",
            "sale_unavailable",
            "overloaded",
            "unavailable",
        ),
    ),
)
async def put_sale(request: AnyRequest) -> Answer:
    services, headers = _admin(request)
    body = await body_of(request, headers)
    check_json(headers)
    sale = await services.slow.run(admin.load_sale, services.payments, path_of(request, "sale_id"), body)
    with contextlib.suppress(RedisError):  # it is loaded; this process's copy follows at the first miss
        await services.catalogue.refresh([product.id for product in sale.products])
    return Answer(200, shapes.encode(sale))


@get(
    "/v1/admin/sales",
    opt=doc(
        summary="Every sale, without its products, in the order of their ids",
        tag="admin",
        auth="admin",
        answer=AdminSalePage,
        example={"data": [examples.SALE_SUMMARY], "next_cursor": None},
        query=pages("How many at most."),
        codes=("validation_error", "overloaded", "unavailable"),
    ),
)
async def list_admin_sales(request: AnyRequest) -> Answer:
    services, _ = _admin(request)
    page = await services.quick.run(admin_page, services.payments, *read_page(query_of(request)))
    return Answer(200, shapes.encode(page))


@get(
    "/v1/admin/sales/{sale_id:str}",
    opt=doc(
        summary="A sale with its live counters",
        tag="admin",
        auth="admin",
        answer=Sale,
        example=examples.SALE,
        codes=_SALE_CODES,
    ),
)
async def get_admin_sale(request: AnyRequest) -> Answer:
    services, _ = _admin(request)
    sale = await services.quick.run(admin.show_sale, services.payments, path_of(request, "sale_id"))
    return Answer(200, shapes.encode(sale))


async def _steer(request: AnyRequest, verb: sales.Verb) -> Answer:
    services, _ = _admin(request)
    return await steer(request, services, verb)


async def steer(request: AnyRequest, services: Services, verb: sales.Verb) -> Answer:
    """Change a sale's state, for somebody who may."""
    headers = headers_of(request)
    await json_body_of(request, headers, _EMPTY, optional=True)
    sale_id = path_of(request, "sale_id")
    admin.check_sale_id(sale_id)

    def act() -> Sale:
        return sales.set_state(services.db, services.payments.redis, sale_id, verb)

    route = f"POST /v1/admin/sales/{sale_id}/{verb}"
    once = Once(services.payments, route, read_key(headers), EmptyBody(), sale_id)
    return given(await services.slow.run(do_once, once, act))


def _steering(summary: str, *more_codes: str, status: str) -> dict[str, Any]:
    return doc(
        summary=summary,
        tag="admin",
        auth="admin",
        answer=Sale,
        example={**examples.SALE, "status": status},
        body=EmptyBody,
        body_required=False,
        keyed=True,
        codes=(*_SALE_CODES, *more_codes),
    )


@post(
    "/v1/admin/sales/{sale_id:str}/pause",
    status_code=200,
    opt=_steering("Pause a sale: no new holds; live ones may be ordered and paid", "sale_ended", status="paused"),
)
async def pause_sale(request: AnyRequest) -> Answer:
    return await _steer(request, "pause")


@post(
    "/v1/admin/sales/{sale_id:str}/resume",
    status_code=200,
    opt=_steering("Let a paused sale go on", "sale_ended", status="live"),
)
async def resume_sale(request: AnyRequest) -> Answer:
    return await _steer(request, "resume")


@post(
    "/v1/admin/sales/{sale_id:str}/end",
    status_code=200,
    opt=_steering("End a sale for good", status="ended"),
)
async def end_sale(request: AnyRequest) -> Answer:
    return await _steer(request, "end")


@post(
    "/v1/admin/products/{product_id:str}/stock",
    status_code=200,
    opt=doc(
        summary="Add stock, or take some",
        description="Never below what is held and sold. Answered once the change is in Postgres.",
        tag="admin",
        auth="admin",
        answer=Product,
        example=examples.PRODUCT,
        body=StockBody,
        body_examples={"found": {"delta": 5, "reason": "found a box"}, "lost": {"delta": -2, "reason": "damaged"}},
        keyed=True,
        codes=(
            "product_not_found",
            "stock_below_committed",
            "sale_ended",
            "sale_unavailable",
            "overloaded",
            "unavailable",
        ),
    ),
)
async def post_stock(request: AnyRequest) -> Answer:
    services, _ = _admin(request)
    return await adjust(request, services)


async def adjust(request: AnyRequest, services: Services) -> Answer:
    """Change a product's stock, for somebody who may."""
    headers = headers_of(request)
    body = await json_body_of(request, headers, _STOCK)
    product_id, key = path_of(request, "product_id"), read_key(headers)
    route = f"POST /v1/admin/products/{product_id}/stock"
    sale_id = await _sale_of(services, product_id)

    def act() -> Product:
        command_id = admin.command_id(route, key)
        return sales.adjust_stock(services.db, services.payments.redis, product_id, body.delta, body.reason, command_id)

    once = Once(services.payments, route, key, body, sale_id)
    return given(await services.slow.run(do_once, once, act))


async def _sale_of(services: Services, product_id: str) -> str:
    """Raises ``Refusal``: product_not_found."""
    await services.catalogue.refresh([product_id])
    sale_id = services.catalogue.known(product_id)
    if sale_id is None:
        old = await services.old_product(product_id) if is_name(product_id) else None
        if old is None:
            raise Refusal("product_not_found", f"There is no product {product_id[:64]!r}.")
        sale_id = old.standing.sale.id
    return sale_id


@post(
    "/v1/admin/orders/{order_id:str}/refunds",
    opt=doc(
        summary="Refund an order, whole or in part",
        description="`amount` is in minor units of the order's currency; absent, it is the price of `lines`, or all "
        "that is left. Units return to the sale only where `restock` is true.",
        tag="admin",
        auth="admin",
        status=201,
        answer=Refund,
        example=examples.REFUND,
        body=RefundBody,
        body_required=False,
        body_examples={
            "whole": {"reason": "arrived broken", "restock": False},
            "part": {"amount": 4900, "lines": [{"product_id": examples.PRODUCT_ID, "qty": 1}], "restock": True},
        },
        keyed=True,
        codes=(
            "order_not_found",
            "order_not_paid",
            "refund_exceeds_payment",
            "payment_provider_unavailable",
            "sale_unavailable",
            "overloaded",
            "unavailable",
        ),
    ),
)
async def post_refund(request: AnyRequest) -> Answer:
    services, headers = _admin(request)
    body = await json_body_of(request, headers, _REFUND, optional=True)
    wanted = RefundRequest(
        amount=body.amount,
        reason=body.reason,
        lines=None if body.lines is None else [RefundLine(line.product_id, line.qty) for line in body.lines],
        restock=bool(body.restock),
    )
    order_id = path_of(request, "order_id")
    return given(await services.slow.run(create_refund, services.payments, order_id, wanted, read_key(headers)))


@get(
    "/v1/admin/orders",
    opt=doc(
        summary="Every change of every order, for the shop's order system to follow",
        description="In one order that never changes, without a gap. Keep `next` and come back with it as `after`.",
        tag="admin",
        auth="admin",
        answer=admin.ChangesPage,
        example=examples.CHANGES,
        query=(
            Query("after", "`next` of the answer before; absent: from the first change."),
            Query(
                "limit",
                "How many at most.",
                {"type": "integer", "minimum": 1, "maximum": admin.CHANGES_MAX, "default": admin.CHANGES_DEFAULT},
            ),
        ),
        codes=("validation_error", "overloaded", "unavailable"),
    ),
)
async def list_changes(request: AnyRequest) -> Answer:
    services, _ = _admin(request)
    query = query_of(request)
    limit = read_limit(query, admin.CHANGES_DEFAULT, admin.CHANGES_MAX)
    page = await services.quick.run(admin.list_changes, services.payments, query.get("after") or "0", limit)
    return Answer(200, shapes.encode(page))


@get(
    "/v1/admin/sales/{sale_id:str}/reconciliation",
    opt=doc(
        summary="Compare Redis, Postgres and the payment provider",
        tag="admin",
        auth="admin",
        answer=Report,
        example=examples.REPORT,
        codes=(*_SALE_CODES, "payment_provider_unavailable"),
    ),
)
async def get_reconciliation(request: AnyRequest) -> Answer:
    services, _ = _admin(request)
    report = await services.slow.run(admin.read_reconciliation, services.payments, path_of(request, "sale_id"))
    return Answer(200, shapes.encode(report))


ROUTES = [
    list_admin_sales,
    put_sale,
    get_admin_sale,
    pause_sale,
    resume_sale,
    end_sale,
    post_stock,
    post_refund,
    list_changes,
    get_reconciliation,
]
