"""The same request again gets the first answer: Idempotency-Keys of the routes that work through Postgres."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection

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
        return self.ctx.together.do("claims", partial(claim, self.ctx), self)

    def answer(self, status: int, body: bytes) -> Answer:
        """Remember the answer. Where two did the same work at once, both give the one that was remembered first."""
        if self.key is None:
            return Answer(status, body)
        with self.ctx.db.begin() as conn:
            [answer] = _remember(conn, [(self, status, body)])
        return answer

    def answer_order(self, status: int, order_id: str) -> Answer:
        """The same with an order as it is now."""
        asked = Asked(self, status, order_id)
        return self.ctx.together.do("answers", partial(_answer_orders, self.ctx), asked)

    def forget(self) -> None:
        """Nothing was done: the same key may succeed later."""
        if self.key is not None:
            with self.ctx.db.begin() as conn:
                answers.forget(conn, self.route, self.key)


class Asked(NamedTuple):
    """A request that is answered with an order."""

    once: Once
    status: int
    order_id: str


def claim(ctx: Context, requests: Sequence[Once]) -> list[Answer | Refusal | None]:
    """What ``known`` says to each of these requests, or raises."""
    wanted = [_wanted(once, once.key) for once in requests if once.key is not None]
    if not wanted:
        return [None] * len(requests)
    with ctx.db.begin() as conn:
        claims = iter(answers.claim(conn, wanted))
    return [None if once.key is None else _said(next(claims)) for once in requests]


def _wanted(once: Once, key: str) -> Wanted:
    return Wanted(once.route, key, hashlib.sha256(_encode(once.request)).hexdigest(), once.sale_id)


def _said(claim: Claim) -> Answer | Refusal | None:
    if claim.known is Known.MISMATCH:
        return Refusal("idempotency_mismatch", "This Idempotency-Key came with another body before.")
    return Answer(claim.status, claim.body, replayed=True) if claim.known is Known.ANSWERED else None


def answer_orders(conn: Connection, asked: Sequence[Asked | None], shown: Mapping[str, bytes]) -> list[Answer | None]:
    """Remember orders as answers to those who asked, in the transaction that saw them so. ``shown`` has them by id, as
    JSON.
    """
    given = iter(_remember(conn, [(each.once, each.status, shown[each.order_id]) for each in asked if each]))
    return [next(given) if each else None for each in asked]


def _answer_orders(ctx: Context, asked: Sequence[Asked]) -> list[Answer]:
    with ctx.db.begin() as conn:
        shown = orders.show_orders(conn, [each.order_id for each in asked])
        return _remember(conn, [(each.once, each.status, shown[each.order_id]) for each in asked])


def _remember(conn: Connection, given: Sequence[tuple[Once, int, bytes]]) -> list[Answer]:
    keyed = [Given(once.route, once.key, status, body, once.sale_id) for once, status, body in given if once.key]
    first = iter(answers.remember(conn, keyed))
    return [
        Answer(kept.status, kept.body) if once.key and (kept := next(first)) else Answer(status, body)
        for once, status, body in given
    ]
