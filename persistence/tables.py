"""The tables. Their constraints make a wrong state impossible; above all ``sold <= total``, which stands behind every
captured order.

Times are ``timestamptz``; money is in minor units; quantities are whole. Only the drain writes ``products``' counters,
``holds``, ``ledger`` and ``cursors``, and only it ends an order (see ``persistence.drain``).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


def _time(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _one_of(column: str, *words: str) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    comment="Made once by `flashsale migrate`: `ids` is the key under which hold ids derive from Idempotency-Keys.",
)

sales = Table(
    "sales",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="open"),
    _time("starts_at", nullable=True),
    _time("ends_at", nullable=True),
    Column("hold_ttl_ms", BigInteger, nullable=False),
    Column("payment_ttl_ms", BigInteger, nullable=False),
    _time("ended_at", nullable=True),
    _time("retired_at", nullable=True),
    _now("created_at"),
    _one_of("state", "open", "paused", "ended"),
    CheckConstraint("hold_ttl_ms > 0 AND payment_ttl_ms > 0", name="lifetimes"),
    comment="`retired_at`: its keys left Redis, 24 h after its end.",
)

claims = Table(
    "claims",
    metadata,
    Column("product_id", Text, primary_key=True),
    Column("sale_id", Text, ForeignKey("sales.id"), nullable=False, index=True),
    comment="A product is in one sale that has not ended at a time: the one that claims it.",
)

cursors = Table(
    "cursors",
    metadata,
    Column("sale_id", Text, ForeignKey("sales.id"), primary_key=True),
    Column("epoch", BigInteger, nullable=False, server_default="1"),
    Column("seq", BigInteger, nullable=False, server_default="0"),
    Column("mark", Text, nullable=False, server_default=""),
    _now("drained_at"),
    CheckConstraint("epoch > 0 AND seq >= 0", name="position"),
    comment="How far the sale's events are in these tables. Locked by whoever drains.",
)

products = Table(
    "products",
    metadata,
    Column("sale_id", Text, ForeignKey("sales.id"), primary_key=True),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("price", BigInteger, nullable=False),
    Column("compare_at", BigInteger, nullable=True),
    Column("currency", Text, nullable=False),
    Column("per_customer_limit", Integer, nullable=True),
    Column("loaded", BigInteger, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False, server_default="0"),
    Column("sold", BigInteger, nullable=False, server_default="0"),
    Index("products_id_idx", "id"),
    CheckConstraint("sold >= 0", name="sold"),
    CheckConstraint("sold <= total", name="sold_within_total"),
    CheckConstraint("held >= 0", name="held"),
    CheckConstraint("price > 0", name="price"),
    comment="Counters as of the sale's cursor; available is total - held - sold. `loaded` is the last sale "
    "file's stock.",
)

labels = Table(
    "labels",
    metadata,
    Column("sale_id", Text, primary_key=True),
    Column("product_id", Text, primary_key=True),
    Column("rev", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("price", BigInteger, nullable=False),
    Column("compare_at", BigInteger, nullable=True),
    Column("currency", Text, nullable=False),
    ForeignKeyConstraint(["sale_id", "product_id"], ["products.sale_id", "products.id"]),
    comment="Each name and price that a product had: a hold's line names its rev.",
)

holds = Table(
    "holds",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sale_id", Text, ForeignKey("sales.id"), nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("lines", JSONB, nullable=False),
    Column("checkout", Text, nullable=True),
    _time("created_at"),
    _time("expires_at"),
    _time("pay_by", nullable=True),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("refused", Boolean, nullable=False, server_default=text("false")),
    _one_of("status", "held", "paying", "sold", "released", "expired"),
    Index("holds_live_idx", "sale_id", "status", postgresql_where=text("status IN ('held', 'paying')")),
    comment="`lines` as [[product, qty, unit_price, rev, returned], ...]; (epoch, seq) of the event that last "
    "changed it. "
    "`refused`: sold in Redis, but the stock here did not allow it.",
)

orders = Table(
    "orders",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hold_id", Text, nullable=False, unique=True),
    Column("sale_id", Text, ForeignKey("sales.id"), nullable=False, index=True),
    Column("customer_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("ended_because", Text, nullable=True),
    Column("currency", Text, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("metadata", JSONB, nullable=False, server_default="{}"),
    _now("created_at"),
    _time("paid_at", nullable=True),
    _one_of("status", "pending_payment", "paid", "cancelled", "refunded"),
    CheckConstraint("total > 0", name="total"),
    Index("orders_refused_idx", "id", postgresql_where=text("ended_because = 'refused'")),
    comment="No foreign key to holds: the API writes an order before the drain has brought its hold. "
    "`ended_because` of a cancelled one: asked | expired | refused | lapsed | late.",
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", Text, ForeignKey("orders.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("product_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("qty", Integer, nullable=False),
    Column("unit_price", BigInteger, nullable=False),
    Column("returned", Integer, nullable=False, server_default="0"),
    UniqueConstraint("order_id", "product_id"),
    CheckConstraint("qty > 0", name="qty"),
    CheckConstraint("returned >= 0 AND returned <= qty", name="returned"),
)

payments = Table(
    "payments",
    metadata,
    Column("order_id", Text, ForeignKey("orders.id"), primary_key=True),
    Column("provider", Text, nullable=False, server_default="stripe"),
    Column("intent_id", Text, nullable=True, unique=True),
    Column("client_secret", Text, nullable=True),
    Column("status", Text, nullable=False, server_default="requires_payment_method"),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("captured", BigInteger, nullable=False, server_default="0"),
    Column("refunded", BigInteger, nullable=False, server_default="0"),
    Column("authorised_at", DateTime(timezone=True), nullable=True),
    Column("due", Text, nullable=True),
    _time("due_at", nullable=True),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("last_error", Text, nullable=True),
    _now("updated_at"),
    _one_of("due", "create", "capture", "cancel", "void", "release"),
    CheckConstraint("captured >= 0 AND captured <= amount", name="captured"),
    CheckConstraint("refunded >= 0 AND refunded <= captured", name="refunded"),
    CheckConstraint("(due IS NULL) = (due_at IS NULL)", name="due_at"),
    Index("payments_due_idx", "due_at", postgresql_where=text("due IS NOT NULL")),
    Index("payments_authorised_idx", "authorised_at", postgresql_where=text("status = 'requires_capture'")),
    comment="The order's intent, its status in Stripe's words. `due` is what we owe the provider or Redis: "
    "recorded before it is tried, "
    "taken off after its effect. create: an intent whose creation was begun; capture; cancel: asked for "
    "by people or a deadline; "
    "void: money for nothing, to be cancelled or refunded; release: the intent is cancelled, the units "
    "are not back yet.",
)

attempts = Table(
    "attempts",
    metadata,
    Column("order_id", Text, ForeignKey("orders.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("request_key", Text, nullable=True),
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("parameters", JSONB, nullable=False),
    Column("outcome", Text, nullable=True),
    Column("decline_code", Text, nullable=True),
    _now("created_at"),
    _time("answered_at", nullable=True),
    comment="Each try to pay, with all that Stripe is sent, written before the call. outcome: the intent's "
    "status, or `declined`.",
)

refunds = Table(
    "refunds",
    metadata,
    Column("id", Text, primary_key=True),
    Column("order_id", Text, ForeignKey("orders.id"), nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=True),
    Column("lines", JSONB, nullable=False, server_default="[]"),
    Column("restock", Boolean, nullable=False, server_default=text("false")),
    Column("restocked", Boolean, nullable=False, server_default=text("false")),
    Column("provider_id", Text, nullable=True, unique=True),
    Column("due", Boolean, nullable=False, server_default=text("true")),
    _time("due_at", nullable=True),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("last_error", Text, nullable=True),
    _now("created_at"),
    _one_of("status", "pending", "requires_action", "succeeded", "failed", "canceled"),
    CheckConstraint("amount > 0", name="amount"),
    Index("refunds_due_idx", "due_at", postgresql_where=text("due")),
    comment="`lines` as [[product, qty], ...] that return; `due`: not yet known to the provider, or units not "
    "yet back.",
)

disputes = Table(
    "disputes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("order_id", Text, ForeignKey("orders.id"), nullable=True, index=True),
    Column("intent_id", Text, nullable=True),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("status", Text, nullable=False),
    _now("created_at"),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("intent_id", Text, nullable=True, index=True),
    Column("payload", JSONB, nullable=False),
    Column("status", Text, nullable=False, server_default="stored"),
    Column("reason", Text, nullable=True),
    Column("tries", Integer, nullable=False, server_default="0"),
    _now("received_at"),
    Column("due_at", DateTime(timezone=True), nullable=True, server_default=func.now()),
    _time("handled_at", nullable=True),
    _one_of("status", "stored", "pending_order", "handled", "ignored", "parked"),
    CheckConstraint("(status IN ('handled', 'ignored')) = (handled_at IS NOT NULL)", name="handled_at"),
    Index("webhook_events_due_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("webhook_events_open_idx", "status", postgresql_where=text("handled_at IS NULL")),
    comment="The inbox. Handled is marked after the effect. pending_order: its order is not known yet; parked: "
    "for people, with a reason.",
)

ledger = Table(
    "ledger",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("sale_id", Text, nullable=False),
    Column("product_id", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("hold_id", Text, nullable=True),
    Column("qty", BigInteger, nullable=False),
    Column("from_counter", Text, nullable=True),
    Column("to_counter", Text, nullable=True),
    Column("from_before", BigInteger, nullable=True),
    Column("from_after", BigInteger, nullable=True),
    Column("to_before", BigInteger, nullable=True),
    Column("to_after", BigInteger, nullable=True),
    Column("reason", Text, nullable=True),
    Column("command", Text, nullable=True),
    _time("at"),
    CheckConstraint("qty <> 0", name="qty"),
    CheckConstraint("from_after = from_before - qty", name="from_counter"),
    CheckConstraint("to_after = to_before + qty", name="to_counter"),
    Index("ledger_product_idx", "sale_id", "product_id", "id"),
    Index("ledger_command_idx", "sale_id", "command", postgresql_where=text("command IS NOT NULL")),
    comment="Every movement of stock: qty units left one counter (available, held, sold; none for new stock) for "
    "another, "
    "with each counter's quantity before and after.",
)

order_feed = Table(
    "order_feed",
    metadata,
    Column("only", Boolean, primary_key=True, server_default=text("true")),
    Column("last", BigInteger, nullable=False, server_default="0"),
    CheckConstraint('"only"', name="only"),
    comment="One row: the last position of order_changes. Its lock, held to the commit, puts the changes in one order.",
)

order_changes = Table(
    "order_changes",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("order_id", Text, nullable=False, index=True),
    Column("order", JSONB, nullable=False),
    _now("changed_at"),
    comment="Every change of every order, as the API shows the order, for the shop's order system to follow.",
)

answers = Table(
    "answers",
    metadata,
    Column("route", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("status", Integer, nullable=True),
    Column("body", LargeBinary, nullable=True),
    Column("sale_id", Text, nullable=True, index=True),
    _now("created_at"),
    CheckConstraint("(status IS NULL) = (body IS NULL)", name="answered"),
    comment="First answers by Idempotency-Key; without a status the request is under way, or was cut off.",
)

set_aside = Table(
    "set_aside",
    metadata,
    Column("sale_id", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("entry", JSONB, nullable=False),
    Column("error", Text, nullable=False),
    _now("created_at"),
    comment="Events that could not be written, kept for people; the drain went on without them.",
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _now("at"),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default="{}"),
    comment="What people did: loads, pauses, adjustments, repairs.",
)
