"""What Redis keeps of a hold, of a product and of a sale, as Python reads it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec


class Position(NamedTuple):
    """Where a sale's events stand: ``seq`` grows by one for each event, ``epoch`` by one for each rebuild."""

    epoch: int
    seq: int

    @property
    def entry(self) -> str:
        """The id of that event in the stream."""
        return f"{self.epoch}-{self.seq}"


class Line(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A line of a hold: ``unit_price`` in minor units and ``rev`` of the product's label are those of the moment of
    the hold.
    """

    product: str
    qty: int
    unit_price: int
    rev: int
    returned: int = 0


class HoldRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A hold as packed by ``lua/lib/book.lua``. Times are milliseconds of Redis's clock; ``pay_by_ms`` and
    ``checkout`` (the id of the request that checked it out) are there from check-out on.
    """

    status: str
    customer: str
    currency: str
    created_ms: int
    expires_ms: int
    lines: tuple[Line, ...]
    pay_by_ms: int | None = None
    checkout: str | None = None

    @property
    def total(self) -> int:
        """What the lines cost together, in minor units."""
        total = 0
        for line in self.lines:
            total += line.qty * line.unit_price
        return total

    @property
    def products(self) -> list[str]:
        return [line.product for line in self.lines]

    def status_at(self, now_ms: int) -> str:
        """A hold past its deadline reads ``expired``, swept or not."""
        return "expired" if self.status == "held" and self.expires_ms <= now_ms else self.status


_decode = msgspec.msgpack.Decoder(HoldRecord).decode


def unpack(record: bytes) -> HoldRecord:
    """Raises ``msgspec.DecodeError`` for what no script wrote."""
    return _decode(record)


class ProductState(msgspec.Struct, frozen=True):
    """One product's stock and label. Money in minor units; ``compare_at`` and ``limit`` are 0 where there is none.
    ``held`` counts holds in payment too, and ``available + held + sold = total``.
    """

    id: str
    name: str
    price: int
    compare_at: int
    currency: str
    limit: int
    total: int
    available: int
    held: int
    sold: int
    rev: int


class SaleState(msgspec.Struct, frozen=True):
    """A sale as Redis has it. ``state`` is what people set (open, paused, ended); ``ends_ms`` 0 is open until ended."""

    id: str
    name: str
    state: str
    fenced: bool
    starts_ms: int
    ends_ms: int
    hold_ttl_ms: int
    payment_ttl_ms: int
    epoch: int
    seq: int
    mark: str
    repairs: int

    def status_at(self, now_ms: int) -> str:
        """``scheduled``, ``live``, ``paused`` or ``ended``, in the order in which a hold is checked."""
        if self.state != "open":
            return self.state
        if now_ms < self.starts_ms:
            return "scheduled"
        return "ended" if self.ends_ms and now_ms >= self.ends_ms else "live"


def pairs(flat: Sequence[bytes]) -> dict[str, str]:
    """Redis's ``field, value, field, value`` as a dict."""
    it = iter(flat)
    return {field.decode(): value.decode() for field, value in zip(it, it, strict=True)}


def sale_state(sale_id: str, values: Mapping[str, str]) -> SaleState:
    """Raises ``ValueError`` where somebody wrote by hand what is no number."""
    number = {name: int(values.get(name) or 0) for name in _SALE_NUMBERS}
    return SaleState(
        id=sale_id,
        name=values.get("name", ""),
        state=values.get("state", "open"),
        fenced=values.get("fenced") == "1",
        mark=values.get("mark", ""),
        **number,
    )


_SALE_NUMBERS = ("starts_ms", "ends_ms", "hold_ttl_ms", "payment_ttl_ms", "epoch", "seq", "repairs")
_PRODUCT_NUMBERS = ("price", "compare_at", "limit", "total", "available", "held", "sold", "rev")


def product_states(values: Mapping[str, str]) -> dict[str, ProductState]:
    """The stock hash's fields as one state a product, in the order of their ids. Raises ``ValueError`` as above."""
    fields: dict[str, dict[str, str]] = {}
    for key, value in values.items():
        product_id, _, field = key.rpartition(":")
        fields.setdefault(product_id, {})[field] = value
    return {
        product_id: ProductState(
            id=product_id,
            name=of.get("name", ""),
            currency=of.get("currency", ""),
            **{name: int(of.get(name) or 0) for name in _PRODUCT_NUMBERS},
        )
        for product_id, of in sorted(fields.items())
        if "total" in of
    }
