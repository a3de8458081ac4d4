"""What Postgres has of a sale at one moment, brought forward in memory by the events that are not drained yet."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, text

from engine import ids, keys
from engine.command import Client
from engine.events import Event, UnreadableEvent, position_of, read_event
from engine.records import HoldRecord, Line, Position
from persistence.drift import Drift, Finding, MendLedger
from persistence.projection import Counters, Projection

COUNTED: Final = ("held", "paying", "sold")
"""The statuses of holds whose units are taken."""
_CHUNK = 100
"""Entries that one call reads: a thousand large ones would hold up Redis for 80 ms."""


class Moved(RuntimeError):
    """The sale's history changed under the comparison: begin again."""


@dataclass(slots=True)
class Snapshot:
    """``holds`` are those whose units are taken. After ``apply`` it is all as of ``position``: what Redis should have
    then.
    """

    sale_id: str
    retired: bool
    position: Position
    mark: str
    counters: dict[str, Counters]
    holds: dict[str, HoldRecord]
    refused: set[str]
    findings: list[Finding] = field(default_factory=list)
    """What Postgres itself disagrees about."""
    moved: set[str] = field(default_factory=set)
    """Tokens that the applied events changed."""

    def apply(self, events: Iterator[Event]) -> None:
        """Bring it forward. An event that the drain could not write is passed over here too."""
        projection = Projection(self.counters, self.refused)
        for event in events:
            try:
                projection.apply(event)
            except LookupError:
                continue
            self.position = event.position
        for token, (record, _) in projection.holds.items():
            if record.status in COUNTED:
                self.holds[token] = record
            else:
                self.holds.pop(token, None)
        self.moved.update(projection.holds)

    def counters_in_redis(self) -> dict[str, Counters]:
        """What Redis should count: it has sold what Postgres refused, until the money is back and the hold returned."""
        expected = {product: Counters(c.total, c.held, c.sold) for product, c in self.counters.items()}
        for token in self.refused & self.holds.keys():
            record = self.holds[token]
            if record.status == "sold":
                for line in record.lines:
                    expected[line.product].move(line.qty - line.returned, ("available", "sold"))
        return expected


@contextmanager
def one_moment(db: Engine) -> Iterator[Connection]:
    """A connection on which everything is read as of its first query."""
    with db.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as conn:
        yield conn


def read_snapshot(db: Engine, sale_id: str) -> Snapshot | None:
    """None where there is no such sale."""
    with one_moment(db) as conn:
        row = conn.execute(_CURSOR, {"sale": sale_id}).one_or_none()
        if row is None:
            return None
        holds, refused = _read_holds(conn, sale_id)
        counters, findings = _read_counters(conn, sale_id)
        findings += _read_orders(conn, sale_id)
        findings += _read_repeated(conn, sale_id)
        return Snapshot(
            sale_id, row.retired, Position(row.epoch, row.seq), row.mark, counters, holds, refused, findings
        )


_CURSOR = text("""SELECT epoch, seq, mark, retired_at IS NOT NULL AS retired
                    FROM cursors JOIN sales ON sales.id = sale_id WHERE sale_id = :sale""")

_HOLDS = text("""
    SELECT id, status, customer_id, currency, CAST(lines AS text) AS lines, checkout, refused,
           CAST(extract(epoch FROM created_at) * 1000 AS bigint) AS created_ms,
           CAST(extract(epoch FROM expires_at) * 1000 AS bigint) AS expires_ms,
           CAST(extract(epoch FROM pay_by) * 1000 AS bigint) AS pay_by_ms
      FROM holds WHERE sale_id = :sale AND status IN ('held', 'paying', 'sold')""")

_decode_lines = msgspec.json.Decoder(tuple[Line, ...]).decode


def _read_holds(conn: Connection, sale_id: str) -> tuple[dict[str, HoldRecord], set[str]]:
    holds: dict[str, HoldRecord] = {}
    refused: set[str] = set()
    rows = conn.execute(_HOLDS, {"sale": sale_id}, execution_options={"yield_per": 5000})
    for row in rows:
        token = row.id[-ids.TOKEN_LENGTH :]
        holds[token] = HoldRecord(
            row.status,
            row.customer_id,
            row.currency,
            row.created_ms,
            row.expires_ms,
            _decode_lines(row.lines),
            row.pay_by_ms,
            row.checkout,
        )
        if row.refused:
            refused.add(token)
    return holds, refused


