"""What reconcile finds: where Redis, Postgres and the payment provider disagree, and how each finding can be
repaired.
"""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

Promise = Literal["never_oversold", "no_money_without_a_thing", "no_stranded_stock", "once"]


class Drift(msgspec.Struct, frozen=True):
    """One difference. ``kind`` says what ``id`` is of: sale, product, hold, customer (as ``product:customer``),
    deadline (of a hold), order, ledger. The sides that have no say are null.
    """

    promise: Promise
    kind: str
    id: str
    field: str
    redis: Any = None
    postgres: Any = None
    stripe: Any = None


class Report(msgspec.Struct, frozen=True):
    """A sale compared as of its event ``seq``."""

    sale_id: str
    consistent: bool
    seq: int
    checked_at: str
    drift: list[Drift]


@dataclass(frozen=True, slots=True)
class MendCounter:
    """Add ``by`` to a counter in Redis."""

    product: str
    field: str
    by: int


@dataclass(frozen=True, slots=True)
class MendCustomer:
    """Write what a customer has of a product, if Redis still says ``seen``. Empty: nothing."""

    field: str
    seen: str
    value: str


@dataclass(frozen=True, slots=True)
class MendDeadline:
    """Put a live hold back into the set that its end is found by; ``product`` is empty for the payments'."""

    token: str
    product: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class MendLedger:
    """Write a product's counters in Postgres as its ledger has them."""

    product: str


@dataclass(frozen=True, slots=True)
class Finding:
    """``repair`` is None for what only a rebuild or a person can put right."""

    drift: Drift
    repair: MendCounter | MendCustomer | MendDeadline | MendLedger | None = None
