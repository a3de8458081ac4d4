"""Idempotency-Keys: only what was done is remembered, byte for byte."""

import threading

from sqlalchemy import Engine, text

from persistence import answers
from persistence.answers import Claim, Given, Known, Wanted

ROUTE = "POST /v1/orders"


def claim(db: Engine, key: str = "k", digest: str = "d", route: str = ROUTE) -> Claim:
    with db.begin() as conn:
        [claim] = answers.claim(conn, [Wanted(route, key, digest, "bf")])
        return claim


def test_the_first_answer_is_given_again(db: Engine) -> None:
    assert claim(db) == Claim(Known.NEW)
    assert claim(db) == Claim(Known.PENDING)
    with db.begin() as conn:
        answers.remember(conn, [Given(ROUTE, "k", 201, b'{"id": 1}')])
        answers.remember(conn, [Given(ROUTE, "k", 200, b"another")])

    assert claim(db) == Claim(Known.ANSWERED, 201, b'{"id": 1}')
    assert claim(db, digest="other").known is Known.MISMATCH
    assert claim(db, route="POST /v1/orders/1/pay", digest="other").known is Known.NEW


def test_a_refusal_is_forgotten_and_an_answer_is_not(db: Engine) -> None:
    claim(db)
    assert claim(db, digest="other").known is Known.MISMATCH
    with db.begin() as conn:
        answers.forget(conn, ROUTE, "k")
    assert claim(db, digest="other").known is Known.NEW

    with db.begin() as conn:
        answers.remember(conn, [Given(ROUTE, "k", 201, b"{}")])
        answers.forget(conn, ROUTE, "k")
    assert claim(db, digest="other").known is Known.ANSWERED


def test_of_many_at_once_one_is_new(db: Engine) -> None:
    seen: list[Known] = []
    threads = [threading.Thread(target=lambda: seen.append(claim(db).known)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(seen) == [Known.NEW] + [Known.PENDING] * 7


def test_a_sale_takes_its_answers_with_it(db: Engine) -> None:
    claim(db)
    with db.begin() as conn:
        answers.claim(conn, [Wanted(ROUTE, "cut off", "d")])
        answers.claim(conn, [Wanted(ROUTE, "fresh", "d")])
        conn.execute(text("UPDATE answers SET created_at = now() - interval '3 days' WHERE key = 'cut off'"))
        answers.forget_sale(conn, "bf")
        left = conn.scalars(text("SELECT key FROM answers")).all()

    assert left == ["fresh"]
