"""What becomes of orders whose rows are locked: gathered in memory, order by order, and written for all at once."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from payments import records
from payments.records import OrderRecord
from persistence.statement import Statement


@dataclass(slots=True)
class _Unwritten:
    """Whether the payment, the intent's link or the order's reason changed, and what an order's record does not hold of
    a payment: None stays as it is. ``after_seconds`` is when what is due may be tried.
    """

    payment: bool = False
    link: bool = False
    reason: bool = False
    authorised: bool = False
    client_secret: str | None = None
    after_seconds: float | None = None
    error: str | None = None


class Change:
    """``order`` is what the order is going to be, ``was`` what it was when it was locked. Nothing is written before
    ``write``.
    """

    __slots__ = ("order", "unwritten", "was")

    def __init__(self, order: OrderRecord) -> None:
        self.was = order
        self.order = order
        self.unwritten = _Unwritten()

    @property
    def is_news(self) -> bool:
        """The order shows it: it goes into the feed."""
        before, after = self.was, self.order
        return (after.intent_id, after.payment_status) != (before.intent_id, before.payment_status)

    def link(self, intent_id: str, client_secret: str | None) -> None:
        """The order did not have its intent yet."""
        self._pay(intent_id=intent_id)
        self.unwritten.link = True
        self.unwritten.client_secret = client_secret

    def note(self, **values: Any) -> None:
        """``payment_status`` and ``captured``, as the provider has them."""
        self._pay(**values)

    def authorise(self) -> None:
        """Money is there, since now."""
        self._pay()
        self.unwritten.authorised = True

    def blame(self, error: str) -> None:
        """Why it does not go on, for people."""
        self._pay()
        self.unwritten.error = error

    def owe(self, due: str, after_seconds: float = 0) -> None:
        """What is due, before it is tried."""
        self._pay(due=due, tries=0)
        self.unwritten.after_seconds = after_seconds

    def owe_nothing(self) -> None:
        self._pay(due=None, tries=0)
        self.unwritten.after_seconds = 0

    def give_reason(self, because: str | None) -> None:
        """Why the order ends, for the drain, which ends it."""
        if because == self.order.ended_because:
            return
        self.order = replace(self.order, ended_because=because)
        self.unwritten.reason = True

    def _pay(self, **values: Any) -> None:
        self.order = replace(self.order, **values)
        self.unwritten.payment = True


class _PaymentRow(msgspec.Struct):
    """A payment's columns as they will be, as JSON."""

    id: str
    intent_id: str | None
    client_secret: str | None
    status: str
    captured: int
    authorised: bool
    due: str | None
    after: float | None
    error: str | None


_WRITE_PAYMENTS: Final = Statement("""
    UPDATE payments p SET intent_id = n.intent_id, client_secret = coalesce(n.client_secret, p.client_secret),
           status = n.status, captured = n.captured,
           authorised_at = CASE WHEN n.authorised THEN coalesce(p.authorised_at, now()) ELSE p.authorised_at END,
           due = n.due,
           due_at = CASE WHEN n.after IS NULL THEN p.due_at
                         WHEN n.due IS NOT NULL THEN now() + n.after * interval '1 second' END,
           tries = CASE WHEN n.after IS NULL THEN p.tries ELSE 0 END,
           last_error = CASE WHEN n.after IS NULL THEN coalesce(n.error, p.last_error) ELSE n.error END,
           updated_at = now()
    FROM json_to_recordset(CAST(:rows AS json))
         AS n (id text, intent_id text, client_secret text, status text, captured bigint, authorised boolean, due text,
               after double precision, error text)
    WHERE p.order_id = n.id AND p.order_id = ANY(CAST(:ids AS text[]))
""")
# The ids say again what the rows say: of those Postgres knows no number, and would read the whole table for them.

_WRITE_REASONS: Final = Statement("""
    UPDATE orders o SET ended_because = n.because
    FROM unnest(CAST(:ids AS text[]), CAST(:reasons AS text[])) AS n (id, because) WHERE o.id = n.id
""")


def write(conn: Connection, changes: Collection[Change]) -> None:
    """Write what was gathered since the last time, with one statement a table however many orders there are."""
    if rows := [_row(each.order, each.unwritten) for each in changes if each.unwritten.payment]:
        ids = [row.id for row in rows]
        _WRITE_PAYMENTS.on(conn, {"rows": msgspec.json.encode(rows).decode(), "ids": ids})
    if linked := [each.order.intent_id or "" for each in changes if each.unwritten.link]:
        records.revive_events(conn, linked)
    if ending := [each.order for each in changes if each.unwritten.reason]:
        reasons = [order.ended_because for order in ending]
        _WRITE_REASONS.on(conn, {"ids": [order.id for order in ending], "reasons": reasons})
    for change in changes:
        change.unwritten = _Unwritten()


def _row(order: OrderRecord, unwritten: _Unwritten) -> _PaymentRow:
    return _PaymentRow(
        order.id,
        order.intent_id,
        unwritten.client_secret,
        order.payment_status,
        order.captured,
        unwritten.authorised,
        order.due,
        unwritten.after_seconds,
        unwritten.error,
    )
