"""A sale on a real Redis beside its model: each step is done to both, and they must agree after it in everything."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

import hiredis
import msgspec
from msgspec.structs import asdict

from engine import ids, keys
from engine.command import Command
from engine.events import Event, read_event
from engine.records import HoldRecord, unpack
from tests.simulator import promises
from tests.simulator.book import Product
from tests.simulator.follower import Follower
from tests.simulator.model import Model
from tests.simulator.promises import Found
from tests.simulator.steps import PRODUCTS
from tests.simulator.wire import Wire, pack

T = TypeVar("T")
SALE: Final = "bf"
CLOCK_MS: Final = 2
"""What Redis's clock may read coarser inside a script than beside it."""


class Broken(AssertionError):
    """A promise does not hold."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Redis's data at an earlier moment."""

    keys: dict[str, bytes]
    model: Model
    history: list[Event]
    unfinished: bool


class World:
    """``run`` sends a call and holds its answer and all that Redis has afterwards against the model."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.calls: Counter[tuple[str, str]] = Counter()
        """How often each script answered each word."""
        self._keys = keys.of_sale(SALE, PRODUCTS)
        sale, stock, holds, customers, payments, events, commands, *deadlines = self._keys
        self._time = pack("TIME")
        self._unshift = pack("HDEL", sale, "shift_ms")
        self._reads = b"".join(
            [
                self._time,
                *(pack("HGETALL", key) for key in (sale, stock, holds, customers, commands)),
                pack("XLEN", events),
                *(pack("ZRANGE", key, 0, -1, "WITHSCORES") for key in (payments, *deadlines)),
            ]
        )
        self._reads_count = 8 + len(deadlines)
        self.start()

    def start(self) -> None:
        """A new sale that is not loaded yet."""
        self.model = Model()
        self.follower = Follower()
        self.history: list[Event] = []
        self.kept: Kept | None = None
        self.unfinished = False
        """A rebuild was stopped; until another one ends, nobody may free the sale."""
        self._seen: list[Any] = []
        self._seen_version = -1
        [_, [seconds, micros]] = self.wire.send(("UNLINK", *self._keys), ("TIME",))
        self._ahead_us = int(seconds) * 1_000_000 + int(micros) - time.time_ns() // 1000
        self.now_ms = (time.time_ns() // 1000 + self._ahead_us) // 1000
        """The sale's time: it moves by steps alone, so that a schedule goes the same way again. A call may see it a
        millisecond later."""

    def run(self, call: Command[T], expected: Callable[[], T]) -> T:
        """Send a call. Raises ``Broken`` where the answer, an event or anything in Redis is not as the model says."""
        self.wire.know(call.script.sha, call.script.source)
        mark = ids.new_mark()
        shift_ms = self.now_ms - (time.time_ns() // 1000 + self._ahead_us) // 1000
        shift = pack("HSET", keys.sale(SALE), "shift_ms", shift_ms)
        position = self.model.position
        evalsha = pack("EVALSHA", call.script.sha, len(call.keys), *call.keys, mark, call.argument)
        events = pack("XRANGE", keys.events(SALE), f"({position.entry}", "+")
        before, _, raw, _, after, *state, entries = self.wire.send_packed(
            [self._time, shift, evalsha, self._unshift, self._reads, events], self._reads_count + 5
        )
        if isinstance(raw, hiredis.ReplyError):
            raise Broken(f"{call.script.name}.lua failed: {raw}")
        self._check_clock(before, raw[2] - shift_ms if self.model.exists else None, after)
        self.model.begin(raw[2], mark)
        wanted = expected()
        try:
            answer, found = call.read(raw), read_entries(entries)
        except (ValueError, TypeError, LookupError, RuntimeError, msgspec.MsgspecError) as error:
            raise Broken(f"{call.script.name}.lua answered or wrote what nobody can read: {error!r}") from error
        self._count(call.script.name, raw[3:])
        if answer != wanted:
            raise Broken(f"{call.script.name}.lua answered\n  {answer}\nand not\n  {wanted}")
        if tuple(raw[:2]) != self.model.position:
            raise Broken(f"{call.script.name}.lua says that the sale stands at {raw[:2]}, not {self.model.position}")
        self._check_events(found)
        self._check_state(state)
        return answer

    def _count(self, script: str, rest: Sequence[Any]) -> None:
        match script:
            case "hold":
                words = rest[::2]
            case "checkout" | "settle":
                words = [said[0] for said in rest]
            case _:
                words = rest[:1]
        for word in words:
            self.calls[script, word.decode()] += 1

    def _check_clock(self, before: Sequence[bytes], unshifted: int | None, after: Sequence[bytes]) -> None:
        """Where there is no sale, there is nobody whose time could be moved."""
        earliest, latest = (int(seconds) * 1000 + int(micros) // 1000 for seconds, micros in (before, after))
        if unshifted is not None and not earliest - CLOCK_MS <= unshifted <= latest + CLOCK_MS:
            raise Broken(f"the script's time is {unshifted}, Redis's {earliest} to {latest}")

    def _check_events(self, found: Sequence[Event]) -> None:
        if found != self.model.events:
            raise Broken(f"the events are\n  {found}\nand not\n  {self.model.events}")
        if self.history and self.history[0].position.epoch != self.model.epoch:
            self.history = []
        self.history.extend(found)

    def _check_state(self, state: list[Any]) -> None:
        if self._seen_version == self.model.version and state == self._seen:
            return
        try:
            found = read_state(state)
        except (ValueError, msgspec.MsgspecError) as error:
            raise Broken(f"something in Redis cannot be read: {error!r}") from error
        model = self.model
        for name, wanted in expectation(model).items():
            value = getattr(found, name)
            if value != wanted:
                raise Broken(f"{name} in Redis: {difference(value, wanted)}")
        try:
            promises.check(found)
        except AssertionError as broken:
            raise Broken(str(broken)) from broken
        self._seen, self._seen_version = state, model.version

    def check(self) -> None:
        """All of the sale, now."""
        _, *state = self.wire.send_packed([self._reads], self._reads_count)
        self._seen_version = -1
        self._check_state(state)


def difference(found: Any, wanted: Any) -> str:
    """Where two values differ; of dicts, only the entries that do."""
    if not (isinstance(found, dict) and isinstance(wanted, dict)):
        return f"\n  {found}\nand not\n  {wanted}"
    differ = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    return "".join(f"\n  {key!r} is {found.get(key)}\n  and not {wanted.get(key)}" for key in differ)


def expectation(model: Model) -> dict[str, Any]:
    """What a ``Found`` must be, by the names of its fields."""
    sale: dict[bytes, bytes] = {}
    if model.exists:
        sale = {name.encode(): str(value).encode() for name, value in model.settings().items()}
        sale |= {b"state": model.state.encode(), b"mark": model.last_mark.encode(), b"fenced": b"%d" % model.fenced}
        sale |= {b"epoch": b"%d" % model.epoch, b"seq": b"%d" % model.seq}
        if model.repairs:
            sale[b"repairs"] = b"%d" % model.repairs
    stock: dict[bytes, bytes] = {}
    for product, of in model.products.items():
        stock.update(_label(product, of))
        id_ = product.encode()
        stock[id_ + b":available"] = b"%d" % model.available(product)
        stock[id_ + b":held"] = b"%d" % model.held[product]
        stock[id_ + b":sold"] = b"%d" % model.sold[product]
    return {
        "sale": sale,
        "stock": stock,
        "holds": model.holds,
        "customers": {field: (qty, frozenset(model.tokens.get(field, ()))) for field, qty in model.owned.items()},
        "payments": model.payments,
        "commands": model.commands,
        "entries": model.seq - model.first_seq + 1,
        "deadlines": {product: model.deadlines.get(product, {}) for product in PRODUCTS},
    }


@lru_cache(maxsize=4096)
def _label(product: str, of: Product) -> dict[bytes, bytes]:
    return {f"{product}:{name}".encode(): str(value).encode() for name, value in asdict(of).items()}


def read_entries(entries: Sequence[Any]) -> list[Event]:
    """Raises ``UnreadableEvent``."""
    return [read_event(id_, dict(zip(flat[::2], flat[1::2], strict=True))) for id_, flat in entries]


def read_state(state: Sequence[Any]) -> Found:
    sale, stock, holds, customers, commands, entries, payments, *deadlines = state
    return Found(
        sale=dict(_pairs(sale)),
        stock=dict(_pairs(stock)),
        holds={token.decode(): _record(record) for token, record in _pairs(holds)},
        customers={field.decode(): _customer(value) for field, value in _pairs(customers)},
        payments={token.decode(): int(ms) for token, ms in _pairs(payments)},
        commands={command.decode(): int(seq) for command, seq in _pairs(commands)},
        entries=entries,
        deadlines={
            product: {token.decode(): int(ms) for token, ms in _pairs(flat)}
            for product, flat in zip(PRODUCTS, deadlines, strict=True)
        },
    )


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


@lru_cache(maxsize=4096)
def _record(packed: bytes) -> HoldRecord:
    return unpack(packed)


@lru_cache(maxsize=4096)
def _customer(value: bytes) -> tuple[int, frozenset[str]]:
    quantity, *tokens = value.decode().split(",")
    return int(quantity), frozenset(tokens)
