"""load, adjust, control, expire, trim and mend: what people and workers do to a sale."""

import pytest

from engine import commands, keys
from engine.commands import LoadItem
from engine.events import Kind
from engine.outcomes import Outcome
from engine.records import Position
from tests.sales import SaleUnderTest


class TestLoad:
    def test_the_same_file_again_changes_nothing_whatever_was_adjusted_between(self, sale: SaleUnderTest) -> None:
        assert sale.load(sneaker=5) is Outcome.LOADED
        sale.run(commands.adjust(sale.id, "sneaker", 3, "found a box", "command-1"))
        before = sale.everything()
        assert sale.load(sneaker=5) is Outcome.UNCHANGED
        assert sale.everything() == before
        assert sale.counters("sneaker") == (8, 8, 0, 0)

    def test_the_difference_to_the_last_file_is_what_changes(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        sale.run(commands.adjust(sale.id, "sneaker", 3, "found a box", "command-1"))
        assert sale.load(sneaker=4) is Outcome.LOADED
        assert sale.counters("sneaker") == (7, 7, 0, 0)
        assert sale.events()[-1].products[0].delta == -1

    def test_never_below_what_is_held_and_sold_and_then_nothing_changes(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5, sock=5)
        sale.hold("ann", sneaker=3)
        before = sale.everything()
        assert sale.load(sock=9, sneaker=2) is Outcome.BELOW_COMMITTED
        assert sale.everything() == before
        assert sale.load(sneaker=3) is Outcome.LOADED

    def test_a_new_price_counts_for_holds_made_after_it(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        old = sale.hold("ann", sneaker=1)
        sale.load_items([LoadItem("sneaker", "Sneaker", 2500, 0, "usd", 5, 0)])
        new = sale.hold("bob", sneaker=1)
        records = [sale.record(token) for token in (old, new)]
        assert [(record.total, record.lines[0].rev) for record in records if record] == [(1000, 1), (2500, 2)]

    def test_does_not_create_a_sale_that_redis_lost(self, sale: SaleUnderTest) -> None:
        assert sale.load(create=False, sneaker=5) is Outcome.NO_SALE
        sale.products = []

    def test_leaves_products_that_the_file_does_not_name(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5, sock=5)
        sale.load(sock=6)
        assert sale.counters("sneaker") == (5, 5, 0, 0)

    def test_a_fenced_sale_is_left_alone(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        sale.client.hset(keys.sale(sale.id), "fenced", 1)
        before = sale.everything()
        assert sale.load(sneaker=6) is Outcome.FENCED
        assert sale.everything() == before


class TestAdjust:
    def test_once_for_each_command(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        first = sale.run(commands.adjust(sale.id, "sneaker", 2, "found", "command-1"))
        again = sale.run(commands.adjust(sale.id, "sneaker", 2, "found", "command-1"))
        assert (first.outcome, again.outcome) == (Outcome.ADJUSTED, Outcome.REPLAYED)
        assert first.position == again.position == Position(1, 2)
        assert sale.counters("sneaker") == (7, 7, 0, 0)

    def test_never_below_what_is_held_and_sold(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        sale.hold("ann", sneaker=1)
        sale.pay("bob", sneaker=2)
        change = sale.run(commands.adjust(sale.id, "sneaker", -3, "broken", "command-1"))
        assert change.outcome is Outcome.BELOW_COMMITTED
        assert (change.wanted_total, change.held, change.sold) == (2, 1, 2)
        assert sale.run(commands.adjust(sale.id, "sneaker", -2, "broken", "command-1")).outcome is Outcome.ADJUSTED
        assert sale.counters("sneaker") == (3, 0, 1, 2)

    def test_unknown_product(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        assert sale.run(commands.adjust(sale.id, "sock", 1, "", "c")).outcome is Outcome.UNKNOWN_PRODUCT


class TestControl:
    def test_an_ended_sale_stays_ended(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        states = ["paused", "paused", "open", "ended", "ended", "open", "paused"]
        outcomes = [sale.run(commands.control(sale.id, state)).outcome for state in states]
        assert outcomes == [
            Outcome.CHANGED,
            Outcome.UNCHANGED,
            Outcome.CHANGED,
            Outcome.CHANGED,
            Outcome.UNCHANGED,
            Outcome.ENDED,
            Outcome.ENDED,
        ]
        assert [event.state for event in sale.events() if event.kind is Kind.STATE] == ["paused", "open", "ended"]


class TestExpire:
    def test_is_bounded(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=10)
        sale.hold_all(*(sale.request(f"c{n}", sneaker=1) for n in range(10)))
        sale.pass_ms(60_000)
        assert sale.run(commands.expire(sale.id, sale.products, 4)) == (4, True)
        assert sale.run(commands.expire(sale.id, sale.products, 100)) == (6, False)
        assert sale.counters("sneaker") == (10, 10, 0, 0)

    def test_each_hold_of_two_products_once(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=2, sock=2)
        sale.hold("ann", sneaker=1, sock=1)
        sale.hold("bob", sneaker=1, sock=1)
        sale.pass_ms(60_000)
        assert sale.run(commands.expire(sale.id, sale.products, 100)) == (2, False)
        assert sale.client.exists(*(keys.deadlines(sale.id, product) for product in sale.products)) == 0

    def test_with_nothing_overdue_nothing_is_written(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=2)
        sale.hold("ann", sneaker=1)
        before = sale.everything()
        assert sale.run(commands.expire(sale.id, sale.products, 100)) == (0, False)
        assert sale.everything() == before


class TestTrim:
    def test_leaves_a_stretch_behind_the_cursor(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=10)
        for n in range(9):
            sale.hold(f"c{n}", sneaker=1)
        shown = sale.show()
        assert shown.sale
        cursor = Position(1, 8)
        mark = sale.events()[7].mark
        reply = sale.run(commands.trim(sale.id, cursor, mark, keep=3))
        assert (reply.outcome, reply.rest) == (Outcome.TRIMMED, [4])
        assert sale.events()[0].position == Position(1, 5)
        sale.products = []  # the stream is meant to have a beginning that is not 1

    def test_only_where_the_cursors_entry_is_the_one_that_was_drained(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=10)
        sale.hold("ann", sneaker=1)
        for cursor, mark in ((Position(1, 2), "other"), (Position(1, 7), "any"), (Position(2, 1), "any")):
            assert sale.run(commands.trim(sale.id, cursor, mark, keep=0)).outcome is Outcome.ASTRAY


def test_mend_brings_counters_back_once(sale: SaleUnderTest) -> None:
    sale.load(sneaker=5)
    sale.hold("ann", sneaker=1)
    sale.client.hincrby(keys.stock(sale.id), "sneaker:available", 7)
    difference = [("sneaker", "available", -7)]
    assert sale.run(commands.mend(sale.id, 0, difference)).outcome is Outcome.MENDED
    assert sale.run(commands.mend(sale.id, 0, difference)).outcome is Outcome.OVERTAKEN
    assert sale.counters("sneaker") == (5, 4, 1, 0)


@pytest.mark.parametrize("customer", ["ann", "a:b,c", "ümläut 漢字", "x" * 128, "0"])
def test_any_customer_name(sale: SaleUnderTest, customer: str) -> None:
    sale.load_items([LoadItem("sneaker", "Sneaker", 1000, 0, "usd", 5, 1)])
    token = sale.hold(customer, sneaker=1)
    [answer] = sale.hold_all(sale.request(customer, sneaker=1))
    assert answer.tokens == (token,)
    sale.run(commands.release(sale.id, token, sale.products))
    sale.hold(customer, sneaker=1)
