"""The same request again gets the first answer: Idempotency-Keys of the routes that work through Postgres."""

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from payments.context import Context
from persistence import answers
from persistence.answers import Known
from persistence.refusals import Refusal
from persistence.tables import answers as answered

_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as the API gives it: ``body`` is JSON. ``replayed``: it is the first answer to the same request,
    byte for byte.
    """

    status: int
    body: bytes
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Once:
    """One request under its Idempotency-Key (None: it has none, and nothing is remembered). ``request`` is its body
    as a struct.
    """

    ctx: Context
    route: str
    key: str | None
    request: Any
    sale_id: str

    def known(self) -> Answer | None:
        """The first answer, where there was one; else the key is this request's. Raises ``Refusal``
        ``idempotency_mismatch``.
        """
        if self.key is None:
            return None
        digest = hashlib.sha256(_encode(self.request)).hexdigest()
        with self.ctx.db.begin() as conn:
            claim = answers.claim(conn, self.route, self.key, digest, self.sale_id)
        if claim.known is Known.MISMATCH:
            raise Refusal("idempotency_mismatch", "This Idempotency-Key came with another body before.")
        return Answer(claim.status, claim.body, replayed=True) if claim.known is Known.ANSWERED else None

    def answer(self, status: int, body: bytes, conn: Connection | None = None) -> Answer:
        """Remember the answer, in the transaction of ``conn`` where there is one. Where two did the same work at once,
        both give the one that was remembered first.
        """
        if self.key is None:
            return Answer(status, body)
        if conn is None:
            with self.ctx.db.begin() as own:
                return self.answer(status, body, own)
        answers.remember(conn, self.route, self.key, status, body, self.sale_id)
        row = answered.c
        query = select(row.status, row.body).where(row.route == self.route, row.key == self.key)
        first = conn.execute(query).one_or_none()
        return Answer(first.status, first.body) if first else Answer(status, body)

    def forget(self) -> None:
        """Nothing was done: the same key may succeed later."""
        if self.key is not None:
            with self.ctx.db.begin() as conn:
                answers.forget(conn, self.route, self.key)
