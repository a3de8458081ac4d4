"""What is kept of a customer, and how it is forgotten: every place that names them gets a pseudonym instead, so that
stock, money and the feed still add up.

Only sales that have left Redis are touched (24 h after their end): until then Redis counts what a customer has by name,
an answer may be asked for again, and a restored stream would bring the name back.
"""

import hashlib
import hmac
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, insert, select, text, update

from engine.shapes import rfc3339
from persistence.database import reading
from persistence.secret import ids_secret
from persistence.tables import attempts, audit, holds, orders, payments, webhook_events

PREFIX: Final = "erased_"
PERSONAL: Final = frozenset(
    {
        "address",
        "billing_details",
        "client_secret",
        "customer",
        "customer_account",
        "customer_details",
        "customer_email_address",
        "customer_name",
        "customer_purchase_ip",
        "email",
        "evidence",
        "name",
        "on_behalf_of_email",
        "payment_method",
        "payment_method_details",
        "phone",
        "previous_attributes",
        "receipt_email",
        "receipt_number",
        "receipt_url",
        "shipping",
        "source",
    }
)
"""Names in Stripe's objects whose values are about a person, or lead to one. No handler of an event reads them."""


class KeptInSale(msgspec.Struct, frozen=True):
    """Rows of a customer's in one sale. ``waits_for`` says why they cannot be erased yet; empty: they can."""

    sale_id: str
    holds: int
    orders: list[str]
    feed_changes: int
    payment_events: int
    first_at: str | None
    waits_for: str


class Kept(msgspec.Struct, frozen=True):
    """Everything that names a customer, sale by sale; ``pseudonym`` is what would stand there instead."""

    customer_id: str
    pseudonym: str
    sales: list[KeptInSale]

    @property
    def waiting(self) -> list[KeptInSale]:
        return [each for each in self.sales if each.waits_for]


_SALES = text("""
    SELECT s.id, s.retired_at, s.ends_at, s.ended_at, s.state,
           (SELECT count(*) FROM holds WHERE sale_id = s.id AND customer_id = ANY(:names)) AS holds,
           (SELECT min(created_at) FROM holds WHERE sale_id = s.id AND customer_id = ANY(:names)) AS first_at
      FROM sales s
     WHERE s.id IN (SELECT sale_id FROM holds WHERE customer_id = ANY(:names)
                     UNION SELECT sale_id FROM orders WHERE customer_id = ANY(:names))
     ORDER BY s.created_at, s.id""")

_ORDERS = text("""
    SELECT o.id, o.status = 'pending_payment' OR p.due IS NOT NULL
               OR EXISTS (SELECT FROM refunds r WHERE r.order_id = o.id AND (r.due OR r.status = 'pending'))
               OR EXISTS (SELECT FROM webhook_events w WHERE w.intent_id = p.intent_id AND w.handled_at IS NULL)
               AS open,
           (SELECT count(*) FROM order_changes c WHERE c.order_id = o.id) AS changes,
           (SELECT count(*) FROM webhook_events w WHERE w.intent_id = p.intent_id) AS events
      FROM orders o LEFT JOIN payments p ON p.order_id = o.id
     WHERE o.sale_id = :sale AND o.customer_id = ANY(:names) ORDER BY o.created_at, o.id""")


def read(db: Engine, customer_id: str) -> Kept:
    """What is kept of a customer under their own name."""
    with reading(db) as conn:
        return Kept(customer_id, pseudonym(ids_secret(db), customer_id), _read(conn, [customer_id]))


def erase(db: Engine, customer_id: str) -> Kept:
    """Forget a customer wherever nothing waits; what was erased, and what waits. One transaction a sale: what was cut
    off is gone on with by the same again. So is what came later, such as a payment event of an order erased before.
    """
    name = pseudonym(ids_secret(db), customer_id)
    with reading(db) as conn:
        found = _read(conn, [customer_id, name])
    for sale in found:
        if not sale.waits_for:
            with db.begin() as conn:
                _erase(conn, sale.sale_id, customer_id, name)
    return Kept(customer_id, name, found)


def pseudonym(secret: bytes, customer_id: str) -> str:
    """The same for the same customer, so that erasing can be gone on with; nobody finds the customer by it without the
    secret and a guess. A pseudonym is its own.
    """
    if customer_id.startswith(PREFIX):
        return customer_id
    return PREFIX + hmac.new(secret, b"erased\0" + customer_id.encode(), hashlib.sha256).hexdigest()[:24]


