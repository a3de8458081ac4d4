"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("sale_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(status IS NULL) = (body IS NULL)", name=op.f("answers_answered_check")),
        sa.PrimaryKeyConstraint("route", "key", name=op.f("answers_pkey")),
        comment=("First answers by Idempotency-Key; without a status the request is under way, or was cut off."),
    )
    op.create_index(op.f("answers_sale_id_idx"), "answers", ["sale_id"], unique=False)
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_pkey")),
        comment="What people did: loads, pauses, adjustments, repairs.",
    )
    op.create_table(
        "ledger",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("sale_id", sa.Text(), nullable=False),
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("hold_id", sa.Text(), nullable=True),
        sa.Column("qty", sa.BigInteger(), nullable=False),
        sa.Column("from_counter", sa.Text(), nullable=True),
        sa.Column("to_counter", sa.Text(), nullable=True),
        sa.Column("from_before", sa.BigInteger(), nullable=True),
        sa.Column("from_after", sa.BigInteger(), nullable=True),
        sa.Column("to_before", sa.BigInteger(), nullable=True),
        sa.Column("to_after", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("command", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("from_after = from_before - qty", name=op.f("ledger_from_counter_check")),
        sa.CheckConstraint("qty <> 0", name=op.f("ledger_qty_check")),
        sa.CheckConstraint("to_after = to_before + qty", name=op.f("ledger_to_counter_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("ledger_pkey")),
        comment=(
            "Every movement of stock: qty units left one counter (available, held, sold; none for new "
            "stock) for another, with each counter's quantity before and after."
        ),
    )
    op.create_index("ledger_product_idx", "ledger", ["sale_id", "product_id", "id"], unique=False)
    op.create_index(
        "ledger_command_idx",
        "ledger",
        ["sale_id", "command"],
        unique=False,
        postgresql_where=sa.text("command IS NOT NULL"),
    )
    op.create_table(
        "order_changes",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("order", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("order_changes_pkey")),
        comment=("Every change of every order, as the API shows the order, for the shop's order system to follow."),
    )
    op.create_index(op.f("order_changes_order_id_idx"), "order_changes", ["order_id"], unique=False)
    op.create_table(
        "order_feed",
        sa.Column("only", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("last", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint('"only"', name=op.f("order_feed_only_check")),
        sa.PrimaryKeyConstraint("only", name=op.f("order_feed_pkey")),
        comment=(
            "One row: the last position of order_changes. Its lock, held to the commit, puts the changes in one order."
        ),
    )
    op.create_table(
        "sales",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hold_ttl_ms", sa.BigInteger(), nullable=False),
        sa.Column("payment_ttl_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state IN ('open', 'paused', 'ended')", name=op.f("sales_state_check")),
        sa.CheckConstraint("hold_ttl_ms > 0 AND payment_ttl_ms > 0", name=op.f("sales_lifetimes_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("sales_pkey")),
        comment="`retired_at`: its keys left Redis, 24 h after its end.",
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("secrets_pkey")),
        comment=(
            "Made once by `flashsale migrate`: `ids` is the key under which hold ids derive from Idempotency-Keys."
        ),
    )
    op.create_table(
        "set_aside",
        sa.Column("sale_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("entry", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("sale_id", "epoch", "seq", name=op.f("set_aside_pkey")),
        comment="Events that could not be written, kept for people; the drain went on without them.",
    )
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("intent_id", sa.Text(), nullable=True),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), server_default="stored", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=True),
        sa.Column("handled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status IN ('handled', 'ignored')) = (handled_at IS NOT NULL)",
            name=op.f("webhook_events_handled_at_check"),
        ),
        sa.CheckConstraint(
            "status IN ('stored', 'pending_order', 'handled', 'ignored', 'parked')",
            name=op.f("webhook_events_status_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_events_pkey")),
        comment=(
            "The inbox. Handled is marked after the effect. pending_order: its order is not known yet; "
            "parked: for people, with a reason."
        ),
    )
    op.create_index(
        "webhook_events_due_idx",
        "webhook_events",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(op.f("webhook_events_intent_id_idx"), "webhook_events", ["intent_id"], unique=False)
    op.create_table(
        "claims",
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("sale_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["sale_id"], ["sales.id"], name=op.f("claims_sale_id_fkey")),
        sa.PrimaryKeyConstraint("product_id", name=op.f("claims_pkey")),
        comment="A product is in one sale that has not ended at a time: the one that claims it.",
    )
    op.create_index(op.f("claims_sale_id_idx"), "claims", ["sale_id"], unique=False)
    op.create_table(
        "cursors",
        sa.Column("sale_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("mark", sa.Text(), server_default="", nullable=False),
        sa.Column("drained_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("epoch > 0 AND seq >= 0", name=op.f("cursors_position_check")),
        sa.ForeignKeyConstraint(["sale_id"], ["sales.id"], name=op.f("cursors_sale_id_fkey")),
        sa.PrimaryKeyConstraint("sale_id", name=op.f("cursors_pkey")),
        comment="How far the sale's events are in these tables. Locked by whoever drains.",
    )
    op.create_table(
        "holds",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sale_id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("lines", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("checkout", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("pay_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint(
            "status IN ('held', 'paying', 'sold', 'released', 'expired')", name=op.f("holds_status_check")
        ),
        sa.ForeignKeyConstraint(["sale_id"], ["sales.id"], name=op.f("holds_sale_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("holds_pkey")),
        comment=(
            "`lines` as [[product, qty, unit_price, rev, returned], ...]; (epoch, seq) of the event "
            "that last changed it. `refused`: sold in Redis, but the stock here did not allow it."
        ),
    )
    op.create_index(
        "holds_live_idx",
        "holds",
        ["sale_id", "status"],
        unique=False,
        postgresql_where=sa.text("status IN ('held', 'paying')"),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("sale_id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("ended_because", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("paid_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending_payment', 'paid', 'cancelled', 'refunded')", name=op.f("orders_status_check")
        ),
        sa.CheckConstraint("total > 0", name=op.f("orders_total_check")),
        sa.ForeignKeyConstraint(["sale_id"], ["sales.id"], name=op.f("orders_sale_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("orders_pkey")),
        sa.UniqueConstraint("hold_id", name=op.f("orders_hold_id_key")),
        comment=(
            "No foreign key to holds: the API writes an order before the drain has brought its hold. "
            "`ended_because` of a cancelled one: asked | expired | refused | lapsed | late."
        ),
    )
    op.create_index(op.f("orders_sale_id_idx"), "orders", ["sale_id"], unique=False)
    op.create_table(
        "products",
        sa.Column("sale_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("compare_at", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("per_customer_limit", sa.Integer(), nullable=True),
        sa.Column("loaded", sa.BigInteger(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("sold", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("held >= 0", name=op.f("products_held_check")),
        sa.CheckConstraint("price > 0", name=op.f("products_price_check")),
        sa.CheckConstraint("sold <= total", name=op.f("products_sold_within_total_check")),
        sa.CheckConstraint("sold >= 0", name=op.f("products_sold_check")),
        sa.ForeignKeyConstraint(["sale_id"], ["sales.id"], name=op.f("products_sale_id_fkey")),
        sa.PrimaryKeyConstraint("sale_id", "id", name=op.f("products_pkey")),
        comment=(
            "Counters as of the sale's cursor; available is total - held - sold. `loaded` is the last "
            "sale file's stock."
        ),
    )
    op.create_index("products_id_idx", "products", ["id"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("request_key", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("decline_code", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("attempts_order_id_fkey")),
        sa.PrimaryKeyConstraint("order_id", "number", name=op.f("attempts_pkey")),
        sa.UniqueConstraint("idempotency_key", name=op.f("attempts_idempotency_key_key")),
        comment=(
            "Each try to pay, with all that Stripe is sent, written before the call. outcome: the "
            "intent's status, or `declined`."
        ),
    )
    op.create_table(
        "disputes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("intent_id", sa.Text(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("disputes_order_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("disputes_pkey")),
    )
    op.create_index(op.f("disputes_order_id_idx"), "disputes", ["order_id"], unique=False)
    op.create_table(
        "labels",
        sa.Column("sale_id", sa.Text(), nullable=False),
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("compare_at", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sale_id", "product_id"], ["products.sale_id", "products.id"], name=op.f("labels_sale_id_fkey")
        ),
        sa.PrimaryKeyConstraint("sale_id", "product_id", "rev", name=op.f("labels_pkey")),
        comment="Each name and price that a product had: a hold's line names its rev.",
    )
    op.create_table(
        "order_lines",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("qty", sa.Integer(), nullable=False),
        sa.Column("unit_price", sa.BigInteger(), nullable=False),
        sa.Column("returned", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("qty > 0", name=op.f("order_lines_qty_check")),
        sa.CheckConstraint("returned >= 0 AND returned <= qty", name=op.f("order_lines_returned_check")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("order_lines_order_id_fkey")),
        sa.PrimaryKeyConstraint("order_id", "position", name=op.f("order_lines_pkey")),
        sa.UniqueConstraint("order_id", "product_id", name=op.f("order_lines_order_id_product_id_key")),
    )
    op.create_table(
        "payments",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), server_default="stripe", nullable=False),
        sa.Column("intent_id", sa.Text(), nullable=True),
        sa.Column("client_secret", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="requires_payment_method", nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("captured", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refunded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("authorised_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "due IN ('create', 'capture', 'cancel', 'void', 'release')", name=op.f("payments_due_check")
        ),
        sa.CheckConstraint("(due IS NULL) = (due_at IS NULL)", name=op.f("payments_due_at_check")),
        sa.CheckConstraint("captured >= 0 AND captured <= amount", name=op.f("payments_captured_check")),
        sa.CheckConstraint("refunded >= 0 AND refunded <= captured", name=op.f("payments_refunded_check")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("payments_order_id_fkey")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("payments_pkey")),
        sa.UniqueConstraint("intent_id", name=op.f("payments_intent_id_key")),
        comment=(
            "The order's intent, its status in Stripe's words. `due` is what we owe the provider or "
            "Redis: recorded before it is tried, taken off after its effect. create: an intent whose "
            "creation was begun; capture; cancel: asked for by people or a deadline; void: money for "
            "nothing, to be cancelled or refunded; release: the intent is cancelled, the units are not "
            "back yet."
        ),
    )
    op.create_index(
        "payments_due_idx", "payments", ["due_at"], unique=False, postgresql_where=sa.text("due IS NOT NULL")
    )
    op.create_table(
        "refunds",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("lines", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.Column("restock", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("restocked", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("due", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'requires_action', 'succeeded', 'failed', 'canceled')",
            name=op.f("refunds_status_check"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("refunds_amount_check")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("refunds_order_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("refunds_pkey")),
        sa.UniqueConstraint("provider_id", name=op.f("refunds_provider_id_key")),
        comment=(
            "`lines` as [[product, qty], ...] that return; `due`: not yet known to the provider, or units not yet back."
        ),
    )
    op.create_index("refunds_due_idx", "refunds", ["due_at"], unique=False, postgresql_where=sa.text("due"))
    op.create_index(op.f("refunds_order_id_idx"), "refunds", ["order_id"], unique=False)
