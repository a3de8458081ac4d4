"""The stand-in's own books: what each intent moved, kept apart from the objects that it shows.

authorised = captured + voided + what still waits; refunded <= captured. A movement that breaks this raises,
for then it is the stand-in that is wrong.
"""

from collections import defaultdict
from typing import Any, Literal

from msgspec import Struct

from sandbox.stripe.store import Movement, Store

Kind = Literal["authorise", "capture", "void", "refund", "refund_failed", "dispute", "dispute_won"]


class Account(Struct):
    """The money of one intent, in minor units of its currency. `refunded` has failed refunds taken off."""

    currency: str
    authorised: int = 0
    captured: int = 0
    voided: int = 0
    refunded: int = 0
    disputed: int = 0

    @property
    def waiting(self) -> int:
        """Authorised, and neither captured nor given back: it must not stay so."""
        return self.authorised - self.captured - self.voided

    @property
    def net(self) -> int:
        """What the shop has: captured less refunded (and less what a dispute took)."""
        return self.captured - self.refunded - self.disputed

    def shown(self) -> dict[str, Any]:
        return {
            "currency": self.currency,
            "authorised": self.authorised,
            "captured": self.captured,
            "voided": self.voided,
            "refunded": self.refunded,
            "disputed": self.disputed,
            "waiting": self.waiting,
            "net": self.net,
        }


class Ledger:
    def __init__(self, store: Store) -> None:
        self._store = store
        self.accounts: dict[str, Account] = {}
        for movement in store.movements():
            self._apply(movement)

    def move(self, kind: Kind, intent: str, charge: str, amount: int, currency: str, at: int) -> None:
        movement = Movement(intent, charge, kind, amount, currency, at)
        self._apply(movement)
        self._store.add_movement(movement)

    def _apply(self, movement: Movement) -> None:
        account = self.accounts.setdefault(movement.intent, Account(movement.currency))
        amount = movement.amount
        match movement.kind:
            case "authorise":
                account.authorised += amount
            case "capture":
                account.captured += amount
            case "void":
                account.voided += amount
            case "refund":
                account.refunded += amount
            case "refund_failed":
                account.refunded -= amount
            case "dispute":
                account.disputed += amount
            case "dispute_won":
                account.disputed -= amount
            case unknown:
                raise ValueError(f"no such movement: {unknown}")
        if amount <= 0 or account.waiting < 0 or not 0 <= account.refunded <= account.captured:
            raise ArithmeticError(f"the books of {movement.intent} do not add up after {movement}: {account}")

    def account(self, intent: str, currency: str) -> Account:
        return self.accounts.get(intent) or Account(currency)

    def totals(self) -> dict[str, dict[str, int]]:
        """By currency: every column of `Account`, and how many intents moved money."""
        totals: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for account in self.accounts.values():
            sums = totals[account.currency]
            for name, value in account.shown().items():
                if name != "currency":
                    sums[name] += value
            sums["intents"] += 1
        return {currency: dict(sums) for currency, sums in totals.items()}
