"""Why there is no hold: what the script said, in the contract's words."""

from math import ceil
from typing import Final

from api.bodies import HoldBody
from api.wire import invalid
from engine import ids, shapes
from engine.commands import HoldAnswer
from engine.outcomes import Outcome
from persistence.refusals import Refusal

PAUSED_RETRY_SECONDS: Final = 5
UNAVAILABLE_RETRY_SECONDS: Final = 1


def gone(sale_id: str, *, retired: bool) -> Refusal:
    """What a sale that Redis does not have answers."""
    if retired:
        return Refusal("sale_ended", f"Sale {sale_id} has ended.")
    return Refusal("sale_unavailable", f"Sale {sale_id} is being restored.", retry_after=UNAVAILABLE_RETRY_SECONDS)


def field_of(wanted: HoldBody, product_id: str) -> str:
    """Where a body names a product."""
    for i, line in enumerate(wanted.lines or ()):
        if line.product_id == product_id:
            return f"lines[{i}].product_id"
    return "product_id"


def refusal_of(sale_id: str, wanted: HoldBody, answer: HoldAnswer) -> Refusal:
    """A script's word for a request, other than ``no_sale``."""
    match answer.outcome:
        case Outcome.SOLD_OUT:
            return Refusal(
                "sold_out",
                f"{answer.available} of {answer.product} are available; {answer.held} are held and may come back.",
                retry_after=None if answer.wait_ms < 0 else ceil(answer.wait_ms / 1000),
                product_id=answer.product,
                available=answer.available,
                held=answer.held,
            )
        case Outcome.LIMIT_EXCEEDED:
            return Refusal(
                "limit_exceeded",
                f"A customer may have {answer.limit} of {answer.product}; this one has {answer.held_or_bought}.",
                product_id=answer.product,
                limit=answer.limit,
                held_or_bought=answer.held_or_bought,
                hold_ids=[ids.hold_id(sale_id, token) for token in answer.tokens],
            )
        case Outcome.NOT_STARTED:
            return Refusal(
                "sale_not_started",
                f"Sale {sale_id} starts at {shapes.rfc3339_ms(answer.starts_ms)}.",
                retry_after=ceil((answer.starts_ms - answer.now_ms) / 1000),
                starts_at=shapes.rfc3339_ms(answer.starts_ms),
            )
        case Outcome.MIXED_CURRENCIES:
            message = "is sold in another currency than the first line's: a hold is of one currency"
            return invalid([(field_of(wanted, answer.product), message)])
        case Outcome.UNKNOWN_PRODUCT:
            return Refusal("product_not_found", f"There is no product {answer.product!r} on sale.")
        case _:
            return _of_sale(sale_id, answer.outcome)


def _of_sale(sale_id: str, outcome: Outcome) -> Refusal:
    match outcome:
        case Outcome.MISMATCH:
            return Refusal("idempotency_mismatch", "This Idempotency-Key was used with another body.")
        case Outcome.PAUSED:
            return Refusal("sale_paused", f"Sale {sale_id} is paused.", retry_after=PAUSED_RETRY_SECONDS)
        case Outcome.FENCED:
            return gone(sale_id, retired=False)
        case Outcome.ENDED:
            return gone(sale_id, retired=True)
        case _:
            raise RuntimeError(f"a hold cannot be answered with {outcome}")
