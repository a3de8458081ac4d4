"""No secret and no card leaves the processes: not in a log at its loudest, not in a problem, not in a metric."""

import ast
import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.deployed.stack import Stack, as_role, wait_for
from tests.house.paths import ROOT

pytestmark = pytest.mark.xdist_group("deployed")

CARD = "4000056655665556"
FILE = {
    "id": "quiet",
    "name": "Quiet",
    "products": [{"id": "glove", "name": "Glove", "price": {"amount": 1000, "currency": "usd"}, "stock": 20}],
}


def _said(stack: Stack) -> str:
    """All that the processes wrote, the servers' own logs left out."""
    files = [path for path in stack.folder.glob("*.log") if path.name != "redis.log"]
    return "\n".join(path.read_text(errors="replace") for path in files)


def _event(stack: Stack, body: dict[str, Any]) -> tuple[bytes, str]:
    payload = json.dumps(body)
    signature = stripe.WebhookSignature.generate_signature_header(
        payload, stack.stripe.webhook_secret, int(time.time())
    )
    return payload.encode(), signature


def test_nothing_that_is_secret_is_told(stack: Stack) -> None:
    assert stack.admin("PUT", "/sales/quiet", json=FILE).status_code == 200
    answers: list[str] = []
    client_secrets = []
    with stack.client() as shop:

        def tell(method: str, path: str, **more: Any) -> Any:
            answer = shop.request(method, path, **more)
            if answer.status_code >= 400:
                answers.append(answer.text)
            return answer

        # A sale with its money, a declined card, and what a customer should never send.
        for customer in ("ann", "bob"):
            hold = tell("POST", "/v1/holds", json={"customer_id": customer, "product_id": "glove", "qty": 1}).json()
            order = tell("POST", "/v1/orders", json={"hold_id": hold["id"]}).json()
            client_secrets.append(order["payment"]["client_secret"])
        tell("POST", f"/v1/orders/{order['id']}/pay", json={"payment_method_id": "pm_card_chargeDeclined"})
        tell("POST", f"/v1/orders/{order['id']}/pay", json={"payment_method_id": CARD, "card": CARD})
        tell("POST", "/v1/orders", json={"hold_id": CARD, "payment_method_id": [CARD]})
        tell("POST", "/v1/holds", json={"customer_id": "eve", "product_id": "glove", "qty": 1}, headers={
            "Authorization": f"Bearer wrong-{stack.shop_token[:8]}"})  # fmt: skip
        for token in ("wrong-token-of-mine", stack.shop_token):
            tell("GET", "/v1/admin/orders", headers={"Authorization": f"Bearer {token}"})

        # Webhooks: forged, garbage under a good signature, and one that fails in the worker.
        hook = "/v1/payments/webhook"
        tell("POST", hook, content=b"{}", headers={"Stripe-Signature": f"t={int(time.time())},v1={'0' * 64}"})
        for body in ({"id": "evt_x"}, {"id": "evt_y", "type": "charge.refunded", "data": {"object": {"id": 5}}},
                     {"id": "evt_z", "type": "payment_intent.succeeded", "data": {"object": {
                         "id": client_secrets[0].partition("_secret_")[0], "client_secret": client_secrets[0],
                         "amount": "many", "payment_method_details": {"card": {"number": CARD}}}}}):  # fmt: skip
            payload, signature = _event(stack, body)
            tell("POST", hook, content=payload, headers={"Stripe-Signature": signature})

    # Each server refuses the one who asks: in commands, and in an API and a worker that start so.
    wrong_database = as_role(stack.database_url, "flashsale_worker", "wrong-password-1")
    wrong_redis = stack.redis.url("worker").replace(stack.passwords.of["WORKER"], "wrong-password-2")
    given = {"wrong-password-1", "wrong-password-2", "sk_test_wrong_key_3"}
    for changed in (
        {"FLASHSALE_DATABASE_URL": wrong_database},
        {"FLASHSALE_REDIS_URL": wrong_redis},
    ):
        code, output = stack.run("sale", "show", "quiet", FLASHSALE_LOG_LEVEL="debug", **changed)
        assert code != 0
        answers.append(output)
    code, output = stack.run(
        "reconcile", "quiet", FLASHSALE_LOG_LEVEL="debug", FLASHSALE_STRIPE_SECRET_KEY="sk_test_wrong_key_3"
    )
    assert code != 0, output
    stack.processes["worker"].stop()
    stack.start("worker", FLASHSALE_REDIS_URL=wrong_redis)
    wait_for(lambda: "worker_without_redis" in stack.processes["worker"].output, "a worker that Redis refuses", 120)
    stack.processes["worker"].stop()
    stack.start("worker", FLASHSALE_DATABASE_URL=wrong_database)
    wait_for(lambda: "slice_backs_off" in stack.processes["worker"].output, "a worker that Postgres refuses", 120)
    stack.processes["worker"].stop()
    stack.start("worker")

    everything = "\n".join([_said(stack), *answers, stack.client().get("/metrics").text])
    assert '"event": "request"' in everything, "the logs are not at their loudest"
    told = [
        *stack.passwords.of.values(), stack.admin_token, stack.shop_token, stack.stripe.secret_key,
        stack.stripe.webhook_secret, *client_secrets, *given, CARD, "wrong-token-of-mine", "_secret_",
    ]  # fmt: skip
    for secret in told:
        for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("=")):
            found = everything.find(form)
            assert found < 0, f"{secret[:6]}... is in: {everything[max(found - 300, 0) : found + 100]!r}"


def test_tokens_are_compared_in_constant_time() -> None:
    """No ``==`` meets a secret: tokens go through ``hmac.compare_digest``, signatures through Stripe's own check."""
    for path in [*(ROOT / "api").rglob("*.py"), *(ROOT / "payments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                said = ast.unparse(node).lower()
                assert "token" not in said or "route" in said, f"{path.name}: {said}"
                assert "signature" not in said.replace("'signature'", ""), f"{path.name}: {said}"
    auth = (ROOT / "api/auth.py").read_text()
    assert "hmac.compare_digest(given, self._token)" in auth
    inbox = (ROOT / "payments/inbox.py").read_text()
    assert "stripe.WebhookSignature.verify_header(" in inbox
    library = Path(stripe.__file__).parent
    assert "secure_compare(expected_sig" in (library / "_webhook.py").read_text()
    assert "hmac.compare_digest(val1, val2)" in (library / "_util.py").read_text()