_COUNTERS = text("""
    SELECT id, p.total, p.held, p.sold, coalesce(l.total, 0) AS l_total, coalesce(l.held, 0) AS l_held,
           coalesce(l.sold, 0) AS l_sold
      FROM products p LEFT JOIN (
           SELECT product_id,
                  sum(CASE WHEN from_counter IS NULL THEN qty WHEN to_counter IS NULL THEN -qty ELSE 0 END) AS total,
                  sum(CASE 'held' WHEN to_counter THEN qty WHEN from_counter THEN -qty ELSE 0 END) AS held,
                  sum(CASE 'sold' WHEN to_counter THEN qty WHEN from_counter THEN -qty ELSE 0 END) AS sold
             FROM ledger WHERE sale_id = :sale GROUP BY product_id) l ON l.product_id = p.id
     WHERE p.sale_id = :sale ORDER BY id""")


def _read_counters(conn: Connection, sale_id: str) -> tuple[dict[str, Counters], list[Finding]]:
    """The ledger's counters, and where the products' own differ from them."""
    counters: dict[str, Counters] = {}
    findings = []
    for row in conn.execute(_COUNTERS, {"sale": sale_id}):
        counters[row.id] = Counters(int(row.l_total), int(row.l_held), int(row.l_sold))
        for name in ("total", "held", "sold"):
            said, ledger = getattr(row, name), int(getattr(row, f"l_{name}"))
            if said != ledger:
                both = {"products": said, "ledger": ledger}
                drift = Drift("never_oversold", "ledger", row.id, name, postgres=both)
                findings.append(Finding(drift, MendLedger(row.id)))
    return counters, findings


_ORDERS = text("""
    SELECT o.id, o.hold_id, o.status, h.status AS hold_status
      FROM orders o LEFT JOIN holds h ON h.id = o.hold_id
     WHERE o.sale_id = :sale AND o.status <> 'refunded' AND NOT coalesce(
           CASE o.status WHEN 'pending_payment' THEN h.status = 'paying'
                         WHEN 'paid' THEN h.status = 'sold' AND NOT h.refused
                         ELSE h.status IN ('released', 'expired') OR h.refused END, false)
    UNION ALL
    SELECT NULL, h.id, NULL, h.status
      FROM holds h WHERE h.sale_id = :sale AND h.status IN ('paying', 'sold')
       AND NOT EXISTS (SELECT FROM orders o WHERE o.hold_id = h.id)
     ORDER BY 2""")


def _read_orders(conn: Connection, sale_id: str) -> list[Finding]:
    """Orders that their hold contradicts, and holds in payment or sold that have no order."""
    return [
        Finding(
            Drift("no_money_without_a_thing", "order", row.id, "status", redis=row.hold_status, postgres=row.status)
            if row.id
            else Drift("no_money_without_a_thing", "hold", row.hold_id, "order", redis=row.hold_status)
        )
        for row in conn.execute(_ORDERS, {"sale": sale_id})
    ]


_REPEATED = text("""
    SELECT product_id, hold_id, kind, epoch, seq, count(*) AS times
      FROM ledger WHERE sale_id = :sale AND hold_id IS NOT NULL
     GROUP BY product_id, hold_id, kind, epoch, seq HAVING count(*) > 1 ORDER BY epoch, seq""")


def _read_repeated(conn: Connection, sale_id: str) -> list[Finding]:
    """Movements that one event made twice."""
    return [
        Finding(Drift("once", "ledger", f"{row.product_id} {row.epoch}-{row.seq}", row.kind, postgres=row.times))
        for row in conn.execute(_REPEATED, {"sale": sale_id})
    ]


class Tail:
    """The events of a sale from a position on, in order and without a gap."""

    def __init__(self, redis: Client, sale_id: str, position: Position) -> None:
        self._redis = redis
        self._key = keys.events(sale_id)
        self.position = position

    def read(self, until: Position | None = None) -> Iterator[Event]:
        """What came since, up to ``until``. Raises ``Moved`` where the stream does not go on from here."""
        while until is None or self.position < until:
            entries: Any = self._redis.xrange(self._key, min=f"({self.position.entry}", count=_CHUNK)
            for entry_id, fields in entries:
                if position_of(entry_id) != Position(self.position.epoch, self.position.seq + 1):
                    raise Moved
                self.position = position_of(entry_id)
                with suppress(UnreadableEvent):  # the drain sets it aside
                    yield read_event(entry_id, fields)
                if self.position == until:
                    return
            if len(entries) < _CHUNK:
                if until is not None and self.position < until:
                    raise Moved
                return
