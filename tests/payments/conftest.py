"""One stand-in and one mailbox for the session; for each test a sale of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from sqlalchemy import Engine, text

from engine import connections
from engine.settings import Settings
from payments.context import Context
from payments.provider import Provider
from persistence.database import connect
from persistence.tables import metadata
from sandbox.stripe.process import StripeStandIn
from tests.conftest import Server
from tests.conftest import _fresh_database as fresh_database
from tests.payments.shop import Mailbox, Shop

_numbers = count(1)


@pytest.fixture(scope="session")
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    yield mailbox
    mailbox.close()


@pytest.fixture(scope="session")
def stand_in(mailbox: Mailbox) -> Iterator[StripeStandIn]:
    with StripeStandIn(seed=1) as stripe:
        yield stripe


@pytest.fixture
def settings(stand_in: StripeStandIn) -> Settings:
    return Settings(
        stripe_secret_key=stand_in.secret_key,
        stripe_webhook_secret=stand_in.webhook_secret,
        stripe_api_base=stand_in.base_url,
        stripe_max_per_second=1000,
        stripe_timeout_seconds=5,
        payment_grace_seconds=30,
    )


@pytest.fixture(scope="session")
def database(postgres_server: Server, worker_number: int, migrated_template: str) -> Iterator[Engine]:
    """One database for all of these tests: emptying it takes a tenth of what a new one takes."""
    made = fresh_database(postgres_server.url, worker_number, migrated_template)
    engine = connect(next(made), 20)
    yield engine
    engine.dispose()
    next(made, None)


@pytest.fixture
def db(database: Engine) -> Engine:
    with database.begin() as conn:
        kept = {"alembic_version", "secrets", "order_feed"}
        names = ", ".join(table.name for table in metadata.sorted_tables if table.name not in kept)
        conn.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
        conn.execute(text("UPDATE order_feed SET last = 0"))
    return database


@pytest.fixture
def closed_shop(
    redis_url: str, db: Engine, stand_in: StripeStandIn, mailbox: Mailbox, settings: Settings
) -> Iterator[Shop]:
    """A sale that is not loaded yet."""
    redis = connections.connect(redis_url)
    provider = Provider(
        settings.stripe_secret_key,
        api_base=settings.stripe_api_base,
        max_per_second=settings.stripe_max_per_second,
        timeout_seconds=settings.stripe_timeout_seconds,
        first_pause_seconds=0.02,
    )
    with ThreadPoolExecutor(4) as pool:
        shop = Shop(Context(db, redis, provider, settings), stand_in, mailbox, pool, f"sale-{next(_numbers)}")
        yield shop
        shop.close()
    provider.close()
    redis.close()


@pytest.fixture
def shop(closed_shop: Shop) -> Shop:
    """A sale of 10 sneakers and 10 socks."""
    return closed_shop.open(sneaker=10, sock=10)
