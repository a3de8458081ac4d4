"""`flashsale report`: after a real small sale, its figures are the tables', and its page loads nothing."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cli.report.charts import chart, duration
from engine import commands
from engine.command import run as run_script
from persistence.housekeeping import retire
from tests.cli.conftest import Run
from tests.cli.test_money import closed_shop, db, mailbox, money, settings, shop, stand_in
from tests.payments.shop import Shop

__all__ = ["closed_shop", "db", "mailbox", "money", "settings", "shop", "stand_in"]  # fixtures


@pytest.fixture
def sold(money: Shop, run: Run) -> Shop:
    """Ten sneakers in two orders, one of them refunded in part; a pair of socks that nobody paid for."""
    first = money.bought(sneaker=2)
    money.bought(sneaker=8)
    money.hold("cid", sock=3)
    money.order(money.hold("dora", sock=1))
    result = run("refund", first["id"], "--line", "sneaker=1", "--restock")
    assert result.code == 0, result.err
    money.work()
    return money


def test_the_figures_are_those_of_the_tables(sold: Shop, run: Run) -> None:
    shown = run("report", sold.sale, "--json").json
    assert (shown["holds_taken"], shown["holds_ordered"], shown["orders_paid"]) == (4, 3, 2)
    assert shown["customers"] == sold.rows("SELECT count(DISTINCT customer_id) FROM holds")[0][0]
    assert shown["holds"] == dict(tuple(row) for row in sold.rows("SELECT status, count(*) FROM holds GROUP BY 1"))
    assert shown["orders"] == dict(tuple(row) for row in sold.rows("SELECT status, count(*) FROM orders GROUP BY 1"))
    captured, refunded = sold.rows("SELECT sum(captured), sum(refunded) FROM payments")[0]
    assert shown["money"] == [
        {"currency": "usd", "paid": 10 * 12_900, "captured": int(captured), "refunded": int(refunded)}
    ]
    assert int(refunded) == 12_900
    products = {each["id"]: each for each in shown["products"]}
    sneaker = products["sneaker"]
    counters = sold.rows("SELECT total, sold FROM products WHERE id = 'sneaker'")[0]
    assert (sneaker["total"], sneaker["sold"]) == tuple(counters) == (10, 9)
    assert (sneaker["returned"], sneaker["revenue"]) == (1, 9 * 12_900)
    assert 0 <= sneaker["gone_after_seconds"] <= sneaker["sold_out_after_seconds"]
    assert products["sock"]["sold_out_after_seconds"] is None
    assert sum(step["holds"] for step in shown["steps"]) == shown["holds_taken"]
    assert shown["steps"][-1]["sold"] == 9, "what came back is not sold"
    assert (shown["refunds"], shown["units_restocked"]) == ({"succeeded": 1}, 1)
    assert {each["kind"]: each["count"] for each in shown["anomalies"] if each["count"]} == {}
    assert shown["peak_holds_per_second"] >= 1
    assert shown["wait_p50_seconds"] <= shown["wait_p90_seconds"]


class Page(HTMLParser):
    """What a page would load, and whether its elements close."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "line", "path", "rect", "br", "link", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """It closes itself."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_them_and_loads_nothing(sold: Shop, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert run("report", sold.sale, "--html", str(file)).out == f"wrote {file}\n"
    text = file.read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.loads == []
    assert "url(" not in text
    assert "<script" not in text
    assert "1161.00 usd" in text, "kept: ten sneakers less one"
    assert ">9<" in text
    assert text.count("<svg") == 2
    assert re.search(r"prefers-color-scheme: dark.*@media print", text, re.DOTALL)
    assert "Sneaker" in text


def test_names_are_text_and_not_markup(sold: Shop, run: Run, tmp_path: Path) -> None:
    sold.execute("UPDATE products SET name = '<script>alert(1)</script>'")
    file = tmp_path / "report.html"
    run("report", sold.sale, "--html", str(file))
    assert "<script" not in file.read_text()


def test_a_sale_that_has_left_redis_is_told_the_same(sold: Shop, run: Run) -> None:
    before = run("report", sold.sale, "--json").json
    run_script(sold.ctx.redis, commands.control(sold.sale, "ended"))
    sold.execute("UPDATE holds SET status = 'expired' WHERE status IN ('held', 'paying')")
    sold.execute("UPDATE orders SET status = 'cancelled', ended_because = 'expired' WHERE status = 'pending_payment'")
    sold.execute("UPDATE payments SET due = NULL, due_at = NULL")
    sold.work()
    sold.execute("UPDATE sales SET state = 'ended', ended_at = now() - interval '2 days'")
    assert retire(sold.ctx.db, sold.ctx.redis) == [sold.sale]
    shown = run("report", sold.sale, "--json").json
    assert shown["retired"]
    same = ("holds_taken", "orders_paid", "money", "products", "steps", "refunds", "peak_holds_per_second")
    assert [shown[name] for name in same] == [before[name] for name in same]


def test_a_sale_without_a_hold_has_a_page_too(money: Shop, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert run("report", money.sale, "--html", str(file), "--json").json["steps"] == []
    assert "Nobody has taken a hold" in file.read_text()
    assert "busiest second 0 holds" in run("report", money.sale).out


def test_what_goes_wrong_is_one_line(money: Shop, run: Run) -> None:
    assert "sale_not_found" in run("report", "none").err
    result = run("report", money.sale, "--html", "/no/such/folder/report.html")
    assert (result.code, result.err.count("\n")) == (1, 1)


def test_times_and_scales_read_well() -> None:
    assert [duration(each) for each in (None, 0.25, 7, 60, 190, 7500)] == [
        "-",
        "0.2 s",
        "7 s",
        "1 min",
        "3 min 10 s",
        "2 h 5 min",
    ]
    drawn = chart("t", "s", [0, 3, 37], 5, bars=True)
    assert [tick.label for tick in drawn.y_ticks] == ["0", "10", "20", "30", "40"]
    assert drawn.x_ticks[-1].label == "15 s"
    assert len(drawn.bars) == 2
