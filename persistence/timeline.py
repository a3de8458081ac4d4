"""What happened to a hold and to an order, from every table that says so, in the order of time."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, text

from engine import commands, ids, shapes
from engine.command import Client, run
from engine.shapes import rfc3339
from persistence import archive
from persistence.database import reading
from persistence.orders import read_order
from persistence.refusals import Refusal

EACH_MAX: Final = 200
"""Entries of one kind at most: the first of them."""


class Entry(msgspec.Struct, frozen=True):
    """``what`` is a table's word, as ``hold.held``, ``attempt`` or ``event``; ``detail`` is in words."""

    at: str
    what: str
    detail: str


class HoldStory(msgspec.Struct, frozen=True):
    """The hold as it reads now; its times and units' movements."""

    hold: shapes.Hold
    order_id: str | None
    timeline: list[Entry]


class PaymentState(msgspec.Struct, frozen=True):
    """Where the money is. ``due`` is what is owed to the provider or to Redis, and ``tries`` how often that failed."""

    intent_id: str | None
    status: str
    amount: int
    captured: int
    refunded: int
    due: str | None
    tries: int
    last_error: str | None


class OrderStory(msgspec.Struct, frozen=True):
    """The order without its client secret. ``ended_because`` says why a cancelled one was."""

    order: shapes.Order
    ended_because: str | None
    payment: PaymentState
    timeline: list[Entry]


def hold_story(db: Engine, redis: Client, hold_id: str) -> HoldStory:
    """Raises ``Refusal``: hold_not_found."""
    parsed = ids.parse("hold", hold_id)
    if parsed is None:
        raise _no_hold(hold_id)
    sale_id, token = parsed
    reply, [record] = run(redis, commands.peek(sale_id, [token]))
    now_ms = reply.now_ms
    if record is None:
        old = archive.read_hold(db, sale_id, token)
        if old is None:
            raise _no_hold(hold_id)
        record, now_ms = old
    with reading(db) as conn:
        timeline = _read(conn, _OF_HOLD, hold=hold_id, sale=sale_id, products=[line.product for line in record.lines])
        order_id = conn.scalar(text("SELECT id FROM orders WHERE hold_id = :hold"), {"hold": hold_id})
    return HoldStory(shapes.hold(sale_id, token, record, now_ms), order_id, timeline)


def order_story(db: Engine, order_id: str) -> OrderStory:
    """Raises ``Refusal``: order_not_found."""
    with reading(db) as conn:
        order = read_order(conn, order_id) if ids.parse("order", order_id) else None
        if order is None:
            raise Refusal("order_not_found", f"There is no order {order_id[:200]!r}.")
        row = conn.execute(_PAYMENT, {"order": order_id}).one()
        products = [line.product_id for line in order.lines]
        timeline = [
            *_read(conn, _OF_HOLD, hold=order.hold_id, sale=order.sale_id, products=products),
            *_read(conn, _OF_ORDER, order=order_id, intent=order.payment.intent_id),
        ]
    bare = msgspec.structs.replace(order, payment=msgspec.structs.replace(order.payment, client_secret=None))
    state = PaymentState(
        row.intent_id, row.status, row.amount, row.captured, row.refunded, row.due, row.tries, row.last_error
    )
    return OrderStory(bare, row.ended_because, state, sorted(timeline, key=lambda each: each.at))


_PAYMENT = text("""
    SELECT ended_because, intent_id, payments.status, amount, captured, refunded, due, tries, last_error
      FROM orders JOIN payments ON order_id = id WHERE id = :order""")

_OF_HOLD = text("""
    (SELECT created_at AS at, 'hold' AS what, 'taken until ' || to_char(expires_at AT TIME ZONE 'UTC', 'HH24:MI:SS')
        AS detail FROM holds WHERE id = :hold)
    UNION ALL
    (SELECT at, 'hold.' || kind, concat_ws(' ', qty, product_id, from_counter, '->', to_counter, reason) FROM ledger
      WHERE sale_id = :sale AND product_id = ANY(:products) AND hold_id = :hold ORDER BY id LIMIT :limit)
    ORDER BY at, what""")

_OF_ORDER = text("""
    (SELECT created_at AS at, 'order' AS what, 'placed by ' || customer_id AS detail FROM orders WHERE id = :order)
    UNION ALL
    (SELECT changed_at, 'change', concat_ws(' ', "order" ->> 'status', 'payment', "order" #>> '{payment,status}')
       FROM order_changes WHERE order_id = :order ORDER BY position LIMIT :limit)
    UNION ALL
    (SELECT created_at, 'attempt', 'number ' || number || ' begun' FROM attempts
      WHERE order_id = :order ORDER BY number LIMIT :limit)
    UNION ALL
    (SELECT answered_at, 'attempt', concat_ws(' ', 'number ' || number || ':', outcome, decline_code) FROM attempts
      WHERE order_id = :order AND answered_at IS NOT NULL ORDER BY number LIMIT :limit)
    UNION ALL
    (SELECT received_at, 'event', concat_ws(' ', type, id || ':', status, reason) FROM webhook_events
      WHERE intent_id = :intent ORDER BY received_at LIMIT :limit)
    UNION ALL
    (SELECT created_at, 'refund', concat_ws(' ', id || ':', amount, status, reason) FROM refunds
      WHERE order_id = :order ORDER BY created_at LIMIT :limit)
    UNION ALL
    (SELECT created_at, 'dispute', concat_ws(' ', id || ':', amount, status, reason) FROM disputes
      WHERE order_id = :order ORDER BY created_at LIMIT :limit)
    UNION ALL
    (SELECT at, 'audit', concat_ws(' ', action, 'by', detail ->> 'by') FROM audit
      WHERE subject = :order ORDER BY id LIMIT :limit)
    ORDER BY at""")


def _read(conn: Connection, query: Any, **values: Any) -> list[Entry]:
    return [Entry(rfc3339(row.at), row.what, row.detail) for row in conn.execute(query, values | {"limit": EACH_MAX})]


def _no_hold(hold_id: str) -> Refusal:
    return Refusal("hold_not_found", f"There is no hold {hold_id[:200]!r}.")
