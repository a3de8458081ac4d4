"""A statement goes to psycopg as it is written: only its parameters' names are said as psycopg wants them."""

from sqlalchemy import Engine

from persistence.statement import Statement


def test_a_statement_says_what_it_is_written_with(db: Engine) -> None:
    statement = Statement("SELECT 7 % 4, CAST(:of AS text[])::text, :of_2 || '%'")
    with db.connect() as conn:
        [row] = statement.on(conn, {"of": ['a"b', "c:d", None], "of_2": "100"})
    assert tuple(row) == (3, '{"a\\"b",c:d,NULL}', "100%")
