"""Whatever a shop and its customers do, and whatever goes wrong, the stand-in's books agree with its objects."""

import random
from typing import Any

import pytest
import stripe

from sandbox.stripe.cards import BY_NAME
from sandbox.stripe.process import StripeStandIn
from tests.sandbox.conftest import NO_REDIRECTS, client_of

OPERATIONS = 150
CARDS = [f"pm_card_{name}" for name in BY_NAME]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_shop(seed: int) -> None:
    with StripeStandIn(seed=seed) as stand_in:
        dice, shop = random.Random(seed), client_of(stand_in)
        stand_in.chaos(
            seed=seed, decline_ratio=0.1, require_3ds_ratio=0.1, fail_after_ratio=0.05, lost_reply_ratio=0.05
        )
        made: list[str] = []
        refused = 0
        for _ in range(OPERATIONS):
            try:
                _operate(stand_in, shop, dice, made)
            except (stripe.StripeError, RuntimeError):
                refused += 1
            if dice.random() < 0.1:
                made = [row["id"] for row in stand_in.ledger()["intents"]]
        stand_in.calm()
        assert refused < OPERATIONS

        charges = list(shop.v1.charges.list({"limit": 100}).auto_paging_iter())
        refunds = list(shop.v1.refunds.list({"limit": 100}).auto_paging_iter())
        reversals = {r.id for r in refunds if r.to_dict()["destination_details"]["card"]["type"] == "reversal"}
        for account in stand_in.ledger()["intents"]:
            own = [charge for charge in charges if charge.payment_intent == account["id"]]
            assert account["authorised"] == sum(charge.amount for charge in own if charge.paid)
            assert account["captured"] == sum(charge.amount_captured for charge in own)
            given = [r for r in refunds if r.payment_intent == account["id"] and r.status != "failed"]
            assert account["voided"] == sum(r.amount for r in given if r.id in reversals)
            assert account["refunded"] == sum(r.amount for r in given if r.id not in reversals)
            assert sum(c.amount_refunded for c in own) == account["refunded"] + account["voided"]
            waiting = account["amount"] if account["status"] == "requires_capture" else 0
            assert account["waiting"] == waiting
            assert (account["captured"] > 0) is (account["status"] == "succeeded")


def _operate(stand_in: StripeStandIn, shop: stripe.StripeClient, dice: random.Random, made: list[str]) -> None:
    intent = dice.choice(made) if made else ""
    match dice.randrange(11) if made else 0:
        case 0 | 1 | 2:
            params: Any = {
                "amount": dice.randrange(100, 5000),
                "currency": "usd",
                "capture_method": dice.choice(["manual", "automatic"]),
                "automatic_payment_methods": NO_REDIRECTS,
            }
            if dice.random() < 0.7:
                params |= {"confirm": True, "payment_method": dice.choice(CARDS)}
            made.append(shop.v1.payment_intents.create(params).id)
        case 3 | 4:
            shop.v1.payment_intents.confirm(intent, {"payment_method": dice.choice(CARDS)})
        case 5:
            part: Any = {"amount_to_capture": dice.randrange(1, 5000)} if dice.random() < 0.5 else {}
            shop.v1.payment_intents.capture(intent, part)
        case 6:
            shop.v1.payment_intents.cancel(intent)
        case 7:
            wanted: Any = {"payment_intent": intent}
            if dice.random() < 0.7:
                wanted["amount"] = dice.randrange(1, 3000)
            shop.v1.refunds.create(wanted)
        case 8:
            stand_in.authenticate(intent, success=dice.random() < 0.8)
        case 9:
            stand_in.finish(intent, success=dice.random() < 0.8)
        case _:
            dice.choice([stand_in.lapse, stand_in.dispute])(intent)
