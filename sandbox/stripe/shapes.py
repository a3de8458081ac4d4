"""The objects as Stripe shows them: its published samples (data/fixtures.json), with our records' values in them."""

import json
from pathlib import Path
from typing import Any

from sandbox.stripe.cards import BY_NAME, Card
from sandbox.stripe.records import Charge, Customer, Dispute, Intent, Method, Refund

Json = dict[str, Any]

_SAMPLES: dict[str, Json] = json.loads((Path(__file__).parent / "data" / "fixtures.json").read_bytes())["resources"]

# What a sample shows filled in only to document it.
_INTENT = _SAMPLES["payment_intent"] | {
    "canceled_at": None,
    "last_payment_error": None,
    "managed_payments": {"enabled": False},
    "next_action": None,
    "processing": None,
    "shipping": None,
    "transfer_data": None,
}
_CHARGE = {name: value for name, value in _SAMPLES["charge"].items() if name != "refunds"} | {
    "billing_details": _SAMPLES["charge"]["billing_details"] | {"name": None},
    "calculated_statement_descriptor": "FLASHSALE STAND-IN",
    "description": None,
    "shipping": None,
    "source": None,
    "transfer_data": None,
}
_CARD_DETAILS: Json = _SAMPLES["charge"]["payment_method_details"]["card"] | {
    "installments": None,
    "regulated_status": "unregulated",
    "three_d_secure": None,
    "wallet": None,
}
_METHOD = _SAMPLES["payment_method"] | {"metadata": {}}
_METHOD_CARD = _METHOD["card"] | {"generated_from": None, "regulated_status": "unregulated", "wallet": None}
_BILLING = {
    "address": dict.fromkeys(_METHOD["billing_details"]["address"]),
    "email": None,
    "name": None,
    "phone": None,
    "tax_id": None,
}
_CUSTOMER = _SAMPLES["customer"] | {"currency": None, "discount": None, "shipping": None}
_REFUND = _SAMPLES["refund"]
_DISPUTE = _SAMPLES["dispute"]
_TRANSACTION = _SAMPLES["balance_transaction"]
EVENT = _SAMPLES["event"]

_CONFIGURATION = {"id": "pmc_standin", "parent": None}

# What Stripe shows of an intent to a browser, which holds only the publishable key.
_PUBLIC_HIDDEN = frozenset(
    {
        "amount_capturable", "amount_received", "application", "application_fee_amount", "customer", "customer_account",
        "excluded_payment_method_types", "latest_charge", "metadata", "on_behalf_of", "payment_method_options",
        "review", "statement_descriptor", "statement_descriptor_suffix", "transfer_data", "transfer_group",
    }
)  # fmt: skip


def intent_shape(intent: Intent, *, public: bool = False) -> Json:
    shown = _INTENT | intent.extra
    shown |= {
        "id": intent.id,
        "amount": intent.amount,
        "amount_capturable": intent.amount_capturable,
        "amount_received": intent.amount_received,
        "automatic_payment_methods": intent.automatic,
        "canceled_at": intent.canceled_at,
        "cancellation_reason": intent.cancellation_reason,
        "capture_method": intent.capture_method,
        "client_secret": intent.client_secret,
        "confirmation_method": intent.confirmation_method,
        "created": intent.created,
        "currency": intent.currency,
        "customer": intent.customer,
        "last_payment_error": intent.last_error,
        "latest_charge": intent.latest_charge,
        "metadata": intent.metadata,
        "next_action": intent.next_action,
        "payment_method": intent.payment_method,
        "payment_method_configuration_details": _CONFIGURATION if intent.automatic else None,
        "payment_method_types": intent.method_types,
        "processing": {"type": "card", "card": {}} if intent.status == "processing" else None,
        "setup_future_usage": intent.setup_future_usage,
        "status": intent.status,
    }
    if public:
        return {name: value for name, value in shown.items() if name not in _PUBLIC_HIDDEN}
    return shown


def charge_shape(charge: Charge) -> Json:
    failed = charge.status == "failed"
    return _CHARGE | {
        "id": charge.id,
        "amount": charge.amount,
        "amount_captured": charge.amount_captured,
        "amount_refunded": charge.amount_refunded,
        "balance_transaction": transaction_id(charge),
        "captured": charge.captured,
        "created": charge.created,
        "currency": charge.currency,
        "customer": charge.customer,
        "description": charge.description,
        "disputed": charge.disputed,
        "failure_code": charge.failure_code,
        "failure_message": charge.failure_message,
        "metadata": charge.metadata,
        "outcome": _outcome(charge),
        "paid": charge.status == "succeeded",
        "payment_intent": charge.intent,
        "payment_method": charge.payment_method,
        "payment_method_details": {"card": _charged_card(charge), "type": "card"},
        "receipt_url": None if failed else f"https://pay.stripe.com/receipts/payment/{charge.id}",
        "refunded": charge.amount_refunded == charge.amount,
        "status": charge.status,
    }


