"""What happened to a hold and to an order, and lists that are bounded."""

import pytest

from engine import commands, connections, ids
from engine.command import run as run_command
from tests.cli.conftest import Run
from tests.cli.test_money import closed_shop, db, mailbox, money, settings, shop, stand_in
from tests.payments.shop import Shop

__all__ = ["closed_shop", "db", "mailbox", "money", "settings", "shop", "stand_in"]  # fixtures


def test_an_orders_story_has_its_hold_attempts_events_refunds_and_disputes(
    money: Shop,
    run: Run,
) -> None:
    order = money.bought(sneaker=2)
    assert run("refund", order["id"], "--amount", "100", "--reason", "goodwill").code == 0
    money.stripe.dispute(order["intent"], "product_not_received")
    money.work()
    story = run("order", "show", order["id"], "--json").json
    assert (story["order"]["status"], story["order"]["payment"]["client_secret"]) == ("paid", None)
    assert (story["payment"]["captured"], story["payment"]["refunded"]) == (25_800, 100)
    whats = [each["what"] for each in story["timeline"]]
    for what in ("hold", "hold.held", "hold.settled", "order", "change", "attempt", "event", "refund",
                 "dispute", "audit"):  # fmt: skip
        assert what in whats, what
    assert [each["at"] for each in story["timeline"]] == sorted(each["at"] for each in story["timeline"])
    told = run("order", "show", order["id"]).out
    assert "captured 258.00 usd, refunded 1.00 usd" in told
    assert "product_not_received" in told
    assert "secret" not in told
    held = run("hold", "show", story["order"]["hold_id"], "--json").json
    assert (held["hold"]["status"], held["order_id"]) == ("sold", order["id"])
    assert [each["what"] for each in held["timeline"]] == ["hold", "hold.held", "hold.settled"]
    assert order["id"] in run("hold", "show", story["order"]["hold_id"]).out


def test_a_hold_that_postgres_does_not_know_yet_is_shown(money: Shop, run: Run, redis_url: str) -> None:
    token = ids.new_token()
    client = connections.connect(redis_url)
    [_] = run_command(client, commands.hold(money.sale, [commands.HoldRequest(token, "ann", (("sneaker", 1),))]))
    client.close()
    story = run("hold", "show", ids.hold_id(money.sale, token), "--json").json
    assert (story["hold"]["status"], story["order_id"], story["timeline"]) == ("held", None, [])


@pytest.mark.parametrize("kind", ["hold", "order"])
def test_what_is_not_there_is_told_in_a_line(kind: str, stores: None, run: Run) -> None:
    for name in (f"{kind}_nope_00000000000000000000", "no such id", "", f"{kind}_bf_x"):
        result = run(kind, "show", name)
        assert (result.code, result.err.count("\n")) == (1, 1)
        assert f"{kind}_not_found" in result.err


def test_lists_are_bounded(money: Shop, run: Run) -> None:
    money.execute(
        "INSERT INTO webhook_events (id, type, payload, status, received_at) SELECT 'evt_' || n, 'x', '{}', 'parked',"
        " now() + n * interval '1 second' FROM generate_series(1, 150) AS n"
    )
    money.execute("INSERT INTO audit (action, subject) SELECT 'load', 's' || n FROM generate_series(1, 150) AS n")
    assert len(run("webhooks", "list", "--json").json) == 100
    assert [each["id"] for each in run("webhooks", "list", "--limit", "2", "--json").json] == ["evt_1", "evt_2"]
    assert run("webhooks", "list", "--limit", "0").code == 2
    newest = run("audit", "list", "--limit", "3", "--json").json
    assert [each["subject"] for each in newest] == ["s150", "s149", "s148"]
    older = run("audit", "list", "--limit", "1", "--before", str(newest[-1]["id"]), "--json").json
    assert [each["subject"] for each in older] == ["s147"]
    assert len(run("audit", "list", "--json").json) == 50
    assert run("audit", "list", "--subject", "s7").out.count("\n") == 2
    assert run("audit", "list", "--subject", "nothing").out == "there is no such entry\n"


def test_the_audit_names_who_did_it(money: Shop, run: Run) -> None:
    order = money.bought(sneaker=1)["id"]
    assert run("sale", "pause", money.sale).code == 0
    assert run("refund", order, "--amount", "1").code == 0
    assert run("webhooks", "replay").code == 0
    assert run("rebuild", money.sale).code == 0
    found = {each["action"]: each for each in run("audit", "list", "--json").json}
    for action in ("pause", "refund", "replay_webhooks", "rebuild"):
        assert found[action]["detail"]["by"].startswith("cli "), action
    assert found["refund"]["subject"] == order
