"""The same request again gets the first answer: Idempotency-Keys of the routes that work through Postgres."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection

from engine import shapes
from payments.context import Context
from persistence import answers, orders
from persistence.answers import Claim, Given, Known, Wanted
from persistence.refusals import Refusal

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
        wanted = answers.Wanted(self.route, self.key, digest, self.sale_id)
        claim = self.ctx.together.do("claims", partial(_claim, self.ctx), wanted)
        if claim.known is Known.MISMATCH:
            raise Refusal("idempotency_mismatch", "This Idempotency-Key came with another body before.")
        return Answer(claim.status, claim.body, replayed=True) if claim.known is Known.ANSWERED else None

    def answer(self, status: int, body: bytes) -> Answer:
        """Remember the answer. Where two did the same work at once, both give the one that was remembered first."""
        if self.key is None:
            return Answer(status, body)
        with self.ctx.db.begin() as conn:
            [answer] = _remember(conn, [(self, status, body)])
        return answer

    def answer_order(self, status: int, order_id: str) -> Answer:
        """The same with an order as it is now."""
        return self.ctx.together.do("answers", partial(_answer_orders, self.ctx), (self, status, order_id))

    def forget(self) -> None:
        """Nothing was done: the same key may succeed later."""
        if self.key is not None:
            with self.ctx.db.begin() as conn:
                answers.forget(conn, self.route, self.key)


def _claim(ctx: Context, wanted: Sequence[Wanted]) -> list[Claim]:
    with ctx.db.begin() as conn:
        return answers.claim(conn, wanted)


def _answer_orders(ctx: Context, wishes: Sequence[tuple[Once, int, str]]) -> list[Answer]:
    with ctx.db.begin() as conn:
        found = orders.read_orders(conn, [order_id for _, _, order_id in wishes])
        shown = {order.id: shapes.encode(order) for order in found}
        return _remember(conn, [(once, status, shown[order_id]) for once, status, order_id in wishes])


def _remember(conn: Connection, given: Sequence[tuple[Once, int, bytes]]) -> list[Answer]:
    keyed = [Given(once.route, once.key, status, body, once.sale_id) for once, status, body in given if once.key]
    first = iter(answers.remember(conn, keyed))
    return [
        Answer(kept.status, kept.body) if once.key and (kept := next(first)) else Answer(status, body)
        for once, status, body in given
    ]
