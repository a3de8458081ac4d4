"""hold.lua: the checks in the contract's order, each answer its caller's own, and nothing changed by a refusal."""

import pytest

from engine import commands, ids, keys
from engine.commands import LoadItem
from engine.events import Kind
from engine.outcomes import Outcome
from tests.sales import SaleUnderTest


def test_units_move_from_available_to_held(sale: SaleUnderTest) -> None:
    sale.load(sneaker=5)
    token = sale.hold("ann", sneaker=2)
    assert sale.counters("sneaker") == (5, 3, 2, 0)
    record = sale.record(token)
    assert record
    assert (record.status, record.customer, record.total) == ("held", "ann", 2000)
    assert record.expires_ms - record.created_ms == 60_000


def test_101_units_400_customers_one_batch(sale: SaleUnderTest) -> None:
    sale.load(sneaker=101)
    requests = [sale.request(f"customer-{n}", sneaker=1) for n in range(400)]
    answers = [answer for n in range(0, 400, 100) for answer in sale.hold_all(*requests[n : n + 100])]
    won = [request for request, answer in zip(requests, answers, strict=True) if answer.outcome is Outcome.HELD]
    assert len(won) == 101
    assert {answer.outcome for answer in answers} == {Outcome.HELD, Outcome.SOLD_OUT}
    for request, answer in zip(requests, answers, strict=True):
        record = sale.record(request.token)
        assert (record is not None) == (answer.outcome is Outcome.HELD)
        if record:
            assert record.customer == request.customer
            assert record == answer.hold


def test_all_lines_or_none(sale: SaleUnderTest) -> None:
    sale.load(sneaker=5, sock=1)
    before = sale.everything()
    [answer] = sale.hold_all(sale.request("ann", sneaker=2, sock=2))
    assert (answer.outcome, answer.product, answer.available, answer.held) == (Outcome.SOLD_OUT, "sock", 1, 0)
    assert answer.wait_ms == -1
    assert sale.everything() == before


def test_sold_out_says_when_the_next_deadline_is(sale: SaleUnderTest) -> None:
    sale.load(sneaker=1)
    sale.hold("ann", sneaker=1)
    sale.pass_ms(20_000)
    [answer] = sale.hold_all(sale.request("bob", sneaker=1))
    assert answer.outcome is Outcome.SOLD_OUT
    assert 39_000 < answer.wait_ms <= 40_000


def test_one_event_a_batch_carries_its_holds(sale: SaleUnderTest) -> None:
    sale.load(sneaker=5)
    requests = [sale.request(name, sneaker=1) for name in ("ann", "bob", "cat")]
    sale.hold_all(*requests)
    event = sale.events()[-1]
    assert event.kind is Kind.HELD
    assert list(event.holds) == [request.token for request in requests]
    assert [record.customer for record in event.holds.values()] == ["ann", "bob", "cat"]


