"""The application: ``create_app(settings)``, and ``from_env`` for a server that is given a name only."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from litestar import Litestar
from litestar.datastructures import State

from api import leaving, logs, methods, openapi, problems
from api.door import Door
from api.express import Express
from api.metrics import Metrics
from api.pages import ops
from api.pages import shop as window
from api.pages.watch import Watch
from api.routes import admin, holds, house, orders, shop
from api.services import Services
from api.traced import Traced
from api.visits import Visits
from engine import garbage, tracing
from engine.settings import SettingError, Settings
from persistence import audit
from persistence.database import read_url

log = structlog.get_logger("api")

ROUTES: list[Any] = [*shop.ROUTES, *holds.ROUTES, *orders.ROUTES, *admin.ROUTES, *house.ROUTES]
PAGES: list[Any] = [*window.ROUTES, *ops.ROUTES]
"""For people; the OpenAPI document is without them."""


def create_app(settings: Settings) -> Litestar:
    """The whole API. Connects to nothing yet; a Redis or a Postgres that is away makes it not ready, and nothing worse.
    Raises ``SettingError`` where a setting is missing.
    """
    _check(settings)
    metrics = Metrics()
    visits = Visits(metrics, log_requests=settings.log_level == "debug")

    @asynccontextmanager
    async def serve(app: Litestar) -> AsyncIterator[None]:
        tracing.start("api")
        audit.act_as("admin token")
        services = Services(settings, metrics)
        if not settings.shop_token:
            log.warning("holds_and_orders_are_open", why="FLASHSALE_SHOP_TOKEN is not set: anybody may hold and order")
        watch = Watch(services)
        app.state.services, app.state.watch = services, watch
        if not tracing.on:  # a trace follows a request along the way of all
            app.state.express = Express(services, visits)
        leaving.on_sigterm(services)
        try:
            yield
        finally:
            await watch.close()
            await services.close()
            await asyncio.to_thread(tracing.stop)

    app = Litestar(
        [*methods.options(ROUTES), *ROUTES, *PAGES],
        lifespan=[serve],
        state=State({"openapi": openapi.document(ROUTES)}),
        exception_handlers={Exception: problems.handle},
        openapi_config=None,
        logging_config=None,
        debug=False,
    )
    app.asgi_handler = Door(app.asgi_handler, visits, settings.known_origins)
    if tracing.is_wanted():
        app.asgi_handler = Traced(app.asgi_handler)
    return app


def from_env() -> Litestar:
    """``uvicorn --factory api.app:from_env``, and what each process of ``api.server`` starts with."""
    settings = Settings.from_env(os.environ)
    logs.configure(settings.log_level)
    leaving.with_parent()
    app = create_app(settings)
    garbage.rest()
    return app


def _check(settings: Settings) -> None:
    for name in ("redis_url", "database_url", "stripe_secret_key", "stripe_webhook_secret"):
        if not getattr(settings, name):
            raise SettingError(f"the API needs FLASHSALE_{name.upper()}")
    _ = settings.queue_url
    read_url(settings.database_url)
