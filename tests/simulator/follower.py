"""What stands on the other side of the stream: it knows of a sale only what the events said, and can begin it again."""

from dataclasses import dataclass, field

from msgspec.structs import replace

from engine.commands import ResetItem
from engine.events import Event, Kind, LoadedProduct, LoadedSale
from engine.records import HoldRecord, Position
from persistence.projection import Counters, Projection
from tests.simulator.book import LIVE


@dataclass
class Follower:
    """Postgres in memory: the cursor, and what the events up to it add up to by ``persistence.projection``."""

    position: Position = field(default_factory=lambda: Position(1, 0))
    mark: str = ""
    sale: LoadedSale | None = None
    state: str = "open"
    labels: dict[str, LoadedProduct] = field(default_factory=dict)
    commands: dict[str, None] = field(default_factory=dict)
    projection: Projection = field(default_factory=lambda: Projection({}))
    orders: dict[str, HoldRecord] = field(default_factory=dict)
    """Holds as they were checked out, of the orders that somebody wrote before the drain knew of the check-out."""
    ordered_ms: dict[str, int] = field(default_factory=dict)
    """When the order of a token was made; a second check-out of the same hold changes nothing about it."""
    short: bool = False
    """There is less than is held, until a rebuild has ended what does not fit."""

    def follow(self, event: Event) -> None:
        """Raises ``AssertionError`` where the event is not the next one, or sells what is not there."""
        assert event.position == Position(self.position.epoch, self.position.seq + 1), (event.position, self.position)
        if event.kind is Kind.HELD and any(record.status == "paying" for record in event.holds.values()):
            self.short = True  # a hold that was lost may not fit: then its end is among the next events
        self.projection.apply(event)
        assert not self.projection.refused, f"{event.position.entry} sold more than there is"
        self.projection.movements.clear()
        counters = self.projection.counters
        assert min(min(of.held, of.sold) for of in counters.values()) >= 0, (event, counters)
        self.short = self.short and min(of.available for of in counters.values()) < 0
        assert self.short or min(of.available for of in counters.values()) >= 0, (event, counters)
        self.labels |= {item.id: item for item in event.products}
        self.sale = event.sale or self.sale
        self.state = event.state or self.state
        if event.command:
            self.commands[event.command] = None
        if event.kind is Kind.PAYING:
            for token in event.holds:
                self.ordered_ms.setdefault(token, event.at_ms)
        self.position, self.mark = event.position, event.mark

    @property
    def holds(self) -> dict[str, HoldRecord]:
        return {token: record for token, (record, _) in self.projection.holds.items()}

    def check(self) -> None:
        """Raises ``AssertionError`` where the counters that the events moved are not what the holds say."""
        counted = {product: Counters(of.total) for product, of in self.projection.counters.items()}
        for record, _ in self.projection.holds.values():
            for line in record.lines:
                if record.status in LIVE:
                    counted[line.product].held += line.qty - line.returned
                elif record.status == "sold":
                    counted[line.product].sold += line.qty - line.returned
        assert counted == self.projection.counters, (counted, self.projection.counters)

    # A rebuild, as persistence.rebuild does it

    def begin_epoch(self, in_redis: int) -> int:
        self.position, self.mark = Position(max(self.position.epoch, in_redis) + 1, 0), ""
        return self.position.epoch

    def cut(self, units: int) -> None:
        """People found that there is less than was thought, while nobody could be asked: some holds will not fit."""
        for counters in self.projection.counters.values():
            counters.total = max(counters.sold, counters.total - units)
            self.short = self.short or counters.available < 0

    def items(self) -> list[ResetItem]:
        return [
            ResetItem(
                id_, of.name, of.price, of.compare_at, of.currency, of.limit, of.stock, of.rev,
                self.projection.counters[id_].total,
            )
            for id_, of in sorted(self.labels.items())
        ]  # fmt: skip

    def order(self, token: str, record: HoldRecord, at_ms: int) -> bool:
        """An order is written, if its products' labels are known; whether it is a new one."""
        known = all(line.product in self.labels and line.rev <= self.labels[line.product].rev for line in record.lines)
        if known:
            self.ordered_ms.setdefault(token, at_ms)
            self.orders.setdefault(token, record)
        return known

    def lost(self) -> list[tuple[str, HoldRecord]]:
        """Orders of holds that nobody knows any more, as holds in payment."""
        assert self.sale
        found = sorted((self.ordered_ms[token], token) for token in self.orders.keys() - self.projection.holds.keys())
        holds = []
        for began, token in found:
            of = self.orders[token]
            lines = tuple(replace(line, rev=self.labels[line.product].rev) for line in of.lines)
            pay_by = began + self.sale.payment_ttl_ms
            holds.append(
                (token, HoldRecord("paying", of.customer, of.currency, began, began, lines, pay_by, "restored"))
            )
        return holds

    def to_restore(self) -> list[tuple[str, HoldRecord]]:
        """Sold, then those in payment by the time of their orders, then held ones by their events, then the ended."""
        order = {"sold": 0, "paying": 1, "held": 2}

        def rank(item: tuple[str, tuple[HoldRecord, Position]]) -> tuple[int, int, Position, str]:
            token, (record, position) = item
            return order.get(record.status, 3), self.ordered_ms.get(token, 1 << 60), position, token

        return [(token, record) for token, (record, _) in sorted(self.projection.holds.items(), key=rank)]
