"""First answers by Idempotency-Key, for the routes that work through Postgres. Only what was done is remembered."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, text

from persistence.statement import Statement
from persistence.tables import answers


class Known(StrEnum):
    """What is known of a key when a request comes with it."""

    NEW = "new"
    PENDING = "pending"
    """The same request is under way, or was cut off: do it again, each step finds what was done."""
    ANSWERED = "answered"
    MISMATCH = "mismatch"
    """The key came with another body before."""


class Claim(NamedTuple):
    """``status`` and ``body`` are there for ``answered``: the first answer, byte for byte."""

    known: Known
    status: int = 0
    body: bytes = b""


class Wanted(NamedTuple):
    """A key that a request comes with. ``route`` is the concrete method and path; ``digest`` is of the body."""

    route: str
    key: str
    digest: str
    sale_id: str | None = None


def claim(conn: Connection, wanted: Sequence[Wanted]) -> list[Claim]:
    """Take keys for requests. Commit before the work starts, so that the same request again finds the claim."""
    claims: dict[int, Claim] = {}
    while open_ := [(number, each) for number, each in enumerate(wanted) if number not in claims]:
        # Sorted, so that two who claim the same keys wait for each other instead of locking each other out.
        rows = sorted({(each.route, each.key): each for _, each in reversed(open_)}.values())
        columns = {name: [getattr(each, name) for each in rows] for name in ("route", "key", "digest", "sale_id")}
        taken = {(row.route, row.key) for row in _CLAIM.on(conn, columns)}
        known = _read(conn, [each for each in rows if (each.route, each.key) not in taken])
        for number, each in open_:
            if (each.route, each.key) in taken:
                taken.discard((each.route, each.key))
                claims[number] = Claim(Known.NEW)
                known[each.route, each.key] = (each.digest, None, None)
            elif found := known.get((each.route, each.key)):
                claims[number] = _claim(each, *found)
            # else it was forgotten in between, and is asked for again
    return [claims[number] for number in range(len(wanted))]


def _claim(wanted: Wanted, digest: str, status: int | None, body: bytes | None) -> Claim:
    if digest != wanted.digest:
        return Claim(Known.MISMATCH)
    if status is None or body is None:
        return Claim(Known.PENDING)
    return Claim(Known.ANSWERED, status, body)


_CLAIM = Statement(
    "INSERT INTO answers (route, key, digest, sale_id)"
    " SELECT * FROM unnest(CAST(:route AS text[]), CAST(:key AS text[]), CAST(:digest AS text[]),"
    " CAST(:sale_id AS text[])) ON CONFLICT DO NOTHING RETURNING route, key"
)


class Given(NamedTuple):
    """An answer to a request."""

    route: str
    key: str
    status: int
    body: bytes
    sale_id: str | None = None


def remember(conn: Connection, given: Sequence[Given]) -> list[Given]:
    """Keep first answers, in the transaction that did what they say. A second one changes nothing: the first comes
    back in its place.
    """
    firsts: dict[tuple[str, str], Given] = {}
    for each in given:
        firsts.setdefault((each.route, each.key), each)
    rows = sorted(firsts.values())
    columns = {name: [getattr(each, name) for each in rows] for name in Given._fields}
    kept = {(row.route, row.key) for row in _REMEMBER.on(conn, columns)} if rows else set()
    before = _read(conn, [each for each in rows if (each.route, each.key) not in kept])
    for at, (_, status, body) in before.items():
        if status is not None and body is not None:
            firsts[at] = firsts[at]._replace(status=status, body=body)
    return [firsts[each.route, each.key] for each in given]


_REMEMBER = Statement(
    "UPDATE answers a SET status = g.status, body = g.body, sale_id = coalesce(g.sale_id, a.sale_id)"
    " FROM unnest(CAST(:route AS text[]), CAST(:key AS text[]), CAST(:status AS int[]), CAST(:body AS bytea[]),"
    " CAST(:sale_id AS text[])) AS g (route, key, status, body, sale_id)"
    " WHERE a.route = g.route AND a.key = g.key AND a.status IS NULL RETURNING a.route, a.key"
)


def _read(
    conn: Connection, wanted: Sequence[Wanted | Given]
) -> dict[tuple[str, str], tuple[str, int | None, bytes | None]]:
    """Digest, status and body by route and key."""
    if not wanted:
        return {}
    columns = {"route": [each.route for each in wanted], "key": [each.key for each in wanted]}
    return {(row.route, row.key): (row.digest, row.status, row.body) for row in _KNOWN.on(conn, columns)}


_KNOWN = Statement(
    "SELECT route, key, digest, status, body FROM answers"
    " JOIN unnest(CAST(:route AS text[]), CAST(:key AS text[])) AS w (route, key) USING (route, key)"
)


def forget(conn: Connection, route: str, key: str) -> None:
    """Drop a claim whose request was refused: the same key may succeed later. An answer that was given stays."""
    row = answers.c
    conn.execute(delete(answers).where(row.route == route, row.key == key, row.status.is_(None)))


def forget_sale(conn: Connection, sale_id: str) -> None:
    """Drop a sale's answers, 24 h after it ended, and what was cut off two days ago before its sale was known."""
    row = answers.c
    conn.execute(delete(answers).where(row.sale_id == sale_id))
    conn.execute(
        delete(answers).where(
            row.sale_id.is_(None), row.status.is_(None), row.created_at < func.now() - text("interval '2 days'")
        )
    )
