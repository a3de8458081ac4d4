"""The words that scripts answer with, each script's in the order of its checks. A word that is not here raises."""

from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """What became of a request to a script."""

    NO_SALE = "no_sale"
    FENCED = "fenced"
    NO_HOLD = "no_hold"
    UNKNOWN_PRODUCT = "unknown_product"
    REPLAYED = "replayed"
    MISMATCH = "mismatch"
    PAUSED = "paused"
    NOT_STARTED = "not_started"
    ENDED = "ended"
    MIXED_CURRENCIES = "mixed_currencies"
    LIMIT_EXCEEDED = "limit_exceeded"
    SOLD_OUT = "sold_out"
    HELD = "held"
    USED = "used"
    RELEASED = "released"
    EXPIRED = "expired"
    PAYING = "paying"
    SETTLED = "settled"
    NOT_EXPIRED = "not_expired"
    RETAKEN = "retaken"
    UNCHANGED = "unchanged"
    IN_PAYMENT = "in_payment"
    RETURNED = "returned"
    NOT_SOLD = "not_sold"
    TOO_MANY = "too_many"
    RESTOCKED = "restocked"
    BELOW_COMMITTED = "below_committed"
    LOADED = "loaded"
    ADJUSTED = "adjusted"
    CHANGED = "changed"
    SHOWN = "shown"
    FOUND = "found"
    ASTRAY = "astray"
    TRIMMED = "trimmed"
    OVERTAKEN = "overtaken"
    MENDED = "mended"
    RESTORED = "restored"


def _words(text: str) -> tuple[Outcome, ...]:
    return tuple(Outcome(word) for word in text.split())


OF_SCRIPT: Final[dict[str, tuple[Outcome, ...]]] = {
    "hold": _words(
        "no_sale unknown_product replayed mismatch fenced paused not_started ended mixed_currencies limit_exceeded"
        " sold_out held"
    ),
    "checkout": _words("no_sale fenced no_hold replayed used released expired paying"),
    "settle": _words("no_sale fenced no_hold replayed released expired settled"),
    "retake": _words("no_sale fenced no_hold replayed not_expired paused ended limit_exceeded sold_out retaken"),
    "release": _words("no_sale fenced no_hold unchanged in_payment used expired released"),
    "cancel": _words("no_sale fenced no_hold unchanged returned released expired"),
    "restock": _words("no_sale fenced no_hold replayed not_sold too_many restocked"),
    "expire": _words("no_sale fenced expired"),
    "load": _words("no_sale fenced below_committed unchanged loaded"),
    "adjust": _words("no_sale fenced unknown_product replayed below_committed adjusted"),
    "control": _words("no_sale fenced unchanged ended changed"),
    "show": _words("no_sale shown"),
    "peek": _words("no_sale found"),
    "trim": _words("no_sale astray trimmed"),
    "mend": _words("no_sale overtaken mended"),
    "fence": _words("no_sale overtaken unchanged changed"),
    "reset": _words("overtaken changed"),
    "restore": _words("no_sale overtaken restored"),
}
