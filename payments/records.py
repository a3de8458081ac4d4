"""Orders, payments and attempts as the payments see them. Whoever changes one locks the order's row first, and for a
short time: never while the provider is asked.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Interval, Select, Text, any_, bindparam, cast, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from engine import ids
from persistence.tables import attempts, order_lines, orders, payments, webhook_events

FOR_GOOD: Final = frozenset({"refused", "lapsed", "late"})
"""Reasons why an order ended after which its hold is never touched again."""
_COLUMNS = (
    orders.c.id, orders.c.sale_id, orders.c.hold_id, orders.c.status, orders.c.ended_because, orders.c.currency,
    orders.c.total, payments.c.intent_id, payments.c.status.label("payment_status"), payments.c.captured,
    payments.c.refunded, payments.c.authorised_at, payments.c.due, payments.c.tries, payments.c.updated_at,
)  # fmt: skip


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


_QUERY = select(*_COLUMNS).join(payments, payments.c.order_id == orders.c.id)


def read(conn: Connection, order_id: str) -> OrderRecord | None:
    return read_all(conn, [order_id]).get(order_id)


def read_all(conn: Connection, order_ids: Collection[str]) -> dict[str, OrderRecord]:
    """By the order's id; those that do not exist are left out."""
    return _read(conn, _QUERY.where(orders.c.id == any_of(order_ids)))


def lock(conn: Connection, order_id: str) -> OrderRecord | None:
    """Lock the order's row, and its payment's, until the transaction ends; both are as they are now."""
    return lock_all(conn, [order_id]).get(order_id)


def lock_all(conn: Connection, order_ids: Collection[str]) -> dict[str, OrderRecord]:
    """The same for several, in the order of their ids, so that two who do so never lock each other out."""
    return _read(conn, _QUERY.where(orders.c.id == any_of(order_ids)).order_by(orders.c.id).with_for_update())


def read_by_intents(conn: Connection, intent_ids: Collection[str]) -> dict[str, OrderRecord]:
    """By the intent's id."""
    found = _read(conn, _QUERY.where(payments.c.intent_id == any_of(intent_ids)))
    return {order.intent_id: order for order in found.values() if order.intent_id}


def _read(conn: Connection, query: Select[Any]) -> dict[str, OrderRecord]:
    return {row.id: OrderRecord(*row) for row in conn.execute(query)}


def products(conn: Connection, order_ids: Collection[str]) -> list[str]:
    """What these orders are about, each product once."""
    return list(
        conn.scalars(select(order_lines.c.product_id).distinct().where(order_lines.c.order_id == any_of(order_ids)))
    )


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
    columns = attempts.c
    rows = conn.execute(
        select(
            columns.number,
            columns.request_key,
            columns.idempotency_key,
            columns.parameters,
            columns.outcome,
            columns.decline_code,
            columns.created_at,
        )
        .where(columns.order_id == order_id)
        .order_by(columns.number)
    )
    return [Attempt(*row) for row in rows]


def add_attempt(
    conn: Connection, order_id: str, number: int, parameters: Mapping[str, Any], request_key: str | None
) -> bool:
    """Write a try before it is made. False where it was there; it stays as it was first written."""
    added = conn.scalar(
        insert(attempts)
        .values(
            order_id=order_id,
            number=number,
            request_key=request_key,
            idempotency_key=f"{order_id}-{number}",
            parameters=dict(parameters),
        )
        .on_conflict_do_nothing()
        .returning(attempts.c.number)
    )
    return added is not None


def close_attempt(conn: Connection, order_id: str, number: int, outcome: str, decline_code: str | None = None) -> None:
    conn.execute(
        update(attempts)
        .where(attempts.c.order_id == order_id, attempts.c.number == number)
        .values(outcome=outcome, decline_code=decline_code, answered_at=func.now())
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
    conn.execute(
        update(webhook_events)
        .where(webhook_events.c.intent_id == any_of(intent_ids), webhook_events.c.status == "pending_order")
        .values(due_at=func.now())
    )
