"""The secret under which hold ids derive from Idempotency-Keys. Postgres keeps it, so that every process has the
same.
"""

from sqlalchemy import Engine, select

from persistence import tables
from persistence.database import reading


def ids_secret(engine: Engine) -> bytes:
    """32 random bytes, made once by ``migrate``. Raises ``LookupError`` where it has not run."""
    with reading(engine) as conn:
        value: bytes | None = conn.scalar(select(tables.secrets.c.value).where(tables.secrets.c.name == "ids"))
    if value is None:
        raise LookupError("the database has no secret for ids yet: run `flashsale migrate`")
    return value
