"""Connections to Postgres: kept, tried after a rest, and replaced where the server closed them."""

import msgspec
import psycopg
import pytest
from sqlalchemy import Engine, text

from persistence import database
from persistence.database import connect, reading


def _backend(db: Engine) -> int:
    with db.connect() as conn:
        return int(conn.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_a_connection_that_the_server_closed_while_it_rested_is_replaced(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "REST_SECONDS", 0.0)
    db = connect(database_url, 1)
    first = _backend(db)
    assert _backend(db) == first
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    assert _backend(db) != first
    db.dispose()


def test_statements_are_prepared_unless_a_pooler_forbids_it(database_url: str) -> None:
    for prepare, expected in ((True, 1), (False, 0)):
        db = connect(database_url, 1, prepare=prepare)
        with db.connect() as conn:
            for number in range(8):
                conn.execute(text("SELECT CAST(:n AS int) AS prepared_or_not"), {"n": number})
            query = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%prepared_or_not%'"
            found = conn.exec_driver_sql(query.replace("%", "%%")).scalar_one()
        assert found == expected
        db.dispose()


def test_reading_forgets_no_prepared_statement(database_url: str) -> None:
    db = connect(database_url, 1)
    query = text("SELECT statement FROM pg_prepared_statements")
    for _ in range(2):
        with reading(db) as conn:
            known = conn.scalars(query).all()
    assert len(known) == 1
    with db.begin() as conn:
        assert conn.scalars(query).all() == known
        assert not conn.connection.dbapi_connection.autocommit, "what follows has its transaction again"  # type: ignore[union-attr]
    db.dispose()


def test_json_is_read_by_msgspec(database_url: str) -> None:
    db = connect(database_url, 1)
    with reading(db) as conn:
        assert conn.execute(text("SELECT CAST('{\"a\": [1, null]}' AS json), CAST('[]' AS jsonb)")).one() == (
            {"a": [1, None]},
            [],
        )
        loader = conn.connection.dbapi_connection.adapters.get_loader(psycopg.adapters.types["jsonb"].oid, 0)  # type: ignore[union-attr]
        assert loader._loads is msgspec.json.decode
    db.dispose()


def test_lists_arrive_as_they_were_sent(database_url: str) -> None:
    texts = ['{"a": "b\\\\c"}', "", "NULL", "a,b", "{}", " x ", "line\nline", "\u2003é", None]
    db = connect(database_url, 1)
    with db.connect() as conn:
        for sent, kind in (
            (texts, "text"),
            ([1, 2**40, None], "bigint"),
            ([True, False], "boolean"),
            ([b"\0"], "bytea"),
        ):
            for again in (sent, [], [None]):
                query = text(
                    f"SELECT array_agg(each ORDER BY nth) FROM unnest(CAST(:sent AS {kind}[]))"
                    " WITH ORDINALITY AS sent (each, nth)"
                )
                assert (conn.execute(query, {"sent": again}).scalar_one() or []) == again
    db.dispose()
