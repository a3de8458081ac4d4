"""Customers as they are: some pay, some are declined, some leave, some cancel, some want their money back; requests
that fail come again.
"""

import random
from contextlib import suppress
from datetime import UTC, datetime

from engine import commands, ids
from engine.command import run
from payments.attempts import creation
from payments.provider import ProviderError
from payments.records import OrderRecord
from persistence.refusals import Refusal
from tests.payments.shop import Shop

AGAIN = {"payment_provider_unavailable", "unavailable"}


def shopping(shop: Shop, number: int, seed: int) -> None:
    luck = random.Random(seed * 100_003 + number)
    hold_id = shop.hold(f"customer-{number}", sneaker=luck.randint(1, 2), sock=1)
    card = luck.choice([None, None, "pm_card_visa", "pm_card_visa", "pm_card_chargeDeclined"])
    if card == "pm_card_visa" and luck.random() < 0.3:
        _pay_before_ordering(shop, hold_id)
    key = f"customer-{number}"
    order_id, secret = _order(shop, hold_id, card, key)
    if card is None and secret:
        act = luck.choice(["pay", "pay", "pay", "decline", "leave"])
        if act != "leave":
            shop.confirm(
                {"payment": {"client_secret": secret}}, f"pm_card_{'visa' if act == 'pay' else 'chargeDeclined'}"
            )
    elif card == "pm_card_chargeDeclined" and luck.random() < 0.7:
        _again(lambda: shop.pay(order_id, key=key))
    after = luck.choice(["nothing"] * 4 + ["cancel", "refund"])
    if after == "cancel":
        _again(lambda: shop.cancel(order_id))
    elif after == "refund":
        _again(lambda: shop.refund(order_id, key, lines={"sock": 1}, restock=luck.random() < 0.5))


def _order(shop: Shop, hold_id: str, card: str | None, key: str) -> tuple[str, str]:
    for _ in range(40):
        try:
            order = shop.order(hold_id, card, key)
        except Refusal as refused:
            if refused.code == "card_declined":
                return refused.extra["order_id"], ""
            if refused.code not in AGAIN:
                raise
        else:
            return order["id"], order["payment"]["client_secret"]
    raise AssertionError(f"{hold_id} could not be ordered in forty tries")


def _again(act: object) -> None:
    assert callable(act)
    for _ in range(5):
        try:
            act()
        except Refusal as refused:
            if refused.code in AGAIN:
                continue
        return


def _pay_before_ordering(shop: Shop, hold_id: str) -> None:
    """The very intent that the order's first try will ask for, with its key, is paid already: its events come
    before the order.
    """
    token = hold_id[-ids.TOKEN_LENGTH :]
    _, [hold] = run(shop.ctx.redis, commands.peek(shop.sale, [token]))
    assert hold is not None
    order_id = ids.order_id(shop.sale, token)
    nothing = {
        "status": "",
        "ended_because": None,
        "intent_id": None,
        "payment_status": "",
        "captured": 0,
        "refunded": 0,
    }
    order = OrderRecord(
        id=order_id, sale_id=shop.sale, hold_id=hold_id, currency="usd", total=hold.total,
        authorised_at=None, due=None, tries=0, updated_at=datetime.now(UTC), **nothing,  # type: ignore[arg-type]
    )  # fmt: skip
    with suppress(ProviderError):
        shop.ctx.provider.create_intent(creation(shop.ctx.settings, order, "pm_card_visa"), f"{order_id}-1")
