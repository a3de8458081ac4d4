"""Reconcile: does Redis say what ledger and stream say? Safe in mid-sale: Postgres is read at one moment, brought
forward in memory to the moment at which Redis is read, and compared with that. Lag is not drift.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, select, text

from engine import commands, keys, shapes
from engine.command import Client, run
from engine.records import Position
from persistence.audit import note
from persistence.comparison import Comparison, compare_counters
from persistence.drift import Drift, Finding, MendCounter, MendCustomer, MendDeadline, MendLedger, Report
from persistence.refusals import Refusal
from persistence.snapshot import Moved, Snapshot, Tail, read_snapshot
from persistence.tables import cursors

__all__ = ["CannotCompare", "Drift", "Repaired", "Report", "StripeCheck", "apply", "reconcile"]

StripeCheck = Callable[[str], Iterable[Drift]]
"""What the payment provider's side finds about a sale, by its id."""

_ATTEMPTS = 3


class CannotCompare(RuntimeError):
    """The two could not be compared; the message says why."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """The sale as it was found, and as it was found again after the repair."""

    before: Report
    after: Report


def reconcile(db: Engine, redis: Client, sale_id: str, stripe: StripeCheck | None = None) -> Report:
    """Compare a sale. Raises ``Refusal`` (``sale_not_found``) and ``CannotCompare``, and what Redis, Postgres or
    ``stripe`` raise.
    """
    report, _, _ = _compare(db, redis, sale_id, stripe)
    return report


def apply(db: Engine, redis: Client, sale_id: str, stripe: StripeCheck | None = None) -> Repaired:
    """Compare, repair what can be repaired while the sale goes on, and compare again. Ledger and stream win. Raises
    as ``reconcile``.
    """
    before, findings, repairs = _compare(db, redis, sale_id, stripe)
    if all(finding.repair is None for finding in findings):
        return Repaired(before, before)
    _repair(db, redis, sale_id, findings, repairs)
    return Repaired(before, reconcile(db, redis, sale_id, stripe))


def _compare(db: Engine, redis: Client, sale_id: str, stripe: StripeCheck | None) -> tuple[Report, list[Finding], int]:
    """The report, the findings about Redis and Postgres, and how many repairs Redis had seen."""
    for last in (False,) * (_ATTEMPTS - 1) + (True,):
        snapshot = read_snapshot(db, sale_id)
        if snapshot is None:
            raise Refusal("sale_not_found", f"There is no sale {sale_id[:64]!r}.")
        try:
            findings, now_ms, repairs = _compare_once(db, redis, snapshot)
        except Moved:
            if last:
                findings, now_ms, repairs = [_astray(redis, snapshot)], _now_ms(), 0
            else:
                continue
        drift = [finding.drift for finding in findings]
        if stripe:
            drift += stripe(sale_id)
        checked_at = shapes.rfc3339_ms(now_ms)
        return Report(sale_id, not drift, snapshot.position.seq, checked_at, drift), findings, repairs
    raise AssertionError("unreachable")


def _compare_once(db: Engine, redis: Client, snapshot: Snapshot) -> tuple[list[Finding], int, int]:
    if snapshot.retired:
        return snapshot.findings, _now_ms(), 0
    sale_id = snapshot.sale_id
    try:
        shown = run(redis, commands.show(sale_id))
    except ValueError as error:
        raise CannotCompare(f"sale {sale_id}: Redis has a counter that is no whole number ({error})") from error
    if shown.sale is None or not _goes_on(redis, snapshot, shown.position):
        raise Moved
    snapshot.apply(Tail(redis, sale_id, snapshot.position).read(until=shown.position))
    snapshot.position = shown.position
    findings = [finding for finding in snapshot.findings if not _undrained(finding, snapshot)]
    findings += compare_counters(snapshot, shown.products)
    findings += Comparison(db, redis, snapshot).run()
    return findings, shown.now_ms, shown.sale.repairs


def _goes_on(redis: Client, snapshot: Snapshot, shown: Position) -> bool:
    """Whether Redis's history is the one that was drained: the cursor's entry is there with its mark."""
    if shown.epoch != snapshot.position.epoch or shown < snapshot.position:
        return False
    if not snapshot.position.seq:
        return True
    entry = snapshot.position.entry
    found: Any = redis.xrange(keys.events(snapshot.sale_id), min=entry, max=entry)
    return bool(found) and found[0][1].get(b"mark", b"").decode() == snapshot.mark


def _undrained(finding: Finding, snapshot: Snapshot) -> bool:
    """An order that awaits an event of its hold is not drift."""
    return finding.drift.kind in ("order", "hold") and finding.drift.id[-20:] in snapshot.moved


def _astray(redis: Client, snapshot: Snapshot) -> Finding:
    """Redis lost the sale, or a part of its history: a rebuild restores it."""
    shown = run(redis, commands.show(snapshot.sale_id))
    position = shown.position.entry if shown.sale else None
    return Finding(Drift("no_stranded_stock", "sale", snapshot.sale_id, "position", position, snapshot.position.entry))


def _now_ms() -> int:
    return shapes.to_ms(datetime.now(UTC))


def _repair(db: Engine, redis: Client, sale_id: str, findings: Sequence[Finding], repairs: int) -> None:
    wanted = [finding.repair for finding in findings if finding.repair]
    ledger = sorted({repair.product for repair in wanted if isinstance(repair, MendLedger)})
    counters = [(each.product, each.field, each.by) for each in wanted if isinstance(each, MendCounter)]
    customers = [(each.field, each.seen, each.value) for each in wanted if isinstance(each, MendCustomer)]
    with db.begin() as conn:
        if ledger:
            _mend_ledger(conn, sale_id, ledger)
        detail = [finding.drift for finding in findings if finding.repair]
        note(conn, "repair", sale_id, drift=shapes.builtins(detail))
    if counters or customers:
        run(redis, commands.mend(sale_id, repairs, counters, customers))
    for each in wanted:
        if isinstance(each, MendDeadline):
            _mend_deadline(redis, sale_id, each)


_MEND_LEDGER = text("""
    UPDATE products p SET total = l.total, held = l.held, sold = l.sold
      FROM (SELECT product_id,
                   sum(CASE WHEN from_counter IS NULL THEN qty WHEN to_counter IS NULL THEN -qty ELSE 0 END) AS total,
                   sum(CASE 'held' WHEN to_counter THEN qty WHEN from_counter THEN -qty ELSE 0 END) AS held,
                   sum(CASE 'sold' WHEN to_counter THEN qty WHEN from_counter THEN -qty ELSE 0 END) AS sold
              FROM ledger WHERE sale_id = :sale AND product_id = ANY(:products) GROUP BY product_id) l
     WHERE p.sale_id = :sale AND p.id = l.product_id""")


def _mend_ledger(conn: Connection, sale_id: str, products: Sequence[str]) -> None:
    """Under the cursor's lock, so that no drain is between its ledger and its counters."""
    conn.execute(select(cursors.c.seq).where(cursors.c.sale_id == sale_id).with_for_update())
    conn.execute(_MEND_LEDGER, {"sale": sale_id, "products": list(products)})


def _mend_deadline(redis: Client, sale_id: str, repair: MendDeadline) -> None:
    """Put the entry back, and take it away again where the hold has ended meanwhile."""
    key = keys.deadlines(sale_id, repair.product) if repair.product else keys.payments(sale_id)
    redis.zadd(key, {repair.token: repair.at_ms})
    _, [record] = run(redis, commands.peek(sale_id, [repair.token]))
    if record is None or record.status != ("held" if repair.product else "paying"):
        redis.zrem(key, repair.token)
