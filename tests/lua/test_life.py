"""The life of a hold behind its first step: check-out, settle, release, cancel, late money, restock."""

import pytest

from engine import commands, ids, keys
from engine.commands import LoadItem
from engine.events import Kind
from engine.outcomes import Outcome
from tests.sales import SaleUnderTest


def settle(sale: SaleUnderTest, token: str) -> Outcome:
    [change] = sale.run(commands.settle(sale.id, [token], sale.products))
    return change.outcome


def release(sale: SaleUnderTest, token: str) -> Outcome:
    return sale.run(commands.release(sale.id, token, sale.products)).outcome


def cancel(sale: SaleUnderTest, token: str, ending: str = "expired") -> Outcome:
    return sale.run(commands.cancel(sale.id, token, sale.products, ending)).outcome


def retake(sale: SaleUnderTest, token: str) -> Outcome:
    return sale.run(commands.retake(sale.id, token)).outcome


class TestCheckout:
    def test_grants_one_payment_period_once(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1)
        token = sale.hold("ann", sneaker=1)
        change = sale.checkout(token)
        assert change.outcome is Outcome.PAYING
        assert change.hold
        assert change.hold.pay_by_ms == change.now_ms + 120_000
        sale.pass_ms(1_000)
        again = sale.checkout(token)
        assert again.outcome is Outcome.REPLAYED
        assert again.hold == change.hold
        assert sale.client.zscore(keys.payments(sale.id), token) == change.hold.pay_by_ms
        assert sale.client.zcard(keys.deadlines(sale.id, "sneaker")) == 0

    def test_one_request_wins(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1)
        token = sale.hold("ann", sneaker=1)
        assert [sale.checkout(token, who).outcome for who in ("a", "b", "a")] == [
            Outcome.PAYING,
            Outcome.USED,
            Outcome.REPLAYED,
        ]

    def test_refuses_what_ended(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=3)
        overdue, released = sale.hold("ann", sneaker=1), sale.hold("bob", sneaker=1)
        release(sale, released)
        sale.pass_ms(60_000)
        assert sale.checkout(overdue).outcome is Outcome.EXPIRED
        assert sale.checkout(released).outcome is Outcome.RELEASED
        assert sale.checkout(ids.new_token()).outcome is Outcome.NO_HOLD

    def test_a_sold_hold_is_not_checked_out_even_where_redis_lost_its_check_out(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1)
        token = sale.hold("ann", sneaker=1)
        assert settle(sale, token) is Outcome.SETTLED
        assert sale.checkout(token).outcome is Outcome.USED
        assert sale.counters("sneaker") == (1, 0, 0, 1)

    def test_many_at_once_each_by_itself_and_with_one_event(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=9, sock=9)
        sold, ended = sale.pay("ann", sneaker=1), sale.hold("bob", sneaker=1)
        release(sale, ended)
        first, second = sale.hold("cid", sneaker=1, sock=2), sale.hold("dan", sock=1)
        nobody = ids.new_token()
        before = sale.show().position
        tokens = [first, sold, nobody, ended, second, first, first]
        checkouts = ["a", "b", "c", "d", "e", "a", "f"]
        changes = sale.run(commands.checkout(sale.id, tokens, sale.products, checkouts))
        assert [change.outcome for change in changes] == [
            Outcome.PAYING, Outcome.USED, Outcome.NO_HOLD, Outcome.RELEASED, Outcome.PAYING, Outcome.REPLAYED,
            Outcome.USED,
        ]  # fmt: skip
        assert [change.hold and change.hold.checkout for change in changes] == [
            "a", "first", None, None, "e", "a", "a",
        ]  # fmt: skip
        [event] = [each for each in sale.events() if each.position > before]
        assert (event.kind, list(event.holds)) == (Kind.PAYING, [first, second])
        assert {change.position for change in changes} == {event.position}
        assert sale.client.zcard(keys.payments(sale.id)) == 2
        assert sale.client.zcard(keys.deadlines(sale.id, "sock")) == 0

    @pytest.mark.parametrize("state", ["paused", "ended"])
    def test_a_hold_won_before_may_be_paid_after(self, sale: SaleUnderTest, state: str) -> None:
        sale.load(sneaker=1)
        token = sale.hold("ann", sneaker=1)
        sale.run(commands.control(sale.id, state))
        assert sale.checkout(token).outcome is Outcome.PAYING
        assert settle(sale, token) is Outcome.SETTLED


