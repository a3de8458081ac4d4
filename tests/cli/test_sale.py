"""The life of a sale, its stock and its holds from the command line."""

import json
from pathlib import Path

import pytest

from engine import commands, connections, ids, keys
from engine.command import run as run_command
from engine.commands import HoldRequest
from engine.outcomes import Outcome
from tests.cli.conftest import FILE, Run


def take_hold(redis_url: str, qty: int = 1) -> None:
    client = connections.connect(redis_url)
    [answer] = run_command(client, commands.hold("bf", [HoldRequest(ids.new_token(), "ann", (("sneaker", qty),))]))
    assert answer.outcome is Outcome.HELD


def test_a_sale_is_loaded_listed_and_shown(loaded: Path, run: Run) -> None:
    shown = run("sale", "show", "bf", "--json").json
    assert shown["status"] == "live"
    assert shown["products"][0]["stock"] == {"total": 10, "available": 10, "held": 0, "sold": 0}
    assert [sale["id"] for sale in run("sale", "list", "--json").json] == ["bf"]
    assert "Sneaker 42" in run("sale", "show", "bf").out
    assert "Black Friday" in run("sale", "list").out


def test_the_same_file_again_changes_nothing(loaded: Path, run: Run) -> None:
    assert run("stock", "adjust", "sneaker", "-3", "--reason", "broken").code == 0
    assert run("sale", "load", str(loaded), "--json").json["products"][0]["stock"]["total"] == 7


def test_a_sale_is_paused_resumed_and_ended(loaded: Path, run: Run) -> None:
    for command, status in (("pause", "paused"), ("resume", "live"), ("end", "ended")):
        assert run("sale", command, "bf", "--json").json["status"] == status
    result = run("sale", "resume", "bf")
    assert result.code == 1
    assert "sale_ended" in result.err


def test_a_sale_that_is_not_there(stores: None, run: Run) -> None:
    for command in ("show", "pause", "resume", "end"):
        for sale_id in ("nope", "no such name"):
            result = run("sale", command, sale_id)
            assert (result.code, result.err.count("\n")) == (1, 1)
            assert "sale_not_found" in result.err


@pytest.mark.parametrize(
    ("wrong", "right", "says"),
    [
        ("amount: 12900", "amount: 12.5", ["line 7", "products[0].price.amount"]),
        ("stock: 10", "stock: -1", ["line 8", "products[0].stock"]),
        ("name: Black Friday", "nmae: Black Friday", ["line 2", "nmae"]),
        ("id: bf", "id: [", ["line"]),
    ],
)
def test_a_faulty_file_is_status_2_with_its_line_and_field(
    wrong: str, right: str, says: list[str], stores: None, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(FILE.replace(wrong, right, 1))
    result = run("sale", "load", str(file))
    assert (result.code, result.err.count("\n")) == (2, 1)
    for text in says:
        assert text in result.err
    assert run("sale", "list", "--json").json == []


def test_a_missing_file_and_one_that_is_no_json(stores: None, run: Run, tmp_path: Path) -> None:
    assert run("sale", "load", str(tmp_path / "nowhere.json")).code == 2
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe{")
    result = run("sale", "load", str(tmp_path / "bad.json"))
    assert (result.code, result.err.count("\n")) == (2, 1)


def test_a_product_of_another_sale_is_status_2_and_names_it(loaded: Path, run: Run, tmp_path: Path) -> None:
    second = tmp_path / "second.yaml"
    second.write_text(FILE.replace("id: bf", "id: cyber", 1))
    result = run("sale", "load", str(second))
    assert result.code == 2
    assert "products[0].id" in result.err
    assert "product_in_other_sale" in result.err
    assert "bf" in result.err


def test_stock_is_added_and_taken(loaded: Path, run: Run) -> None:
    assert run("stock", "adjust", "sneaker", "5", "--reason", "found", "--json").json["stock"]["total"] == 15
    assert "10 available" in run("stock", "adjust", "sneaker", "-5", "--reason", "lost").out


def test_stock_below_what_is_held_is_refused(loaded: Path, run: Run, redis_url: str) -> None:
    take_hold(redis_url, 2)
    result = run("stock", "adjust", "sneaker", "-9", "--reason", "lost")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "stock_below_committed" in result.err
    assert run("stock", "adjust", "nothing", "1", "--reason", "x").code == 1


def test_overdue_holds_are_released_on_request(loaded: Path, run: Run, redis_url: str) -> None:
    take_hold(redis_url, 2)
    assert run("holds", "expire", "--json").json == [{"sale_id": "bf", "released": 0}]
    connections.connect(redis_url).hset(keys.sale("bf"), "shift_ms", "61000")
    assert run("holds", "expire", "bf").out == "bf: 1 overdue hold released\n"
    assert run("sale", "show", "bf", "--json").json["products"][0]["stock"]["available"] == 10
    assert run("holds", "expire", "nope").code == 1


def test_reconcile_is_0_then_1_after_a_counter_was_changed_by_hand_then_0_when_repaired(
    loaded: Path, run: Run, redis_url: str
) -> None:
    take_hold(redis_url, 2)
    assert run("reconcile", "bf", "--json").json["consistent"] is True
    assert run("reconcile").code == 0
    connections.connect(redis_url).hset(keys.stock("bf"), "sneaker:available", "9")
    result = run("reconcile", "bf", "--json")
    assert result.code == 1
    [drift] = [each for each in result.json["drift"] if each["field"] == "available"]
    assert (drift["id"], int(drift["redis"]), int(drift["postgres"])) == ("sneaker", 9, 8)
    assert "sneaker" in run("reconcile", "bf").out
    assert run("reconcile", "--apply").code == 0
    result = run("reconcile", "--json")
    assert result.code == 0
    assert [report["consistent"] for report in json.loads(result.out)] == [True]


def test_reconcile_of_no_sale_could_not_compare(stores: None, run: Run) -> None:
    result = run("reconcile", "nope")
    assert (result.code, result.err.count("\n")) == (2, 1)


def test_a_sale_is_rebuilt_by_hand(loaded: Path, run: Run, redis_url: str) -> None:
    connections.connect(redis_url).delete(keys.sale("bf"), keys.stock("bf"), keys.events("bf"))
    assert run("rebuild", "bf", "--json").json["epoch"] == 2
    assert run("reconcile", "bf").code == 0
    assert run("rebuild", "nope").code == 1
