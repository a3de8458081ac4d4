"""What a slip of an operator meets: a question, a warning, a difference, a way back."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from engine import commands, connections, keys
from engine.command import run as run_command
from persistence.salefile import parse
from tests.cli.conftest import FILE, Run
from tests.cli.test_sale import take_hold

AHEAD = 'starts_at: "2090-01-01T08:00:00Z"\n'


def write(folder: Path, text: str, name: str = "other.yaml") -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


def test_a_dry_run_names_each_change_and_makes_none(loaded: Path, run: Run, tmp_path: Path) -> None:
    before = run("sale", "show", "bf", "--json").json
    changed = FILE.replace("amount: 12900", "amount: 9900").replace("stock: 10", "stock: 12") + AHEAD
    result = run("sale", "load", write(tmp_path, changed), "--dry-run", "--json")
    assert result.code == 0
    assert result.json["new"] is False
    assert result.json["changes"] == [
        {"field": "starts_at", "before": None, "after": "2090-01-01T08:00:00Z"},
        {
            "field": "products[sneaker].price",
            "before": {"amount": 12900, "currency": "usd"},
            "after": {"amount": 9900, "currency": "usd"},
        },
        {"field": "products[sneaker].stock", "before": 10, "after": 12},
    ]
    told = run("sale", "load", write(tmp_path, changed), "--dry-run").out
    assert "129.00 usd" in told
    assert "99.00 usd" in told
    assert run("sale", "load", str(loaded), "--dry-run").out == "bf: nothing would change\n"
    assert run("sale", "show", "bf", "--json").json == before
    assert [each["action"] for each in run("audit", "list", "--json").json] == ["load"]


def test_a_dry_run_of_a_new_sale_loads_nothing(stores: None, run: Run, tmp_path: Path) -> None:
    result = run("sale", "load", write(tmp_path, FILE), "--dry-run")
    assert (result.code, result.out.partition("\n")[0]) == (0, "bf: a new sale")
    assert run("sale", "list", "--json").json == []


def test_a_dry_run_is_refused_as_the_load_would_be(loaded: Path, run: Run, tmp_path: Path, redis_url: str) -> None:
    take_hold(redis_url, 2)
    for wrong, says in ((FILE.replace("id: bf", "id: cyber", 1), "product_in_other_sale"),
                        (FILE.replace("stock: 10", "stock: 1"), "stock_below_committed")):  # fmt: skip
        file = write(tmp_path, wrong)
        dry, wet = run("sale", "load", file, "--dry-run"), run("sale", "load", file)
        assert dry.code == wet.code == 2
        assert says in dry.err
        assert dry.err.splitlines()[-1] == wet.err.splitlines()[-1]


def test_a_load_is_judged_by_redis_and_not_by_what_postgres_has_by_then(
    loaded: Path, run: Run, tmp_path: Path, redis_url: str
) -> None:
    take_hold(redis_url, 2)
    assert run("stock", "adjust", "sneaker", "1", "--reason", "found").code == 0  # drains the hold
    client = connections.connect(redis_url)
    client.hset(keys.sale("bf"), "shift_ms", "61000")
    run_command(client, commands.expire("bf", ["sneaker"], 10))
    client.close()
    file = write(tmp_path, FILE.replace("stock: 10", "stock: 0"))
    assert run("sale", "load", file, "--dry-run").code == run("sale", "load", file).code == 0


def test_what_a_product_loses_or_the_file_leaves_out_is_told(loaded: Path, run: Run, tmp_path: Path) -> None:
    other = FILE.replace("id: sneaker", "id: boot")
    result = run("sale", "load", write(tmp_path, other), "--dry-run", "--json").json
    assert result["unnamed"] == ["sneaker"]
    assert [each["field"] for each in result["changes"]][:1] == ["products[boot].name"]


@pytest.mark.parametrize(
    ("wrong", "right", "field"),
    [
        ("amount: 12900", "amount: 6450", "products[0].price"),
        ("amount: 12900", "amount: 129", "products[0].price"),
        ("currency: usd", "currency: eur", "products[0].price.currency"),
        ("stock: 10", "stock: 5", "products[0].stock"),
        ("per_customer_limit: 2", "per_customer_limit: 11", "products[0].per_customer_limit"),
        ("hold_ttl_seconds: 60", "hold_ttl_seconds: 5", "hold_ttl_seconds"),
        ("hold_ttl_seconds: 60", "hold_ttl_seconds: 7200", "hold_ttl_seconds"),
        ("hold_ttl_seconds: 60", "payment_ttl_seconds: 10", "payment_ttl_seconds"),
        ("hold_ttl_seconds: 60", 'ends_at: "2020-01-01T00:00:00Z"', "ends_at"),
        ("hold_ttl_seconds: 60", 'ends_at: "2090-01-01T00:00:00Z"', "ends_at"),
        ("hold_ttl_seconds: 60", 'starts_at: "2090-01-01T00:00:00Z"', "starts_at"),
        ("    stock", "    compare_at_price: {amount: 9, currency: usd}\n    stock", "products[0].compare_at_price"),
        ("stock: 10", "stock: 10\n    compare_at_price: {amount: 1290000, currency: usd}", "products[0].price"),
    ],
)  # fmt: skip
def test_what_may_be_a_mistake_is_a_warning_and_no_more(
    wrong: str, right: str, field: str, loaded: Path, run: Run, tmp_path: Path
) -> None:
    file = write(tmp_path, FILE.replace(wrong, right, 1))
    dry = run("sale", "load", file, "--dry-run", "--json")
    assert field in [each["field"] for each in dry.json["warnings"]]
    result = run("sale", "load", file, "--json")
    assert result.code == 0
    assert result.json["warnings"] == dry.json["warnings"]
    assert f"flashsale: warning: {field} " in result.err
    assert run("sale", "load", str(loaded), "--json").code == 0


def test_a_file_without_mistakes_has_no_warning(loaded: Path, run: Run) -> None:
    result = run("sale", "load", str(loaded), "--json")
    assert (result.json["warnings"], result.err) == ([], "")


def test_a_new_sale_in_the_past_is_warned_about(stores: None, run: Run, tmp_path: Path) -> None:
    past = FILE + 'starts_at: "2025-01-01T00:00:00Z"\n'
    assert "starts_at is in the past" in run("sale", "load", write(tmp_path, past)).err


def test_every_fault_is_told_where_there_are_many(stores: None, run: Run, tmp_path: Path) -> None:
    products = "".join(f"  - {{id: p{number}, nmae: x, price: 5, stock: -1}}\n" for number in range(10))
    result = run("sale", "load", write(tmp_path, f"id: bf\nname: x\nproducts:\n{products}"))
    assert result.code == 2
    lines = result.err.splitlines()
    assert len(lines) == 41
    assert "did you mean name?" in lines[0] + lines[1]
    assert "has 40 faults" in lines[-1]


def test_a_written_file_is_commented_and_loads_as_it_is(stores: None, run: Run, tmp_path: Path) -> None:
    assert run("sale", "init", "mine.yaml", "--id", "cyber-monday").code == 0
    text = (tmp_path / "mine.yaml").read_text()
    assert text.count("#") > 8
    assert yaml.safe_load(text)["name"] == "Cyber Monday"
    assert parse(text.encode(), format="yaml").id == "cyber-monday"
    result = run("sale", "load", "mine.yaml")
    assert (result.code, result.err) == (0, "")
    assert run("sale", "show", "cyber-monday", "--json").json["status"] == "scheduled"
    again = run("sale", "init", "mine.yaml")
    assert (again.code, again.err.count("\n")) == (1, 1)
    assert (tmp_path / "mine.yaml").read_text() == text
    assert run("sale", "init", "x.yaml", "--id", "-x").code == 2
    assert run("sale", "init", "no/such/folder.yaml").code == 1


def test_a_scheduled_sale_is_withdrawn_and_loaded_again(stores: None, run: Run, tmp_path: Path) -> None:
    first = write(tmp_path, FILE + AHEAD, "first.yaml")
    other = write(tmp_path, (FILE + AHEAD).replace("id: bf", "id: cyber", 1))
    assert run("sale", "load", first).code == 0
    assert run("sale", "load", other).code == 2
    for _ in range(2):
        assert run("sale", "withdraw", "bf", "--json").json["status"] == "ended"
    assert run("sale", "load", other, "--json").json["status"] == "scheduled"
    assert "product_in_other_sale" in run("sale", "load", first).err
    assert run("sale", "withdraw", "cyber").code == 0
    assert run("sale", "load", first, "--json").json["status"] == "scheduled"
    assert run("reconcile", "--json").code == 0
    assert run("rebuild", "bf").code == 0
    assert run("sale", "show", "bf", "--json").json["status"] == "scheduled"
    actions = [each["action"] for each in run("audit", "list", "--json").json]
    assert actions == ["rebuild", "load", "withdraw", "load", "withdraw", "load"]


def test_a_withdrawn_sale_that_is_ended_stays_ended(stores: None, run: Run, tmp_path: Path) -> None:
    file = write(tmp_path, FILE + AHEAD)
    assert run("sale", "load", file).code == 0
    assert run("sale", "withdraw", "bf").code == 0
    assert run("sale", "resume", "bf").code == 1
    assert run("sale", "end", "bf").code == 0
    assert run("sale", "load", file, "--json").json["status"] == "ended"


def test_only_a_scheduled_sale_without_holds_is_withdrawn(
    loaded: Path, run: Run, redis_url: str, tmp_path: Path
) -> None:
    result = run("sale", "withdraw", "bf")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "flashsale sale end bf" in result.err
    take_hold(redis_url)
    assert run("sale", "load", write(tmp_path, FILE + AHEAD)).code == 0
    assert "has had holds" in run("sale", "withdraw", "bf").err
    assert run("sale", "end", "bf").code == 0
    assert run("sale", "withdraw", "bf").code == 1
    assert run("sale", "withdraw", "nope").code == 1


def on_a_terminal(folder: Path, answer: str, *arguments: str) -> tuple[int, str]:
    """The exit status of a command that a person types, and what the terminal shows."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=folder, stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    os.close(slave)
    os.write(master, f"{answer}\n".encode())
    shown = b""
    try:
        while piece := os.read(master, 4096):
            shown += piece
    except OSError:
        pass  # the other end is closed
    os.close(master)
    return process.wait(30), shown.decode()


def test_what_cannot_be_undone_asks_on_a_terminal(loaded: Path, run: Run, tmp_path: Path) -> None:
    take = ("stock", "adjust", "sneaker", "-3", "--reason", "broken")
    for command in (("sale", "end", "bf"), take):
        code, shown = on_a_terminal(tmp_path, "n", *command)
        assert code == 1
        assert "Go on?" in shown
        assert "nothing was changed" in shown
    now = run("sale", "show", "bf", "--json").json
    assert (now["status"], now["products"][0]["stock"]["total"]) == ("live", 10)
    code, shown = on_a_terminal(tmp_path, "", *take, "--yes")
    assert code == 0
    assert "Go on?" not in shown
    code, shown = on_a_terminal(tmp_path, "", "stock", "adjust", "sneaker", "3", "--reason", "found")
    assert (code, "Go on?" in shown) == (0, False)
    assert on_a_terminal(tmp_path, "y", "sale", "end", "bf")[0] == 0
    assert run("sale", "show", "bf", "--json").json["status"] == "ended"
