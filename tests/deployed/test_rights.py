"""Each process has a user of its own in Redis and in Postgres: with its rights a whole sale works, and without them
nothing else does.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis
from sqlalchemy import text

from engine import connections
from persistence import database, roles
from persistence.housekeeping import retire
from persistence.migrate import migrate
from persistence.tables import metadata
from tests.deployed.stack import SERVERS, Stack, wait_for
from tests.house.paths import ROOT

pytestmark = pytest.mark.xdist_group("deployed")

FILE = {
    "id": "bf",
    "name": "Black Friday",
    "hold_ttl_seconds": 1,
    "payment_ttl_seconds": 60,
    "products": [{"id": "sock", "name": "Sock", "price": {"amount": 1000, "currency": "usd"}, "stock": 20}],
}


def _denied(stack: Stack) -> set[tuple[str, str]]:
    """(user, command or key) that Redis refused to a process since it was asked last."""
    with stack.redis.client("admin") as client:
        found = {(entry["username"], entry["object"]) for entry in client.acl_log()}
        client.acl_log_reset()
    return {(user, what) for user, what in found if user != "default"}


def _hold(shop: httpx.Client, qty: int, key: str) -> dict[str, Any]:
    body = {"customer_id": "ann", "product_id": "sock", "qty": qty}
    answer = shop.post("/v1/holds", json=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 201, answer.text
    hold: dict[str, Any] = answer.json()
    return hold


def _order(shop: httpx.Client, hold: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = shop.post("/v1/orders", json={"hold_id": hold["id"], **more}, headers={"Idempotency-Key": hold["id"]})
    assert answer.status_code == 201, answer.text
    order: dict[str, Any] = answer.json()
    return order


def test_a_whole_sale_with_these_rights_and_no_others(stack: Stack) -> None:
    assert stack.admin("PUT", "/sales/bf", json=FILE).status_code == 200
    with stack.client() as shop:

        def status(order: dict[str, Any]) -> str:
            return str(shop.get(f"/v1/orders/{order['id']}").json()["payment"]["status"])

        at_once = _order(shop, _hold(shop, 2, "a"), payment_method_id="pm_card_visa")
        in_browser = _order(shop, _hold(shop, 1, "b"))
        given_up = _order(shop, _hold(shop, 1, "c"))
        assert stack.stripe.pay(in_browser["payment"]["client_secret"])[0] == 200
        assert shop.post(f"/v1/orders/{given_up['id']}/cancel").json()["status"] == "cancelled"
        abandoned = _hold(shop, 3, "d")
        released = _hold(shop, 4, "e")
        assert shop.delete(f"/v1/holds/{released['id']}").json()["status"] == "released"
        wait_for(lambda: {status(at_once), status(in_browser)} == {"succeeded"}, "the money is captured")
        refund = {"lines": [{"product_id": "sock", "qty": 1}], "restock": True}
        assert stack.admin("POST", f"/orders/{at_once['id']}/refunds", json=refund).status_code == 201
        assert stack.admin("POST", "/products/sock/stock", json={"delta": 5, "reason": "found"}).status_code == 200
        wait_for(lambda: shop.get(f"/v1/holds/{abandoned['id']}").json()["status"] == "expired", "it expires")
        sold_and_free = {"total": 25, "available": 23, "held": 0, "sold": 2}
        wait_for(lambda: shop.get("/v1/products/sock").json()["stock"] == sold_and_free, "all is counted")
        assert 'flashsale_sale_fenced{sale="bf"} 0.0' in shop.get("/metrics").text

        # Redis loses everything, and the workers bring it back by themselves.
        with stack.redis.client("admin") as client:
            client.flushall()
        wait_for(lambda: shop.get("/v1/products/sock").status_code == 200, "the sale is back")
        # What expired a moment before may not have been in Postgres yet: then it is held, overdue, and expires again.
        wait_for(lambda: shop.get("/v1/products/sock").json()["stock"] == sold_and_free, "all is counted again")

    for command in (["rebuild", "bf"], ["reconcile", "bf", "--apply"], ["sale", "end", "bf"]):
        code, output = stack.run(*command)
        assert code == 0, output
    assert all(process.running for process in stack.processes.values())
    for name, process in stack.processes.items():
        assert "ermission" not in process.output, f"{name}: {process.output}"
    assert _denied(stack) == set()


def test_a_sale_that_is_long_over_leaves_redis_with_the_workers_rights(stack: Stack) -> None:
    assert stack.admin("PUT", "/sales/old", json=FILE | {"id": "old", "products": [
        FILE["products"][0] | {"id": "hat"}]}).status_code == 200  # type: ignore[index]  # fmt: skip
    assert stack.admin("POST", "/sales/old/end").status_code == 200
    owner = database.connect(stack.database_url, 1)
    with owner.begin() as conn:
        conn.execute(text("UPDATE sales SET ended_at = now() - interval '2 days' WHERE id = 'old'"))
    owner.dispose()
    db, client = database.connect(stack.database_of("worker"), 2), connections.connect(stack.redis.url("worker"))
    retire(db, client, "old")  # here, or by a worker that was quicker
    with stack.redis.client("ops") as ops:
        wait_for(lambda: not ops.exists("fs:{old}:sale"), "its keys are gone")
    db.dispose()
    client.close()


REFUSED_BY_REDIS = {
    "api": [
        "FLUSHALL", "FLUSHDB", "CONFIG GET requirepass", "CONFIG SET maxmemory 1", "KEYS *", "SHUTDOWN",
        "ACL LIST", "MONITOR", "SCRIPT FLUSH", "DEL fs:{bf}:sale", "LPUSH rq:queue:flashsale-v2-drain x", "GET other",
        "HSET fs:metrics calls 1", "SET fs:slice:drain:0 x", "REPLICAOF NO ONE", "SWAPDB 0 1",
        "CLIENT KILL TYPE normal",
    ],
    "worker": [
        "FLUSHALL", "FLUSHDB", "CONFIG GET requirepass", "KEYS *", "SHUTDOWN", "ACL SETUSER worker +@all", "MONITOR",
        "SCRIPT FLUSH", "GET other", "SET other x", "REPLICAOF NO ONE", "SWAPDB 0 1", "LPUSH other x",
    ],
    "scheduler": [
        "FLUSHALL", "CONFIG GET requirepass", "KEYS *", "HGETALL fs:{bf}:sale", "HSET fs:{bf}:stock sock:available 9",
        "GET rq:suspended", "LPOP rq:queue:flashsale-v2-drain", "DEL rq:queues", "EVAL return(1) 0",
    ],
    "ops": [
        "FLUSHALL", "CONFIG GET requirepass", "KEYS *", "HSET fs:{bf}:stock sock:available 9", "DEL fs:{bf}:sale",
        "EVAL return(1) 0", "SET other x", "MONITOR", "CLIENT KILL TYPE normal",
    ],
    None: ["GET fs:products", "HGETALL fs:{bf}:sale", "INFO", "FLUSHALL", "ACL WHOAMI", "SET other x"],
}  # fmt: skip


@pytest.mark.parametrize("user", REFUSED_BY_REDIS)
def test_redis_refuses_what_is_not_a_users(stack: Stack, user: str | None) -> None:
    with stack.redis.client(user) as client:
        assert client.ping()
        for command in REFUSED_BY_REDIS[user]:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split())
    with stack.redis.client("ops") as ops:
        assert ops.type("fs:products") in (b"hash", b"none")
        ops.info()
    _denied(stack)


def test_nobody_gets_into_redis_with_a_wrong_password(stack: Stack) -> None:
    for user in ("admin", "api", "worker", "scheduler", "ops"):
        with stack.redis.client(None) as client, pytest.raises(redis.exceptions.AuthenticationError):
            client.execute_command("AUTH", user, "wrong")
    _denied(stack)


REFUSED_BY_POSTGRES = {
    "api": [
        "DROP TABLE orders", "ALTER TABLE orders ADD x int", "TRUNCATE ledger", "CREATE TABLE mine (x int)",
        "DELETE FROM orders", "DELETE FROM claims", "UPDATE ledger SET qty = 1", "DELETE FROM ledger",
        "UPDATE order_changes SET order_id = ''", "DELETE FROM audit", "UPDATE secrets SET value = ''",
        "UPDATE webhook_events SET payload = '{}'", "INSERT INTO order_feed VALUES (true, 9)", "CREATE ROLE mine",
        "UPDATE alembic_version SET version_num = ''", "CREATE SCHEMA mine", "ALTER ROLE flashsale_api SUPERUSER",
        "SELECT pg_read_file('/etc/passwd')", "COPY orders TO PROGRAM 'cat'",
    ],
    "worker": [
        "DROP TABLE orders", "ALTER TABLE orders ADD x int", "TRUNCATE ledger", "CREATE TABLE mine (x int)",
        "DELETE FROM orders", "DELETE FROM payments", "UPDATE ledger SET qty = 1", "DELETE FROM ledger",
        "SELECT * FROM secrets", "INSERT INTO webhook_events (id, type, payload) VALUES ('', '', '{}')",
        "ALTER TABLE products DROP CONSTRAINT products_sold_within_total_check",
    ],
    "ops": [
        "UPDATE orders SET status = 'paid'", "DELETE FROM orders", "INSERT INTO order_feed VALUES (true, 9)",
        "SELECT client_secret FROM payments", "SELECT * FROM secrets", "SELECT body FROM answers",
        'SELECT "order" FROM order_changes', "SELECT payload FROM webhook_events", "SELECT parameters FROM attempts",
        "CREATE TABLE mine (x int)", "TRUNCATE orders",
    ],
}  # fmt: skip


@pytest.mark.parametrize("role", REFUSED_BY_POSTGRES)
def test_postgres_refuses_what_is_not_a_roles(stack: Stack, role: str) -> None:
    with psycopg.connect(stack.database_of(role), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone()
        for statement in REFUSED_BY_POSTGRES[role]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_the_ops_role_sees_what_the_docs_tell_people_to_look_at(stack: Stack) -> None:
    with psycopg.connect(stack.database_of("ops"), autocommit=True) as connection:
        for query in (
            "SELECT epoch, seq, drained_at FROM cursors",
            "SELECT sale_id, epoch, seq, error, entry FROM set_aside ORDER BY created_at",
            "SELECT order_id, intent_id, status, due, last_error FROM payments",
            "SELECT id, status, reason, tries FROM webhook_events",
            "SELECT * FROM ledger, audit, sales, products, holds, orders LIMIT 1",
        ):
            connection.execute(query.encode())


def test_a_command_with_too_few_rights_says_so(stack: Stack) -> None:
    price = {"amount": 1000, "currency": "usd"}
    file = {"name": "Known", "products": [{"id": "known-sock", "name": "Sock", "price": price, "stock": 5}]}
    assert stack.admin("PUT", "/sales/known", json=file).status_code == 200
    as_ops = {"FLASHSALE_DATABASE_URL": stack.database_of("ops"), "FLASHSALE_REDIS_URL": stack.redis.url("ops")}
    code, output = stack.run("sale", "show", "known", **as_ops)
    assert (code, output.count("\n")) == (1, 1), output
    assert "may not" in output
    assert "ops" in output
    code, output = stack.run("stock", "adjust", "known-sock", "1", "--reason", "x", FLASHSALE_DATABASE_URL=as_ops[
        "FLASHSALE_DATABASE_URL"])  # fmt: skip
    assert (code, output.count("\n")) == (1, 1), output
    assert "permission denied" in output
    _denied(stack)


def test_rights_are_given_again_and_what_was_given_by_hand_is_taken(stack: Stack) -> None:
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute("GRANT DELETE ON orders TO flashsale_api")
        connection.execute("REVOKE SELECT ON sales FROM flashsale_ops")
    assert migrate(stack.database_url) == []
    with psycopg.connect(stack.database_of("api"), autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM orders")
        connection.execute("SELECT count(*) FROM sales")


_WRITES = {
    "INSERT": r"(?<!\w)insert\((?:tables\.)?(\w+)\)|INSERT INTO (\w+)|COPY (\w+) \(",
    "UPDATE": r"(?<!\w)update\((?:tables\.)?(\w+)\)|UPDATE (\w+) (?:\w )?SET"
    r"|INSERT INTO (\w+)(?:(?!INSERT INTO)[^;])*?DO UPDATE",
    "DELETE": r"(?<!\w)delete\((?:tables\.)?(\w+)\)|DELETE FROM (\w+)",
}
_NAMES = {"secrets_table": "secrets", "order_rows": "orders"}
"""Tables that a module knows by another name."""


def _written() -> dict[str, set[str]]:
    """What the code writes: table -> verbs. ``migrate`` is the owner's, and so is the erasure of a customer."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in [*(ROOT / "persistence").glob("*.py"), *(ROOT / "payments").glob("*.py")]:
        if path.name in ("migrate.py", "roles.py", "customers.py"):
            continue
        for verb, pattern in _WRITES.items():
            for groups in re.findall(pattern, path.read_text()):
                name = next(filter(None, groups))
                table = _NAMES.get(name, name)
                if table in metadata.tables:
                    found[table].add(verb)
    return found


def test_the_rights_are_what_the_code_writes_and_no_more() -> None:
    given: dict[str, set[str]] = defaultdict(set)
    for rights in roles.RIGHTS.values():
        for table, words in rights.items():
            given[table] |= set(re.findall("INSERT|UPDATE|DELETE", words))
    assert {table: verbs for table, verbs in given.items() if verbs} == dict(_written())
    assert set(given) == {*metadata.tables, "alembic_version"}


def test_the_columns_that_are_hidden_exist() -> None:
    for table, columns in roles.HIDDEN.items():
        assert columns <= set(metadata.tables[table].columns.keys())


def test_no_password_is_written_down(stack: Stack) -> None:
    written = Path(stack.folder / "users.acl").read_text()
    assert written.count("user ") == (SERVERS / "users.acl").read_text().count("user ")
    for password in stack.passwords.of.values():
        assert password not in written
        assert password not in stack.redis.log.read_text()
    assert "_PASSWORD" not in written
