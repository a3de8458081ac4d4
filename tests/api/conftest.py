"""A running API for each test, on real servers."""

from collections.abc import Iterator

import httpx
import pytest

from engine.settings import Settings
from sandbox.stripe.process import StripeStandIn
from tests.api.server import Shop, serving, settings_of


@pytest.fixture(scope="session")
def stripe_stand_in() -> Iterator[StripeStandIn]:
    with StripeStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def settings(redis_url: str, database_url: str, stripe_stand_in: StripeStandIn) -> Settings:
    return settings_of(stripe_stand_in, redis_url=redis_url, database_url=database_url)


@pytest.fixture
def api_url(settings: Settings) -> Iterator[str]:
    with serving(settings) as url:
        yield url


@pytest.fixture
def shop(api_url: str) -> Iterator[Shop]:
    with httpx.Client(base_url=api_url, timeout=15) as client:
        yield Shop(client)
