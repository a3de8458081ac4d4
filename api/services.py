"""What the handlers of one process share, built when it starts and closed when it leaves. Nothing here needs Redis or
Postgres to be up.
"""

import asyncio
import contextlib
from functools import partial
from typing import Final

import sqlalchemy
import structlog

from api.auth import admin_guard, shop_guard
from api.catalogue import Catalogue
from api.metrics import FLUSH_SECONDS, Metrics
from api.pools import Use
from api.reads import Reads, Together
from api.saleslist import SaleList
from api.scrape import Scrape
from api.sets import Sets
from api.sold_out import SoldOut
from api.threads import Threads
from engine import connections, tracing
from engine.batcher import Batcher
from engine.settings import Settings
from engine.tracedbatcher import TracedBatcher
from payments import inbox
from payments.context import Context
from payments.provider import Provider
from payments.wake import call
from persistence import archive, database
from persistence.archive import OldProduct, Standing
from persistence.refusals import Refusal
from persistence.secret import ids_secret

READ_THREADS: Final = 6
"""Reads of Postgres and inbox writes: short, so few threads do."""
MONEY_THREADS: Final = 24
"""Orders, payments and refunds spend their time waiting for the provider, without a connection to Postgres."""
READ_SECONDS: Final = 10
MONEY_SECONDS: Final = 60
"""How long a caller waits in all. An order asks the provider twice at most, 20 s each time unless set otherwise."""
QUEUE_MAX: Final = 512
"""Calls that wait for a thread; past it the answer is ``overloaded``."""
INBOX_LINGER_SECONDS: Final = 0.05
"""Between two inbox writes. Each costs about the same, however many events it keeps, and only the provider waits."""

log = structlog.get_logger("api")


class Services:
    """Made inside the running event loop. ``leaving`` is set when the process was asked to stop, ``migrated``
    once the schema was seen to be current: readiness says so. ``known_ids_secret`` is there once it was read.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.leaving = False
        self.migrated = False
        self.admin = admin_guard(settings.admin_token)
        self.shop = shop_guard(settings.shop_token)
        self.redis = connections.connect_async(settings.redis_url)
        self._sync_redis = connections.connect(settings.redis_url)
        self._queue = connections.connect(settings.queue_url)
        self.db: sqlalchemy.Engine = database.connect(
            settings.database_url, settings.database_pool_size, prepare=bool(settings.database_prepare)
        )
        self.reads = Reads(self.redis)
        self.catalogue = Catalogue(self.redis)
        self.sold_out = SoldOut(settings.sold_out_ms)
        self.batcher = (TracedBatcher if tracing.on else Batcher)(
            self.redis,
            batch_max=settings.hold_batch_max,
            queue_max=settings.hold_queue_max,
            on_batch=metrics.on_batch,
        )
        self.quick = Threads("read", size=READ_THREADS, queue_max=QUEUE_MAX, seconds=READ_SECONDS)
        self.slow = Threads("money", size=MONEY_THREADS, queue_max=QUEUE_MAX, seconds=MONEY_SECONDS)
        self.payments = Context(
            db=self.db,
            redis=self._sync_redis,
            provider=Provider.from_settings(settings, metrics.on_provider),
            settings=settings,
            wake=self.wake,
        )
        self.inbox: Sets[inbox.Arrived, bool] = Sets(
            self.quick, partial(inbox.store, self.payments), queue_max=QUEUE_MAX, linger_seconds=INBOX_LINGER_SECONDS
        )
        self.scrape = Scrape(
            metrics,
            self.quick,
            db=self.db,
            redis=self._sync_redis,
            queue=self._queue,
            grace_seconds=settings.payment_grace_seconds,
        )
        self.sales = SaleList(self.quick, self.payments)
        self._standings: Together[str, Standing | None] = Together(self._read_standing)
        self._products: Together[str, OldProduct | None] = Together(self._read_product)
        self.known_ids_secret: bytes | None = None
        self._secrets: Together[None, bytes] = Together(self._read_secret)
        self._start = asyncio.create_task(self._warm())
        pools = {
            "read": self.quick.use,
            "money": self.slow.use,
            "database": self._use_of_database,
            "holds": lambda: Use(0, settings.hold_queue_max, self.batcher.waiting),
        }
        self._watch = asyncio.create_task(metrics.pools.watch(pools))
        self._counting = asyncio.create_task(self._count())

    def wake(self) -> None:
        """Tell the payments' workers that something is due. A lost wake-up costs them a moment, nothing else."""
        with contextlib.suppress(Exception):
            call(self._queue)

    async def ids_secret(self) -> bytes:
        """The key of derived ids. Raises what Postgres raises where it was never read."""
        return self.known_ids_secret or await self._secrets.get(None)

    async def standing(self, sale_id: str) -> Standing | None:
        """A sale that Redis does not have, as Postgres knows it."""
        return await self._standings.get(sale_id)

    async def old_product(self, product_id: str) -> OldProduct | None:
        """A product that Redis does not have, as Postgres knows it."""
        return await self._products.get(product_id)

    async def _read_standing(self, sale_id: str) -> Standing | None:
        return await self.quick.run(archive.read_sale, self.db, sale_id)

    async def _read_product(self, product_id: str) -> OldProduct | None:
        return await self.quick.run(archive.read_product, self.db, product_id)

    async def _read_secret(self, _: None) -> bytes:
        try:
            self.known_ids_secret = await self.quick.run(ids_secret, self.db)
        except LookupError as error:
            raise Refusal("unavailable", "The database is not migrated yet.", retry_after=1) from error
        return self.known_ids_secret

    def _use_of_database(self) -> Use:
        pool = self.db.pool
        assert isinstance(pool, sqlalchemy.QueuePool)
        return Use(pool.checkedout(), pool.size())

    async def _warm(self) -> None:
        """Ask for what the first requests need. Whoever is away is asked again by those requests."""
        try:
            await self.ids_secret()
            await self.catalogue.everything()
        except Exception as error:  # noqa: BLE001 - any of Redis's, Postgres's or an unmigrated schema's
            log.warning("started_without", error=type(error).__name__, detail=str(error)[:200])

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.metrics.flush()

    async def close(self) -> None:
        """Finish what is under way; then let go of every connection."""
        self._start.cancel()
        self._watch.cancel()
        self._counting.cancel()
        self.scrape.close()
        await self.batcher.close()
        await self.inbox.close()
        await self.slow.close()
        await self.quick.close()
        await self.redis.aclose()
        self._sync_redis.close()
        self._queue.close()
        self.payments.provider.close()
        self.db.dispose()
        self.metrics.flush()
