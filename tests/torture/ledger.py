"""What buyers were told, and every answer that nobody should ever get."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Told:
    """One acknowledged hold and what its buyer was told afterwards. Times are ``time.time()``, in seconds."""

    hold_id: str
    total: int
    expires_at: float
    acknowledged_at: float = field(default_factory=time.time)
    order_id: str = ""
    words: set[str] = field(default_factory=set)
    """``released``, ``paid``, ``captured``, ``gave up`` (its cancellation was answered), ``lost``."""


class Ledger:
    """Shared by all buyers of one sale. ``troubles`` are breaches in words."""

    def __init__(self) -> None:
        self.told: dict[str, Told] = {}
        self.answers: Counter[str] = Counter()
        self.troubles: list[str] = []
        self._lock = threading.Lock()

    def hold(self, shown: dict[str, Any], expires_at: float) -> Told:
        """A 201: it is the buyer's from now on. The same hold again is the same entry."""
        with self._lock:
            told = self.told.get(shown["id"])
            if told is None:
                told = self.told[shown["id"]] = Told(shown["id"], shown["total"]["amount"], expires_at)
            return told

    def trouble(self, what: str) -> None:
        with self._lock:
            self.troubles.append(what)

    def count(self, *words: str) -> int:
        """Holds whose buyer was told one of these."""
        return sum(bool(told.words & set(words)) for told in list(self.told.values()))