class TestReplay:
    def test_the_same_token_finds_its_own_hold(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        request = sale.request("ann", sneaker=1)
        [first] = sale.hold_all(request)
        before = sale.everything()
        [again] = sale.hold_all(request)
        assert again.outcome is Outcome.REPLAYED
        assert again.hold == first.hold
        assert sale.everything() == before

    def test_within_one_batch(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        request = sale.request("ann", sneaker=1)
        assert [answer.outcome for answer in sale.hold_all(request, request)] == [Outcome.HELD, Outcome.REPLAYED]
        assert sale.counters("sneaker") == (5, 4, 1, 0)

    def test_other_lines_are_a_mismatch(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5, sock=5)
        token = sale.hold("ann", sneaker=1)
        for lines in ({"sneaker": 2}, {"sock": 1}, {"sneaker": 1, "sock": 1}):
            [answer] = sale.hold_all(sale.request("ann", token, **lines))
            assert answer.outcome is Outcome.MISMATCH

    def test_after_a_refusal_the_same_token_may_win(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1)
        taken = sale.hold("ann", sneaker=1)
        request = sale.request("bob", sneaker=1)
        assert sale.hold_all(request)[0].outcome is Outcome.SOLD_OUT
        sale.run(commands.release(sale.id, taken, sale.products))
        assert sale.hold_all(request)[0].outcome is Outcome.HELD

    @pytest.mark.parametrize("state", ["paused", "ended"])
    def test_comes_before_the_state_of_the_sale(self, sale: SaleUnderTest, state: str) -> None:
        sale.load(sneaker=5)
        request = sale.request("ann", sneaker=1)
        sale.hold_all(request)
        sale.run(commands.control(sale.id, state))
        assert sale.hold_all(request)[0].outcome is Outcome.REPLAYED

    def test_of_an_ended_hold_gives_its_record(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        request = sale.request("ann", sneaker=1)
        sale.hold_all(request)
        sale.run(commands.release(sale.id, request.token, sale.products))
        [answer] = sale.hold_all(request)
        assert answer.outcome is Outcome.REPLAYED
        assert answer.hold
        assert answer.hold.status == "released"


class TestOrderOfTheChecks:
    def test_no_sale(self, sale: SaleUnderTest) -> None:
        answers = sale.hold_all(sale.request("ann", sneaker=1), sale.request("bob", sneaker=1))
        assert [answer.outcome for answer in answers] == [Outcome.NO_SALE, Outcome.NO_SALE]

    def test_from_the_product_to_the_stock(self, sale: SaleUnderTest) -> None:
        item = LoadItem("sneaker", "Sneaker", 1000, 0, "usd", 1, 1)
        euro = LoadItem("poster", "Poster", 1000, 0, "eur", 1, 0)
        sale.load_items([item, euro], starts_ms=1)
        outcomes = []

        def ask(**lines: int) -> None:
            outcomes.append(sale.hold_all(sale.request("ann", **lines))[0].outcome)

        sale.client.hset(keys.sale(sale.id), mapping={"fenced": 1, "starts_ms": 1 << 50, "ends_ms": 1})
        ask(sneaker=2, nothing=1)
        ask(sneaker=2)
        sale.client.hset(keys.sale(sale.id), "fenced", 0)
        sale.run(commands.control(sale.id, "paused"))
        ask(sneaker=2)
        sale.run(commands.control(sale.id, "open"))
        ask(sneaker=2)
        sale.client.hset(keys.sale(sale.id), "starts_ms", 0)
        ask(sneaker=2)
        sale.client.hset(keys.sale(sale.id), "ends_ms", 0)
        ask(sneaker=2, poster=1)
        ask(sneaker=2)
        sale.hold("bob", sneaker=1)
        ask(sneaker=1)
        assert outcomes == [
            Outcome.UNKNOWN_PRODUCT,
            Outcome.FENCED,
            Outcome.PAUSED,
            Outcome.NOT_STARTED,
            Outcome.ENDED,
            Outcome.MIXED_CURRENCIES,
            Outcome.LIMIT_EXCEEDED,
            Outcome.SOLD_OUT,
        ]


class TestLimit:
    def load(self, sale: SaleUnderTest) -> None:
        sale.load_items([LoadItem("sneaker", "Sneaker", 1000, 0, "usd", 10, 2)])

    def test_counts_what_is_held(self, sale: SaleUnderTest) -> None:
        self.load(sale)
        token = sale.hold("ann", sneaker=1)
        [answer] = sale.hold_all(sale.request("ann", sneaker=2))
        assert answer.outcome is Outcome.LIMIT_EXCEEDED
        assert (answer.product, answer.limit, answer.held_or_bought) == ("sneaker", 2, 1)
        assert answer.tokens == (token,)

    def test_counts_what_is_bought_but_lists_live_holds_only(self, sale: SaleUnderTest) -> None:
        self.load(sale)
        sale.pay("ann", sneaker=2)
        [answer] = sale.hold_all(sale.request("ann", sneaker=1))
        assert answer.outcome is Outcome.LIMIT_EXCEEDED
        assert (answer.held_or_bought, answer.tokens) == (2, ())

    def test_within_one_batch(self, sale: SaleUnderTest) -> None:
        self.load(sale)
        answers = sale.hold_all(*(sale.request("ann", sneaker=1) for _ in range(4)))
        assert [a.outcome for a in answers] == [Outcome.HELD] * 2 + [Outcome.LIMIT_EXCEEDED] * 2

    def test_released_units_count_no_more(self, sale: SaleUnderTest) -> None:
        self.load(sale)
        token = sale.hold("ann", sneaker=2)
        sale.run(commands.release(sale.id, token, sale.products))
        assert sale.customer("sneaker", "ann") is None
        sale.hold("ann", sneaker=2)

    def test_an_abandoned_hold_does_not_stand_in_its_own_customers_way(self, sale: SaleUnderTest) -> None:
        self.load(sale)
        token = sale.hold("ann", sneaker=2)
        sale.pass_ms(60_000)
        sale.hold("ann", sneaker=2)
        assert sale.status(token) == "expired"


class TestReclaim:
    def test_an_abandoned_unit_is_buyable_at_its_deadline_with_nobody_sweeping(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1)
        token = sale.hold("ann", sneaker=1)
        sale.pass_ms(59_000)
        assert sale.hold_all(sale.request("bob", sneaker=1))[0].outcome is Outcome.SOLD_OUT
        sale.pass_ms(1_001)
        sale.hold("bob", sneaker=1)
        assert sale.status(token) == "expired"
        assert [event.kind for event in sale.events()][-2:] == [Kind.EXPIRED, Kind.HELD]

    def test_is_bounded_and_goes_on_in_the_next_call(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=300)
        sale.hold_all(*(sale.request(f"c{n}", sneaker=1) for n in range(300)))
        sale.pass_ms(60_000)
        request = sale.request("ann", sneaker=99)
        [answer] = sale.run(commands.hold(sale.id, [request], reclaim_max=50))
        assert answer.outcome is Outcome.SOLD_OUT
        assert answer.available == 50
        [answer] = sale.run(commands.hold(sale.id, [request], reclaim_max=50))
        assert answer.outcome is Outcome.HELD

    def test_overdue_holds_of_another_product_do_not_stand_before_it(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1, sock=2000)
        for n in range(0, 2000, 250):
            sale.hold_all(*(sale.request(f"c{n}-{m}", sock=1) for m in range(250)))
        sale.hold("ann", sneaker=1)
        sale.pass_ms(60_000)
        sale.hold("bob", sneaker=1)

    def test_of_a_hold_of_two_products_gives_both_back(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1, sock=3)
        token = sale.hold("ann", sneaker=1, sock=2)
        sale.pass_ms(60_000)
        sale.hold("bob", sneaker=1)  # brings only the sneakers' deadlines
        assert sale.counters("sock") == (3, 3, 0, 0)
        stale = sale.client.zscore(keys.deadlines(sale.id, "sock"), token)
        assert stale is not None
        assert sale.run(commands.expire(sale.id, sale.products, 100)) == (0, False)
        assert sale.client.zscore(keys.deadlines(sale.id, "sock"), token) is None

    def test_holds_in_payment_are_not_reclaimed(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1)
        sale.checkout(sale.hold("ann", sneaker=1))
        sale.pass_ms(600_000)
        assert sale.hold_all(sale.request("bob", sneaker=1))[0].outcome is Outcome.SOLD_OUT


def test_a_script_refused_at_maxmemory_changes_nothing_and_giving_back_works(sale: SaleUnderTest) -> None:
    sale.load(sneaker=5)
    token = sale.hold("ann", sneaker=1)
    sale.run(commands.release(sale.id, ids.new_token(), sale.products))  # both scripts are known to the server
    before = sale.everything()
    sale.client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(Exception, match=r"OOM|memory"):
            sale.hold_all(sale.request("bob", sneaker=1))
        assert sale.everything() == before
        assert sale.run(commands.release(sale.id, token, sale.products)).outcome is Outcome.RELEASED
    finally:
        sale.client.config_set("maxmemory", "0")
