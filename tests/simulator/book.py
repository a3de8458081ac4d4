"""What there is to know of a sale. The counters of a product and of a customer are never kept edge by edge, as the
scripts keep them: they are what the holds say.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

import msgspec

from engine.events import Event, Kind, LoadedSale
from engine.outcomes import Outcome
from engine.records import HoldRecord, Position

LIVE: Final = ("held", "paying")
ENDED: Final = ("released", "expired")


class Product(msgspec.Struct, frozen=True):
    """0 stands for no ``compare_at`` and no ``limit``."""

    name: str
    price: int
    compare_at: int
    currency: str
    limit: int
    total: int
    loaded: int
    rev: int


class Book:
    """One sale. ``begin`` tells it the time and the mark of a call; ``events`` is what the call must have written to
    the stream.
    """

    def __init__(self) -> None:
        self.exists = self.fenced = False
        self.epoch = self.seq = 0
        self.first_seq = 1
        self.state = "open"
        self.sale = LoadedSale("", 0, 0, 0, 0)
        self.repairs = 0
        self.last_mark = ""
        self.products: dict[str, Product] = {}
        self.holds: dict[str, HoldRecord] = {}
        self.commands: dict[str, int] = {}
        # What follows from the holds.
        self.held: Counter[str] = Counter()
        self.sold: Counter[str] = Counter()
        self.owned: dict[str, int] = {}
        self.tokens: dict[str, dict[str, None]] = {}
        self.payments: dict[str, int] = {}
        self.deadlines: dict[str, dict[str, int]] = {}
        """Of held holds, and stale entries: of ended ones whose end came by a call that did not bring the product."""
        # This call's.
        self.now, self.mark = 0, ""
        self.events: list[Event] = []
        self.version = 0
        """Changes with everything else."""

    def copy(self) -> Self:
        twin = type(self)()
        for name, value in vars(self).items():
            setattr(twin, name, value.copy() if isinstance(value, dict | list) else value)
        twin.tokens = {field: dict(tokens) for field, tokens in self.tokens.items()}
        twin.deadlines = {product: dict(entries) for product, entries in self.deadlines.items()}
        return twin

    def begin(self, now: int, mark: str) -> None:
        self.now, self.mark, self.events = now, mark, []

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.seq)

    def available(self, product: str) -> int:
        return self.products[product].total - self.held[product] - self.sold[product]

    def overdue(self, record: HoldRecord | None) -> bool:
        return record is not None and record.status == "held" and record.expires_ms <= self.now

    # Holds and what follows from them

    def put(self, token: str, record: HoldRecord, brought: Iterable[str] = ()) -> None:
        """A hold as it is from now on; ``brought`` are the products whose deadlines the call may touch."""
        old = self.holds.get(token)
        if old:
            self._count(old, -1)
        self._count(record, 1)
        self._name(token, record)
        self.holds[token] = record
        for line in record.lines:
            if line.product not in brought:
                continue
            if record.status == "held":
                self.deadlines.setdefault(line.product, {})[token] = record.expires_ms
            elif old and old.status == "held":
                self.drop_deadline(line.product, token)
        if record.status == "paying":
            self.payments[token] = record.pay_by_ms or 0
        else:
            self.payments.pop(token, None)
        self.version += 1

    def drop_deadline(self, product: str, token: str) -> None:
        self.version += 1
        self.deadlines.get(product, {}).pop(token, None)

    def _count(self, record: HoldRecord, sign: int) -> None:
        if record.status in ENDED:
            return
        counter = self.sold if record.status == "sold" else self.held
        for line in record.lines:
            units = sign * (line.qty - line.returned)
            counter[line.product] += units
            field = f"{line.product}:{record.customer}"
            self.owned[field] = self.owned.get(field, 0) + units
            if not self.owned[field]:
                del self.owned[field]

    def _name(self, token: str, record: HoldRecord) -> None:
        """A customer's live holds, in the order in which they came."""
        for line in record.lines:
            tokens = self.tokens.setdefault(f"{line.product}:{record.customer}", {})
            if record.status in LIVE:
                tokens.setdefault(token)
            else:
                tokens.pop(token, None)

    def emit(self, kind: Kind, **body: Any) -> None:
        self.seq += 1
        self.last_mark = self.mark
        self.events.append(Event(self.position, kind, self.mark, self.now, **body))
        self.version += 1

    def emit_holds(self, kind: Kind, tokens: Sequence[str]) -> None:
        if tokens:
            self.emit(kind, holds={token: self.holds[token] for token in tokens})

    def shut(self) -> Outcome | None:
        """What nearly every call answers where there is no sale, or a fenced one."""
        return Outcome.NO_SALE if not self.exists else Outcome.FENCED if self.fenced else None
