"""The stand-in as a child process, for tests, the demo and `flashsale up`: start it, steer it, read its books."""

import contextlib
import http.client
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from sandbox.failure import ServerError, last_line

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 5.0
Json = dict[str, Any]


class StripeStandIn:
    """One stand-in. `port=0` takes a free port, and keeps it for every restart of this object.

    With a `data_dir` its objects, its ledger, its undelivered webhooks and its keys survive a restart; without one
    everything is in memory. Keys that are not given are made up. `webhook_events` are what the endpoint is told of, as
    its `enabled_events` at Stripe: everything where none are named. It ends when this process does.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int = 0,
        secret_key: str | None = None,
        webhook_url: str | None = None,
        webhook_secret: str | None = None,
        webhook_events: Iterable[str] = (),
        seed: int | None = None,
    ) -> None:
        self.home = Path(data_dir).absolute() if data_dir is not None else None
        self.port = port
        kept = _kept_keys(self.home)
        self.secret_key = secret_key or kept["secret_key"]
        self.publishable_key = self.secret_key.replace("sk_", "pk_", 1)
        self.webhook_secret = webhook_secret or kept["webhook_secret"]
        self.webhook_url = webhook_url
        self.webhook_events = list(webhook_events)
        self._seed = seed
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """What `FLASHSALE_STRIPE_API_BASE` wants to be."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    # -- its life
    def start(self) -> Self:
        """Returns once it serves. Raises `ServerError` where it does not."""
        argv = [sys.executable, "-m", "sandbox.stripe", "--port", str(self.port), "--parent", str(os.getpid())]
        options = {
            "--data-dir": self.home,
            "--secret-key": self.secret_key,
            "--webhook-url": self.webhook_url,
            "--webhook-secret": self.webhook_secret,
            "--seed": self._seed,
        }
        for name, value in options.items():
            if value is not None:
                argv += [name, str(value)]
        for event in self.webhook_events:
            argv += ["--webhook-event", event]
        with contextlib.ExitStack() as stack:
            output = stack.enter_context((self.home / "server.log").open("ab")) if self.home else None
            root = str(Path(__file__).parents[2])
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])},
                cwd="/",
                start_new_session=True,
            )
        self.port = urlsplit(self._ready()).port or 0
        return self

    def _ready(self) -> str:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        said, until = b"", time.monotonic() + START_SECONDS_MAX
        while not said.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                break
            more = os.read(process.stdout.fileno(), 4096)
            if not more:
                break
            said += more
        word, _, url = said.decode().strip().partition(" ")
        if word != "ready":
            self.kill()
            why = last_line(self.home / "server.log") if self.home else "see its message above"
            raise ServerError(f"the payment stand-in did not start: {why}")
        return url

    def stop(self) -> None:
        """SIGTERM: answers what it has begun, then ends."""
        if self.running and self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS_MAX)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, as a power cut."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def restart(self) -> Self:
        """SIGKILL and a start on the same port, with the same data."""
        self.kill()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- its controls
    def control(self, method: str, path: str, body: Json | None = None) -> Any:
        """`control("POST", "chaos", {"down": "closed"})`: the answer's JSON. Raises `RuntimeError` where it refuses."""
        raw = json.dumps(body).encode() if body is not None else b""
        status, answer = self._ask(method, f"/_control/{path}", raw, {"Content-Type": "application/json"})
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def chaos(self, **settings: Any) -> Json:
        """Lays these over the settings in force: see `sandbox.stripe.chaos.Chaos`. Returns all."""
        shown: Json = self.control("POST", "chaos", settings)
        return shown

    def calm(self) -> None:
        """No chaos from now on."""
        self.control("DELETE", "chaos")

    def aim(self, url: str | None, secret: str | None = None, events: list[str] | None = None) -> None:
        """Sends webhooks to `url` from now on, signed with `secret` (this object's own where none is given); those of
        `events`, or all.
        """
        self.webhook_secret = secret or self.webhook_secret
        self.webhook_url = url
        self.webhook_events = events or []
        self.control("POST", "webhook_target", {"url": url, "secret": self.webhook_secret, "events": events})

    def ledger(self, *, intents: bool = True) -> Json:
        """`{"totals": {"usd": {authorised, captured, voided, refunded, disputed, waiting, net, intents}},
        "intents_by_status": {...}, "intents": [{id, status, amount, metadata, authorised, ...}]}`"""
        shown: Json = self.control("GET", "ledger" if intents else "ledger?intents=false")
        return shown

    def webhooks(self) -> Json:
        """`{"target", "events": {state: n}, "underway", "sent", "failed_attempts", "duplicated"}`"""
        shown: Json = self.control("GET", "webhooks")
        return shown

    def resend(self, *ids: str, states: list[str] | None = None) -> int:
        """Sends these events again, or those in `states` (dropped and failed where nothing is named)."""
        body: Json = {"ids": list(ids)} if ids else {"states": states}
        count: int = self.control("POST", "webhooks/resend", body)["resent"]
        return count

    def wait_delivered(self, seconds: float = 30.0) -> Json:
        """Until no webhook is on its way. Raises `TimeoutError`."""
        until = time.monotonic() + seconds
        while (state := self.webhooks())["underway"]:
            if time.monotonic() > until:
                raise TimeoutError(f"webhooks are still on their way: {state}")
            time.sleep(0.02)
        return state

    def authenticate(self, intent: str, *, success: bool = True) -> Json:
        """The customer answers the 3-D Secure challenge. Returns the intent."""
        return self._act("intents", intent, "authenticate", {"success": success})

    def finish(self, intent: str, *, success: bool = True) -> Json:
        """The bank's word on an intent that is `processing`. Returns the intent."""
        return self._act("intents", intent, "finish", {"success": success})

    def lapse(self, intent: str) -> Json:
        """The authorisation runs out, as after seven days. Returns the intent, `canceled`."""
        return self._act("intents", intent, "lapse", {})

    def dispute(self, intent: str, reason: str = "fraudulent") -> Json:
        """The customer's bank takes the money back. Returns the dispute."""
        return self._act("intents", intent, "dispute", {"reason": reason})

    def fail_refund(self, refund: str) -> Json:
        """The bank could not pay it out; the money is the shop's again. Returns the refund."""
        return self._act("refunds", refund, "fail", {})

    def pay(self, client_secret: str, payment_method: str = "pm_card_visa") -> tuple[int, Json]:
        """Confirms as stripe.js does in a browser: publishable key and client secret. The status and the JSON."""
        intent = client_secret.partition("_secret_")[0]
        fields = {"client_secret": client_secret, "payment_method": payment_method}
        headers = {
            "Authorization": f"Bearer {self.publishable_key}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return self._ask("POST", f"/v1/payment_intents/{intent}/confirm", urlencode(fields).encode(), headers)

    def _act(self, kind: str, identifier: str, act: str, body: Json) -> Json:
        shown: Json = self.control("POST", f"{kind}/{identifier}/{act}", body)
        return shown

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


def _kept_keys(home: Path | None) -> dict[str, str]:
    """Made up once for a folder, so that who was told them can use them after a restart."""
    made = {"secret_key": f"sk_test_{secrets.token_hex(12)}", "webhook_secret": f"whsec_{secrets.token_hex(16)}"}
    if home is None:
        return made
    home.mkdir(parents=True, exist_ok=True)
    file = home / "keys.json"
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as private:
            private.write(json.dumps(made))
    kept: dict[str, str] = json.loads(file.read_text())
    return kept
