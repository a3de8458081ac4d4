"""What goes wrong on request. Every field is off by default; `seed` makes the dice repeatable."""

import random
import time
from typing import Any, Literal

import msgspec
from msgspec import Struct

from sandbox.stripe.cards import Card, declined

Ratio = float


class Chaos(Struct, kw_only=True, forbid_unknown_fields=True):
    """Ratios are 0 to 1; ranges are `[least, most]` in milliseconds; `*_next` count down as they strike.

    Webhooks: `webhook_duplicate_ratio` are sent twice, `webhook_drop_ratio` never, all after `webhook_delay_ms`,
    in random order within `webhook_shuffle_window` events.
    Answers: `answer_delay_ms` passes after the effect and before the answer; `fail_before_ratio` are 500 without an
    effect; `fail_after_ratio` are 500 after it (the key then replays the true answer);
    `sticky_fail_ratio` are 500 after it, which the key repeats for good, as Stripe's own 500s do;
    `lost_reply_ratio` have their effect and then the connection is cut.
    `down`: "closed" cuts every connection, "unavailable" answers 503. `rate_limit_per_second`: more are 429.
    Charges: `decline_next`, `decline_ratio` (with `decline_code`), `require_3ds_next`, `require_3ds_ratio`.
    """

    seed: int | None = None
    webhook_duplicate_ratio: Ratio = 0.0
    webhook_drop_ratio: Ratio = 0.0
    webhook_delay_ms: tuple[int, int] = (0, 0)
    webhook_shuffle_window: int = 0
    answer_delay_ms: tuple[int, int] = (0, 0)
    fail_before_ratio: Ratio = 0.0
    fail_after_ratio: Ratio = 0.0
    sticky_fail_ratio: Ratio = 0.0
    lost_reply_ratio: Ratio = 0.0
    rate_limit_per_second: int = 0
    down: Literal["closed", "unavailable"] | None = None
    decline_next: int = 0
    decline_ratio: Ratio = 0.0
    decline_code: str = "generic_decline"
    require_3ds_next: int = 0
    require_3ds_ratio: Ratio = 0.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name.endswith("_ratio") and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is from 0 to 1")
            if name.endswith("_ms") and not 0 <= value[0] <= value[1]:
                raise ValueError(f"{name} is [least, most] in milliseconds")
            if name.endswith(("_next", "_window", "_per_second")) and value < 0:
                raise ValueError(f"{name} is not negative")


class Dice:
    """The settings in force, and the luck."""

    def __init__(self, seed: int | None = None) -> None:
        self.settings = Chaos()
        self._random = random.Random(seed)  # noqa: S311 - luck, not secrecy
        self._allowance = 0.0
        self._refilled = time.monotonic()

    def set(self, changes: dict[str, Any]) -> None:
        """Lays `changes` over the settings in force. Raises `msgspec.ValidationError` with the field at fault."""
        merged = msgspec.structs.asdict(self.settings) | changes
        self.settings = msgspec.convert(merged, Chaos)
        if changes.get("seed") is not None:
            self._random.seed(changes["seed"])
        self._allowance = float(self.settings.rate_limit_per_second)

    def reset(self) -> None:
        self.settings = Chaos()

    def hits(self, ratio: Ratio) -> bool:
        return ratio > 0 and self._random.random() < ratio

    def between(self, range_ms: tuple[int, int]) -> float:
        """Seconds."""
        return self._random.uniform(*range_ms) / 1000 if range_ms[1] else 0.0

    def shuffle(self, items: list[Any]) -> None:
        self._random.shuffle(items)

    def admits(self) -> bool:
        """Whether the rate limit lets one more request in (a bucket of one second's worth)."""
        rate = self.settings.rate_limit_per_second
        if not rate:
            return True
        now = time.monotonic()
        self._allowance = min(float(rate), self._allowance + (now - self._refilled) * rate)
        self._refilled = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def decline(self) -> Card | None:
        """The bank's refusal that the next charge gets, whatever its card."""
        settings = self.settings
        if settings.decline_next:
            settings.decline_next -= 1
        elif not self.hits(settings.decline_ratio):
            return None
        return declined(settings.decline_code)

    def challenge(self) -> bool:
        settings = self.settings
        if settings.require_3ds_next:
            settings.require_3ds_next -= 1
            return True
        return self.hits(settings.require_3ds_ratio)
