"""`flashsale customer`: after an erasure nothing names the customer, and everything still adds up."""

import pytest
from sqlalchemy import text

from engine import commands
from engine.command import run as run_script
from persistence import customers
from persistence.housekeeping import retire
from persistence.reconcile import reconcile
from persistence.tables import metadata
from tests.cli.conftest import Run
from tests.cli.test_money import closed_shop, db, mailbox, money, settings, shop, stand_in
from tests.payments.shop import Shop

__all__ = ["closed_shop", "db", "mailbox", "money", "settings", "shop", "stand_in"]  # fixtures

CUSTOMER = "ann.of-the-shop@example.com"


@pytest.fixture
def bought(money: Shop) -> Shop:
    """Two orders of one customer, one of them refunded; one of another."""
    for card in ("pm_card_visa", "pm_card_mastercard"):
        money.order(money.hold(CUSTOMER, sneaker=1), card, metadata={"gift for": "Aunt May"})
    money.hold(CUSTOMER, sock=1)
    money.order(money.hold("bob", sneaker=1), "pm_card_visa")
    money.work()
    [first, *_] = money.rows("SELECT id FROM orders WHERE customer_id = :c ORDER BY created_at", c=CUSTOMER)
    money.refund(first[0])
    money.work()
    money.execute(
        "INSERT INTO audit (action, subject, detail) VALUES ('repair', :s, CAST(:d AS jsonb))",
        s=money.sale,
        d=f'{{"drift": [{{"kind": "customer", "id": "sneaker:{CUSTOMER}"}}]}}',
    )
    return money


def end_and_retire(shop: Shop) -> None:
    """A day after its end the sale has left Redis."""
    run_script(shop.ctx.redis, commands.control(shop.sale, "ended"))
    shop.pass_ms(10_000_000)
    run_script(shop.ctx.redis, commands.expire(shop.sale, ["sneaker", "sock"], 100))
    shop.work()
    shop.execute("UPDATE sales SET state = 'ended', ended_at = now() - interval '2 days'")
    assert retire(shop.ctx.db, shop.ctx.redis) == [shop.sale]


def named_in(shop: Shop, word: str) -> set[str]:
    """The tables in which a word is anywhere."""
    with shop.ctx.db.connect() as conn:
        return {
            table.name
            for table in metadata.sorted_tables
            if conn.scalar(
                text(f'SELECT count(*) FROM "{table.name}" t WHERE strpos(t::text, :word) > 0'), {"word": word}
            )
        }


def test_nothing_names_an_erased_customer_and_everything_adds_up(bought: Shop, run: Run) -> None:
    end_and_retire(bought)
    assert named_in(bought, CUSTOMER) == {"holds", "orders", "order_changes", "audit"}
    assert "webhook_events" in named_in(bought, "billing_details")
    figures = bought.rows("SELECT id, total, held, sold FROM products ORDER BY id")
    ledger = bought.rows("SELECT * FROM ledger ORDER BY id")
    report = run("report", bought.sale, "--json").json

    result = run("customer", "erase", CUSTOMER, "--yes", "--json")

    assert result.code == 0, result.err
    [sale] = result.json["sales"]
    assert (sale["holds"], len(sale["orders"]), sale["waits_for"]) == (3, 2, "")
    assert named_in(bought, CUSTOMER) == set()
    assert named_in(bought, "Aunt May") == set()
    name = result.json["pseudonym"]
    assert named_in(bought, name) == {"holds", "orders", "order_changes", "audit"}
    mine = {
        row[0]
        for row in bought.rows(
            "SELECT intent_id FROM payments JOIN orders ON id = order_id WHERE customer_id = :c", c=name
        )
    }
    for intent, payload in bought.rows("SELECT intent_id, payload::text FROM webhook_events"):
        assert ("billing_details" in payload) <= (intent not in mine), payload
    assert named_in(bought, "bob") == {"holds", "orders", "order_changes"}
    assert bought.rows("SELECT id, total, held, sold FROM products ORDER BY id") == figures
    assert bought.rows("SELECT * FROM ledger ORDER BY id") == ledger
    assert reconcile(bought.ctx.db, bought.ctx.redis, bought.sale).consistent
    assert run("report", bought.sale, "--json").json == report
    assert run("reconcile", bought.sale).code == 0, "Stripe's side too"


