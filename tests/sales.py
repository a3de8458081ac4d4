"""A real server and a sale on it, for tests that read like the rule they check."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
import redis
from sqlalchemy import Engine

from engine import commands, connections, ids, keys
from engine.command import Command, run
from engine.commands import HoldAnswer, HoldRequest, LoadItem, Shown
from engine.events import Event, read_event
from engine.outcomes import Outcome
from engine.records import HoldRecord
from persistence.drain import drain_to

T = TypeVar("T")


@dataclass
class SaleUnderTest:
    """A loaded sale. Holds are taken by ``hold(customer, product=qty)``; ``pass_ms`` moves its time."""

    client: Any
    id: str = "bf"
    passed_ms: int = 0
    products: list[str] = field(default_factory=list)

    def run(self, call: Command[T]) -> T:
        return run(self.client, call)

    def load(self, *, create: bool = True, starts_ms: int = 0, ends_ms: int = 0, **stock: int) -> Outcome:
        items = [LoadItem(name, name.title(), 1000, 0, "usd", units, 0) for name, units in stock.items()]
        return self.load_items(items, create=create, starts_ms=starts_ms, ends_ms=ends_ms)

    def load_items(
        self, items: list[LoadItem], *, create: bool = True, starts_ms: int = 0, ends_ms: int = 0
    ) -> Outcome:
        self.products = list(dict.fromkeys([*self.products, *(item.id for item in items)]))
        call = commands.load(
            self.id,
            create=create,
            name="Black Friday",
            starts_ms=starts_ms,
            ends_ms=ends_ms,
            hold_ttl_ms=60_000,
            payment_ttl_ms=120_000,
            items=items,
        )
        return self.run(call).outcome

    def drain(self, db: Engine) -> None:
        """Bring all that has happened so far into Postgres, however long a busy machine takes."""
        drain_to(db, self.client, self.id, self.show().position, timeout_seconds=60)

    def request(self, customer: str, token: str = "", /, **lines: int) -> HoldRequest:
        return HoldRequest(token or ids.new_token(), customer, tuple(lines.items()))

    def hold_all(self, *requests: HoldRequest) -> list[HoldAnswer]:
        return self.run(commands.hold(self.id, requests))

    def hold(self, customer: str, **lines: int) -> str:
        """Take a hold that must succeed; its token."""
        request = self.request(customer, **lines)
        [answer] = self.hold_all(request)
        assert answer.outcome is Outcome.HELD, answer
        return request.token

    def checkout(self, token: str, checkout_id: str = "first") -> commands.HoldChange:
        [change] = self.run(commands.checkout(self.id, [token], self.products, [checkout_id]))
        return change

    def pay(self, customer: str, **lines: int) -> str:
        """A hold that was checked out and settled; its token."""
        token = self.hold(customer, **lines)
        assert self.checkout(token).outcome is Outcome.PAYING
        [settled] = self.run(commands.settle(self.id, [token], self.products))
        assert settled.outcome is Outcome.SETTLED
        return token

    def show(self) -> Shown:
        return self.run(commands.show(self.id))

    def counters(self, product: str) -> tuple[int, int, int, int]:
        """total, available, held, sold"""
        state = self.show().products[product]
        return state.total, state.available, state.held, state.sold

    def record(self, token: str) -> HoldRecord | None:
        return self.run(commands.peek(self.id, [token]))[1][0]

    def status(self, token: str) -> str:
        record = self.record(token)
        return record.status if record else "none"

    def customer(self, product: str, name: str) -> str | None:
        value = self.client.hget(keys.customers(self.id), f"{product}:{name}")
        return value.decode() if value else None

    def events(self) -> list[Event]:
        return [read_event(*entry) for entry in self.client.xrange(keys.events(self.id))]

    def pass_ms(self, ms: int) -> None:
        self.passed_ms += ms
        self.client.hset(keys.sale(self.id), "shift_ms", self.passed_ms)

    def everything(self) -> dict[bytes, bytes]:
        """All keys as Redis dumps them, to show that nothing changed."""
        return {key: self.client.dump(key) or b"" for key in self.client.keys("*")}

    def check(self) -> None:
        """The first promise, and events without a gap."""
        shown = self.show()
        for state in shown.products.values():
            assert state.available + state.held + state.sold == state.total, state
            assert min(state.available, state.held, state.sold) >= 0, state
        positions = [event.position for event in self.events()]
        assert [position.seq for position in positions] == list(range(1, len(positions) + 1))
        assert shown.position.seq == len(positions)
        records = {token.decode(): self.record(token.decode()) for token in self.client.hkeys(keys.holds(self.id))}
        for product, state in shown.products.items():
            for counter, statuses in (("held", ("held", "paying")), ("sold", ("sold",))):
                counted = sum(
                    line.qty - line.returned
                    for record in records.values()
                    if record and record.status in statuses
                    for line in record.lines
                    if line.product == product
                )
                assert getattr(state, counter) == counted, (product, counter)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    client = connections.connect(redis_url)
    assert isinstance(client, redis.Redis)
    yield client
    client.close()


@pytest.fixture
def sale(client: redis.Redis) -> Iterator[SaleUnderTest]:
    sale = SaleUnderTest(client)
    yield sale
    if sale.products:
        sale.check()


@pytest.fixture
def new_sale(client: redis.Redis) -> Callable[[str], SaleUnderTest]:
    return lambda sale_id: SaleUnderTest(client, sale_id)
