"""Taking, reading and releasing holds over HTTP: each answer that the contract names."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from engine import connections, keys
from engine.settings import Settings
from persistence import database
from persistence.rebuild import rebuild
from tests.api.server import Shop, check_problem, fields, product

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


def test_a_hold_is_what_the_contract_says(shop: Shop) -> None:
    shop.load(product("sock", 5), product("shoe", 2, price={"amount": 12900, "currency": "usd"}))
    answer = shop.ask("ann", shoe=1, sock=2)
    hold = answer.json()

    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert re.fullmatch(r"hold_bf_[A-Za-z0-9_-]{20}", hold["id"])
    assert hold["lines"] == [
        {"product_id": "shoe", "qty": 1, "unit_price": {"amount": 12900, "currency": "usd"}},
        {"product_id": "sock", "qty": 2, "unit_price": {"amount": 1000, "currency": "usd"}},
    ]
    assert hold["total"] == {"amount": 14900, "currency": "usd"}
    assert (hold["status"], hold["sale_id"], hold["customer_id"]) == ("held", "bf", "ann")
    assert RFC3339.fullmatch(hold["created_at"])
    assert RFC3339.fullmatch(hold["expires_at"])
    assert set(hold) == {
        "id", "sale_id", "customer_id", "status", "lines", "total", "expires_at", "created_at",
    }  # fmt: skip
    assert shop.client.get(f"/v1/holds/{hold['id']}").json() == hold
    assert shop.stock("sock") == {"total": 5, "available": 3, "held": 2, "sold": 0}


def test_the_short_form_is_a_hold_of_one_line(shop: Shop) -> None:
    shop.load(product("sock", 5))
    answer = shop.client.post("/v1/holds", json={"customer_id": "ann", "product_id": "sock", "qty": 3})
    assert answer.json()["lines"] == [
        {"product_id": "sock", "qty": 3, "unit_price": {"amount": 1000, "currency": "usd"}}
    ]


def test_duplicate_products_are_summed(shop: Shop) -> None:
    shop.load(product("sock", 200))
    line = {"product_id": "sock", "qty": 40}
    answer = shop.client.post("/v1/holds", json={"customer_id": "ann", "lines": [line, line]})
    assert [(each["product_id"], each["qty"]) for each in answer.json()["lines"]] == [("sock", 80)]
    answer = shop.client.post("/v1/holds", json={"customer_id": "ann", "lines": [line, line, line]})
    assert fields(check_problem(answer, 422, "validation_error")) == ["lines[2].qty"]


def test_the_same_key_gives_the_first_answer_and_takes_nothing_twice(shop: Shop) -> None:
    shop.load(product("sock", 5))
    first = shop.ask("ann", "k", sock=2)
    assert "idempotent-replayed" not in first.headers
    shop.steer("pause")
    again = shop.ask("ann", "k", sock=2)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert shop.stock("sock")["held"] == 2
    check_problem(shop.ask("ann", "k", sock=1), 422, "idempotency_mismatch")


def test_a_replay_shows_the_hold_as_it_was_first(shop: Shop) -> None:
    shop.load(product("sock", 5))
    first = shop.ask("ann", "k", sock=1)
    shop.client.delete(f"/v1/holds/{first.json()['id']}")
    assert shop.ask("ann", "k", sock=1).content == first.content


def test_a_key_belongs_to_its_customer_and_is_free_again_after_a_refusal(shop: Shop) -> None:
    shop.load(product("sock", 1))
    hold = shop.hold("ann", "k", sock=1)
    check_problem(shop.ask("bob", "k", sock=1), 409, "sold_out")
    assert shop.client.delete(f"/v1/holds/{hold['id']}").status_code == 200
    assert shop.hold("bob", "k", sock=1)["id"] != hold["id"]


def test_sold_out_says_what_there_is_and_when_to_come_back(shop: Shop) -> None:
    shop.load(product("sock", 2), product("hat", 1), hold_ttl_seconds=60)
    shop.hold("ann", sock=1)
    answer = shop.ask("bob", sock=2)
    check_problem(answer, 409, "sold_out", product_id="sock", available=1, held=1)
    assert 55 <= int(answer.headers["retry-after"]) <= 60


def test_where_nothing_is_held_sold_out_has_no_time_to_come_back(shop: Shop) -> None:
    shop.load(product("sock", 2))
    answer = shop.ask("bob", sock=3)
    check_problem(answer, 409, "sold_out", product_id="sock", available=2, held=0)
    assert "retry-after" not in answer.headers


def test_the_limit_names_the_customers_own_live_holds(shop: Shop) -> None:
    shop.load(product("sock", 9, per_customer_limit=2))
    holds = [shop.hold("ann", sock=1)["id"], shop.hold("ann", sock=1)["id"]]
    body = check_problem(shop.ask("ann", sock=1), 409, "limit_exceeded", product_id="sock", limit=2, held_or_bought=2)
    assert sorted(body["hold_ids"]) == sorted(holds)


def test_a_sale_that_has_not_started(shop: Shop) -> None:
    starts_at = (datetime.now(UTC) + timedelta(seconds=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    shop.load(product("sock", 9), starts_at=starts_at)
    answer = shop.ask(sock=1)
    check_problem(answer, 409, "sale_not_started", starts_at=starts_at)
    assert 80 <= int(answer.headers["retry-after"]) <= 91


def test_a_paused_and_an_ended_sale(shop: Shop) -> None:
    shop.load(product("sock", 9))
    hold = shop.hold(sock=1)
    shop.steer("pause")
    answer = shop.ask(sock=1)
    check_problem(answer, 503, "sale_paused")
    assert int(answer.headers["retry-after"]) >= 1
    shop.steer("resume")
    shop.hold(sock=1)
    shop.steer("end")
    check_problem(shop.ask(sock=1), 410, "sale_ended")
    assert shop.order(hold).status_code == 201, "a live hold was won before the end"


def test_a_fenced_sale_answers_nothing_but_reads(shop: Shop, redis_client: redis.Redis) -> None:
    shop.load(product("sock", 9))
    hold = shop.hold(sock=1)
    redis_client.hset(keys.sale("bf"), "fenced", 1)
    for answer in (shop.ask(sock=1), shop.client.delete(f"/v1/holds/{hold['id']}")):
        check_problem(answer, 503, "sale_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    assert shop.client.get(f"/v1/holds/{hold['id']}").json()["status"] == "held"
    assert shop.stock("sock")["held"] == 1


def test_a_sale_that_redis_lost_is_unavailable_and_not_unknown(shop: Shop, redis_client: redis.Redis) -> None:
    shop.load(product("sock", 9))
    shop.hold(sock=1)
    redis_client.delete(keys.sale("bf"))
    check_problem(shop.ask(sock=1), 503, "sale_unavailable")
    redis_client.flushdb()
    for _ in range(2):
        check_problem(shop.ask(sock=1), 503, "sale_unavailable")
        check_problem(shop.client.get("/v1/products/sock"), 503, "sale_unavailable")
        check_problem(shop.client.get("/v1/sales/bf"), 503, "sale_unavailable")


def test_unknown_products(shop: Shop) -> None:
    shop.load(product("sock", 9))
    for name in ("nope", "not a name", "ünïcode", "-"):
        check_problem(shop.ask(**{name: 1}), 404, "product_not_found")
    check_problem(shop.ask(sock=1, nope=1), 404, "product_not_found")


def test_a_product_that_was_unknown_is_on_sale_within_a_second(shop: Shop) -> None:
    check_problem(shop.ask(sock=1), 404, "product_not_found")
    shop.load(product("sock", 9))
    until = time.monotonic() + 1
    while shop.ask(sock=1).status_code != 201:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_product_that_moved_to_another_sale_is_found_at_once(shop: Shop) -> None:
    shop.load(product("sock", 9), sale_id="first")
    assert shop.hold(sock=1)["sale_id"] == "first"
    shop.steer("end", "first")
    shop.load(product("sock", 9), sale_id="second")
    assert shop.hold(sock=1)["sale_id"] == "second"
    assert shop.client.get("/v1/products/sock").json()["sale_id"] == "second"


def test_lines_are_of_one_sale_and_one_currency(shop: Shop) -> None:
    shop.load(product("sock", 9), product("tie", 9, price={"amount": 5, "currency": "eur"}), sale_id="one")
    shop.load(product("hat", 9), sale_id="two")
    body = check_problem(shop.ask(sock=1, hat=1), 422, "validation_error")
    assert fields(body) == ["lines[1].product_id"]
    body = check_problem(shop.ask(sock=1, tie=1), 422, "validation_error")
    assert fields(body) == ["lines[1].product_id"]


def test_a_hold_that_ran_out_reads_expired_swept_or_not(shop: Shop) -> None:
    shop.load(product("sock", 1), hold_ttl_seconds=1)
    hold = shop.hold("ann", "k", sock=1)
    time.sleep(1.05)
    assert shop.client.get(f"/v1/holds/{hold['id']}").json()["status"] == "expired"
    check_problem(shop.order(hold), 410, "hold_expired")
    assert shop.hold("bob", sock=1)["status"] == "held"


def test_releasing(shop: Shop) -> None:
    shop.load(product("sock", 3))
    hold = shop.hold(sock=2)
    for _ in range(2):
        answer = shop.client.delete(f"/v1/holds/{hold['id']}")
        assert (answer.status_code, answer.json()["status"]) == (200, "released")
    assert shop.stock("sock")["available"] == 3
    check_problem(shop.order(hold), 410, "hold_released")


def test_a_hold_in_payment_is_not_released(shop: Shop) -> None:
    shop.load(product("sock", 3))
    hold = shop.hold(sock=2)
    order = shop.order(hold).json()
    check_problem(shop.client.delete(f"/v1/holds/{hold['id']}"), 409, "hold_in_payment", order_id=order["id"])


@pytest.mark.parametrize(
    "hold_id",
    ["hold_bf_AAAAAAAAAAAAAAAAAAAA", "hold_x", "order_bf_AAAAAAAAAAAAAAAAAAAA", "hold_%00_AAAAAAAAAAAAAAAAAAAA"],
)
def test_holds_that_are_not_there(shop: Shop, hold_id: str) -> None:
    shop.load(product("sock", 3))
    check_problem(shop.client.get(f"/v1/holds/{hold_id}"), 404, "hold_not_found")
    check_problem(shop.client.delete(f"/v1/holds/{hold_id}"), 404, "hold_not_found")


def test_a_hold_that_only_postgres_knows_is_still_read(shop: Shop, redis_client: redis.Redis) -> None:
    shop.load(product("sock", 3))
    hold: dict[str, Any] = shop.hold(sock=2)
    shop.admin("POST", "/v1/admin/products/sock/stock", json={"delta": 1, "reason": "drains what is before it"})
    redis_client.flushdb()
    assert shop.client.get(f"/v1/holds/{hold['id']}").json() == hold
    check_problem(shop.client.delete(f"/v1/holds/{hold['id']}"), 503, "sale_unavailable")


def test_everybody_gets_the_answer_to_their_own_request(shop: Shop) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    shop.load(product("sock", 11), product("hat", 7))

    def ask(number: int) -> tuple[int, int, Any]:
        return (
            number,
            (answer := shop.ask(f"c{number}", **{"sock" if number % 2 else "hat": 1})).status_code,
            answer.json(),
        )

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(60)))
    won = [(number, body) for number, status, body in answers if status == 201]
    assert all(body["customer_id"] == f"c{number}" for number, body in won)
    assert all(body["lines"][0]["product_id"] == ("sock" if number % 2 else "hat") for number, body in won)
    assert len(won) == 18
    assert len({body["id"] for _, body in won}) == 18
    assert {body["code"] for _, status, body in answers if status != 201} == {"sold_out"}


def test_a_hold_that_redis_lost_before_postgres_knew_it(shop: Shop, settings: Settings) -> None:
    shop.load(product("sock", 5))
    hold = shop.ask("ann", sock=2).json()
    redis, db = connections.connect(settings.redis_url), database.connect(settings.database_url)
    redis.flushall()
    check_problem(shop.client.get(f"/v1/holds/{hold['id']}"), 410, "hold_lost")
    rebuild(db, redis, "bf")
    for answer in (
        shop.client.get(f"/v1/holds/{hold['id']}"),
        shop.client.delete(f"/v1/holds/{hold['id']}"),
        shop.client.post("/v1/orders", json={"hold_id": hold["id"]}),
    ):
        check_problem(answer, 410, "hold_lost")
    assert shop.stock("sock")["available"] == 5
    db.dispose()


def test_a_hold_that_a_rolled_back_redis_lost_is_not_denied_before_anybody_has_noticed(
    shop: Shop, settings: Settings, redis_client: redis.Redis
) -> None:
    shop.load(product("sock", 5))
    older: dict[Any, Any] = {key: redis_client.dump(key) for key in redis_client.keys("fs:*")}
    shop.admin("POST", "/v1/admin/products/sock/stock", json={"delta": 1, "reason": "an event that Postgres has"})
    hold = shop.ask("ann", sock=2).json()
    redis_client.flushall()
    for key, value in older.items():
        redis_client.restore(key, 0, value)

    def asked() -> list[Any]:
        path = f"/v1/holds/{hold['id']}"
        order = shop.client.post("/v1/orders", json={"hold_id": hold["id"]})
        return [shop.client.get(path), shop.client.delete(path), order]

    for answer in asked():
        check_problem(answer, 503, "sale_unavailable")
    db = database.connect(settings.database_url)
    rebuild(db, connections.connect(settings.redis_url), "bf")
    db.dispose()
    for answer in asked():
        check_problem(answer, 410, "hold_lost")


def test_a_hold_that_a_promoted_replica_never_saw_is_unknown_and_its_unit_for_sale(
    shop: Shop, settings: Settings
) -> None:
    shop.load(product("sock", 1))
    with redis.Redis.from_url(settings.redis_url) as client:
        seen = {key: client.dump(key) for key in client.keys("fs:{bf}:*")}
        lost = shop.hold(sock=1)
        client.delete(*client.keys("fs:{bf}:*"))
        for key, data in seen.items():
            client.restore(key, 0, data)
    check_problem(shop.client.get(f"/v1/holds/{lost['id']}"), 404, "hold_not_found")
    shop.hold("bob", sock=1)
