"""Lua's stack has room for some thousand values: the largest calls that the contract allows must not tear the book."""

from engine import commands, ids
from engine.commands import HoldRequest, LoadItem, ResetItem
from engine.outcomes import Outcome
from tests.sales import SaleUnderTest


def test_a_sale_of_a_thousand_products_loads_and_is_rebuilt(sale: SaleUnderTest) -> None:
    names = [f"product-{n:04}" for n in range(1000)]
    items = [LoadItem(name, "A name", 1000, 1500, "usd", 5, 2) for name in names]
    assert sale.load_items(items) is Outcome.LOADED
    assert sale.load_items(items) is Outcome.UNCHANGED
    assert len(sale.show().products) == 1000
    again = [ResetItem(name, "A name", 1000, 1500, "usd", 2, 5, 1, 5) for name in names]
    assert sale.run(commands.reset(sale.id, 2, {"name": "", "state": "open"}, again)).outcome is Outcome.CHANGED
    assert len(sale.show().products) == 1000
    sale.products = []


def test_a_full_batch_of_twenty_lines_each_and_all_of_it_overdue(sale: SaleUnderTest) -> None:
    names = [f"p{n}" for n in range(20)]
    sale.load_items([LoadItem(name, name, 1000, 0, "usd", 500, 0) for name in names])
    lines = tuple((name, 1) for name in names)
    for _ in range(2):
        batch = [HoldRequest(ids.new_token(), f"c-{ids.new_token()}", lines) for _ in range(250)]
        assert {answer.outcome for answer in sale.hold_all(*batch)} == {Outcome.HELD}
    sale.pass_ms(60_000)
    [answer] = sale.hold_all(HoldRequest(ids.new_token(), "late", tuple((name, 99) for name in names)))
    assert answer.outcome is Outcome.HELD
    assert sale.run(commands.expire(sale.id, names, 400))[0] > 0
