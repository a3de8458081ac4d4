"""What a sale's events mean for its stock, computed in memory: the drain writes what this gathers, reconcile compares
with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from engine.events import Event, Kind
from engine.records import HoldRecord, Position

Edge = tuple[str | None, str | None]
"""From which counter to which units go; None is outside the sale."""


@dataclass(slots=True)
class Counters:
    """One product's units. What is not held and not sold is available; below zero it is a promise that Redis should
    not have made.
    """

    total: int
    held: int = 0
    sold: int = 0

    @property
    def available(self) -> int:
        return self.total - self.held - self.sold

    def read(self, counter: str | None) -> int | None:
        match counter:
            case "held":
                return self.held
            case "sold":
                return self.sold
            case "available":
                return self.available
            case _:
                return None

    def move(self, qty: int, edge: Edge) -> None:
        """``available`` follows from the others by itself."""
        for counter, by in zip(edge, (-qty, qty), strict=True):
            if counter == "held":
                self.held += by
            elif counter == "sold":
                self.sold += by


class Movement(NamedTuple):
    """``qty`` units of a product went from one counter to another (None: into or out of the sale), a row of the
    ledger.
    """

    product: str
    position: Position
    kind: Kind
    token: str | None
    qty: int
    source: str | None
    target: str | None
    source_before: int | None
    target_before: int | None
    reason: str
    command: str
    at_ms: int


EDGES: Final[dict[Kind, Edge]] = {
    Kind.HELD: ("available", "held"),
    Kind.RELEASED: ("held", "available"),
    Kind.EXPIRED: ("held", "available"),
    Kind.SETTLED: ("held", "sold"),
    Kind.RETAKEN: ("available", "sold"),
    Kind.RETURNED: ("sold", "available"),
    Kind.RESTOCKED: ("sold", "available"),
}
"""From which counter to which an event moves its holds' units."""


@dataclass(slots=True)
class Projection:
    """Counters of the products that events touch, brought forward event by event.

    ``refused`` are tokens that Redis sold and the stock did not allow: their units are not in ``sold`` here.
    """

    counters: dict[str, Counters]
    refused: set[str] = field(default_factory=set)
    movements: list[Movement] = field(default_factory=list)
    holds: dict[str, tuple[HoldRecord, Position]] = field(default_factory=dict)
    checked_out: dict[str, tuple[HoldRecord, int]] = field(default_factory=dict)
    """Token -> record and when, in milliseconds."""
    orders: dict[str, Kind] = field(default_factory=dict)
    """Token -> the last event that decided about its order; ``refused`` says which of the sold ones were not."""
    restocks: list[Event] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        """Raises ``KeyError`` for an event about a product that no file loaded."""
        match event.kind:
            case Kind.LOADED:
                for item in event.products:
                    self.counters.setdefault(item.id, Counters(0))
                    self._change_total(event, item.id, item.delta, "sale file")
            case Kind.ADJUSTED:
                self._change_total(event, event.product, event.delta, event.reason)
            case Kind.RESTOCKED:
                self._restock(event)
            case Kind.STATE:
                pass
            case _:
                for token, record in event.holds.items():
                    self._move_hold(event, token, record)

    def _move_hold(self, event: Event, token: str, record: HoldRecord) -> None:
        self.holds[token] = (record, event.position)
        kind = event.kind
        if kind is Kind.PAYING:
            self.checked_out[token] = (record, event.at_ms)
            return
        if kind is not Kind.HELD:
            # Also where the record knows of no check-out: Redis may have lost that, and the order is there.
            self.orders[token] = kind
        edge = EDGES[kind]
        if kind in (Kind.SETTLED, Kind.RETAKEN) and not self._fits(record):
            self.refused.add(token)
            if kind is Kind.RETAKEN:
                return
            edge = EDGES[Kind.RELEASED]
        elif kind is Kind.RETURNED and token in self.refused:
            return
        for line in record.lines:
            self._move(event, token, line.product, line.qty - line.returned, edge)

    def _fits(self, record: HoldRecord) -> bool:
        """The last guard: what is sold never exceeds what there is, whatever Redis said."""
        return all(
            self.counters[line.product].sold + line.qty <= self.counters[line.product].total for line in record.lines
        )

    def _restock(self, event: Event) -> None:
        self.restocks.append(event)
        for token, record in event.holds.items():
            self.holds[token] = (record, event.position)
            for product, qty in event.lines:
                self._move(event, token, product, qty, EDGES[Kind.RESTOCKED])

    def _change_total(self, event: Event, product: str, delta: int, reason: str) -> None:
        counters = self.counters[product]
        if delta > 0:
            self._move(event, None, product, delta, (None, "available"), reason)
        elif delta < 0:
            self._move(event, None, product, -delta, ("available", None), reason)
        counters.total += delta

    def _move(self, event: Event, token: str | None, product: str, qty: int, edge: Edge, reason: str = "") -> None:
        if qty == 0:
            return
        counters = self.counters[product]
        movement = Movement(
            product,
            event.position,
            event.kind,
            token,
            qty,
            source=edge[0],
            target=edge[1],
            source_before=counters.read(edge[0]),
            target_before=counters.read(edge[1]),
            reason=reason,
            command=event.command,
            at_ms=event.at_ms,
        )
        self.movements.append(movement)
        counters.move(qty, edge)


def products_of(events: Iterable[Event]) -> set[str]:
    """Every product that these events touch."""
    found: set[str] = set()
    for event in events:
        found.update(item.id for item in event.products)
        found.update(line.product for record in event.holds.values() for line in record.lines)
        if event.product:
            found.add(event.product)
    return found
