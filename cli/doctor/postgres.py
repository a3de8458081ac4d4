"""Postgres: its version, its schema, and that a commit means what it says."""

import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from cli.doctor.findings import Finding, Look, judge_clock
from cli.failures import first_line
from engine.settings import Settings
from persistence import database
from persistence.migrate import NewerSchema, pending

VERSION_MIN = 15
ON = {
    "fsync": "without it a power cut loses committed orders",
    "full_page_writes": "without it a power cut may break pages",
    "synchronous_commit": "money is captured after the commit, which must be on disk by then",
}


def look_at_postgres(settings: Settings) -> Iterator[Finding]:
    look = Look("postgres")
    db = database.connect(settings.database_url, 1)
    try:
        with db.connect() as conn:
            _look(look, conn, settings)
        _judge_schema(look, settings.database_url)
    except SQLAlchemyError as error:
        look.unknown("reach", first_line(error), "start it, or check FLASHSALE_DATABASE_URL")
    finally:
        db.dispose()
    yield from look.findings


def _look(look: Look, conn: Connection, settings: Settings) -> None:
    number = int(_ask(conn, "SHOW server_version_num"))
    version = str(_ask(conn, "SHOW server_version"))
    if number >= VERSION_MIN * 10_000:
        look.fine("version", version)
    else:
        look.wrong("version", version, f"run PostgreSQL {VERSION_MIN} or newer")
    before = time.time()
    there = float(_ask(conn, "SELECT extract(epoch FROM clock_timestamp())"))
    after = time.time()
    judge_clock(look, there - (before + after) / 2, (after - before) / 2)
    if _ask(conn, "SELECT pg_is_in_recovery()"):
        look.wrong("role", "a replica, which takes no writes", "name the primary in FLASHSALE_DATABASE_URL")
    else:
        look.fine("role", "primary")
    for name, why in ON.items():
        found = str(_ask(conn, f"SHOW {name}"))
        wanted = ("on", "remote_write", "remote_apply") if name == "synchronous_commit" else ("on",)
        look.expect(name.replace("_", " "), found, wanted, f"`ALTER SYSTEM SET {name} = on`: {why}")
    isolation = str(_ask(conn, "SHOW default_transaction_isolation"))
    change = "`ALTER DATABASE ... SET default_transaction_isolation = 'read committed'`: the locks are made for it"
    look.expect("isolation", isolation, ("read committed",), change)
    encoding = str(_ask(conn, "SHOW server_encoding"))
    look.expect("encoding", encoding, ("UTF8",), "make the database again with ENCODING 'UTF8': names are Unicode")
    _judge_connections(look, conn, settings)


def _judge_connections(look: Look, conn: Connection, settings: Settings) -> None:
    allowed = int(_ask(conn, "SHOW max_connections"))
    reserved = int(_ask(conn, "SHOW superuser_reserved_connections"))
    used = int(_ask(conn, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"))
    free = allowed - reserved - used
    said = f"{used} of {allowed} in use, and a process of ours takes up to {settings.database_pool_size}"
    if free >= settings.database_pool_size:
        look.fine("connections", said)
    else:
        change = "raise max_connections, put a pooler in front, or lower FLASHSALE_DATABASE_POOL_SIZE"
        look.advice("connections", said, change)


def _judge_schema(look: Look, url: str) -> None:
    try:
        missing = pending(url)
    except NewerSchema as error:
        look.advice("schema", str(error), "this version serves on; bring it up to date soon")
        return
    if missing:
        look.wrong("schema", f"{len(missing)} migrations behind", "run `flashsale migrate`")
    else:
        look.fine("schema", "current")


def _ask(conn: Connection, question: str) -> Any:
    return conn.scalar(text(question))
