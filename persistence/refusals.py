"""Every error that the contract names, and the one exception that carries them from where they are found to the API
and the CLI.
"""

from typing import Any, Final, NamedTuple


class Problem(NamedTuple):
    """``status`` of HTTP, and what the problem is called in a few words."""

    status: int
    title: str


PROBLEMS: Final[dict[str, Problem]] = {
    "validation_error": Problem(422, "The request is not valid"),
    "not_found": Problem(404, "There is no such route"),
    "product_not_found": Problem(404, "There is no such product"),
    "hold_not_found": Problem(404, "There is no such hold"),
    "order_not_found": Problem(404, "There is no such order"),
    "sale_not_found": Problem(404, "There is no such sale"),
    "method_not_allowed": Problem(405, "The route does not know this method"),
    "body_too_large": Problem(413, "The body is larger than 64 KiB"),
    "unsupported_media_type": Problem(415, "The body is not application/json"),
    "unauthorized": Problem(401, "A bearer token is wanted"),
    "forbidden": Problem(403, "The bearer token is another"),
    "sold_out": Problem(409, "Too few units are available"),
    "limit_exceeded": Problem(409, "More than one customer may have"),
    "sale_not_started": Problem(409, "The sale has not started"),
    "sale_ended": Problem(410, "The sale has ended"),
    "sale_paused": Problem(503, "The sale is paused"),
    "sale_unavailable": Problem(503, "The sale is being restored"),
    "hold_expired": Problem(410, "The hold has expired"),
    "hold_released": Problem(410, "The hold was released"),
    "hold_lost": Problem(410, "The hold was lost"),
    "hold_in_payment": Problem(409, "The hold is in payment"),
    "hold_already_used": Problem(409, "The hold has an order"),
    "order_not_cancellable": Problem(409, "The order cannot be cancelled"),
    "order_not_payable": Problem(409, "The order cannot be paid"),
    "order_not_paid": Problem(409, "The order is not paid"),
    "refund_exceeds_payment": Problem(409, "The refund is more than what is left of the payment"),
    "stock_below_committed": Problem(409, "The stock would be less than what is held and sold"),
    "product_in_other_sale": Problem(409, "The product is in another sale"),
    "card_declined": Problem(402, "The card was declined"),
    "idempotency_mismatch": Problem(422, "The Idempotency-Key was used with another body"),
    "invalid_signature": Problem(400, "The signature is not valid"),
    "payment_provider_unavailable": Problem(502, "The payment provider does not answer"),
    "overloaded": Problem(503, "Too many requests wait"),
    "unavailable": Problem(503, "A server that is needed does not answer"),
    "internal_error": Problem(500, "Something is wrong on our side"),
}


class Refusal(Exception):
    """A request that is refused with a code of the contract. ``extra`` is what the code also carries; ``retry_after``
    whole seconds, at least 1. ``status`` is the code's own but where it has two (400 for a body that is no JSON).
    """

    def __init__(
        self, code: str, detail: str, *, retry_after: int | None = None, status: int | None = None, **extra: Any
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status or PROBLEMS[code].status
        self.title = PROBLEMS[code].title
        self.detail = detail
        self.retry_after = None if retry_after is None else max(retry_after, 1)
        self.extra: dict[str, Any] = extra
