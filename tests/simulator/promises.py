"""The promises themselves, from what Redis has and nothing else: no model of what happened before."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from engine.records import HoldRecord
from tests.simulator.book import LIVE


@dataclass(slots=True)
class Found:
    """A sale in Redis, read but not judged."""

    sale: dict[bytes, bytes]
    stock: dict[bytes, bytes]
    holds: Mapping[str, HoldRecord]
    customers: dict[str, tuple[int, frozenset[str]]]
    payments: dict[str, int]
    commands: dict[str, int]
    entries: int
    """How many events the stream has."""
    deadlines: dict[str, dict[str, int]]


def check(found: Found) -> None:
    """Raises ``AssertionError`` with the promise that is broken."""
    held: Counter[str] = Counter()
    sold: Counter[str] = Counter()
    owned: Counter[str] = Counter()
    tokens: dict[str, set[str]] = {}
    paying = {}
    for token, record in found.holds.items():
        if record.status == "paying":
            paying[token] = record.pay_by_ms
        for line in record.lines:
            units = line.qty - line.returned
            assert 0 <= units <= line.qty, f"{token} stands for {units} of {line.qty}"
            field = f"{line.product}:{record.customer}"
            if record.status in LIVE:
                held[line.product] += units
                tokens.setdefault(field, set()).add(token)
            if record.status == "sold":
                sold[line.product] += units
            if record.status in LIVE or record.status == "sold":
                owned[field] += units
            entry = found.deadlines.get(line.product, {}).get(token)
            assert record.status != "held" or entry == record.expires_ms, f"{token} has no deadline for {line.product}"
    for key, total in found.stock.items():
        if not key.endswith(b":total"):
            continue
        product, of = key[:-6].decode(), key[:-5]
        available, in_holds, in_orders = (int(found.stock[of + name]) for name in (b"available", b"held", b"sold"))
        assert available + in_holds + in_orders == int(total), f"{product}: the counters do not add up: {found.stock}"
        assert min(available, in_holds, in_orders) >= 0, f"{product}: a counter is below zero: {found.stock}"
        assert (in_holds, in_orders) == (held[product], sold[product]), f"{product}: its holds say otherwise"
    assert found.payments == paying, "the payments are not those of the holds in payment"
    wanted = {field: (units, frozenset(tokens.get(field, ()))) for field, units in owned.items() if units}
    assert found.customers == wanted, "customers have other units than their holds say"
