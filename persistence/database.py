"""Connections to Postgres, from the URL that the contract allows."""

from typing import Any

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Engine, create_engine

from engine import tracing
from engine.settings import SettingError
from persistence import traced

_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
_DEFAULTS: dict[str, Any] = {"connect_timeout": 5, "application_name": "flashsale", "tcp_user_timeout": 10_000}
_POOL_WAIT_SECONDS = 5.0


def connect(url: str, pool_size: int = 10) -> Engine:
    """An engine of ``pool_size`` connections at most, connected at its first use. libpq reads the URL itself, so all
    that it knows works: sockets, TLS, several hosts. Raises ``SettingError`` for a URL of another kind.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES:
        raise SettingError(f"FLASHSALE_DATABASE_URL starts with postgresql://, not {scheme + '://'!r}")
    conninfo = f"postgresql://{rest}"
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError as error:
        raise SettingError(f"FLASHSALE_DATABASE_URL cannot be read: {str(error).strip()}") from error
    options = {name: value for name, value in _DEFAULTS.items() if name not in given}

    def open_connection() -> psycopg.Connection:
        # No prepared statements: a pooler in transaction mode gives each transaction another server connection.
        return psycopg.connect(conninfo, prepare_threshold=None, **options)

    db = create_engine(
        "postgresql+psycopg://",
        creator=open_connection,
        isolation_level="READ COMMITTED",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_WAIT_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,  # they hold client secrets
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
    )
    if tracing.on:
        traced.watch(db)
    return db
