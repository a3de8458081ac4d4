"""What the stand-in remembers. Amounts are in minor units, times are Unix seconds."""

import random
from typing import Any

import msgspec
from msgspec import Struct, field

# Seeded by the system, so no two are alike; nothing here is worth guessing.
_bits = random.Random().getrandbits  # noqa: S311


def token() -> str:
    return f"{_bits(96):024x}"


def new_id(prefix: str) -> str:
    return f"{prefix}_{token()}"


class Record(Struct, kw_only=True):
    """`seq` is the record's place among its kind: lists are newest first by it."""

    id: str
    created: int
    seq: int = -1
    metadata: dict[str, str] = field(default_factory=dict)


class Intent(Record, kw_only=True):
    amount: int
    currency: str
    secret: str
    capture_method: str
    confirmation_method: str
    method_types: list[str]
    automatic: dict[str, Any] | None
    status: str = "requires_payment_method"
    customer: str | None = None
    payment_method: str | None = None
    latest_charge: str | None = None
    amount_capturable: int = 0
    amount_received: int = 0
    canceled_at: int | None = None
    cancellation_reason: str | None = None
    last_error: dict[str, Any] | None = None
    next_action: dict[str, Any] | None = None
    # The customer has passed 3-D Secure and the shop confirms again (confirmation_method=manual).
    authenticated: bool = False
    setup_future_usage: str | None = None
    # Parameters that are kept and shown and change nothing here.
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def client_secret(self) -> str:
        return f"{self.id}_secret_{self.secret}"


class Charge(Record, kw_only=True):
    intent: str
    amount: int
    currency: str
    card: str
    payment_method: str
    status: str
    customer: str | None = None
    captured: bool = False
    amount_captured: int = 0
    amount_refunded: int = 0
    disputed: bool = False
    authenticated: bool = False
    failure_code: str | None = None
    failure_message: str | None = None
    decline_code: str | None = None
    description: str | None = None


class Method(Record, kw_only=True):
    card: str
    customer: str | None = None
    # Charged once without a customer: Stripe takes it no second time.
    spent: bool = False
    billing: dict[str, Any] | None = None


class Customer(Record, kw_only=True):
    extra: dict[str, Any] = field(default_factory=dict)


class Refund(Record, kw_only=True):
    charge: str
    intent: str
    amount: int
    currency: str
    status: str
    reason: str | None = None
    failure_reason: str | None = None
    # What was released here was an authorisation, not captured money.
    void: bool = False
    # What the bank will say, and when (milliseconds); None once it has.
    outcome: str | None = None
    outcome_at_ms: int = 0


class Dispute(Record, kw_only=True):
    charge: str
    intent: str
    amount: int
    currency: str
    card: str
    reason: str
    status: str


KINDS: dict[str, type[Record]] = {
    "payment_intent": Intent,
    "charge": Charge,
    "payment_method": Method,
    "customer": Customer,
    "refund": Refund,
    "dispute": Dispute,
}

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(shape) for kind, shape in KINDS.items()
}


def pack(record: Record) -> bytes:
    return _encoder.encode(record)


def unpack(kind: str, packed: bytes) -> Any:
    return _decoders[kind].decode(packed)