def transaction_id(charge: Charge) -> str | None:
    """A charge has its balance transaction once it is captured."""
    return f"txn_{charge.id.removeprefix('ch_')}" if charge.captured else None


def transaction_shape(charge: Charge) -> Json:
    fee = charge.amount_captured * 29 // 1000 + 30
    return _TRANSACTION | {
        "id": transaction_id(charge),
        "amount": charge.amount_captured,
        "available_on": charge.created + 2 * 86_400,
        "created": charge.created,
        "currency": charge.currency,
        "description": charge.description,
        "fee": fee,
        "net": charge.amount_captured - fee,
        "source": charge.id,
        "status": "pending",
    }


def _outcome(charge: Charge) -> Json:
    outcome: Json = dict.fromkeys(_CHARGE["outcome"])
    if charge.status == "failed":
        return outcome | {
            "network_status": "declined_by_network",
            "reason": charge.decline_code,
            "seller_message": "The bank did not return any further details with this decline.",
            "type": "issuer_declined",
        }
    return outcome | {
        "network_status": "approved_by_network",
        "seller_message": "Payment complete.",
        "type": "authorized",
    }


def _charged_card(charge: Charge) -> Json:
    card = BY_NAME[charge.card]
    secured = {
        "authentication_flow": "challenge",
        "electronic_commerce_indicator": "05",
        "exemption_indicator": None,
        "result": "authenticated",
        "result_reason": None,
        "transaction_id": f"3ds_{charge.id.removeprefix('ch_')}",
        "version": "2.2.0",
    }
    return _CARD_DETAILS | {
        "amount_authorized": charge.amount if charge.status == "succeeded" else None,
        "brand": card.brand,
        "fingerprint": fingerprint(card),
        "funding": card.funding,
        "last4": card.last4,
        "network": card.brand,
        "overcapture": {"maximum_amount_capturable": charge.amount, "status": "unavailable"},
        "three_d_secure": secured if charge.authenticated else None,
    }


def fingerprint(card: Card) -> str:
    return f"fp{card.number[-14:]}"


def method_shape(method: Method) -> Json:
    card = BY_NAME[method.card]
    return _METHOD | {
        "id": method.id,
        "billing_details": _BILLING | (method.billing or {}),
        "card": _METHOD_CARD
        | {
            "brand": card.brand,
            "display_brand": card.brand,
            "fingerprint": fingerprint(card),
            "funding": card.funding,
            "last4": card.last4,
            "networks": {"available": [card.brand], "preferred": None},
        },
        "created": method.created,
        "customer": method.customer,
        "metadata": method.metadata,
    }


def customer_shape(customer: Customer) -> Json:
    shown = _CUSTOMER | customer.extra
    return shown | {
        "id": customer.id,
        "created": customer.created,
        "invoice_prefix": customer.id[-8:].upper(),
        "metadata": customer.metadata,
    }


def refund_shape(refund: Refund) -> Json:
    kind = "reversal" if refund.void else "refund"
    shown = _REFUND | {
        "id": refund.id,
        "amount": refund.amount,
        "balance_transaction": None if refund.void else f"txn_{refund.id.removeprefix('re_')}",
        "charge": refund.charge,
        "created": refund.created,
        "currency": refund.currency,
        "destination_details": {"card": {"type": kind}, "type": "card"},
        "metadata": refund.metadata,
        "payment_intent": refund.intent,
        "reason": refund.reason,
        "status": refund.status,
    }
    if refund.failure_reason is not None:
        shown["failure_reason"] = refund.failure_reason
        shown["failure_balance_transaction"] = f"txn_f{refund.id.removeprefix('re_')}"
    return shown


def dispute_shape(dispute: Dispute) -> Json:
    inquiry = dispute.status.startswith("warning")
    card = BY_NAME[dispute.card]
    return _DISPUTE | {
        "id": dispute.id,
        "amount": dispute.amount,
        "charge": dispute.charge,
        "created": dispute.created,
        "currency": dispute.currency,
        "enhanced_eligibility_types": [],
        "evidence_details": _DISPUTE["evidence_details"] | {"due_by": dispute.created + 7 * 86_400},
        "is_charge_refundable": inquiry,
        "metadata": dispute.metadata,
        "payment_intent": dispute.intent,
        "payment_method_details": {
            "card": {
                "brand": card.brand,
                "case_type": "inquiry" if inquiry else "chargeback",
                "network": card.brand,
                "network_reason_code": "10.4" if dispute.reason == "fraudulent" else "13.1",
            },
            "type": "card",
        },
        "reason": dispute.reason,
        "status": dispute.status,
    }


def webhook_endpoint_shape(url: str, events: list[str]) -> Json:
    return _SAMPLES["webhook_endpoint"] | {
        "id": "we_standin",
        "created": 0,
        "description": None,
        "enabled_events": events,
        "url": url,
    }
