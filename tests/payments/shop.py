"""A shop under test: a sale on real servers, the payment stand-in beside them, and the workers' loops driven by
hand.
"""

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from sqlalchemy import text

from engine import commands, ids, keys
from engine.command import run
from engine.commands import HoldRequest, LoadItem
from engine.outcomes import Outcome
from payments import dues, inbox, overdue, refunds
from payments.cancel import cancel_order
from payments.checkout import OrderRequest, place_order
from payments.context import Context
from payments.pay import PayRequest, pay_order
from payments.refunding import RefundLine, RefundRequest, create_refund
from persistence import feed
from persistence.drain import drain_to
from persistence.refusals import Refusal
from sandbox.stripe.process import StripeStandIn

PRICES = {"sneaker": 12_900, "sock": 900}
PAYMENT_MS = 60_000


class Killed(BaseException):
    """The process ended here, as by SIGKILL: nothing catches it."""


class Mailbox:
    """Where the stand-in sends its webhooks: one server for the whole session, filled into the inbox of the test
    that runs.
    """

    def __init__(self) -> None:
        self.take: Callable[[bytes, str | None], int] | None = None
        mailbox = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = mailbox.take(body, self.headers.get("Stripe-Signature")) if mailbox.take else 200
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclasses.dataclass
class Shop:
    """``sale`` is loaded with ``stock`` of each product. ``pass_ms`` moves the sale's time."""

    ctx: Context
    stripe: StripeStandIn
    mailbox: Mailbox
    pool: Executor
    sale: str
    passed_ms: int = 0

    def open(self, **stock: int) -> Self:
        with self.ctx.db.begin() as conn:
            conn.execute(
                text("INSERT INTO sales (id, name, hold_ttl_ms, payment_ttl_ms) VALUES (:s, '', 1, 1)"),
                {"s": self.sale},
            )
            conn.execute(text("INSERT INTO cursors (sale_id) VALUES (:s)"), {"s": self.sale})
        items = [LoadItem(name, name.title(), PRICES[name], 0, "usd", units, 0) for name, units in stock.items()]
        window = {"starts_ms": 0, "ends_ms": 0, "hold_ttl_ms": 60_000, "payment_ttl_ms": PAYMENT_MS}
        loaded = run(
            self.ctx.redis,
            commands.load(self.sale, create=True, name="Sale", items=items, **window),
        )
        assert loaded.outcome is Outcome.LOADED
        self.drain()
        self.mailbox.take = self.receive
        self.stripe.aim(self.mailbox.url)
        return self

    def close(self) -> None:
        self.stripe.calm()
        self.stripe.aim(None)
        self.mailbox.take = None

    # -- customers
    def hold(self, customer: str = "ann", **lines: int) -> str:
        token = ids.new_token()
        request = HoldRequest(token, customer, tuple((lines or {"sneaker": 1}).items()))
        [answer] = run(self.ctx.redis, commands.hold(self.sale, [request]))
        assert answer.outcome is Outcome.HELD, answer
        return ids.hold_id(self.sale, token)

    def order(self, hold_id: str = "", card: str | None = None, key: str | None = None, **more: Any) -> dict[str, Any]:
        request = OrderRequest(hold_id=hold_id or self.hold(), payment_method_id=card, **more)
        return self.read(place_order(self.ctx, request, key).body)

    def confirm(self, order: dict[str, Any], card: str = "pm_card_visa") -> dict[str, Any]:
        """The customer pays in the browser."""
        for tries in range(10):
            status, shown = self.stripe.pay(order["payment"]["client_secret"], card)
            if status in (200, 402) or (status == 400 and tries):  # an answer that was lost
                return dict(shown)
            assert status >= 409, shown
        raise AssertionError("the provider fails too often")

    def confirm_refused(self, order: dict[str, Any]) -> bool:
        """Nobody can pay it any more."""
        status, _ = self.stripe.pay(order["payment"]["client_secret"], "pm_card_visa")
        return status == 400

    def pay(self, order_id: str, card: str = "pm_card_visa", key: str | None = None) -> dict[str, Any]:
        return self.read(pay_order(self.ctx, order_id, PayRequest(payment_method_id=card), key).body)

    def cancel(self, order_id: str) -> dict[str, Any]:
        return self.read(cancel_order(self.ctx, order_id).body)

    def refund(
        self, order_id: str, key: str | None = None, lines: dict[str, int] | None = None, **more: Any
    ) -> dict[str, Any]:
        wanted = [RefundLine(product, qty) for product, qty in lines.items()] if lines else None
        return self.read(create_refund(self.ctx, order_id, RefundRequest(lines=wanted, **more), key).body)

    def bought(self, card: str = "pm_card_visa", **lines: int) -> dict[str, Any]:
        """An order that is paid and captured."""
        order = self.order(self.hold("ann", **lines), card)
        self.work()
        return self.shown(order["id"])

    @staticmethod
    def read(body: bytes) -> dict[str, Any]:
        return dict(json.loads(body))

    # -- workers
    def receive(self, body: bytes, signature: str | None) -> int:
        try:
            arrived = inbox.read(body, signature, self.ctx.settings.stripe_webhook_secret)
        except Refusal as refusal:
            return refusal.status
        [stored] = inbox.store(self.ctx, [arrived])
        return 200 if isinstance(stored, bool) else 500

    def drain(self) -> None:
        drain_to(self.ctx.db, self.ctx.redis, self.sale, run(self.ctx.redis, commands.show(self.sale, [])).position)

    def round(self) -> int:
        """Each loop once, with whatever is due at any time due now."""
        for table in ("payments", "refunds", "webhook_events"):
            self.execute(f"UPDATE {table} SET due_at = now() - interval '1 second' WHERE due_at IS NOT NULL")
        done = inbox.handle_once(self.ctx, 100, self.pool) + dues.run_once(self.ctx, 100, self.pool)
        done += refunds.run_once(self.ctx, 100, self.pool) + overdue.run_once(self.ctx, self.sale, self.pool)
        self.drain()
        return done

    def work(self, rounds: int = 12) -> None:
        """Until nothing is left to do, or ``rounds``."""
        for _ in range(rounds):
            self.stripe.wait_delivered()
            if self.round() == 0:
                return

    def pass_ms(self, ms: int) -> None:
        self.passed_ms += ms
        self.ctx.redis.hset(keys.sale(self.sale), "shift_ms", str(self.passed_ms))

    @contextmanager
    def killed_at(self, step: str) -> Iterator[None]:
        """The process dies after ``step``; what comes after the block is the next one. Fails where the step was
        never come to.
        """
        died = threading.Event()

        def die(at: str) -> None:
            if at == step and not died.is_set():
                died.set()
                raise Killed(at)

        alive, self.ctx = self.ctx, dataclasses.replace(self.ctx, checkpoint=die)
        try:
            yield
        except Killed:
            pass
        finally:
            self.ctx = alive
        assert died.is_set(), f"nothing came to {step!r}"

    @contextmanager
    def meanwhile(self, step: str, act: Callable[[], object]) -> Iterator[None]:
        """Somebody else does something right after ``step``, once."""
        left = [act]

        def look(at: str) -> None:
            if at == step and left:
                left.pop()()

        before, self.ctx = self.ctx, dataclasses.replace(self.ctx, checkpoint=look)
        try:
            yield
        finally:
            self.ctx = before
        assert not left, f"nothing came to {step!r}"

    # -- looking in
    def execute(self, query: str, **values: Any) -> None:
        with self.ctx.db.begin() as conn:
            conn.execute(text(query), values)

    def rows(self, query: str, **values: Any) -> list[Any]:
        with self.ctx.db.connect() as conn:
            return [tuple(row) for row in conn.execute(text(query), values)]

    def shown(self, order_id: str) -> dict[str, Any]:
        [(status, because, payment, due, captured, refunded, intent)] = self.rows(
            "SELECT o.status, o.ended_because, p.status, p.due, p.captured, p.refunded, p.intent_id"
            " FROM orders o JOIN payments p ON p.order_id = o.id WHERE o.id = :id",
            id=order_id,
        )
        figures = {"due": due, "captured": captured, "refunded": refunded, "intent": intent}
        return {"id": order_id, "status": status, "because": because, "payment": payment, **figures}

    def books(self, intent_id: str) -> dict[str, Any]:
        """What the stand-in says of an intent."""
        [found] = [each for each in self.stripe.ledger()["intents"] if each["id"] == intent_id]
        return dict(found)

    def stock(self, product: str = "sneaker") -> tuple[int, int, int]:
        """available, held, sold"""
        state = run(self.ctx.redis, commands.show(self.sale)).products[product]
        return state.available, state.held, state.sold

    def hold_status(self, order_id: str) -> str:
        _, [record] = run(self.ctx.redis, commands.peek(self.sale, [order_id[-ids.TOKEN_LENGTH :]]))
        assert record is not None
        return record.status

    def events(self) -> list[Any]:
        return self.rows(
            "SELECT type, status, reason FROM webhook_events WHERE type LIKE 'payment_intent.%'"
            " AND type <> 'payment_intent.created' ORDER BY received_at"
        )

    def check(self) -> None:
        """No money without a thing, no thing without money, to the cent; nothing left to do; a feed without gaps."""
        self.drain()
        paid = self.rows(
            "SELECT coalesce(sum(p.captured - p.refunded), 0) FROM orders o JOIN payments p ON p.order_id = o.id"
            " WHERE o.status IN ('paid', 'refunded')"
        )
        mine = [each for each in self.stripe.ledger()["intents"] if each["metadata"].get("sale_id") == self.sale]
        assert sum(each["net"] for each in mine) == paid[0][0]
        assert [each for each in mine if each["waiting"]] == []
        assert self.rows("SELECT order_id, due, last_error FROM payments WHERE due IS NOT NULL") == []
        assert self.rows("SELECT id, last_error FROM refunds WHERE due") == []
        for product, total, held, sold in self.rows("SELECT id, total, held, sold FROM products"):
            assert self.stock(product) == (total - held - sold, held, sold)
        sold = dict(
            self.rows(
                "SELECT l.product_id, sum(l.qty - l.returned) FROM order_lines l JOIN orders o ON o.id = l.order_id"
                " WHERE o.status IN ('paid', 'refunded') GROUP BY 1"
            )
        )
        assert sold == {p: n for p, n in self.rows("SELECT id, sold FROM products") if n or p in sold}
        with self.ctx.db.connect() as conn:
            changes = feed.read(conn, 0, 100_000)
        assert [int(change.cursor) for change in changes] == list(range(1, len(changes) + 1))
        last = {change.order.id: change.order for change in changes}
        for order_id, status, payment, refunded in self.rows(
            "SELECT o.id, o.status, p.status, p.refunded FROM orders o JOIN payments p ON p.order_id = o.id"
        ):
            told = last[order_id]
            assert (told.status, told.payment.status, told.amount_refunded.amount) == (status, payment, refunded)