class TestSettle:
    def test_moves_held_to_sold_once(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=3)
        token = sale.pay("ann", sneaker=2)
        assert sale.counters("sneaker") == (3, 1, 0, 2)
        assert settle(sale, token) is Outcome.REPLAYED
        assert sale.customer("sneaker", "ann") == "2"
        assert sale.client.zcard(keys.payments(sale.id)) == 0

    def test_past_its_deadline_as_long_as_nobody_ended_it(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1)
        token = sale.hold("ann", sneaker=1)
        sale.checkout(token)
        sale.pass_ms(1_000_000)
        assert settle(sale, token) is Outcome.SETTLED

    def test_refuses_what_ended(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=2)
        expired, released = sale.hold("ann", sneaker=1), sale.hold("bob", sneaker=1)
        release(sale, released)
        sale.pass_ms(60_000)
        sale.run(commands.expire(sale.id, sale.products, 10))
        assert settle(sale, expired) is Outcome.EXPIRED
        assert settle(sale, released) is Outcome.RELEASED

    def test_many_at_once_each_by_itself_and_with_one_event(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=9, sock=9)
        sold, ended = sale.pay("ann", sneaker=1), sale.hold("bob", sneaker=1)
        release(sale, ended)
        first, second = sale.hold("cid", sneaker=1, sock=2), sale.hold("dan", sock=1)
        sale.checkout(first)
        nobody = ids.new_token()
        before = sale.show().position
        tokens = [first, sold, nobody, ended, second, first]
        changes = sale.run(commands.settle(sale.id, tokens, sale.products))
        assert [change.outcome for change in changes] == [
            Outcome.SETTLED, Outcome.REPLAYED, Outcome.NO_HOLD, Outcome.RELEASED, Outcome.SETTLED, Outcome.REPLAYED,
        ]  # fmt: skip
        assert [change.hold and change.hold.customer for change in changes] == ["cid", "ann", None, "bob", "dan", "cid"]
        [event] = [each for each in sale.events() if each.position > before]
        assert (event.kind, list(event.holds)) == (Kind.SETTLED, [first, second])
        assert {change.position for change in changes} == {event.position}
        assert sale.counters("sneaker") == (9, 7, 0, 2)
        assert sale.counters("sock") == (9, 6, 0, 3)

    def test_as_many_as_may_be(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=commands.SET_MAX)
        requests = [sale.request(f"customer-{number}", sneaker=1) for number in range(commands.SET_MAX)]
        sale.hold_all(*requests)
        changes = sale.run(commands.settle(sale.id, [each.token for each in requests], sale.products))
        assert {change.outcome for change in changes} == {Outcome.SETTLED}
        with pytest.raises(ValueError, match="at once at most"):
            commands.settle(sale.id, ["x"] * (commands.SET_MAX + 1), [])


class TestRelease:
    def test_gives_back_and_says_so_once(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1)
        token = sale.hold("ann", sneaker=1)
        assert release(sale, token) is Outcome.RELEASED
        assert release(sale, token) is Outcome.UNCHANGED
        assert sale.counters("sneaker") == (1, 1, 0, 0)

    def test_past_the_deadline_it_ends_as_expired(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1)
        token = sale.hold("ann", sneaker=1)
        sale.pass_ms(60_000)
        assert release(sale, token) is Outcome.EXPIRED
        assert sale.status(token) == "expired"

    def test_not_from_payment_nor_sold(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=2)
        paying = sale.hold("ann", sneaker=1)
        sale.checkout(paying)
        assert release(sale, paying) is Outcome.IN_PAYMENT
        assert release(sale, sale.pay("bob", sneaker=1)) is Outcome.USED


class TestCancel:
    def test_from_payment(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1)
        token = sale.hold("ann", sneaker=1)
        sale.checkout(token)
        assert cancel(sale, token) is Outcome.EXPIRED
        assert cancel(sale, token) is Outcome.UNCHANGED
        assert sale.counters("sneaker") == (1, 1, 0, 0)
        assert sale.client.zcard(keys.payments(sale.id)) == 0

    def test_of_a_sold_hold_returns_its_units(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=2)
        token = sale.pay("ann", sneaker=2)
        assert cancel(sale, token, "released") is Outcome.RETURNED
        assert sale.events()[-1].kind is Kind.RETURNED
        assert sale.counters("sneaker") == (2, 2, 0, 0)
        assert sale.customer("sneaker", "ann") is None


