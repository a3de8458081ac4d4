"""Orders, payments and attempts as the payments see them. Whoever changes one locks the order's row first, and for a
short time: never while the provider is asked.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import (
    Connection,
    Interval,
    Text,
    any_,
    bindparam,
    cast,
    func,
    literal,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from engine import ids
from persistence.statement import Statement
from persistence.tables import attempts, orders, payments

FOR_GOOD: Final = frozenset({"refused", "lapsed", "late"})
"""Reasons why an order ended after which its hold is never touched again."""


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """An order with its payment. Money in minor units of ``currency``."""

    id: str
    sale_id: str
    hold_id: str
    status: str
    ended_because: str | None
    currency: str
    total: int
    intent_id: str | None
    payment_status: str
    captured: int
    refunded: int
    authorised_at: datetime | None
    due: str | None
    tries: int
    updated_at: datetime

    def key(self, step: str) -> str:
        """The idempotency key of a step that is harmless to repeat (a capture, a cancellation). It is of this try
        alone: the provider answers a key that it knows with what was true then.
        """
        return f"{self.id}-{step}-{self.updated_at.timestamp():.6f}-{self.tries}"

    @property
    def token(self) -> str:
        return self.hold_id[-ids.TOKEN_LENGTH :]

    @property
    def ended_for_good(self) -> bool:
        """Never again paid, whatever arrives: only an order that ran out may still get its units by late money."""
        return self.ended_because in FOR_GOOD or (self.status == "cancelled" and self.ended_because != "expired")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try to pay: all that the provider is sent, written before it is called."""

    number: int
    request_key: str | None
    idempotency_key: str
    parameters: dict[str, Any]
    outcome: str | None
    decline_code: str | None
    created_at: datetime

    @property
    def creates(self) -> bool:
        """It makes the intent; the others confirm it with another card."""
        return "amount" in self.parameters


def read(conn: Connection, order_id: str) -> OrderRecord | None:
    return read_all(conn, [order_id]).get(order_id)


def read_all(conn: Connection, order_ids: Collection[str]) -> dict[str, OrderRecord]:
    """By the order's id; those that do not exist are left out."""
    return _read(conn, _READ, order_ids)


def lock(conn: Connection, order_id: str) -> OrderRecord | None:
    """Lock the order's row, and its payment's, until the transaction ends; both are as they are now."""
    return lock_all(conn, [order_id]).get(order_id)


def lock_all(conn: Connection, order_ids: Collection[str]) -> dict[str, OrderRecord]:
    """The same for several, in the order of their ids, so that two who do so never lock each other out."""
    return _read(conn, _LOCK, order_ids)


def read_by_intents(conn: Connection, intent_ids: Collection[str]) -> dict[str, OrderRecord]:
    """By the intent's id."""
    found = _read(conn, _READ_BY_INTENTS, intent_ids)
    return {order.intent_id: order for order in found.values() if order.intent_id}


def _read(conn: Connection, statement: Statement, wanted: Collection[str]) -> dict[str, OrderRecord]:
    return {row.id: OrderRecord(*row) for row in statement.on(conn, {"ids": list(wanted)})}


_ORDERS: Final = (
    "SELECT o.id, o.sale_id, o.hold_id, o.status, o.ended_because, o.currency, o.total, p.intent_id, p.status,"
    " p.captured, p.refunded, p.authorised_at, p.due, p.tries, p.updated_at"
    " FROM orders o JOIN payments p ON p.order_id = o.id"
)
_READ: Final = Statement(f"{_ORDERS} WHERE o.id = ANY(CAST(:ids AS text[]))")
_LOCK: Final = Statement(f"{_READ.sql} ORDER BY o.id FOR UPDATE")
_READ_BY_INTENTS: Final = Statement(f"{_ORDERS} WHERE p.intent_id = ANY(CAST(:ids AS text[]))")


def products(conn: Connection, order_ids: Collection[str]) -> list[str]:
    """What these orders are about, each product once."""
    return list(_PRODUCTS.on(conn, {"ids": list(order_ids)}).scalars())


_PRODUCTS: Final = Statement("SELECT DISTINCT product_id FROM order_lines WHERE order_id = ANY(CAST(:ids AS text[]))")


def any_of(values: Collection[str]) -> Any:
    """For ``column == any_of(values)``: one array, so that the statement is the same however many there are."""
    return any_(bindparam(None, list(values), ARRAY(Text)))


def seconds(count: float) -> Any:
    """An interval of Postgres's clock, the one that all due times are by."""
    return cast(literal(f"{count} seconds"), Interval)


def in_seconds(count: float) -> Any:
    return func.now() + seconds(count)


def write_payment(conn: Connection, order_id: str, **values: Any) -> None:
    conn.execute(update(payments).where(payments.c.order_id == order_id).values(**values, updated_at=func.now()))


def owe(conn: Connection, order_id: str, due: str, after_seconds: float = 0) -> None:
    """Record what is due, before it is tried."""
    write_payment(conn, order_id, due=due, due_at=in_seconds(after_seconds), tries=0, last_error=None)


NOTHING_DUE: Final[dict[str, Any]] = {"due": None, "due_at": None, "tries": 0, "last_error": None}


def owe_nothing(conn: Connection, order_id: str) -> None:
    write_payment(conn, order_id, **NOTHING_DUE)


