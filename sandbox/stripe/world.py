"""Everything that one stand-in knows, and the one place where events are made.

Handlers are plain functions over the world, called one at a time on the event loop: each is atomic. What they
wrote is committed, and their events go out, before their answer does.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import stripe
from msgspec import Struct

from sandbox.stripe import records
from sandbox.stripe.chaos import Dice
from sandbox.stripe.errors import no_such
from sandbox.stripe.ledger import Ledger
from sandbox.stripe.records import Charge, Customer, Dispute, Intent, Method, Record, Refund, new_id
from sandbox.stripe.shapes import EVENT, Json
from sandbox.stripe.store import Store
from sandbox.stripe.webhooks import Outbox

R = TypeVar("R", bound=Record)
API_VERSION: str = stripe.api_version or "2026-10-28.endive"
_encoder = msgspec.json.Encoder()


class Call(Struct, kw_only=True):
    """One request as a handler sees it. Without `request_id` it is the stand-in itself that acts.

    `public`: it came with the publishable key, as from a browser.
    """

    params: dict[str, Any] = {}
    id: str = ""
    request_id: str | None = None
    key: str | None = None
    public: bool = False
    base_url: str = ""


class Table(Generic[R]):
    """The records of one kind, oldest first."""

    def __init__(self, kind: str, store: Store) -> None:
        self.kind = kind
        self._store = store
        self.rows: list[R] = [records.unpack(kind, body) for body in store.records(kind)]
        self.by_id: dict[str, R] = {row.id: row for row in self.rows}

    def add(self, record: R) -> R:
        record.seq = len(self.rows)
        self.rows.append(record)
        self.by_id[record.id] = record
        self.save(record)
        return record

    def save(self, record: R) -> None:
        self._store.put(self.kind, record)

    def get(self, identifier: str, param: str, *, status: int = 400) -> R:
        """The record, or Stripe's `resource_missing`: 404 for the path's own object, 400 for a parameter's."""
        record = self.by_id.get(identifier)
        if record is None:
            what = "PaymentMethod" if self.kind == "payment_method" else self.kind
            raise no_such(what, identifier[:100], param, status=status)
        return record


class World:
    def __init__(self, store: Store, outbox: Outbox, dice: Dice) -> None:
        self.store = store
        self.outbox = outbox
        self.dice = dice
        self.ledger = Ledger(store)
        self.intents: Table[Intent] = Table("payment_intent", store)
        self.charges: Table[Charge] = Table("charge", store)
        self.methods: Table[Method] = Table("payment_method", store)
        self.customers: Table[Customer] = Table("customer", store)
        self.refunds: Table[Refund] = Table("refund", store)
        self.disputes: Table[Dispute] = Table("dispute", store)
        self.charges_of: dict[str, list[Charge]] = defaultdict(list)
        self.refunds_of: dict[str, list[Refund]] = defaultdict(list)
        for charge in self.charges.rows:
            self.charges_of[charge.intent].append(charge)
        for refund in self.refunds.rows:
            self.refunds_of[refund.intent].append(refund)
        self._unsent: list[int] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._commit: asyncio.Future[None] | None = None

    @classmethod
    def open(cls, data_dir: Path | None, *, seed: int | None = None) -> "World":
        store, dice = Store(data_dir), Dice(seed)
        return cls(store, Outbox(store, dice), dice)

    def now(self) -> int:
        return int(time.time())

    def emit(self, kind: str, shown: Json, call: Call, previous: Json | None = None) -> None:
        """Records an event; its webhook leaves after the commit. `previous`: the attributes that it changed."""
        identifier, created = new_id("evt"), self.now()
        data = {"object": shown} if previous is None else {"object": shown, "previous_attributes": previous}
        wanted = self.outbox.wants(kind)
        body = EVENT | {
            "id": identifier,
            "api_version": API_VERSION,
            "created": created,
            "data": data,
            "pending_webhooks": int(wanted),
            "request": {"id": call.request_id, "idempotency_key": call.key},
            "type": kind,
        }
        state = "pending" if wanted else "none"
        seq = self.store.add_event(identifier, kind, created, _encoder.encode(body), state)
        if wanted:
            self._unsent.append(seq)

    async def committed(self) -> None:
        """Returns once everything so far is committed; requests of the same moment share one commit."""
        if self._commit is None:
            loop = asyncio.get_running_loop()
            self._commit = loop.create_future()
            loop.call_soon(self.commit)
        await self._commit

    def commit(self) -> None:
        self.store.commit()
        waiting, self._commit = self._commit, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        unsent, self._unsent = self._unsent, []
        for seq in unsent:
            self.outbox.offer(seq)

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Does and commits `act` after a while, in this process (see `refunds.resume` for after a restart)."""

        def run() -> None:
            self._timers.discard(timer)
            act()
            self.commit()

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self.store.close()
