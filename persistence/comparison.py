"""Redis, found as it is, against what ledger and stream say that it should be.

Redis goes on while it is read. A hold may be found as any event since the comparison's moment left it; a customer or
a deadline that such an event touched is left out: the next comparison looks at it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import Engine, text

from engine import ids, keys
from engine.command import Client
from engine.events import Event
from engine.records import HoldRecord, ProductState, unpack
from persistence.database import reading
from persistence.drift import Drift, Finding, MendCounter, MendCustomer, MendDeadline, Promise
from persistence.snapshot import COUNTED, Snapshot, Tail

_CHUNK = 1000


def compare_counters(expected: Snapshot, found: Mapping[str, ProductState]) -> list[Finding]:
    """Each product's four counters; both as of one event."""
    findings = []
    wanted = expected.counters_in_redis()
    for product in sorted(wanted.keys() | found.keys()):
        state, counters = found.get(product), wanted.get(product)
        if state is None or counters is None:
            drift = Drift(
                "never_oversold" if counters is None else "no_stranded_stock",
                "product",
                product,
                "total",
                redis=state and state.total,
                postgres=counters and counters.total,
            )
            findings.append(Finding(drift))
            continue
        for field in ("total", "available", "held", "sold"):
            redis, postgres = getattr(state, field), getattr(counters, field)
            if redis != postgres:
                # More to sell than there is, or fewer units taken than were promised, can be sold twice.
                risky = (redis > postgres) == (field in ("total", "available"))
                promise: Promise = "never_oversold" if risky else "no_stranded_stock"
                drift = Drift(promise, "product", product, field, redis=redis, postgres=postgres)
                findings.append(Finding(drift, MendCounter(product, field, postgres - redis)))
    return findings


