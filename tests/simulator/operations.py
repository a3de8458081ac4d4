"""What people and workers do to a sale: load, adjust, pause, fence, trim, mend, and the steps of a rebuild."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from engine.commands import LoadItem, ResetItem, Shown, StockChange
from engine.events import Kind, LoadedProduct, LoadedSale
from engine.outcomes import Outcome
from engine.records import HoldRecord, Position, ProductState, SaleState
from tests.simulator.book import LIVE, Book, Product


class Operations(Book):
    """See ``Model``."""

    def _stock(self, outcome: Outcome, product: str = "", wanted: int = 0, held: int = 0, sold: int = 0) -> StockChange:
        return StockChange(self.position, outcome, product, wanted, held, sold)

    def load(self, *, create: bool, sale: LoadedSale, items: Sequence[LoadItem]) -> StockChange:
        if not self.exists and not create:
            return self._stock(Outcome.NO_SALE)
        if self.fenced:
            return self._stock(Outcome.FENCED)
        changed: dict[str, Product] = {}
        changes: list[LoadedProduct] = []
        for item in items:
            old = self.products.get(item.id) or Product("", 0, 0, "", 0, 0, 0, 0)
            delta = item.stock - old.loaded
            if old.total + delta < self.held[item.id] + self.sold[item.id]:
                held, sold = self.held[item.id], self.sold[item.id]
                return self._stock(Outcome.BELOW_COMMITTED, item.id, old.total + delta, held, sold)
            label = (item.name, item.price, item.compare_at, item.currency)
            rev = old.rev + (label != (old.name, old.price, old.compare_at, old.currency))
            new = Product(*label, limit=item.limit, total=old.total + delta, loaded=item.stock, rev=rev)
            if new != old:
                changed[item.id] = new
                changes.append(LoadedProduct(item.id, delta, *label, item.limit, item.stock, rev))
        if self.exists and sale == self.sale and not changed:
            return self._stock(Outcome.UNCHANGED)
        if not self.exists:
            self.exists, self.epoch, self.seq, self.first_seq, self.state = True, 1, 0, 1, "open"
        self.sale = sale
        self.products |= changed
        self.emit(Kind.LOADED, sale=sale, products=tuple(changes))
        return self._stock(Outcome.LOADED)

    def adjust(self, product: str, delta: int, reason: str, command: str) -> StockChange:
        if refusal := self.shut():
            return self._stock(refusal)
        units = self.products.get(product)
        if units is None:
            return self._stock(Outcome.UNKNOWN_PRODUCT)
        if command in self.commands:
            return StockChange(Position(self.epoch, self.commands[command]), Outcome.REPLAYED)
        held, sold = self.held[product], self.sold[product]
        if units.total + delta < held + sold:
            return self._stock(Outcome.BELOW_COMMITTED, "", units.total + delta, held, sold)
        self.products[product] = replace(units, total=units.total + delta)
        self.emit(Kind.ADJUSTED, product=product, delta=delta, reason=reason, command=command)
        self.commands[command] = self.seq
        return self._stock(Outcome.ADJUSTED)

    def control(self, state: str) -> Outcome:
        if refusal := self.shut():
            return refusal
        if state == self.state:
            return Outcome.UNCHANGED
        if self.state == "ended":
            return Outcome.ENDED
        self.state = state
        self.emit(Kind.STATE, state=state)
        return Outcome.CHANGED

    def show(self, sale_id: str, only: Sequence[str] | None) -> Shown:
        if not self.exists:
            return Shown(self.position, self.now, None, {})
        sale = SaleState(
            sale_id, self.sale.name, self.state, self.fenced, self.sale.starts_ms, self.sale.ends_ms,
            self.sale.hold_ttl_ms, self.sale.payment_ttl_ms, self.epoch, self.seq, self.last_mark, self.repairs,
        )  # fmt: skip
        shown = [id_ for id_ in self.products if only is None or id_ in only]
        return Shown(self.position, self.now, sale, {id_: self._state(id_) for id_ in shown})

    def _state(self, id_: str) -> ProductState:
        of = self.products[id_]
        return ProductState(
            id_, of.name, of.price, of.compare_at, of.currency, of.limit,
            of.total, self.available(id_), self.held[id_], self.sold[id_], of.rev,
        )  # fmt: skip

    def peek(self, tokens: Sequence[str]) -> tuple[Outcome, list[HoldRecord | None]]:
        return Outcome.FOUND if self.exists else Outcome.NO_SALE, [self.holds.get(token) for token in tokens]

    # The stream, the fence and repairs

    def trim(self, cursor: Position, keep: int, *, known: bool) -> tuple[Outcome, int]:
        """``known`` says whether the cursor's entry is the one that was drained."""
        if not self.exists:
            return Outcome.NO_SALE, 0
        if not (known and cursor.epoch == self.epoch and self.first_seq <= cursor.seq <= self.seq):
            return Outcome.ASTRAY, 0
        first = max(self.first_seq, cursor.seq - keep)
        trimmed, self.first_seq = first - self.first_seq, first
        self.version += 1
        return Outcome.TRIMMED, trimmed

    def fence(self, *, fenced: bool, epoch: int) -> Outcome:
        if not self.exists:
            return Outcome.NO_SALE
        if epoch not in (0, self.epoch):
            return Outcome.OVERTAKEN
        if fenced == self.fenced:
            return Outcome.UNCHANGED
        self.fenced = fenced
        self.version += 1
        return Outcome.CHANGED

    def mend(self, repairs: int) -> tuple[Outcome, list[int]]:
        """The counters that are mended are the ones that were wrong: here they never are."""
        if not self.exists:
            return Outcome.NO_SALE, []
        if repairs != self.repairs:
            return Outcome.OVERTAKEN, [self.repairs]
        self.repairs += 1
        self.version += 1
        return Outcome.MENDED, [self.repairs]

    def reset(self, epoch: int, state: str, sale: LoadedSale, items: Sequence[ResetItem]) -> Outcome:
        if self.epoch >= epoch:
            return Outcome.OVERTAKEN
        deadlines = dict(self.deadlines)
        for item in items:
            deadlines.pop(item.id, None)
        now, mark, version = self.now, self.mark, self.version
        Book.__init__(self)
        self.now, self.mark, self.version = now, mark, version + 1
        self.exists = self.fenced = True
        self.epoch, self.state, self.sale, self.last_mark, self.deadlines = epoch, state, sale, mark, deadlines
        for item in items:
            label = (item.name, item.price, item.compare_at, item.currency)
            self.products[item.id] = Product(*label, item.limit, item.total, item.loaded, item.rev)
        return Outcome.CHANGED

    def restore(
        self, epoch: int, holds: Sequence[tuple[str, HoldRecord]], commands: Sequence[str], *, known: bool
    ) -> tuple[Outcome, list[int]]:
        if not self.exists:
            return Outcome.NO_SALE, []
        if epoch != self.epoch:
            return Outcome.OVERTAKEN, []
        brought = {line.product for _, record in holds for line in record.lines}
        expired = []
        for token, record in holds:
            fits = all(self.available(line.product) >= line.qty for line in record.lines)
            if record.status in LIVE and not fits:
                expired.append(token)
                self.put(token, replace(record, status="expired"), brought)
            else:
                self.put(token, record, brought)
        if holds and not known:
            self.emit(Kind.HELD, holds=dict(holds))
            self.emit(Kind.PAYING, holds=dict(holds))
        self.emit_holds(Kind.EXPIRED, expired)
        self.commands |= dict.fromkeys(commands, 0)
        self.version += 1
        return Outcome.RESTORED, [len(expired)]

    def settings(self) -> Mapping[str, str | int]:
        """The sale's fields as the scripts keep them."""
        sale = self.sale
        return {"name": sale.name, "starts_ms": sale.starts_ms, "ends_ms": sale.ends_ms,
                "hold_ttl_ms": sale.hold_ttl_ms, "payment_ttl_ms": sale.payment_ttl_ms}  # fmt: skip
