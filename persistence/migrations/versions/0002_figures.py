"""Indexes of what operators watch: refused orders, authorised money, events that were not handled."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index("orders_refused_idx", "orders", ["id"], postgresql_where=sa.text("ended_because = 'refused'"))
    op.create_index(
        "payments_authorised_idx",
        "payments",
        ["authorised_at"],
        postgresql_where=sa.text("status = 'requires_capture'"),
    )
    op.create_index(
        "webhook_events_open_idx", "webhook_events", ["status"], postgresql_where=sa.text("handled_at IS NULL")
    )
