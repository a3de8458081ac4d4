"""The drain brings a sale's events from its stream into the tables: rows, ledger and cursor in one transaction, so
each event exactly once.

The sale's cursor row is the lock. The first thing read is the cursor's own entry again: if it is not there with its
mark, Redis lost data, and nothing is written (``Astray``).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, insert
from sqlalchemy.exc import DataError, IntegrityError

from engine import commands, keys, tracing
from engine.command import Client, run
from engine.events import Event, Kind, UnreadableEvent, read_event
from engine.records import Position
from persistence import tables, writes
from persistence.projection import Projection, products_of
from persistence.statement import Statement

ENTRIES_MAX = 400
"""Entries that one transaction reads at most."""
HOLDS_MAX = 4000
"""Holds that one transaction brings, about: past that it holds the cursor's lock longer and goes no faster."""
FIRST_READ = 16
"""Entries that are read first. One has a single hold or a thousand, and 400 of the large ones would hold up Redis for
25 ms, to be read again by each of the 20 transactions that they fill.
"""
READ_GROWTH = 4
"""Times as many entries as before that are read next at most."""
KEEP_ENTRIES = 5000
"""Entries kept behind the cursor: what is drained again should Postgres itself go back."""
TRIM_EVERY = 256


_CANNOT_BE_WRITTEN = (DataError, IntegrityError, LookupError, UnreadableEvent)


class Astray(RuntimeError):
    """The stream does not go on from the sale's cursor: Redis lost data."""


class NotDrained(RuntimeError):
    """The event was not in Postgres in time."""


@dataclass(frozen=True, slots=True)
class Drained:
    """Where the cursor stands, how many events and holds this call brought, and whether more were waiting."""

    position: Position
    events: int = 0
    holds: int = 0
    behind: bool = False


def drain_once(
    db: Engine, redis: Client, sale_id: str, *, wait: bool = True, entries: int = ENTRIES_MAX
) -> Drained | None:
    """Bring the next events of a sale, a bounded number. None where another drainer has the sale and ``wait`` is
    false, or where there is no such sale. Raises ``Astray``, and whatever Redis or Postgres raise; then nothing was
    written.
    """
    while True:
        with db.begin() as conn:
            cursor = _lock_cursor(conn, sale_id, wait)
            if cursor is None:
                return None
            try:
                with conn.begin_nested():
                    return _bring(conn, redis, sale_id, cursor, entries)
            except _CANNOT_BE_WRITTEN as error:
                if entries == 1:
                    return _set_aside(conn, redis, sale_id, cursor, error)
        entries //= 2  # close in on the event that cannot be written


def drain_to(db: Engine, redis: Client, sale_id: str, position: Position, timeout_seconds: float = 5.0) -> None:
    """Return once everything up to ``position`` is in Postgres. Raises ``NotDrained`` after the time-out, else as
    ``drain_once``.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        drained = drain_once(db, redis, sale_id)
        if drained and drained.position >= position:
            return
        if time.monotonic() > deadline:
            raise NotDrained(f"sale {sale_id}: event {position.entry} was not in Postgres after {timeout_seconds:g} s")
        if not drained or not drained.events:
            time.sleep(0.005)


def _bring(conn: Connection, redis: Client, sale_id: str, cursor: tuple[Position, str], entries: int) -> Drained:
    position, mark = cursor
    events, behind = _read_events(redis, sale_id, position, mark, entries)
    if not events:
        return Drained(position)
    began = time.time_ns()
    holds = _write(conn, sale_id, events)
    if tracing.on:
        tracing.brought(sale_id, events, began)
    last = events[-1]
    writes.move_cursor(conn, sale_id, last.position, last.mark)
    if last.position.seq // TRIM_EVERY != position.seq // TRIM_EVERY:
        # What was committed before is what may go; this transaction's own events are not committed yet.
        run(redis, commands.trim(sale_id, position, mark, KEEP_ENTRIES))
    return Drained(last.position, len(events), holds, behind)


def _lock_cursor(conn: Connection, sale_id: str, wait: bool) -> tuple[Position, str] | None:
    statement = _LOCK_CURSOR if wait else _TRY_CURSOR
    row = statement.on(conn, {"sale": sale_id}).one_or_none()
    return (Position(row.epoch, row.seq), row.mark) if row else None


_LOCK_CURSOR: Final = Statement("SELECT epoch, seq, mark FROM cursors WHERE sale_id = :sale FOR UPDATE")
_TRY_CURSOR: Final = Statement(f"{_LOCK_CURSOR.sql} SKIP LOCKED")


def read_on(redis: Client, sale_id: str, cursor: Position, mark: str, entries: int) -> Sequence[Any]:
    """At most ``entries`` + 1 behind the cursor's, after that one was found again. Raises ``Astray``."""
    stream: Any = redis.xrange(keys.events(sale_id), min=cursor.entry, count=entries + 2)
    found: list[Any] = stream
    if cursor.seq:
        if not found or found[0][0].decode() != cursor.entry or found[0][1][b"mark"].decode() != mark:
            raise Astray(f"sale {sale_id}: event {cursor.entry} is not in the stream as it was drained")
        found = found[1:]
    for expected, (entry_id, _) in enumerate(found, cursor.seq + 1):
        if entry_id.decode() != Position(cursor.epoch, expected).entry:
            raise Astray(f"sale {sale_id}: event {entry_id.decode()} where {cursor.epoch}-{expected} should be")
    return found


