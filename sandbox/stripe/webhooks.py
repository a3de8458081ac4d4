"""Signed webhooks, sent in the background: many at once on kept connections, again and later where one fails."""

import asyncio
import random
import time
from typing import Any

from stripe import WebhookSignature

from sandbox.stripe.chaos import Dice
from sandbox.stripe.store import Store
from sandbox.stripe.wire import Target, Wire

CONNECTIONS_MAX = 16
TIMEOUT_SECONDS = 10.0
# About four minutes in all; Stripe itself tries for three days.
ATTEMPTS_MAX = 30
BACKOFF_FIRST_SECONDS, BACKOFF_MAX_SECONDS = 0.1, 10.0
# A shuffle window that does not fill is sent after this.
SHUFFLE_WAIT_SECONDS = 0.25


class Outbox:
    """Takes events by their place in the store; `state` there follows what became of them."""

    def __init__(self, store: Store, dice: Dice) -> None:
        self._store = store
        self._dice = dice
        self.target: Target | None = None
        self.sent = self.failures = self.duplicates = 0
        self._ready: asyncio.Queue[int] = asyncio.Queue()
        self._window: list[int] = []
        self._window_timer: asyncio.TimerHandle | None = None
        # Copies of an event that are still on their way, and the tries so far.
        self._open: dict[int, int] = {}
        self._tries: dict[int, int] = {}
        self._senders: list[asyncio.Task[None]] = []
        self._commit_timer: asyncio.TimerHandle | None = None

    def aim(self, url: str | None, secret: str | None, events: list[str] | None = None) -> None:
        """Sends to `url`, signed with `secret`, from now on; nowhere where `url` is None."""
        self.target = Target(url, secret or "", events) if url else None

    def wants(self, kind: str) -> bool:
        return self.target is not None and self.target.wants(kind)

    def start(self) -> None:
        self._senders = [asyncio.create_task(self._send_on()) for _ in range(CONNECTIONS_MAX)]
        for seq in self._store.events_in("pending"):
            self._queue(seq)

    async def stop(self) -> None:
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        if self._commit_timer is not None:
            self._commit_timer.cancel()

    def offer(self, seq: int) -> None:
        """A new event, through the chaos that is in force."""
        settings = self._dice.settings
        if self._dice.hits(settings.webhook_drop_ratio):
            self._mark(seq, "dropped")
            return
        copies = 1
        if self._dice.hits(settings.webhook_duplicate_ratio):
            copies, self.duplicates = 2, self.duplicates + 1
        for _ in range(copies):
            if settings.webhook_shuffle_window > 1:
                self._open[seq] = self._open.get(seq, 0) + 1
                self._shuffle(seq, settings.webhook_shuffle_window)
            else:
                self._queue(seq)

    def resend(self, seqs: list[int]) -> None:
        """Sends these again, without chaos."""
        for seq in seqs:
            self._store.set_event(seq, "pending", 0)
            self._queue(seq)
        self._commit_soon()

    def state(self) -> dict[str, Any]:
        return {
            "target": self.target.url if self.target else None,
            "events": self._store.count_events(),
            "underway": sum(self._open.values()),
            "sent": self.sent,
            "failed_attempts": self.failures,
            "duplicated": self.duplicates,
        }

    def _queue(self, seq: int) -> None:
        self._open[seq] = self._open.get(seq, 0) + 1
        self._after(self._dice.between(self._dice.settings.webhook_delay_ms), seq)

    def _after(self, seconds: float, seq: int) -> None:
        if seconds > 0:
            asyncio.get_running_loop().call_later(seconds, self._ready.put_nowait, seq)
        else:
            self._ready.put_nowait(seq)

    def _shuffle(self, seq: int, window: int) -> None:
        self._window.append(seq)
        if len(self._window) >= window:
            self._open_window()
        elif self._window_timer is None:
            loop = asyncio.get_running_loop()
            self._window_timer = loop.call_later(SHUFFLE_WAIT_SECONDS, self._open_window)

    def _open_window(self) -> None:
        if self._window_timer is not None:
            self._window_timer.cancel()
            self._window_timer = None
        window, self._window = self._window, []
        self._dice.shuffle(window)
        for seq in window:
            self._after(self._dice.between(self._dice.settings.webhook_delay_ms), seq)

    async def _send_on(self) -> None:
        wire: Wire | None = None
        aimed: Target | None = None
        try:
            while True:
                seq = await self._ready.get()
                event, target = self._store.event(seq), self.target
                if event is None or target is None:
                    self._close(seq, "none")
                    continue
                if wire is None or aimed is not target or not wire.usable:
                    if wire is not None:
                        wire.close()
                    wire, aimed = None, target
                try:
                    wire = wire or await Wire.open(target, TIMEOUT_SECONDS)
                    status = await wire.post(_signed(target, event.body), event.body, TIMEOUT_SECONDS)
                except (OSError, TimeoutError):
                    wire, status = None, 0
                self._settle(seq, status)
        finally:
            if wire is not None:
                wire.close()

    def _settle(self, seq: int, status: int) -> None:
        self._tries[seq] = tries = self._tries.get(seq, 0) + 1
        if 200 <= status < 300:
            self.sent += 1
            self._close(seq, "delivered")
            return
        self.failures += 1
        if tries >= ATTEMPTS_MAX:
            self._close(seq, "failed")
            return
        backoff = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2 ** min(tries - 1, 10))
        self._after(backoff * random.uniform(0.5, 1.0), seq)  # noqa: S311 - spreads retries, hides nothing

    def _close(self, seq: int, state: str) -> None:
        """One copy is done; the first that arrived decides."""
        left = self._open.get(seq, 1) - 1
        if left > 0:
            self._open[seq] = left
        else:
            self._open.pop(seq, None)
        if state == "failed" and self._delivered(seq):
            return
        self._mark(seq, state)

    def _delivered(self, seq: int) -> bool:
        event = self._store.event(seq)
        return event is not None and event.state == "delivered"

    def _mark(self, seq: int, state: str) -> None:
        attempts = self._tries.get(seq, 0)
        if seq not in self._open:
            self._tries.pop(seq, None)
        self._store.set_event(seq, state, attempts)
        self._commit_soon()

    def _commit_soon(self) -> None:
        """Deliveries are written in batches: one that a crash forgets is only sent twice."""
        if self._commit_timer is None:
            self._commit_timer = asyncio.get_running_loop().call_later(0.05, self._commit)

    def _commit(self) -> None:
        self._commit_timer = None
        self._store.commit()


def _signed(target: Target, body: bytes) -> str:
    """The request's head; each attempt is signed at its own time, as Stripe does."""
    signature = WebhookSignature.generate_signature_header(body.decode(), target.secret, int(time.time()))
    return f"{target.head}Stripe-Signature: {signature}\r\n"
