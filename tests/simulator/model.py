"""What each request to a sale must be answered, in plain Python: the rules of the scripts' headers, in their order."""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from engine.commands import HoldAnswer, HoldChange, HoldRequest
from engine.events import Kind
from engine.outcomes import Outcome
from engine.records import Position
from tests.simulator.book import ENDED
from tests.simulator.holding import Batch
from tests.simulator.operations import Operations


class Model(Operations):
    """The sale that a right set of scripts has. Each method is a call: it answers what the script must answer, and
    changes what the script must change. ``brought`` are the products whose deadlines the call brought.
    """

    def hold(self, requests: Sequence[HoldRequest], reclaim_max: int) -> list[HoldAnswer]:
        if not self.exists:
            return [HoldAnswer(self.position, self.now, Outcome.NO_SALE) for _ in requests]
        batch = Batch(self, requests, reclaim_max)
        answers = [batch.decide(request) for request in requests]
        self.emit_holds(Kind.EXPIRED, batch.expired)
        self.emit_holds(Kind.HELD, batch.held)
        return [HoldAnswer(self.position, self.now, word, **rest) for word, rest in answers]

    def _change(self, outcome: Outcome, token: str = "", product: str = "") -> HoldChange:
        return HoldChange(self.position, self.now, outcome, self.holds.get(token), product)

    def _become(self, token: str, status: str, kind: Kind, brought: Iterable[str], **more: Any) -> None:
        self.put(token, replace(self.holds[token], status=status, **more), brought)
        self.emit_holds(kind, [token])

    def checkout(self, tokens: Sequence[str], checkouts: Sequence[str], brought: Sequence[str]) -> list[HoldChange]:
        entered: list[str] = []
        asks = zip(tokens, checkouts, strict=True)
        decided = [self._checkout(token, checkout, brought, entered) for token, checkout in asks]
        self.emit_holds(Kind.PAYING, entered)
        return [self._change(*each) for each in decided]

    def _checkout(self, token: str, checkout: str, brought: Sequence[str], entered: list[str]) -> tuple[Outcome, str]:
        record = self.holds.get(token)
        if refusal := self.shut() or (None if record else Outcome.NO_HOLD):
            return refusal, ""
        assert record
        if record.checkout == checkout:
            return Outcome.REPLAYED, token
        if record.checkout or record.status == "sold":
            return Outcome.USED, token
        if record.status == "released":
            return Outcome.RELEASED, token
        if record.status == "expired" or self.overdue(record):
            return Outcome.EXPIRED, token
        pay_by = self.now + self.sale.payment_ttl_ms
        self.put(token, replace(record, status="paying", pay_by_ms=pay_by, checkout=checkout), brought)
        entered.append(token)
        return Outcome.PAYING, token

    def settle(self, tokens: Sequence[str], brought: Sequence[str]) -> list[HoldChange]:
        settled: list[str] = []
        decided = [self._settle(token, brought, settled) for token in tokens]
        self.emit_holds(Kind.SETTLED, settled)
        return [self._change(*each) for each in decided]

    def _settle(self, token: str, brought: Sequence[str], settled: list[str]) -> tuple[Outcome, str]:
        record = self.holds.get(token)
        if refusal := self.shut() or (None if record else Outcome.NO_HOLD):
            return refusal, ""
        assert record
        if record.status in ("sold", "released", "expired"):
            return Outcome.REPLAYED if record.status == "sold" else Outcome(record.status), token
        self.put(token, replace(record, status="sold"), brought)
        settled.append(token)
        return Outcome.SETTLED, token

    def release(self, token: str, brought: Iterable[str]) -> HoldChange:
        record = self.holds.get(token)
        if refusal := self.shut() or (None if record else Outcome.NO_HOLD):
            return self._change(refusal)
        assert record
        if record.status != "held":
            word = {"paying": Outcome.IN_PAYMENT, "sold": Outcome.USED}.get(record.status, Outcome.UNCHANGED)
            return self._change(word, token)
        ending = "expired" if self.overdue(record) else "released"
        self._become(token, ending, Kind(ending), brought)
        return self._change(Outcome(ending), token)

    def cancel(self, token: str, ending: str, brought: Iterable[str]) -> HoldChange:
        record = self.holds.get(token)
        if refusal := self.shut() or (None if record else Outcome.NO_HOLD):
            return self._change(refusal)
        assert record
        if record.status in ENDED:
            return self._change(Outcome.UNCHANGED, token)
        happened = "returned" if record.status == "sold" else ending
        self._become(token, ending, Kind(happened), brought)
        return self._change(Outcome(happened), token)

    def retake(self, token: str) -> HoldChange:
        record = self.holds.get(token)
        if refusal := self.shut() or (None if record else Outcome.NO_HOLD):
            return self._change(refusal)
        assert record
        if record.status != "expired":
            return self._change(Outcome.REPLAYED if record.status == "sold" else Outcome.NOT_EXPIRED, token)
        if self.state == "paused":
            return self._change(Outcome.PAUSED)
        if self.state == "ended" or 0 < self.sale.ends_ms <= self.now:
            return self._change(Outcome.ENDED)
        for line in record.lines:
            limit, owned = self.products[line.product].limit, self.owned.get(f"{line.product}:{record.customer}", 0)
            if 0 < limit < owned + line.qty:
                return self._change(Outcome.LIMIT_EXCEEDED, product=line.product)
        for line in record.lines:
            if self.available(line.product) < line.qty:
                return self._change(Outcome.SOLD_OUT, product=line.product)
        self._become(token, "sold", Kind.RETAKEN, ())
        return self._change(Outcome.RETAKEN, token)

    def restock(self, token: str, command: str, lines: Sequence[tuple[str, int]]) -> HoldChange:
        record = self.holds.get(token)
        if refusal := self.shut() or (None if record else Outcome.NO_HOLD):
            return self._change(refusal)
        assert record
        if command in self.commands:
            return HoldChange(Position(self.epoch, self.commands[command]), self.now, Outcome.REPLAYED)
        if record.status != "sold":
            return self._change(Outcome.NOT_SOLD, token)
        left = {line.product: line.qty - line.returned for line in record.lines}
        for product, qty in lines:
            left[product] = left.get(product, -1) - qty
            if left[product] < 0:
                return self._change(Outcome.TOO_MANY, product=product)
        kept = tuple(replace(line, returned=line.qty - left[line.product]) for line in record.lines)
        self.put(token, replace(record, lines=kept))
        self.emit(Kind.RESTOCKED, command=command, lines=tuple(lines), holds={token: self.holds[token]})
        self.commands[command] = self.seq
        return self._change(Outcome.RESTOCKED)

    def expire(self, products: Sequence[str], limit: int) -> tuple[int, bool]:
        if self.shut():
            return 0, False
        ended: list[str] = []
        entries = {
            product: sorted((ms, token) for token, ms in self.deadlines.get(product, {}).items() if ms <= self.now)
            for product in products
        }
        for product in products:
            met = entries[product][:limit]
            limit -= len(met)
            for _, token in met:
                record = self.holds.get(token)
                if record and self.overdue(record):
                    self.put(token, replace(record, status="expired"), products)
                    ended.append(token)
                else:
                    self.drop_deadline(product, token)
        self.emit_holds(Kind.EXPIRED, ended)
        return len(ended), limit == 0
