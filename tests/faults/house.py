"""The whole of flashsale as production runs it, in processes of its own, on servers of its own, to be broken."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from cli.children import Role
from cli.reconcile import Comparer
from cli.servers import Stores
from cli.stack import environment_of
from engine import commands, connections
from engine.command import run
from engine.commands import Shown
from engine.settings import Settings
from persistence import database
from persistence.drift import Drift
from persistence.migrate import migrate
from sandbox.processes import free_port
from sandbox.servers import EmbeddedPostgres, EmbeddedRedis
from sandbox.stripe.process import StripeStandIn
from tests.api.server import ADMIN_TOKEN, Shop
from tests.faults.disk import Disk, disk
from tests.workers.conftest import eventually

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 30.0
RECOVERY_SECONDS = 30.0
"""How long a test waits for what happens in a second or two, on a machine that is busy with other tests."""


@dataclass
class House:
    """``roles`` are `flashsale api`, `flashsale worker` and `flashsale scheduler`. What a test broke, it mends."""

    folder: Path
    redis: EmbeddedRedis
    postgres: EmbeddedPostgres
    stripe: StripeStandIn
    settings: Settings
    port: int
    disk: Disk | None = None
    """Redis's own, where this user may mount one."""
    roles: dict[str, Role] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # -- its processes
    def start(self, *names: str, arguments: Mapping[str, list[str]] = {}, **changed: Any) -> None:
        """Start roles, with settings that differ from the house's. Returns once the API is ready."""
        more = {"api": ["--host", "127.0.0.1", "--port", str(self.port)], "worker": [], "scheduler": []}
        for name in names:
            env = environment_of(replace(self.settings, **changed))
            given = [*more[name], *arguments.get(name, [])]
            self.roles[name] = Role(name, given, env, self.folder / f"{name}.log")
            self.roles[name].start()
        if "api" in names:
            eventually(self.is_ready, "the API ready", 60)

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        return False

    def is_live(self) -> bool:
        """Also: by now the API has read what it was sent before."""
        return httpx.get(f"{self.url}/health/live", timeout=60).status_code == 200

    def end(self, name: str) -> int | None:
        """SIGTERM; the exit status, which is 0 where it left well."""
        process = self.roles[name]._process
        assert process
        self.roles[name].ask_to_stop()
        status = process.wait(STOP_SECONDS)
        self.roles[name].stop(1)
        return status

    def kill(self, name: str) -> None:
        """SIGKILL, to its own children too."""
        process = self.process(name)
        family = [process, *process.children(recursive=True)]
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, STOP_SECONDS)
        self.roles[name].stop(1)

    def process(self, name: str) -> psutil.Process:
        pid = self.roles[name].pid
        assert pid
        return psutil.Process(pid)

    def stop(self) -> None:
        for name in ("api", "scheduler", "worker"):
            if name in self.roles:
                self.roles[name].stop(STOP_SECONDS)

    # -- its customers
    @contextlib.contextmanager
    def shop(self) -> Iterator[Shop]:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            yield Shop(client)

    def confirm(self, order: Mapping[str, Any], card: str = "pm_card_visa") -> None:
        """The customer pays in the browser."""
        status, shown = self.stripe.pay(order["payment"]["client_secret"], card)
        assert status == 200, shown

    # -- looking in
    def query(self, query: str, **values: Any) -> Any:
        """One value from Postgres, or None where it is away."""
        engine = create_engine(
            self.settings.database_url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool
        )
        with contextlib.suppress(Exception), engine.connect() as conn:
            return conn.scalar(text(query), values)
        return None

    def shown(self, sale_id: str) -> Shown:
        client = connections.connect(self.settings.redis_url)
        with contextlib.closing(client):
            return run(client, commands.show(sale_id))

    def flashsale(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command, as an operator types it."""
        return subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=self.folder,
            env=environment_of(self.settings) | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def drift(self, sale_id: str) -> list[Drift]:
        """What `flashsale reconcile` names, of all three."""
        db, redis = database.connect(self.settings.database_url, 2), connections.connect(self.settings.redis_url)
        with contextlib.closing(redis):
            try:
                with contextlib.closing(Comparer(Stores(self.settings, db, redis))) as comparer:
                    return list(comparer.compare(sale_id, repair=False)[0].drift)
            finally:
                db.dispose()

    def drained(self, sale_id: str) -> bool:
        """Whether Postgres has everything that Redis has."""
        epoch_and_seq = "SELECT epoch || '-' || seq FROM cursors WHERE sale_id = :sale"
        return bool(self.query(epoch_and_seq, sale=sale_id) == self.shown(sale_id).position.entry)

    def settled(self, sale_id: str) -> None:
        """Wait until Postgres has everything that Redis has; then all three must agree."""
        eventually(lambda: self.drained(sale_id), f"sale {sale_id} drained", RECOVERY_SECONDS)
        assert self.drift(sale_id) == []

    def metric(self, name: str, **labels: str) -> float:
        """A sample of the API's, 0 where there is none."""
        wanted = "{" + ",".join(f'{key}="{labels[key]}"' for key in sorted(labels)) + "}" if labels else ""
        for line in httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines():
            if line.startswith(f"{name}{wanted} "):
                return float(line.rpartition(" ")[2])
        return 0.0


@contextlib.contextmanager
def house(
    folder: Path,
    *,
    redis: Mapping[str, str] | None = None,
    roles: tuple[str, ...] = ("api", "worker", "scheduler"),
    **changed: Any,
) -> Iterator[House]:
    """``redis`` overrides lines of its configuration; ``changed`` are settings."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        disk(folder / EmbeddedRedis.folder / "data") as redis_disk,
        EmbeddedRedis(folder, options=redis) as valkey,
        # Killing a process loses nothing that was written; only a power cut needs an fsync for each commit.
        EmbeddedPostgres(folder, options={"fsync": "off"}) as postgres,
    ):
        migrate(postgres.url)
        port = free_port()
        stripe = StripeStandIn(folder / "stripe", webhook_url=f"http://127.0.0.1:{port}/v1/payments/webhook")
        with stripe:
            settings = Settings(
                redis_url=valkey.url,
                database_url=postgres.url,
                admin_token=ADMIN_TOKEN,
                stripe_secret_key=stripe.secret_key,
                stripe_webhook_secret=stripe.webhook_secret,
                stripe_api_base=stripe.base_url,
                stripe_max_per_second=1000,
            )
            made = House(folder, valkey, postgres, stripe, replace(settings, **changed), port, redis_disk)
            try:
                made.start(*roles)
                yield made
            finally:
                made.stop()