class TestLateMoney:
    def expired(self, sale: SaleUnderTest, limit: int = 0, stock: int = 1) -> str:
        sale.load_items([LoadItem("sneaker", "Sneaker", 1000, 0, "usd", stock, limit)])
        token = sale.hold("ann", sneaker=1)
        sale.checkout(token)
        cancel(sale, token)
        return token

    def test_takes_its_units_again(self, sale: SaleUnderTest) -> None:
        token = self.expired(sale)
        assert retake(sale, token) is Outcome.RETAKEN
        assert retake(sale, token) is Outcome.REPLAYED
        assert sale.counters("sneaker") == (1, 0, 0, 1)
        assert sale.customer("sneaker", "ann") == "1"

    def test_not_when_another_has_them(self, sale: SaleUnderTest) -> None:
        token = self.expired(sale)
        sale.hold("bob", sneaker=1)
        assert retake(sale, token) is Outcome.SOLD_OUT

    def test_not_past_the_limit(self, sale: SaleUnderTest) -> None:
        token = self.expired(sale, limit=1, stock=2)
        sale.hold("ann", sneaker=1)
        assert retake(sale, token) is Outcome.LIMIT_EXCEEDED

    @pytest.mark.parametrize(("state", "outcome"), [("paused", Outcome.PAUSED), ("ended", Outcome.ENDED)])
    def test_not_when_the_sale_is_off(self, sale: SaleUnderTest, state: str, outcome: Outcome) -> None:
        token = self.expired(sale)
        sale.run(commands.control(sale.id, state))
        assert retake(sale, token) is outcome

    def test_not_for_what_its_customer_gave_back(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=1)
        token = sale.hold("ann", sneaker=1)
        release(sale, token)
        assert retake(sale, token) is Outcome.NOT_EXPIRED


class TestRestock:
    def test_brings_some_units_back_once_for_each_refund(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        token = sale.pay("ann", sneaker=3)
        first = sale.run(commands.restock(sale.id, token, "refund-1", [("sneaker", 1)]))
        again = sale.run(commands.restock(sale.id, token, "refund-1", [("sneaker", 1)]))
        assert (first.outcome, again.outcome) == (Outcome.RESTOCKED, Outcome.REPLAYED)
        assert first.position == again.position
        assert sale.counters("sneaker") == (5, 3, 0, 2)
        assert sale.customer("sneaker", "ann") == "2"
        assert sale.status(token) == "sold"

    def test_never_more_than_was_sold(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        token = sale.pay("ann", sneaker=2)
        sale.run(commands.restock(sale.id, token, "refund-1", [("sneaker", 1)]))
        before = sale.everything()
        for lines in ([("sneaker", 2)], [("sock", 1)]):
            change = sale.run(commands.restock(sale.id, token, "refund-2", lines))
            assert change.outcome is Outcome.TOO_MANY
        assert sale.everything() == before

    def test_what_is_left_returns_with_the_order(self, sale: SaleUnderTest) -> None:
        sale.load(sneaker=5)
        token = sale.pay("ann", sneaker=3)
        sale.run(commands.restock(sale.id, token, "refund-1", [("sneaker", 1)]))
        assert cancel(sale, token) is Outcome.RETURNED
        assert sale.counters("sneaker") == (5, 5, 0, 0)
        assert sale.customer("sneaker", "ann") is None


def test_only_a_withdrawn_sale_is_opened_again_once_it_ended(sale: SaleUnderTest) -> None:
    sale.load(sneaker=5)
    sale.run(commands.control(sale.id, "ended"))
    assert sale.run(commands.control(sale.id, "open")).outcome is Outcome.ENDED
    assert sale.run(commands.control(sale.id, "paused")).outcome is Outcome.ENDED
    assert sale.run(commands.control(sale.id, "open", reopen=True)).outcome is Outcome.CHANGED
    assert sale.run(commands.control(sale.id, "open", reopen=True)).outcome is Outcome.UNCHANGED
    sale.hold("ann", sneaker=1)
