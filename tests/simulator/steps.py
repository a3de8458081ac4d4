"""What may happen to a sale, as data: a schedule is a list of these, so that it can be written down, cut and run again.

Holds go by number (``hold=3`` is that of the fourth token), products by their place in ``PRODUCTS``. A step about a
hold or a product that is not there is a step too.
"""

from typing import Final

import msgspec

from engine.commands import HoldRequest

PRODUCTS: Final = ("sneaker", "sock", "poster")
CURRENCIES: Final = ("usd", "usd", "eur")
CUSTOMERS: Final = ("ann", "a:b,c", "ümläut 漢字", "0" * 40)
Lines = tuple[tuple[int, int], ...]
"""(product, qty)"""


class Step(msgspec.Struct, frozen=True):
    """Something happens. ``again`` is a lost reply: the same call is sent once more."""


class Ask(msgspec.Struct, frozen=True):
    """A request for units; its token is the ``hold``'s, and the customer follows from it as in the real ones."""

    hold: int
    lines: Lines

    def request(self) -> HoldRequest:
        lines = tuple((PRODUCTS[product], qty) for product, qty in self.lines)
        return HoldRequest(token(self.hold), CUSTOMERS[self.hold % len(CUSTOMERS)], lines)


def token(hold: int) -> str:
    """As long as a real one."""
    return f"token-{hold:014d}"


class Hold(Step, frozen=True):
    asks: tuple[Ask, ...]
    reclaim_max: int = 400
    again: bool = False


class Checkout(Step, frozen=True):
    """Each (hold, request): the request that wants to pay for that hold."""

    asks: tuple[tuple[int, int], ...]
    again: bool = False


class Settle(Step, frozen=True):
    holds: tuple[int, ...]
    again: bool = False


class Release(Step, frozen=True):
    """``brought`` counts the products whose deadlines the caller brings; in a real call, all of the hold's."""

    hold: int
    brought: int = 9
    again: bool = False


class Cancel(Step, frozen=True):
    hold: int
    ending: str
    again: bool = False


class Retake(Step, frozen=True):
    hold: int
    again: bool = False


class Restock(Step, frozen=True):
    hold: int
    refund: int
    lines: Lines
    again: bool = False


class Expire(Step, frozen=True):
    products: tuple[int, ...]
    limit: int
    again: bool = False


class Load(Step, frozen=True):
    """A sale file: (product, stock, limit, label). ``starts`` and ``ends`` are seconds from now, 0 for none."""

    items: tuple[tuple[int, int, int, int], ...]
    starts: int = 0
    ends: int = 0
    ttl: int = 60
    again: bool = False


class Adjust(Step, frozen=True):
    product: int
    delta: int
    command: int
    again: bool = False


class Control(Step, frozen=True):
    state: str
    again: bool = False


class Look(Step, frozen=True):
    """Read the sale (all of it, or these products) and some holds."""

    only: tuple[int, ...] | None
    holds: tuple[int, ...]


class Fence(Step, frozen=True):
    """``epoch`` counts from the sale's own; None is any."""

    fenced: bool
    epoch: int | None = None


class Mend(Step, frozen=True):
    """Somebody wrote a wrong number and a wrong customer into Redis; the repair brings them back."""

    product: int
    counter: str
    by: int
    again: bool = False


class Trim(Step, frozen=True):
    """``ahead`` looks for another event than the cursor's."""

    keep: int
    ahead: int = 0


class Pass(Step, frozen=True):
    ms: int


class PassTo(Step, frozen=True):
    """Time moves to a hold's deadline, its own or the payment's, or to the sale's start or end where there is no such
    hold, and ``off`` ms further.
    """

    hold: int
    off: int = 0


class Drain(Step, frozen=True):
    """``events`` at most. One that ``crashes`` read them and was stopped before it committed."""

    events: int
    crashes: bool = False


class Copy(Step, frozen=True):
    """Redis's data as it is now is kept: what a replica has, or an older file."""


class Lose(Step, frozen=True):
    """Redis is empty, or back at the last ``Copy``."""

    everything: bool


class Rebuild(Step, frozen=True):
    """``stops_after`` calls, if it stops; ``cut`` units of each product turned out not to be there."""

    batch: int = 3
    stops_after: int | None = None
    cut: int = 0


class Overtaken(Step, frozen=True):
    """A rebuild that believes in an epoch that has passed goes on."""


Schedule = list[Step]


def written(schedule: Schedule) -> str:
    """A schedule as Python that builds it again."""
    return "\n".join(f"    {step!r}," for step in schedule)
