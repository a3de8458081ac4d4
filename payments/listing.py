"""What people look at: disputes, and stored events that were not handled."""

from typing import Final, Literal, get_args

import msgspec
from sqlalchemy import Engine, select

from engine.shapes import Money, rfc3339
from persistence.database import reading
from persistence.tables import disputes, webhook_events

Open = Literal["stored", "pending_order", "parked"]
LIMIT_MAX: Final = 10_000

OPEN: Final[tuple[str, ...]] = get_args(Open)
"""The statuses of an event that was not handled: it waits, its order is not known yet, or it is for people."""


class Dispute(msgspec.Struct, frozen=True):
    """``reason`` and ``status`` in Stripe's words. ``order_id`` is null for a charge that is no order's."""

    id: str
    order_id: str | None
    intent: str | None
    amount: Money
    reason: str
    status: str
    created_at: str


class StoredEvent(msgspec.Struct, frozen=True):
    """``reason`` says why it is parked; ``tries`` how often it failed."""

    id: str
    type: str
    status: str
    reason: str | None
    received_at: str
    intent: str | None
    tries: int


def list_disputes(db: Engine, limit: int = LIMIT_MAX) -> list[Dispute]:
    """The newest ``limit`` disputes, the newest first."""
    row = disputes.c
    query = (
        select(row.id, row.order_id, row.intent_id, row.amount, row.currency, row.reason, row.status, row.created_at)
        .order_by(row.created_at.desc(), row.id)
        .limit(limit)
    )
    with reading(db) as conn:
        return [
            Dispute(
                id=found.id,
                order_id=found.order_id,
                intent=found.intent_id,
                amount=Money(found.amount, found.currency),
                reason=found.reason,
                status=found.status,
                created_at=rfc3339(found.created_at),
            )
            for found in conn.execute(query)
        ]


def list_events(db: Engine, status: Open | None = None, limit: int = LIMIT_MAX) -> list[StoredEvent]:
    """The oldest ``limit`` events that were not handled, those of ``status`` or all, the oldest first."""
    row = webhook_events.c
    query = (
        select(row.id, row.type, row.status, row.reason, row.received_at, row.intent_id, row.tries)
        .where(row.handled_at.is_(None), row.status.in_(OPEN if status is None else (status,)))
        .order_by(row.received_at, row.id)
        .limit(limit)
    )
    with reading(db) as conn:
        return [
            StoredEvent(
                id=found.id,
                type=found.type,
                status=found.status,
                reason=found.reason,
                received_at=rfc3339(found.received_at),
                intent=found.intent_id,
                tries=found.tries,
            )
            for found in conn.execute(query)
        ]