def write_reason(conn: Connection, order_id: str, because: str | None) -> None:
    """Why the order ends, for the drain, which ends it."""
    conn.execute(update(orders).where(orders.c.id == order_id).values(ended_because=because))


def read_attempts(conn: Connection, order_id: str) -> list[Attempt]:
    return read_all_attempts(conn, [order_id]).get(order_id, [])


def read_all_attempts(conn: Connection, order_ids: Collection[str]) -> dict[str, list[Attempt]]:
    """By the order's id, each order's in the order of their numbers."""
    found: dict[str, list[Attempt]] = {}
    if not order_ids:
        return found
    for order_id, *attempt in _READ_ATTEMPTS.on(conn, {"ids": list(order_ids)}):
        found.setdefault(order_id, []).append(Attempt(*attempt))
    return found


_READ_ATTEMPTS: Final = Statement(
    "SELECT order_id, number, request_key, idempotency_key, parameters, outcome, decline_code, created_at"
    " FROM attempts WHERE order_id = ANY(CAST(:ids AS text[])) ORDER BY order_id, number"
)


class NewAttempt(NamedTuple):
    """A try to pay that is about to be made."""

    order_id: str
    number: int
    request_key: str | None
    parameters: Mapping[str, Any]


def add_attempts(conn: Connection, new: Sequence[NewAttempt]) -> dict[str, Attempt]:
    """Write tries before they are made, one an order; those that were not there, by their orders. The others stay as
    they were first written.
    """
    columns = {
        "orders": [each.order_id for each in new],
        "numbers": [each.number for each in new],
        "requests": [each.request_key for each in new],
        "keys": [f"{each.order_id}-{each.number}" for each in new],
        "parameters": [msgspec.json.encode(each.parameters).decode() for each in new],
    }
    return {order_id: Attempt(*attempt) for order_id, *attempt in _ADD_ATTEMPTS.on(conn, columns)}


_ADD_ATTEMPTS: Final = Statement(
    "INSERT INTO attempts (order_id, number, request_key, idempotency_key, parameters)"
    " SELECT id, number, request, key, CAST(parameters AS jsonb) FROM unnest(CAST(:orders AS text[]),"
    " CAST(:numbers AS int[]), CAST(:requests AS text[]), CAST(:keys AS text[]), CAST(:parameters AS text[]))"
    " AS new (id, number, request, key, parameters) ON CONFLICT DO NOTHING"
    " RETURNING order_id, number, request_key, idempotency_key, parameters, outcome, decline_code, created_at"
)


def owe_intents(conn: Connection, order_ids: Collection[str], after_seconds: float) -> None:
    """Record that intents are due, where nothing else is and none is there."""
    if not order_ids:
        return
    _OWE_INTENTS.on(conn, {"ids": sorted(order_ids), "after": after_seconds})


_OWE_INTENTS: Final = Statement(
    "UPDATE payments p SET due = 'create', due_at = now() + :after * interval '1 second', tries = 0, last_error = NULL,"
    " updated_at = now() FROM orders o WHERE p.order_id = ANY(CAST(:ids AS text[])) AND o.id = p.order_id"
    " AND o.status = 'pending_payment' AND coalesce(p.intent_id, '') = '' AND p.due IS NULL"
)
# Not `IS NULL`: by the index of intents Postgres would look through all that ever had none.


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How a try to pay went."""

    number: int
    outcome: str
    decline_code: str | None = None


def close_attempts(conn: Connection, results: Sequence[tuple[str, AttemptResult]]) -> None:
    """Write how tries went, each with its order's id."""
    if not results:
        return
    columns = {
        "ids": [order_id for order_id, _ in results],
        "numbers": [result.number for _, result in results],
        "outcomes": [result.outcome for _, result in results],
        "codes": [result.decline_code for _, result in results],
    }
    _CLOSE_ATTEMPTS.on(conn, columns)


_CLOSE_ATTEMPTS: Final = Statement(
    "UPDATE attempts a SET outcome = r.outcome, decline_code = r.code, answered_at = now()"
    " FROM unnest(CAST(:ids AS text[]), CAST(:numbers AS int[]), CAST(:outcomes AS text[]), CAST(:codes AS text[]))"
    " AS r (id, number, outcome, code) WHERE a.order_id = r.id AND a.number = r.number"
)


def renew_key(conn: Connection, order_id: str, attempt: Attempt) -> None:
    """Another idempotency key for the same try: under the old one the provider repeats a failure that left nothing
    behind.
    """
    base, _, renewed = attempt.idempotency_key.partition("+")
    conn.execute(
        update(attempts)
        .where(attempts.c.order_id == order_id, attempts.c.number == attempt.number)
        .where(attempts.c.idempotency_key == attempt.idempotency_key)
        .values(idempotency_key=f"{base}+{int(renewed or 0) + 1}")
    )


def revive_events(conn: Connection, intent_ids: Collection[str]) -> None:
    """Events that waited for these intents' orders are due now."""
    _REVIVE_EVENTS.on(conn, {"intents": list(intent_ids)})


_REVIVE_EVENTS: Final = Statement(
    "UPDATE webhook_events SET due_at = now()"
    " WHERE intent_id = ANY(CAST(:intents AS text[])) AND status = 'pending_order'"
)