class Comparison:
    """Holds, customers and deadlines in Redis, read in chunks while the sale goes on."""

    def __init__(self, db: Engine, redis: Client, expected: Snapshot) -> None:
        self._db = db
        self._redis = redis
        self._sale_id = expected.sale_id
        self._expected = expected
        self._tail = Tail(redis, expected.sale_id, expected.position)
        self._later: dict[str, list[HoldRecord]] = {}
        self._later_customers: set[str] = set()

    def run(self) -> list[Finding]:
        """Everything that disagrees. Raises ``Moved``."""
        suspects, missing = self._scan_holds()
        customers = self._scan_customers()
        deadlines = [*self._scan_deadlines(), *self._scan_payments()]
        self._read_on()
        return [
            *self._judge_holds(suspects, missing),
            *(finding for finding, field in customers if field not in self._later_customers),
            *(finding for finding, token in deadlines if token not in self._later),
        ]

    def _read_on(self) -> None:
        """Keep up with the stream, so that nothing is trimmed before it is seen."""
        for event in self._tail.read():
            self._note(event)

    def _note(self, event: Event) -> None:
        for token, record in event.holds.items():
            self._later.setdefault(token, []).append(record)
            self._later_customers.update(f"{line.product}:{record.customer}" for line in record.lines)

    def _chunks(self, command: str, key: str) -> Iterator[Any]:
        """``HSCAN`` or ``ZSCAN`` to its end: all that was there all the time is found, some of it twice."""
        cursor = 0
        while True:
            cursor, found = getattr(self._redis, command)(key, cursor, count=_CHUNK)
            yield found
            self._read_on()
            if cursor == 0:
                return

    def _scan_holds(self) -> tuple[dict[str, HoldRecord | None], set[str]]:
        """Holds that are not as expected (None: unreadable), and those that are not there."""
        wanted = self._expected.holds
        suspects: dict[str, HoldRecord | None] = {}
        seen: set[str] = set()
        for chunk in self._chunks("hscan", keys.holds(self._sale_id)):
            for name, packed in chunk.items():
                token = name.decode()
                seen.add(token)
                try:
                    record = unpack(packed)
                except msgspec.MsgspecError:
                    suspects[token] = None
                    continue
                if not _same(record, wanted.get(token)):
                    suspects[token] = record
        return suspects, wanted.keys() - seen

    def _judge_holds(self, suspects: Mapping[str, HoldRecord | None], missing: set[str]) -> list[Finding]:
        wrong = {
            token: record
            for token, record in suspects.items()
            if record is None or not any(_same(record, later) for later in self._later.get(token, ()))
        }
        wrong.update(dict.fromkeys(missing))
        known = self._read_statuses([token for token in wrong if token not in self._expected.holds])
        return [
            self._finding(token, record, token in missing, known.get(token)) for token, record in sorted(wrong.items())
        ]

    def _read_statuses(self, tokens: list[str]) -> dict[str, str]:
        """What Postgres says of holds whose units are not taken there."""
        if not tokens:
            return {}
        with reading(self._db) as conn:
            rows = conn.execute(
                text("SELECT id, status FROM holds WHERE id = ANY(:ids)"),
                {"ids": [ids.hold_id(self._sale_id, token) for token in tokens]},
            )
            return {row.id[-ids.TOKEN_LENGTH :]: row.status for row in rows}

    def _finding(self, token: str, record: HoldRecord | None, missing: bool, ended: str | None) -> Finding:
        wanted = self._expected.holds.get(token)
        redis = record.status if record else (None if missing else "unreadable")
        postgres = wanted.status if wanted else ended
        promise: Promise = "never_oversold"
        if "sold" in (redis, postgres) and redis != postgres:
            promise = "no_money_without_a_thing"
        elif redis in COUNTED:
            promise = "no_stranded_stock"
        hold_id = ids.hold_id(self._sale_id, token)
        if record and wanted and redis == postgres:
            lines = (msgspec.to_builtins(each.lines) for each in (record, wanted))
            return Finding(Drift(promise, "hold", hold_id, "lines", *lines))
        return Finding(Drift(promise, "hold", hold_id, "status", redis, postgres))

    def _scan_customers(self) -> list[tuple[Finding, str]]:
        """What customers have of each product, as the limit counts it, against what holds say."""
        wanted = self._customers()
        found: dict[str, str] = {}
        for chunk in self._chunks("hscan", keys.customers(self._sale_id)):
            found.update({name.decode(): value.decode() for name, value in chunk.items()})
        findings = []
        for field in sorted(wanted.keys() | found.keys()):
            seen, value = found.get(field, ""), wanted.get(field, "")
            quantity, _, tokens = seen.partition(",")
            wanted_quantity, _, wanted_tokens = value.partition(",")
            if quantity == wanted_quantity and set(tokens.split(",")) == set(wanted_tokens.split(",")):
                continue
            risky = not quantity.isdigit() or int(quantity) < int(wanted_quantity or 0)
            promise: Promise = "never_oversold" if risky else "no_stranded_stock"
            drift = Drift(promise, "customer", field, "held_or_bought", seen or None, value or None)
            findings.append((Finding(drift, MendCustomer(field, seen, value)), field))
        return findings

    def _customers(self) -> dict[str, str]:
        quantities: dict[str, int] = {}
        tokens: dict[str, str] = {}
        for token, record in sorted(self._expected.holds.items(), key=lambda item: item[1].created_ms):
            for line in record.lines:
                field = f"{line.product}:{record.customer}"
                quantities[field] = quantities.get(field, 0) + line.qty - line.returned
                if record.status != "sold":
                    tokens[field] = f"{tokens.get(field, '')},{token}"
        return {
            field: f"{quantity}{tokens.get(field, '')}"
            for field, quantity in quantities.items()
            if quantity or field in tokens
        }

    def _scan_deadlines(self) -> Iterator[tuple[Finding, str]]:
        """Each held hold must be found by its deadline, under each of its products; an entry too many harms nobody."""
        wanted: dict[str, dict[str, int]] = {}
        for token, record in self._expected.holds.items():
            if record.status == "held":
                for line in record.lines:
                    wanted.setdefault(line.product, {})[token] = record.expires_ms
        for product, deadlines in sorted(wanted.items()):
            yield from self._scan_set(keys.deadlines(self._sale_id, product), product, deadlines)

    def _scan_payments(self) -> Iterator[tuple[Finding, str]]:
        holds = self._expected.holds.items()
        wanted = {token: record.pay_by_ms or 0 for token, record in holds if record.status == "paying"}
        if wanted:
            yield from self._scan_set(keys.payments(self._sale_id), "", wanted)

    def _scan_set(self, key: str, product: str, wanted: Mapping[str, int]) -> Iterator[tuple[Finding, str]]:
        found: dict[str, int] = {}
        for chunk in self._chunks("zscan", key):
            found.update({token.decode(): int(score) for token, score in chunk})
        for token, at_ms in wanted.items():
            if found.get(token) != at_ms:
                hold_id = ids.hold_id(self._sale_id, token)
                drift = Drift("no_stranded_stock", "deadline", hold_id, product or "payment", found.get(token), at_ms)
                yield Finding(drift, MendDeadline(token, product, at_ms)), token


def _same(found: HoldRecord, wanted: HoldRecord | None) -> bool:
    """Holds whose units are not taken are all alike."""
    if found.status not in COUNTED:
        return wanted is None or wanted.status not in COUNTED
    if wanted is None:
        return False
    return (found.status, found.customer, found.lines) == (wanted.status, wanted.customer, wanted.lines)
