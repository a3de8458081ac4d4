"""What a set of orders costs Postgres does not grow with the orders that there are."""

import re

import pytest
from sqlalchemy import Connection, text

from payments import changes, records
from persistence import database, orders
from persistence.statement import Statement


def _kept_plan(conn: Connection, wanted: Statement) -> str:
    """The plan that a prepared statement keeps, whatever its values."""
    names = list(dict.fromkeys(re.findall(r"(?<!:):(\w+)", wanted.sql)))
    numbered = re.sub(r"(?<!:):(\w+)", lambda found: f"${names.index(found[1]) + 1}", wanted.sql)
    values = {"rows": "'[]'", "ids": "'{order_1}'", "after": "1"}
    conn.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
    conn.exec_driver_sql(f"PREPARE wanted AS {numbered}")
    plan = conn.exec_driver_sql(f"EXPLAIN EXECUTE wanted ({', '.join(values[name] for name in names)})")
    return "\n".join(plan.scalars())


@pytest.mark.parametrize("wanted", [changes._WRITE_PAYMENTS, records._OWE_INTENTS, orders._READ_ORDERS])
def test_orders_are_found_by_their_ids_from_a_sales_first_ones_on(database_url: str, wanted: Statement) -> None:
    db = database.connect(database_url, 1)
    with db.connect() as conn:
        conn.execute(text("INSERT INTO sales (id, name, hold_ttl_ms, payment_ttl_ms) VALUES ('plans', 'Plans', 1, 1)"))
        conn.execute(
            text("""INSERT INTO orders (id, hold_id, sale_id, customer_id, status, currency, total)
                    SELECT 'order_' || i, 'hold_' || i, 'plans', 'ann', 'pending_payment', 'usd', 1900
                    FROM generate_series(1, 30) i""")
        )
        conn.execute(text("INSERT INTO payments (order_id, amount, currency) SELECT id, total, currency FROM orders"))
        plan = _kept_plan(conn, wanted)
        conn.exec_driver_sql("DEALLOCATE wanted")
        conn.rollback()
    db.dispose()
    assert "payments_pkey" in plan
    assert "Seq Scan" not in plan
    assert "payments_intent_id_key" not in plan