def _read(conn: Connection, names: list[str]) -> list[KeptInSale]:
    found = []
    for sale in conn.execute(_SALES, {"names": names}).all():
        rows = conn.execute(_ORDERS, {"sale": sale.id, "names": names}).all()
        found.append(
            KeptInSale(
                sale_id=sale.id,
                holds=sale.holds,
                orders=[row.id for row in rows],
                feed_changes=sum(row.changes for row in rows),
                payment_events=sum(row.events for row in rows),
                first_at=rfc3339(sale.first_at) if sale.first_at else None,
                waits_for=_waits_for(sale, [row.id for row in rows if row.open]),
            )
        )
    return found


def _waits_for(sale: Any, open_orders: list[str]) -> str:
    if sale.retired_at is None:
        end = (sale.ended_at if sale.state == "ended" else None) or sale.ends_at
        return f"the sale to leave Redis, 24 h after its end ({rfc3339(end) if end else 'which is open'})"
    if open_orders:
        return f"order {open_orders[0]}, whose payment or refund is not finished"
    return ""


def _erase(conn: Connection, sale_id: str, customer_id: str, name: str) -> None:
    both = [customer_id, name]
    mine = orders.c.sale_id == sale_id, orders.c.customer_id.in_(both)
    order_ids = list(conn.scalars(select(orders.c.id).where(*mine).with_for_update()))
    conn.execute(update(orders).where(*mine).values(customer_id=name, metadata={}))
    held = conn.execute(
        update(holds).where(holds.c.sale_id == sale_id, holds.c.customer_id == customer_id).values(customer_id=name)
    )
    changed = conn.execute(_CHANGES, {"orders": order_ids, "name": name})
    tries = attempts.c.parameters.op("-")(text("'customer'")).op("-")(text("'payment_method'"))
    conn.execute(update(attempts).where(attempts.c.order_id.in_(order_ids)).values(parameters=tries))
    events = _erase_events(conn, order_ids)
    _erase_audit(conn, customer_id, name)
    if held.rowcount or changed.rowcount or events:
        detail = {"sale": sale_id, "holds": held.rowcount, "orders": len(order_ids), "payment_events": events}
        conn.execute(insert(audit).values(action="erase_customer", subject=name, detail=detail))


_CHANGES = text("""
    UPDATE order_changes
       SET "order" = "order" || jsonb_build_object('customer_id', CAST(:name AS text), 'metadata', jsonb_build_object())
     WHERE order_id = ANY(:orders) AND "order" ->> 'customer_id' <> :name""")


def _erase_events(conn: Connection, order_ids: list[str]) -> int:
    """Take what is personal out of the provider's events of these orders; how many had any."""
    row = webhook_events.c
    intents = select(payments.c.intent_id).where(payments.c.order_id.in_(order_ids))
    erased = 0
    for event in conn.execute(select(row.id, row.payload).where(row.intent_id.in_(intents))).all():
        bare = _bare(event.payload)
        if bare != event.payload:
            conn.execute(update(webhook_events).where(row.id == event.id).values(payload=bare))
            erased += 1
    return erased


def _bare(value: Any) -> Any:
    """JSON without what is personal, at any depth."""
    if isinstance(value, dict):
        return {name: _bare(inner) for name, inner in value.items() if name not in PERSONAL}
    return [_bare(inner) for inner in value] if isinstance(value, list) else value


def _erase_audit(conn: Connection, customer_id: str, name: str) -> None:
    """Repairs name a customer as ``product:customer``."""
    looked = select(audit.c.id, audit.c.detail).where(
        audit.c.action == "repair", text("strpos(detail::text, :quoted) > 0")
    )
    quoted = msgspec.json.encode(customer_id).decode()[1:]
    for row in conn.execute(looked, {"quoted": quoted}).all():
        conn.execute(update(audit).where(audit.c.id == row.id).values(detail=_renamed(row.detail, customer_id, name)))


def _renamed(value: Any, customer_id: str, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(inner, customer_id, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, customer_id, name) for inner in value]
    if isinstance(value, str) and value == customer_id:
        return name
    if isinstance(value, str) and value.endswith(f":{customer_id}"):
        return value.removesuffix(customer_id) + name
    return value
