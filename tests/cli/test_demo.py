"""`flashsale demo`, small: it adds up, says so, and leaves nothing behind."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from cli.demo.plan import Temper, make_plans, make_sale
from tests.cli.conftest import Background

FIELDS = [
    "ok", "customers", "stock", "held", "sold_out", "expired", "paid", "oversold", "lost", "left_over",
    "holds_per_second", "hold_p50_ms", "hold_p99_ms", "reconcile",
]  # fmt: skip


def test_a_small_demo_adds_up(start: Callable[..., Background], tmp_path: Path) -> None:
    os.environ["TMPDIR"] = str(tmp_path)
    try:
        demo = start("demo", "--customers", "150", "--stock", "20", "--seed", "1", "--json")
        out, err = demo.process.communicate(timeout=150)
    finally:
        del os.environ["TMPDIR"]
    assert demo.process.returncode == 0, out + err
    figures = json.loads(out.splitlines()[-1])
    assert list(figures) == FIELDS
    assert figures["ok"] is True
    assert (figures["customers"], figures["stock"]) == (150, 20)
    assert (figures["oversold"], figures["lost"], figures["left_over"]) == (0, 0, 0)
    assert figures["held"] + figures["sold_out"] == 150
    assert 0 < figures["paid"] <= 20
    assert figures["reconcile"]["consistent"] is True
    assert "PAYMENT STAND-IN" in out
    assert not list(tmp_path.glob("flashsale-demo-*"))


def test_the_same_seed_makes_the_same_customers() -> None:
    def plans(seed: int) -> list[tuple[object, ...]]:
        sale = make_sale(200)
        number = {product: at for at, product in enumerate(sale.stock)}
        return [
            (plan.temper, plan.arrives, plan.thinks, tuple((number[product], qty) for product, qty in plan.lines))
            for plan in make_plans(sale, 500, seed)
        ]

    assert plans(7) == plans(7)
    assert plans(7) != plans(8)
    assert {plan[0] for plan in plans(7)} == set(Temper)


def test_the_stock_is_shared_out_whole() -> None:
    for stock in (1, 3, 20, 200, 999):
        assert sum(make_sale(stock).stock.values()) == stock