def _read_events(redis: Client, sale_id: str, cursor: Position, mark: str, entries: int) -> tuple[list[Event], bool]:
    """What fills the transaction, and whether there is more. An unreadable entry raises only where it is the first."""
    events: list[Event] = []
    holds, at_once = 0, FIRST_READ
    while True:
        at_once = min(at_once, entries - len(events))
        found = read_on(redis, sale_id, cursor, mark, at_once)
        for entry_id, fields in found[:at_once]:
            try:
                event = read_event(entry_id, fields)
            except UnreadableEvent:
                if not events:
                    raise
                return events, True
            events.append(event)
            holds += len(event.holds)
            if holds >= HOLDS_MAX:
                return events, event.position.entry != found[-1][0].decode()
        if len(found) <= at_once or len(events) == entries:
            return events, len(found) > at_once
        cursor, mark = events[-1].position, events[-1].mark
        fit = (HOLDS_MAX - holds) * len(events) // max(holds, 1) + 1  # if they are like those before
        at_once = min(fit, READ_GROWTH * at_once)


def _write(conn: Connection, sale_id: str, events: Sequence[Event]) -> int:
    counters = writes.read_counters(conn, sale_id, products_of(events))
    returned = [token for event in events if event.kind is Kind.RETURNED for token in event.holds]
    projection = Projection(counters, writes.read_refused(conn, sale_id, returned))
    for event in events:
        projection.apply(event)
    for event in events:
        if event.kind is Kind.LOADED:
            writes.write_loaded(conn, sale_id, event)
        elif event.kind is Kind.STATE:
            writes.write_state(conn, sale_id, event)
    writes.write_counters(conn, sale_id, projection.counters)
    writes.write_holds(conn, sale_id, projection)
    writes.write_ledger(conn, sale_id, projection.movements)
    writes.write_orders(conn, sale_id, projection)
    return len(projection.holds)


def _set_aside(
    conn: Connection, redis: Client, sale_id: str, cursor: tuple[Position, str], error: Exception
) -> Drained:
    """Keep the next event for people and move the cursor past it. The cursor is locked since the event was tried, so it
    is that event.
    """
    position, mark = cursor
    fields = read_on(redis, sale_id, position, mark, 1)[0][1]
    entry = {repr(name): repr(value) for name, value in fields.items()}
    passed = Position(position.epoch, position.seq + 1)
    said = f"{type(error).__name__}: {error}"[:2000].replace("\0", "")
    conn.execute(
        insert(tables.set_aside).values(sale_id=sale_id, epoch=passed.epoch, seq=passed.seq, entry=entry, error=said)
    )
    writes.move_cursor(conn, sale_id, passed, fields.get(b"mark", b"").decode(errors="replace"))
    return Drained(passed, 1)
