"""``make loadtest``: Locust's crowd against a ``flashsale up`` of its own, or against a URL and a sale that are named,
and what must be true afterwards.

Leaves ``locust.html`` (Locust's report) and ``loadtest.json`` (ours). Exit status 1 where an invariant broke: counters,
oversold or stranded units, money that does not add up, drift, or an answer that nobody expected.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import redis
from sqlalchemy import Engine, text

from engine import connections
from engine.command import run
from engine.commands import show
from loadtests import invariants, remote
from loadtests.crowd import SALE, Target, sale_document
from loadtests.serving import end_on_sigterm
from persistence import database
from sandbox.stack import RunningStack

DEFAULT_OUT: Final = Path(__file__).with_name("report")
ROOT: Final = Path(__file__).resolve().parents[1]
READY_SECONDS: Final = 120.0
QUIET_SECONDS: Final = 120.0
"""How long deadlines, payments and the drain may take to come to rest after the crowd left."""


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    if options.print_sale:
        print(json.dumps(sale_document(opens_in_seconds=0), indent=2))
        return 0
    if bool(options.url) != bool(options.sale):
        print("make loadtest: --url and --sale go together", file=sys.stderr)
        return 2
    end_on_sigterm()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.url:
        return remote.rush(options)
    outer = {name: value for name, value in os.environ.items() if not name.startswith("FLASHSALE_")}
    with tempfile.TemporaryDirectory(prefix="flashsale-loadtest-") as folder, _up(Path(folder), outer) as stack:
        env = outer | stack.environment() | {"PYTHONPATH": str(ROOT)}
        _load_sale(env, Path(folder))
        target = Target(
            stripe_url=stack.stripe_api_base,
            publishable_key=stack.stripe_secret_key.replace("sk_", "pk_", 1),
            webhook_secret=stack.stripe_webhook_secret,
        )
        remote.locust(stack.api_url, env | target.environment(), options)
        report = _judge(stack, env, options.out)
    return remote.tell(report, options.out, f"{report['paid_orders']:,} paid orders")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make loadtest", description="Locust's crowd against `flashsale up`.")
    parser.add_argument("--seconds", type=int, default=60, help="how long the crowd stays [60]")
    parser.add_argument("--users", type=int, default=120, help="how many they are [120]")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="where the reports go")
    parser.add_argument("--url", default="", help="a running API, instead of a `flashsale up` of its own")
    parser.add_argument(
        "--sale",
        default="",
        help="with --url: the sale whose products are held; tokens are FLASHSALE_SHOP_TOKEN and FLASHSALE_ADMIN_TOKEN",
    )
    parser.add_argument(
        "--orders", action="store_true", help="with --url: order and pay too, by Stripe's test card pm_card_visa"
    )
    parser.add_argument("--print-sale", action="store_true", help="print the sale file, and do nothing else")
    return parser


@contextlib.contextmanager
def _up(folder: Path, outer: dict[str, str]) -> Iterator[RunningStack]:
    """``flashsale up`` on a free port, stopped at the end. Raises ``RuntimeError`` with where its log is."""
    data_dir = folder / "data"
    log = folder / "up.log"
    env = outer | {"PYTHONPATH": str(ROOT), "FLASHSALE_LOG_LEVEL": "warning", "XDG_STATE_HOME": str(folder)}
    argv = [sys.executable, "-m", "cli.main", "up", "--port", "0", "--data-dir", str(data_dir)]
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, env=env, start_new_session=True)
    try:
        yield _wait_ready(process, data_dir, log)
        process.send_signal(signal.SIGTERM)
        if process.wait(60):
            raise RuntimeError(f"flashsale up ended with status {process.returncode}: {_tail(log)}")
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_ready(process: subprocess.Popen[bytes], data_dir: Path, log: Path) -> RunningStack:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if b"\nready http" in b"\n" + log.read_bytes():
            stack = RunningStack.read(data_dir)
            if stack is not None:
                return stack
        time.sleep(0.1)
    raise RuntimeError(f"flashsale up was not ready: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-600:]


def _load_sale(env: dict[str, str], folder: Path) -> None:
    file = folder / "sale.json"
    file.write_text(json.dumps(sale_document()))
    subprocess.run([sys.executable, "-m", "cli.main", "sale", "load", str(file)], env=env, timeout=60, check=True)


def _judge(stack: RunningStack, env: dict[str, str], out: Path) -> dict[str, Any]:
    db = database.connect(stack.database_url, 2)
    client = connections.connect(stack.redis_url)
    assert isinstance(client, redis.Redis)
    with contextlib.closing(client):
        broken = _wait_quiet(db, client)
        broken += invariants.redis_counters(client, SALE) + invariants.stores_agree(client, db, SALE)
        money, paid = _money(db, stack)
        broken += money
        drift, reconciliation = invariants.reconciled(env, SALE)
        broken += drift
        counters = {each.id: _counters(each) for each in run(client, show(SALE)).products.values()}
    db.dispose()
    return remote.report(out, broken) | {"paid_orders": paid, "products": counters, "reconcile": reconciliation}


def _counters(product: Any) -> dict[str, int]:
    return {name: getattr(product, name) for name in ("total", "available", "held", "sold")}


def _wait_quiet(db: Engine, client: redis.Redis) -> list[str]:
    """Until every hold is sold or back and Postgres has it all: no stranded stock."""
    unpaid = text(
        "SELECT count(*) FROM orders JOIN payments ON order_id = id"
        " WHERE due IS NOT NULL OR orders.status = 'pending_payment'"
    )
    cursor = text("SELECT seq FROM cursors WHERE sale_id = :sale")
    end = time.monotonic() + QUIET_SECONDS
    while True:
        shown = run(client, show(SALE))
        held = sum(each.held for each in shown.products.values())
        with db.connect() as conn:
            due: int = conn.execute(unpaid).scalar_one()
            behind = shown.position.seq - conn.execute(cursor, {"sale": SALE}).scalar_one()
        if not held and not due and not behind:
            return []
        if time.monotonic() > end:
            return [f"after {QUIET_SECONDS:g} s {held} units are held, {due} orders are open, {behind} events behind"]
        time.sleep(0.25)


def _money(db: Engine, stack: RunningStack) -> tuple[list[str], int]:
    """What the stand-in captured and did not give back is what the paid orders cost."""
    with db.connect() as conn:
        query = text("SELECT count(*), coalesce(sum(total), 0)::bigint FROM orders WHERE status = 'paid'")
        paid, total = conn.execute(query).one()
    url = f"{stack.stripe_api_base}/_control/ledger?intents=false"
    with urllib.request.urlopen(url, timeout=30) as answer:
        totals = json.load(answer)["totals"].get("usd", {})
    kept = totals.get("captured", 0) - totals.get("refunded", 0)
    broken = [] if kept == total else [f"paid orders cost {total}, the provider has {kept} ({totals})"]
    return broken, int(paid)


if __name__ == "__main__":
    sys.exit(main())
