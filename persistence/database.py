"""Connections to Postgres, from the URL that the contract allows."""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.array import ListBinaryDumper
from psycopg.types.json import set_json_loads
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from engine import tracing, urls
from engine.settings import SettingError
from persistence import traced

_DEFAULTS: dict[str, Any] = {"connect_timeout": 5, "application_name": "flashsale", "tcp_user_timeout": 10_000}
_POOL_WAIT_SECONDS = 5.0
PREPARE_AFTER = 1
"""Uses of a statement before it is prepared on a connection."""
REST_SECONDS = 0.1

_ADAPTERS = AdaptersMap(psycopg.adapters)
# An array of texts as text escapes each quote by a template of a pattern: 0.3 ms for an event's JSON, 4 us in binary.
_ADAPTERS.register_dumper(list, ListBinaryDumper)
set_json_loads(msgspec.json.decode, _ADAPTERS)


def connect(url: str, pool_size: int = 10, *, prepare: bool = True) -> Engine:
    """An engine of ``pool_size`` connections at most, connected at its first use. libpq reads the URL itself, so all
    that it knows works: sockets, TLS, several hosts. Without ``prepare`` no statement is prepared: a pooler in
    transaction mode may give each transaction another server connection. Raises as ``read_url``.
    """
    conninfo, given = read_url(url)
    options = {name: value for name, value in _DEFAULTS.items() if name not in given}

    def open_connection() -> psycopg.Connection:
        prepare_after = PREPARE_AFTER if prepare else None
        return psycopg.connect(conninfo, prepare_threshold=prepare_after, context=_ADAPTERS, **options)

    db = create_engine(
        "postgresql+psycopg://",
        creator=open_connection,
        isolation_level="READ COMMITTED",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_WAIT_SECONDS,
        pool_use_lifo=True,  # the last used knows the statements and the tables
        hide_parameters=True,  # they hold client secrets
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
    )
    event.listen(db, "handle_error", _leave_out_rows)
    _try_after_a_rest(db)
    if tracing.on:
        traced.watch(db)
    return db


def reading(db: Engine) -> Connection:
    """A connection whose statements each see what is committed by then. It begins no transaction, so it ends none by
    a rollback, after which psycopg prepares all of the connection's statements anew.
    """
    return db.connect().execution_options(isolation_level="AUTOCOMMIT")


def read_url(url: str) -> tuple[str, Mapping[str, Any]]:
    """The URL as libpq takes it, and what libpq reads in it. Raises ``SettingError`` where it cannot."""
    rest = url.partition("://")[2]
    conninfo = f"postgresql://{rest}"
    try:
        urls.check_postgres(url)
        return conninfo, conninfo_to_dict(conninfo)
    except ValueError as error:
        raise SettingError(f"FLASHSALE_DATABASE_URL {error}") from None
    except psycopg.ProgrammingError as error:
        said = str(error).strip().replace(rest.rpartition("@")[0] or rest, "...")  # libpq repeats it, password and all
        raise SettingError(f"FLASHSALE_DATABASE_URL cannot be read: {said}") from error


def _leave_out_rows(context: ExceptionContext) -> None:
    """Postgres tells the whole row that a constraint refused, client secrets and all: not for a log."""
    error, told = context.original_exception, context.sqlalchemy_exception
    if isinstance(error, psycopg.Error) and (error.diag.message_detail or "").startswith("Failing row"):
        error.args = (error.diag.message_primary,)
        if told is not None:
            told.args = (f"({type(error).__module__}.{type(error).__name__}) {error}",)


def _try_after_a_rest(db: Engine) -> None:
    """A connection that rested is tried before it is used, for the server may have gone meanwhile. One that was just in
    use is not: asking each time is a round trip for every transaction.
    """

    def note(_: Any, record: ConnectionPoolEntry) -> None:
        record.info["rests_since"] = time.monotonic()

    def check(connection: DBAPIConnection, record: ConnectionPoolEntry, _: Any) -> None:
        since = record.info.get("rests_since")
        if since is None or time.monotonic() - since < REST_SECONDS:
            return
        try:
            db.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise InvalidatePoolError from error

    event.listen(db, "checkin", note)
    event.listen(db, "checkout", check)
