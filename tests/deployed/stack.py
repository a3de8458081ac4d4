"""The engine as it is deployed: a process for each role, on servers where each has a user of its own."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from persistence.migrate import migrate
from sandbox import binaries
from sandbox.failure import last_line
from sandbox.processes import Child, free_port
from sandbox.servers import EmbeddedPostgres
from sandbox.stripe.process import StripeStandIn
from tests.house.paths import ROOT

SERVERS = ROOT / "k8s" / "servers"
USERS = ("OWNER", "API", "WORKER", "SCHEDULER", "OPS")
NEEDS = {
    "api": ("REDIS_URL", "DATABASE_URL", "ADMIN_TOKEN", "SHOP_TOKEN", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"),
    "worker": ("REDIS_URL", "DATABASE_URL", "STRIPE_SECRET_KEY"),
    "scheduler": ("REDIS_URL",),
}
"""What each role is told; `docker-compose.yml` and `k8s/` tell no more."""


def wait_for(check: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """The first answer of ``check`` that is true."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return found


@dataclass
class Passwords:
    """Made up for each run, so that one that is found in an output is found because it leaked."""

    of: dict[str, str] = field(default_factory=lambda: {name: f"pw-{secrets.token_hex(12)}" for name in USERS})

    def environment(self) -> dict[str, str]:
        return {f"{name}_PASSWORD": value for name, value in self.of.items()}


class Redis:
    """Valkey under the name of redis-server, started by the script that compose and Kubernetes start it by."""

    def __init__(self, folder: Path, passwords: Passwords) -> None:
        self._folder = folder
        self._passwords = passwords
        self.port = free_port()
        self.log = folder / "redis.log"

    def __enter__(self) -> Self:
        shims = self._folder / "bin"
        shims.mkdir()
        (shims / "redis-server").symlink_to(binaries.valkey_server())
        environment = {
            "PATH": f"{shims}:{os.environ['PATH']}",
            "ACL_FILE": str(self._folder / "users.acl"),
            **self._passwords.environment(),
        }
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        self._child = Child(
            ["/bin/sh", SERVERS / "start-redis.sh", *options, "--appendonly", "yes"],
            log=self.log,
            record=self._folder / "redis.pid",
            death_signal=signal.SIGKILL,
            env=environment,
        )
        with self.client(None) as client:
            wait_for(lambda: _answers(client), f"Redis: {last_line(self.log)}")
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop((signal.SIGTERM, 10))

    def url(self, user: str | None) -> str:
        """Of a user; None is the one who does not say who they are."""
        password = self._passwords.of["OWNER" if user == "admin" else user.upper()] if user else ""
        login = f"{user}:{password}@" if user else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def client(self, user: str | None) -> redis.Redis:
        return redis.Redis.from_url(self.url(user), retry=Retry(NoBackoff(), 0), socket_timeout=10)


def _answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False


def make_roles(url: str, passwords: Passwords) -> None:
    """Run ``roles.sql`` as psql does."""
    script = "\n".join(line for line in (SERVERS / "roles.sql").read_text().splitlines() if not line.startswith("--"))
    variables = {name: passwords.environment()[key] for name, key in re.findall(r"\\getenv (\w+) (\w+)", script)}
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in re.sub(r"^\\getenv.*$", "", script, flags=re.MULTILINE).split(";"):
            for name, value in variables.items():
                statement = statement.replace(f":'{name}'", sql.Literal(value).as_string(connection))  # noqa: PLW2901
            if statement.strip():
                connection.execute(statement.encode())


def as_role(url: str, role: str, password: str) -> str:
    """The same database as another role."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port}"))


class Process:
    """``flashsale ...`` with nothing of ours in its environment but what it is given; its output is kept."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        outer = {name: value for name, value in os.environ.items() if not name.startswith("FLASHSALE_")}
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", *arguments],
                env={**outer, "PYTHONPATH": str(ROOT), **environment},
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, seconds: float = 60) -> int:
        return self._process.wait(seconds)

    def stop(self, seconds: float = 40) -> int:
        """SIGTERM; the exit status."""
        if self.running:
            self._process.terminate()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


@dataclass
class Stack:
    """Servers, the payment stand-in, and the three roles, each told only what it needs."""

    folder: Path
    redis: Redis
    database_url: str
    stripe: StripeStandIn
    passwords: Passwords
    admin_token: str
    shop_token: str
    port: int = field(default_factory=free_port)
    processes: dict[str, Process] = field(default_factory=dict)
    more: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def database_of(self, role: str) -> str:
        return as_role(self.database_url, f"flashsale_{role}", self.passwords.of[role.upper()])

    def environment(self, role: str) -> dict[str, str]:
        values = {
            "REDIS_URL": self.redis.url(role),
            "DATABASE_URL": self.database_of(role) if role != "scheduler" else "",
            "ADMIN_TOKEN": self.admin_token,
            "SHOP_TOKEN": self.shop_token,
            "STRIPE_SECRET_KEY": self.stripe.secret_key,
            "STRIPE_WEBHOOK_SECRET": self.stripe.webhook_secret,
        }
        told = {f"FLASHSALE_{name}": values[name] for name in NEEDS[role]}
        return told | {"FLASHSALE_STRIPE_API_BASE": self.stripe.base_url} | self.more

    def start(self, role: str, **changed: str) -> Process:
        arguments = {"api": ["--port", str(self.port)], "worker": ["--processes", "2"], "scheduler": []}[role]
        log = self.folder / f"{role}.log"
        self.processes[role] = Process([role, *arguments], self.environment(role) | changed, log)
        return self.processes[role]

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.processes["api"].running, self.processes["api"].output
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{self.url}/health/ready").status_code == 200
            return False

        wait_for(ready, "the API is ready", 170)

    def run(self, *arguments: str, role: str = "worker", **changed: str) -> tuple[int, str]:
        """A command with the environment of a role; its status and output."""
        log = self.folder / f"command-{secrets.token_hex(4)}.log"
        quiet = {"FLASHSALE_LOG_LEVEL": "info"}  # at debug an error of a command shows where it came from
        process = Process(list(arguments), self.environment(role) | quiet | changed, log)
        return process.wait(), process.output

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, headers={"Authorization": f"Bearer {self.shop_token}"})

    def admin(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.admin_token}"}
        return httpx.request(method, f"{self.url}/v1/admin{path}", headers=headers, timeout=30, **more)


@contextlib.contextmanager
def deployed(folder: Path, **more: str) -> Iterator[Stack]:
    """A stack whose roles all run. ``more`` goes into the environment of each."""
    passwords = Passwords()
    port = free_port()
    hook = f"http://127.0.0.1:{port}/v1/payments/webhook"
    options = {"fsync": "off", "full_page_writes": "off"}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Redis(folder, passwords))
        postgres = stack.enter_context(EmbeddedPostgres(folder, options=options))
        stripe = stack.enter_context(StripeStandIn(webhook_url=hook))
        make_roles(postgres.url, passwords)
        migrate(postgres.url)
        made = Stack(
            folder=folder,
            redis=server,
            database_url=postgres.url,
            stripe=stripe,
            passwords=passwords,
            admin_token=f"admin-{secrets.token_hex(12)}",
            shop_token=f"shop-{secrets.token_hex(12)}",
            port=port,
            more=more,
        )
        try:
            for role in NEEDS:
                made.start(role)
            made.wait_ready()
            yield made
        finally:
            for process in made.processes.values():
                process.stop()
            shutil.rmtree(folder / "postgres", ignore_errors=True)
