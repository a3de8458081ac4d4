"""A payments worker without its queue, for tests that kill it: ``python -m tests.payments.loop JSON``."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from engine import connections
from engine.settings import Settings
from payments import dues, inbox, overdue, refunds
from payments.context import Context
from payments.provider import Provider
from persistence import database
from persistence.drain import drain_once


def main() -> None:
    told = json.loads(sys.argv[1])
    settings = Settings(
        stripe_secret_key=told["stripe_secret_key"], stripe_api_base=told["stripe_api_base"], payment_grace_seconds=30
    )
    provider = Provider.from_settings(settings)
    ctx = Context(database.connect(told["database"]), connections.connect(told["redis"]), provider, settings)
    with ThreadPoolExecutor(4) as pool:
        while True:
            done = inbox.handle_once(ctx, 50, pool) + dues.run_once(ctx, 50, pool)
            done += refunds.run_once(ctx, 50, pool) + overdue.run_once(ctx, told["sale"], pool)
            drain_once(ctx.db, ctx.redis, told["sale"])
            if not done:
                time.sleep(0.02)


if __name__ == "__main__":
    main()
