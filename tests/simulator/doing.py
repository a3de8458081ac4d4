"""How each step is done: which calls it makes, and what the model says to them."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, TypeVar

from redis.exceptions import ResponseError

from engine import commands, keys
from engine.command import Command, Reply
from engine.commands import LoadItem
from engine.events import Event, LoadedSale
from engine.outcomes import Outcome
from engine.records import HoldRecord, Position
from persistence.rebuild import batched
from tests.simulator import steps
from tests.simulator.model import Model
from tests.simulator.steps import CURRENCIES, CUSTOMERS, PRODUCTS, Step, token
from tests.simulator.world import SALE, Broken, Kept, World, difference, read_entries

T = TypeVar("T")
Peeked = tuple[Outcome, list[HoldRecord | None]]
Restored = list[tuple[str, HoldRecord]]
HOUR_MS: Final = 3_600_000


class Simulation(World):
    """``apply`` does a step and raises ``Broken`` where a promise does not hold after it."""

    def apply(self, step: Step) -> None:
        try:
            getattr(self, method_of(type(step)))(step)
        except ResponseError as error:
            raise Broken(f"Redis refused: {error}") from error

    def intact(self) -> bool:
        """Whether Redis has the history that the follower knows."""
        model, at = self.model, self.follower.position
        return model.exists and at.epoch == model.epoch and (at.seq == 0 or self._known(at, self.follower.mark))

    def _known(self, at: Position, mark: str) -> bool:
        model = self.model
        if at.epoch != model.epoch or not model.first_seq <= at.seq <= model.seq:
            return False
        return self.history[at.seq - 1].mark == mark

    def _brought(self, *holds: int) -> list[str]:
        return list(dict.fromkeys(product for hold in holds for product in self._products(hold)))

    def _products(self, hold: int) -> Sequence[str]:
        record = self.model.holds.get(token(hold))
        return [line.product for line in record.lines] if record else PRODUCTS[:1]

    def _reply(self, outcome: Outcome, rest: Sequence[Any] = ()) -> Reply:
        return Reply(self.model.position, self.model.now, outcome, list(rest))

    def _run_twice(self, again: bool, call: Command[T], expected: Callable[[], T]) -> None:
        """The second time as a client does whose first reply was lost."""
        for _ in range(1 + again):
            self.run(call, expected)

    # A hold's life

    def _hold(self, step: steps.Hold) -> None:
        requests = [ask.request() for ask in step.asks]
        call = commands.hold(SALE, requests, step.reclaim_max)
        self._run_twice(step.again, call, lambda: self.model.hold(requests, step.reclaim_max))

    def _checkout(self, step: steps.Checkout) -> None:
        tokens = [token(hold) for hold, _ in step.asks]
        requests = [f"request-{request}" for _, request in step.asks]
        brought = self._brought(*(hold for hold, _ in step.asks))
        call = commands.checkout(SALE, tokens, brought, requests)
        before = {each: self.model.holds.get(each) for each in tokens}
        self._run_twice(step.again, call, lambda: self.model.checkout(tokens, requests, brought))
        for each, was in before.items():
            record = self.model.holds.get(each)
            if record and record != was:
                self._order(each, record)

    def _order(self, of: str, record: HoldRecord) -> None:
        """The API writes the order before the drain brings the check-out, which Redis may lose in between."""
        self.follower.order(of, record, self.model.now)

    def _settle(self, step: steps.Settle) -> None:
        tokens = [token(hold) for hold in step.holds]
        brought = self._brought(*step.holds)
        call = commands.settle(SALE, tokens, brought)
        self._run_twice(step.again, call, lambda: self.model.settle(tokens, brought))

    def _release(self, step: steps.Release) -> None:
        brought = self._brought(step.hold)[: step.brought]
        call = commands.release(SALE, token(step.hold), brought)
        self._run_twice(step.again, call, lambda: self.model.release(token(step.hold), brought))

    def _cancel(self, step: steps.Cancel) -> None:
        brought = self._brought(step.hold)
        call = commands.cancel(SALE, token(step.hold), brought, step.ending)
        self._run_twice(step.again, call, lambda: self.model.cancel(token(step.hold), step.ending, brought))

    def _retake(self, step: steps.Retake) -> None:
        call = commands.retake(SALE, token(step.hold))
        self._run_twice(step.again, call, lambda: self.model.retake(token(step.hold)))

    def _restock(self, step: steps.Restock) -> None:
        lines = [(PRODUCTS[product], qty) for product, qty in step.lines]
        refund = f"refund-{step.refund}"
        call = commands.restock(SALE, token(step.hold), refund, lines)
        self._run_twice(step.again, call, lambda: self.model.restock(token(step.hold), refund, lines))

    def _expire(self, step: steps.Expire) -> None:
        products = [PRODUCTS[product] for product in step.products]
        call = commands.expire(SALE, products, step.limit)
        self._run_twice(step.again, call, lambda: self.model.expire(products, step.limit))

    # What people do

    def _load(self, step: steps.Load) -> None:
        starts, ends = (self.now_ms + 1000 * after if after else 0 for after in (step.starts, step.ends))
        sale = LoadedSale("Black Friday", starts, ends, step.ttl * 1000, 2 * step.ttl * 1000)
        items = [
            LoadItem(PRODUCTS[p], f"Thing {label}", 1000 + label, 100 * label, CURRENCIES[p], stock, limit)
            for p, stock, limit, label in step.items
        ]
        create = self.follower.sale is None
        call = commands.load(
            SALE,
            create=create,
            name=sale.name,
            starts_ms=starts,
            ends_ms=ends,
            hold_ttl_ms=sale.hold_ttl_ms,
            payment_ttl_ms=sale.payment_ttl_ms,
            items=items,
        )
        self._run_twice(step.again, call, lambda: self.model.load(create=create, sale=sale, items=items))

    def _adjust(self, step: steps.Adjust) -> None:
        product, command = PRODUCTS[step.product], f"command-{step.command}"
        call = commands.adjust(SALE, product, step.delta, "counted", command)
        self._run_twice(step.again, call, lambda: self.model.adjust(product, step.delta, "counted", command))

    def _control(self, step: steps.Control) -> None:
        call = commands.control(SALE, step.state)
        self._run_twice(step.again, call, lambda: self._reply(self.model.control(step.state)))

    def _look(self, step: steps.Look) -> None:
        only = None if step.only is None else [PRODUCTS[product] for product in step.only]
        self.run(commands.show(SALE, only), lambda: self.model.show(SALE, only))
        tokens = [token(hold) for hold in step.holds]
        call = commands.peek(SALE, tokens)

        def read(raw: list[Any]) -> Peeked:
            reply, records = call.read(raw)
            return reply.outcome, records

        self.run(Command(call.script, call.keys, call.argument, read), lambda: self.model.peek(tokens))

    def _fence(self, step: steps.Fence) -> None:
        epoch = 0 if step.epoch is None else max(0, self.model.epoch + step.epoch)
        fenced = step.fenced or self.unfinished
        call = commands.fence(SALE, fenced=fenced, epoch=epoch)
        self.run(call, lambda: self._reply(self.model.fence(fenced=fenced, epoch=epoch)))

    def _mend(self, step: steps.Mend) -> None:
        product, repairs = PRODUCTS[step.product], self.model.repairs
        wrongs, customers = [], []
        if product in self.model.products:
            mine, yours = (f"{product}:{name}" for name in CUSTOMERS[:2])
            fields = (("HGET", keys.customers(SALE), field) for field in (mine, yours))
            [was, had] = (value or b"" for value in self.wire.send(*fields))
            self.wire.send(
                ("HINCRBY", keys.stock(SALE), f"{product}:{step.counter}", step.by),
                ("HSET", keys.customers(SALE), mine, "7,nobody"),
            )
            wrongs = [(product, step.counter, -step.by)]
            # The other one was changed by somebody else since it was compared: it is left alone.
            customers = [(mine, "7,nobody", was.decode()), (yours, had.decode() + "9", "9")]
        call = commands.mend(SALE, repairs, wrongs, customers)
        self._run_twice(step.again, call, lambda: self._reply(*self.model.mend(repairs)))

    def _trim(self, step: steps.Trim) -> None:
        at, mark = self.follower.position, self.follower.mark
        cursor = Position(at.epoch, max(0, at.seq + step.ahead))
        call = commands.trim(SALE, cursor, mark, step.keep)

        def expected() -> Reply:
            outcome, count = self.model.trim(cursor, step.keep, known=self._known(cursor, mark))
            return self._reply(outcome, [count] if outcome is Outcome.TRIMMED else [])

        self.run(call, expected)

    # Time, the other side, and what breaks

    def _pass(self, step: steps.Pass) -> None:
        self.now_ms += step.ms

    def _pass_to(self, step: steps.PassTo) -> None:
        record = self.model.holds.get(token(step.hold))
        if record:
            moments = [record.expires_ms if record.status == "held" else record.pay_by_ms or 0]
        else:
            moments = [self.model.sale.starts_ms, self.model.sale.ends_ms]
        for moment in moments:
            if abs(moment - self.now_ms) < HOUR_MS:
                self.now_ms = moment + step.off
                return

    def _drain(self, step: steps.Drain) -> None:
        at = self.follower.position
        cursor, behind = self.wire.send(
            ("XRANGE", keys.events(SALE), at.entry, at.entry),
            ("XRANGE", keys.events(SALE), f"({at.entry}", "+", "COUNT", step.events),
        )
        found = at.seq == 0 or any(event.mark == self.follower.mark for event in read_entries(cursor))
        if found != (at.seq == 0 or self.intact()):
            raise Broken(f"the cursor's event {at.entry} {'is' if found else 'is not'} in the stream")
        if not self.intact():
            return  # the fence's matter: a rebuild follows
        events = read_entries(behind)
        if events != self.history[at.seq : at.seq + step.events]:
            raise Broken(f"the stream changed behind {at.entry}:\n  {events}\n  {self.history[at.seq :]}")
        if not step.crashes:
            self.follow(events)
            self.compare()

    def follow(self, events: Sequence[Event]) -> None:
        for event in events:
            try:
                self.follower.follow(event)
            except (AssertionError, LookupError) as error:
                raise Broken(f"whoever follows the events fails at {event}: {error!r}") from error

    def within_a_call(self) -> bool:
        """Whether the follower has read a call's first events and not yet its last, so that they do not add up yet."""
        behind = self.history[self.follower.position.seq :] if self.intact() else []
        return bool(behind) and behind[0].mark == self.follower.mark

    def compare(self) -> None:
        """What the events added up to is what there is, once all of them were read."""
        model, follower = self.model, self.follower
        if self.within_a_call():
            return
        try:
            self.follower.check()
        except AssertionError as broken:
            raise Broken(str(broken)) from broken
        if not self.intact() or self.unfinished or follower.position != model.position:
            return
        said = {"holds": follower.holds, "state": follower.state, "sale": follower.sale}
        for name, wanted in (("holds", model.holds), ("state", model.state), ("sale", model.sale)):
            if said[name] != wanted:
                raise Broken(f"the events add up to other {name}: {difference(said[name], wanted)}")
        for product, of in model.products.items():
            counters = follower.projection.counters[product]
            if (counters.total, counters.held, counters.sold) != (of.total, model.held[product], model.sold[product]):
                raise Broken(f"the events add up to {counters} of {product}")

    def _copy(self, _: steps.Copy) -> None:
        dumps = self.wire.send(*(("DUMP", key) for key in self._keys))
        found = {key: dump for key, dump in zip(self._keys, dumps, strict=True) if dump}
        self.kept = Kept(found, self.model.copy(), list(self.history), self.unfinished)

    def _lose(self, step: steps.Lose) -> None:
        kept = self.kept
        self.wire.send(("UNLINK", *self._keys))
        if step.everything or kept is None:
            self.model, self.history, self.unfinished = Model(), [], False
        else:
            self.wire.send(("PING",), *(("RESTORE", key, 0, dump) for key, dump in kept.keys.items()))
            version = self.model.version
            self.model, self.history, self.unfinished = kept.model.copy(), list(kept.history), kept.unfinished
            self.model.version = version + 1
        self.check()

    def _rebuild(self, step: steps.Rebuild) -> None:
        calls = self._rebuilding(step)
        for number, (call, expected) in enumerate(calls):
            if number == step.stops_after:
                return
            self.run(call, expected)
            self.unfinished = number < len(calls) - 1 and (self.unfinished or number > 0)

    def _rebuilding(self, step: steps.Rebuild) -> list[tuple[Command[Reply], Callable[[], Reply]]]:
        """The calls of ``persistence.rebuild``, each with what the model says to it."""
        follower = self.follower
        if follower.sale is None:
            return []  # the sale was never known: there is nothing to begin again
        if self.intact():  # what was not drained yet is no loss
            self.follow(self.history[follower.position.seq :])
        follower.cut(step.cut)
        epoch = follower.begin_epoch(self.model.epoch)
        sale, state, items, holds = follower.sale, follower.state, follower.items(), follower.to_restore()
        settings: dict[str, str | int] = {"name": sale.name, "state": state, "starts_ms": sale.starts_ms}
        settings |= {"ends_ms": sale.ends_ms, "hold_ttl_ms": sale.hold_ttl_ms, "payment_ttl_ms": sale.payment_ttl_ms}
        done = list(follower.commands)
        parts: list[tuple[Restored, list[str], bool]] = [
            *((batch, [], True) for batch in batched(holds, step.batch)),
            *((batch, [], False) for batch in batched(follower.lost(), step.batch)),
            ([], done, True),
        ]
        return [
            (commands.fence(SALE, fenced=True), lambda: self._reply(self.model.fence(fenced=True, epoch=0))),
            (
                commands.reset(SALE, epoch, settings, items),
                lambda: self._reply(self.model.reset(epoch, state, sale, items)),
            ),
            *(self._restoring(epoch, *part) for part in parts),
            (
                commands.fence(SALE, fenced=False, epoch=epoch),
                lambda: self._reply(self.model.fence(fenced=False, epoch=epoch)),
            ),
        ]

    def _restoring(
        self, epoch: int, holds: Restored, done: Sequence[str], known: bool
    ) -> tuple[Command[Reply], Callable[[], Reply]]:
        call = commands.restore(SALE, epoch, holds, done, known=known)
        return call, lambda: self._reply(*self.model.restore(epoch, holds, done, known=known))

    def _overtaken(self, _: steps.Overtaken) -> None:
        epoch, items, sale = self.model.epoch, self.follower.items(), self.model.sale
        if epoch:
            call = commands.reset(SALE, epoch, {}, items)
            self.run(call, lambda: self._reply(self.model.reset(epoch, "open", sale, items)))
        earlier = max(0, epoch - 1)
        held = [(token, record) for token, record in self.follower.to_restore() if record.status == "held"]
        self.run(*self._restoring(earlier, held, ["never"], True))


@cache
def method_of(kind: type[Step]) -> str:
    """``PassTo`` is done by ``_pass_to``."""
    return re.sub(r"([A-Z])", r"_\1", kind.__name__).lower()
