"""The shop asks for a refund: what it may ask for, and what it is answered."""

import base64
import hashlib
from collections import Counter
from typing import Any

import msgspec
from redis.exceptions import RedisError
from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from engine import ids, shapes
from payments import records
from payments.attempts import away
from payments.context import Context
from payments.once import Answer, Once
from payments.pay import not_found
from payments.provider import ProviderRefused, ProviderUnavailable
from payments.records import OrderRecord
from payments.refunds import GIVEN, promised, put_off, show, work
from payments.trail import itself, of_order
from persistence.audit import note
from persistence.database import reading
from persistence.refusals import Refusal
from persistence.tables import order_lines, refunds


class RefundLine(msgspec.Struct, frozen=True):
    product_id: str
    qty: int


class RefundRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``amount`` in minor units; without it the price of ``lines``, without those all that is left. With
    ``restock`` the lines' units are for sale again; a partial refund then names them.
    """

    amount: int | None = None
    reason: str | None = None
    lines: list[RefundLine] | None = None
    restock: bool = False


@of_order("order.refund", itself)
def create_refund(ctx: Context, order_id: str, request: RefundRequest, key: str | None = None) -> Answer:
    """201 with the refund. Raises ``Refusal``: ``order_not_found``, ``order_not_paid``, ``refund_exceeds_payment``
    (with ``amount``, ``captured``, ``refunded`` and ``refundable``), ``validation_error``,
    ``payment_provider_unavailable`` (the workers go on with it), ``idempotency_mismatch``.
    """
    parsed = ids.parse("order", order_id)
    if parsed is None:
        raise not_found(order_id)
    sale_id = parsed[0]
    route = f"POST /v1/admin/orders/{order_id}/refunds"
    once = Once(ctx, route, key, request, sale_id)
    if answer := once.known():
        return answer
    refund_id = ids.refund_id(sale_id, _token(route, key) if key else ids.new_token())
    try:
        _begin(ctx, order_id, refund_id, request)
    except Refusal:
        once.forget()
        raise
    ctx.checkpoint("refund recorded")
    try:
        ctx.drain(sale_id, work(ctx, refund_id))
    except ProviderUnavailable as silence:
        put_off(ctx, refund_id, str(silence))
        raise away(silence) from None
    except RedisError as error:  # the money is on its way; the units follow
        put_off(ctx, refund_id, str(error))
    except ProviderRefused as refused:
        raise _refused(ctx, order_id, refund_id, refused.message, refused.code) from None
    with reading(ctx.db) as conn:
        shown = shapes.encode(show(conn, refund_id))
    return once.answer(201, shown)


def _token(route: str, key: str) -> str:
    # The same key is the same refund, so a request that was cut off finds what it had recorded.
    return base64.urlsafe_b64encode(hashlib.sha256(f"{route}\0{key}".encode()).digest()[:15]).decode()


def _begin(ctx: Context, order_id: str, refund_id: str, request: RefundRequest) -> None:
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        if order is None:
            raise not_found(order_id)
        known = conn.execute(
            select(refunds.c.status, refunds.c.last_error, refunds.c.provider_id).where(refunds.c.id == refund_id)
        ).one_or_none()
        if known is not None:
            if known.status == "failed" and known.provider_id is None:
                raise _exceeds(conn, order, None, known.last_error or "The payment provider refused it.")
            return
        if order.status not in ("paid", "refunded") or order.captured == 0:
            way = ". Wait for its capture, or cancel the order." if order.status == "paid" else ", so none can go back."
            raise Refusal(
                "order_not_paid",
                f"No money of this order was captured{way}",
                order_status=order.status,
                payment_status=order.payment_status,
            )
        lines, price = _lines(conn, order_id, request)
        refundable = order.captured - promised(conn, order_id)
        amount = request.amount if request.amount is not None else (price if request.lines else refundable)
        if amount > refundable or refundable == 0:
            raise _exceeds(conn, order, amount, "The refund is more than what is left of the payment.")
        if amount < 1:
            raise _invalid("amount", "is at least 1")
        if request.restock and not request.lines and amount < refundable:
            raise _invalid("lines", "name the units that return: the refund is a partial one")
        conn.execute(
            insert(refunds).values(
                id=refund_id,
                order_id=order_id,
                amount=amount,
                status="pending",
                reason=request.reason,
                lines=lines,
                restock=request.restock and bool(lines),
                due_at=records.in_seconds(ctx.lease_seconds),
            )
        )
        note(conn, "refund", order_id, refund_id=refund_id, amount=amount, currency=order.currency)


def _lines(conn: Connection, order_id: str, request: RefundRequest) -> tuple[list[Any], int]:
    """The units that the refund is of, as ``[[product, qty], ...]``, and their price. Without lines: with
    ``restock`` all that are left.
    """
    row = order_lines.c
    ordered = {each.product_id: each for each in conn.execute(select(order_lines).where(row.order_id == order_id))}
    left = Counter({product: line.qty for product, line in ordered.items()})
    left.subtract(_units_refunded(conn, order_id))
    if not request.lines:
        return [[product, qty] for product, qty in left.items() if qty > 0] if request.restock else [], 0
    wanted: Counter[str] = Counter()
    for number, line in enumerate(request.lines):
        wanted[line.product_id] += line.qty
        if line.product_id not in ordered:
            raise _invalid(f"lines[{number}].product_id", "is not in the order")
        if line.qty < 1 or wanted[line.product_id] > left[line.product_id]:
            some = left[line.product_id]
            may_be = f"is 1 to {some}, what is left of the line" if some > 0 else "is too many: nothing is left"
            raise _invalid(f"lines[{number}].qty", may_be)
    return [[p, q] for p, q in wanted.items()], sum(ordered[p].unit_price * q for p, q in wanted.items())


def _units_refunded(conn: Connection, order_id: str) -> Counter[str]:
    row = refunds.c
    units: Counter[str] = Counter()
    taken = row.status.in_(GIVEN) | row.restocked
    for lines in conn.scalars(select(row.lines).where(row.order_id == order_id, taken)):
        for product, qty in lines:
            units[product] += qty
    return units


def _invalid(field: str, message: str) -> Refusal:
    return Refusal("validation_error", f"{field} {message}.", errors=[{"field": field, "message": message}])


def _exceeds(conn: Connection, order: OrderRecord, amount: int | None, detail: str) -> Refusal:
    away_already = promised(conn, order.id)
    figures = {"captured": order.captured, "refunded": away_already, "refundable": order.captured - away_already}
    asked = {} if amount is None else {"amount": amount}
    return Refusal("refund_exceeds_payment", detail, currency=order.currency, **asked, **figures)


def _refused(ctx: Context, order_id: str, refund_id: str, message: str, code: str) -> Refusal:
    with reading(ctx.db) as conn:
        order = records.read(conn, order_id)
        assert order is not None
        amount = conn.scalar(select(refunds.c.amount).where(refunds.c.id == refund_id))
        refusal = _exceeds(conn, order, amount, f"The payment provider refused it: {message}")
    refusal.extra["reason"] = code
    return refusal