def test_stored_events_can_be_replayed_after_it(bought: Shop, run: Run) -> None:
    end_and_retire(bought)
    before = bought.rows("SELECT order_id, status, captured, refunded FROM payments ORDER BY 1")
    assert run("customer", "erase", CUSTOMER, "--yes").code == 0
    assert run("webhooks", "replay", "--json").json["replayed"] > 0
    assert bought.rows("SELECT order_id, status, captured, refunded FROM payments ORDER BY 1") == before
    assert bought.rows("SELECT count(*) FROM webhook_events WHERE status = 'parked'")[0][0] == 0


def test_again_changes_nothing_and_is_audited_once(bought: Shop, run: Run) -> None:
    end_and_retire(bought)
    first = run("customer", "erase", CUSTOMER, "--yes", "--json").json["pseudonym"]
    assert run("customer", "erase", CUSTOMER, "--yes", "--json").json["pseudonym"] == first
    audited = bought.rows("SELECT subject, detail FROM audit WHERE action = 'erase_customer'")
    assert [row[0] for row in audited] == [first]
    assert audited[0][1] == {
        "sale": bought.sale,
        "holds": 3,
        "orders": 2,
        "payment_events": audited[0][1]["payment_events"],
    }
    assert run("customer", "show", CUSTOMER).out == f"nothing names {CUSTOMER}\n"


def test_what_came_later_is_erased_by_the_same_again(bought: Shop, run: Run) -> None:
    end_and_retire(bought)
    run("customer", "erase", CUSTOMER, "--yes")
    [[intent]] = bought.rows(
        "SELECT intent_id FROM payments JOIN orders ON id = order_id WHERE customer_id LIKE 'erased%' LIMIT 1"
    )
    bought.execute(
        "INSERT INTO webhook_events (id, type, intent_id, payload, status, handled_at, due_at) "
        "VALUES ('evt_late', 'charge.updated', :i, CAST(:p AS jsonb), 'ignored', now(), NULL)",
        i=intent,
        p='{"data": {"object": {"receipt_email": "ann@example.com", "id": "ch_1"}}}',
    )
    assert run("customer", "erase", CUSTOMER, "--yes").code == 0
    assert bought.rows("SELECT payload FROM webhook_events WHERE id = 'evt_late'") == [
        ({"data": {"object": {"id": "ch_1"}}},)
    ]


def test_a_sale_that_is_in_redis_waits(bought: Shop, run: Run) -> None:
    """The limit of a live sale counts by name, and an answer may be asked for again."""
    result = run("customer", "erase", CUSTOMER, "--yes", "--json")
    assert result.code == 1
    assert "24 h after its end" in result.json["sales"][0]["waits_for"]
    assert "orders" in named_in(bought, CUSTOMER)
    bought.hold(CUSTOMER, sock=1)


def test_an_order_with_a_refund_that_is_not_finished_waits(bought: Shop, run: Run) -> None:
    end_and_retire(bought)
    bought.execute("UPDATE refunds SET status = 'pending'")
    result = run("customer", "erase", CUSTOMER, "--yes")
    assert result.code == 1
    assert "not finished" in result.out
    assert "orders" in named_in(bought, CUSTOMER)


def test_it_asks_first(bought: Shop, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    end_and_retire(bought)
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    result = run("customer", "erase", CUSTOMER)
    assert (result.code, result.err) == (1, "flashsale: nothing was erased\n")
    assert "orders" in named_in(bought, CUSTOMER)


def test_a_pseudonym_cannot_be_guessed_and_is_its_own() -> None:
    one, other = (customers.pseudonym(secret, "ann") for secret in (b"a", b"b"))
    assert one != other
    assert customers.pseudonym(b"a", one) == one
    assert customers.pseudonym(b"a", "ann") == one
