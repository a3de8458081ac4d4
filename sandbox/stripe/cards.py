"""Stripe's test cards, by their PaymentMethod names (`pm_card_...`), token names (`tok_...`) and numbers.

`pm_card_staysProcessing` is this stand-in's own: its payment stays `processing` until the control route finishes it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Card:
    """One test card and what its bank does.

    `code` is the error code of a decline (None: approved). `challenge`: 3-D Secure is asked at each payment.
    `attaches`: may be saved to a customer. `dispute`: reason of the dispute that follows a capture.
    `refund`: the status in which a refund ends.
    """

    name: str
    number: str
    brand: str = "visa"
    funding: str = "credit"
    code: str | None = None
    decline_code: str | None = None
    message: str = "Your card was declined."
    challenge: bool = False
    attaches: bool = True
    dispute: str | None = None
    inquiry: bool = False
    refund: str = "succeeded"
    processing: bool = False

    @property
    def last4(self) -> str:
        return self.number[-4:]


def _declined(name: str, number: str, decline_code: str, message: str = "Your card was declined.") -> Card:
    return Card(name, number, code="card_declined", decline_code=decline_code, message=message, attaches=False)


def _refused(name: str, number: str, code: str, message: str) -> Card:
    return Card(name, number, code=code, decline_code=code, message=message, attaches=False)


INSUFFICIENT = "Your card has insufficient funds."

_CARDS = (
    Card("visa", "4242424242424242"),
    Card("visa_debit", "4000056655665556", funding="debit"),
    Card("mastercard", "5555555555554444", brand="mastercard"),
    Card("mastercard_debit", "5200828282828210", brand="mastercard", funding="debit"),
    Card("amex", "378282246310005", brand="amex"),
    Card("discover", "6011111111111117", brand="discover"),
    _declined("chargeDeclined", "4000000000000002", "generic_decline"),
    _declined("chargeDeclinedInsufficientFunds", "4000000000009995", "insufficient_funds", INSUFFICIENT),
    _declined("chargeDeclinedLostCard", "4000000000009987", "lost_card"),
    _declined("chargeDeclinedStolenCard", "4000000000009979", "stolen_card"),
    _declined("chargeDeclinedFraudulent", "4100000000000019", "fraudulent"),
    _declined(
        "chargeDeclinedVelocityLimitExceeded",
        "4000000000006975",
        "card_velocity_exceeded",
        "Your card was declined for making repeated attempts too frequently or exceeding its amount limit.",
    ),
    _refused("chargeDeclinedExpiredCard", "4000000000000069", "expired_card", "Your card has expired."),
    _refused(
        "chargeDeclinedIncorrectCvc",
        "4000000000000127",
        "incorrect_cvc",
        "Your card's security code is incorrect.",
    ),
    _refused(
        "chargeDeclinedProcessingError",
        "4000000000000119",
        "processing_error",
        "An error occurred while processing your card. Try again in a little bit.",
    ),
    # The card to save for a later decline: it attaches, and its charges fail.
    Card("chargeCustomerFail", "4000000000000341", code="card_declined", decline_code="generic_decline"),
    Card("threeDSecureOptional", "4000000000003055"),
    Card("threeDSecureRequired", "4000000000003063", challenge=True),
    Card("threeDSecure2Required", "4000000000003220", challenge=True),
    Card("authenticationRequired", "4000002760003184", challenge=True),
    Card(
        "threeDSecureRequiredChargeDeclined",
        "4000008400001629",
        challenge=True,
        code="card_declined",
        decline_code="generic_decline",
    ),
    Card(
        "authenticationRequiredChargeDeclinedInsufficientFunds",
        "4000008260003178",
        challenge=True,
        code="card_declined",
        decline_code="insufficient_funds",
        message=INSUFFICIENT,
    ),
    Card("createDispute", "4000000000000259", dispute="fraudulent"),
    Card("createDisputeProductNotReceived", "4000000000002685", dispute="product_not_received"),
    Card("createDisputeInquiry", "4000000000001976", dispute="fraudulent", inquiry=True),
    Card("refundFail", "4000000000005126", refund="failed"),
    Card("pendingRefund", "4000000000007726", refund="pending"),
    Card("staysProcessing", "4000000000000077", processing=True),
)

BY_NAME = {card.name: card for card in _CARDS}
BY_NUMBER = {card.number: card for card in _CARDS}


def test_card(token: str) -> Card | None:
    """The card of `pm_card_visa`, `tok_visa` or `pm_card_visa_chargeDeclined`; None where it is no test card."""
    for prefix in ("pm_card_", "tok_"):
        if token.startswith(prefix):
            name = token.removeprefix(prefix)
            return BY_NAME.get(name) or BY_NAME.get(name.removeprefix("visa_"))
    return None


def declined(decline_code: str) -> Card:
    """What a bank says when it is told to decline whatever card was given."""
    for card in _CARDS:
        if card.decline_code == decline_code and not card.challenge:
            return card
    return Card("declined", "4000000000000002", code="card_declined", decline_code=decline_code)
