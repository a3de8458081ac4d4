"""What every part of the payments needs, built once at the door and passed down."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine

from engine.command import Client
from engine.records import Position
from engine.settings import Settings
from payments.provider import Provider
from payments.together import Together
from persistence.drain import Astray, NotDrained, drain_to

LEASE_SECONDS_MIN = 15.0


def _nothing() -> None:
    pass


def _go_on(step: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Context:
    """``wake`` tells the workers that something is due; it must be quick, and losing it loses nothing.
    ``checkpoint`` is told after each step that could be the last one before a crash: tests stop there.
    """

    db: Engine
    redis: Client
    provider: Provider
    settings: Settings
    wake: Callable[[], None] = _nothing
    checkpoint: Callable[[str], None] = _go_on
    together: Together = field(default_factory=Together)

    @property
    def lease_seconds(self) -> float:
        """For so long nobody else takes up what one has taken: longer than two calls to the provider may last, the most
        that anything asks it, and the rest beside them.
        """
        return max(LEASE_SECONDS_MIN, 3 * self.settings.stripe_timeout_seconds)

    def drain(self, sale_id: str, position: Position | None, timeout_seconds: float = 3.0) -> bool:
        """Wait until Postgres has the sale's events up to ``position``, so that an answer shows them. False where
        it took too long or Redis lost data: the workers see to both.
        """
        if position is None:
            return True
        try:
            drain_to(self.db, self.redis, sale_id, position, timeout_seconds)
        except (NotDrained, Astray):
            return False
        return True
