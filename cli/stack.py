"""The whole stack of `up` and `demo`: servers, payment stand-in, API, workers, scheduler; started, supervised,
stopped in order.
"""

import contextlib
import http.client
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import structlog

from cli.children import Role
from cli.failures import Failure
from cli.servers import Servers, bring_up_to_date
from engine.settings import Settings
from payments.handlers import HANDLERS
from sandbox.failure import ServerError
from sandbox.files import write_private
from sandbox.stack import RunningStack
from sandbox.stripe.process import StripeStandIn

READY_SECONDS_MAX = 60.0
POLL_SECONDS = 0.05
WEBHOOK_PATH = "/v1/payments/webhook"
STOP_SECONDS = {"api": 15.0, "scheduler": 5.0, "worker": 20.0}
"""How long each role may take to finish what it has begun, in the order in which they are stopped."""
STAND_IN_PER_SECOND = 1000
"""The stand-in has no rate limit of its own."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """``port`` is one that can be listened on; ``logs`` is where the roles write, None for our own stderr."""

    host: str
    port: int
    api_workers: int = 1
    worker_processes: int = 3
    logs: Path | None = None


def free_port_of(host: str, port: int) -> int:
    """``port``, or a free one for 0. Raises ``Failure`` where it cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except (OSError, TypeError) as error:  # the latter for a name that no encoding of names can hold
            why = getattr(error, "strerror", None) or str(error)
            raise Failure(
                f"cannot listen on {host}:{port} ({why}): choose another with --port, 0 for a free one"
            ) from error
        taken: int = probe.getsockname()[1]
        return taken


def kept_token(data_dir: Path) -> str:
    """The admin token that was made for this data, made once."""
    path = data_dir / "admin_token"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24) + "\n")
    return path.read_text().strip()


class Stack:
    """Everything above the servers. ``settings`` are the effective ones: URLs, tokens and the payment provider's
    keys are all there.
    """

    def __init__(self, servers: Servers, shape: Shape, data_dir: Path) -> None:
        self._servers = servers
        self._shape = shape
        self._data_dir = data_dir
        self.stand_in: StripeStandIn | None = None
        self.settings = servers.settings
        self.made_token = False
        self._roles: list[Role] = []

    @property
    def url(self) -> str:
        return f"http://{_bracketed(self._shape.host)}:{self._shape.port}"

    @property
    def _own_host(self) -> str:
        """Where we reach what listens on every address."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._shape.host, self._shape.host)  # noqa: S104

    @property
    def pids(self) -> list[int]:
        """Every child of ours."""
        servers = [each.pid for each in (self._servers.postgres, self._servers.redis) if each and each.running]
        others = [role.pid for role in self._roles] + [self.stand_in.pid if self.stand_in else None]
        return servers + [pid for pid in others if pid]

    def start(self, go_on: Callable[[], None] = lambda: None) -> None:
        """Returns once the API is ready. ``go_on`` is called between the steps; it raises where somebody asked us
        to stop. Raises ``Failure`` and what the servers raise.
        """
        bring_up_to_date(self.settings.database_url)
        self._complete_settings()
        go_on()
        env = environment_of(self.settings)
        shape = self._shape
        listen = ["--host", shape.host, "--port", str(shape.port), "--workers", str(shape.api_workers)]
        self._roles = [
            Role("api", listen, env, self._log_file("api")),
            Role("worker", ["--processes", str(shape.worker_processes)], env, self._log_file("worker")),
            Role("scheduler", [], env, self._log_file("scheduler")),
        ]
        for role in self._roles:
            role.start()
        self._wait_ready(go_on)

    def supervise(self) -> None:
        """Start again what died. Call it a few times a second."""
        for server in (self._servers.postgres, self._servers.redis, self.stand_in):
            if server is not None and not server.running:
                log.warning("server_died", server=type(server).__name__)
                try:
                    server.start()
                except ServerError as error:
                    log.exception("server_not_restarted", error=str(error))
        for role in self._roles:
            role.watch()

    def stop(self) -> None:
        """The API first, so that nothing new comes in; the servers are their own context's."""
        order = sorted(self._roles, key=lambda role: list(STOP_SECONDS).index(role.name))
        for role in order:
            role.stop(STOP_SECONDS[role.name])
        if self.stand_in is not None:
            self.stand_in.stop()

    def record(self) -> RunningStack:
        s = self.settings
        return RunningStack(
            data_dir=str(self._data_dir),
            cwd=str(Path.cwd()),
            pid=os.getpid(),
            redis_url=s.redis_url,
            queue_redis_url=s.queue_redis_url,
            database_url=s.database_url,
            api_url=self.url,
            admin_token=s.admin_token,
            shop_token=s.shop_token,
            stripe_api_base=s.stripe_api_base,
            stripe_secret_key=s.stripe_secret_key,
            stripe_webhook_secret=s.stripe_webhook_secret,
            capture_method=s.capture_method,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _complete_settings(self) -> None:
        settings = self.settings
        if not settings.admin_token:
            settings = replace(settings, admin_token=kept_token(self._data_dir))
            self.made_token = True
        if not settings.stripe_secret_key:
            target = f"http://{_bracketed(self._own_host)}:{self._shape.port}{WEBHOOK_PATH}"
            self.stand_in = StripeStandIn(
                self._data_dir / "stripe",
                webhook_url=target,
                webhook_secret=settings.stripe_webhook_secret or None,
                webhook_events=HANDLERS,
            ).start()
            settings = replace(
                settings,
                stripe_secret_key=self.stand_in.secret_key,
                stripe_webhook_secret=self.stand_in.webhook_secret,
                stripe_api_base=self.stand_in.base_url,
                stripe_max_per_second=max(settings.stripe_max_per_second, STAND_IN_PER_SECOND),
            )
        self.settings = settings

    def _wait_ready(self, go_on: Callable[[], None]) -> None:
        end = time.monotonic() + READY_SECONDS_MAX
        api = self._roles[0]
        while time.monotonic() < end:
            go_on()
            if not api.running:
                said = f": {api.last_words()}" if api.log_file else "; its message is above"
                raise Failure(f"the API ended before it was ready{said}")
            if self._is_ready():
                return
            time.sleep(POLL_SECONDS)
        raise Failure(f"the API was not ready after {READY_SECONDS_MAX:g} s; {self.url}/health/ready says why")

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self._own_host, self._shape.port, timeout=2)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/health/ready")
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False

    def _log_file(self, name: str) -> Path | None:
        return self._shape.logs / f"{name}.log" if self._shape.logs else None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def environment_of(settings: Settings) -> dict[str, str]:
    """Our environment, with what these settings say in place of its own ``FLASHSALE_`` variables."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("FLASHSALE_")}
    defaults = Settings()
    names = [name.removeprefix("FLASHSALE_").lower() for name in Settings.names()]
    changed = {name: getattr(settings, name) for name in names if getattr(settings, name) != getattr(defaults, name)}
    return outer | {f"FLASHSALE_{name.upper()}": str(value) for name, value in changed.items()}
