"""Whether this process lives, and whether it and what it needs can serve."""

import asyncio
from collections.abc import Awaitable
from typing import Final, Literal

import msgspec
from sqlalchemy import text

from api.services import Services
from api.wire import JSON, Answer
from engine.cluster import AsyncCluster
from persistence.database import reading
from persistence.migrate import NewerSchema, pending

AWAY: Final = "away"
CHECK_SECONDS: Final = 1.0
"""A server that needs longer to say that it is there counts as away: probes themselves wait about so long."""


class Health(msgspec.Struct, frozen=True):
    """``checks`` names what is needed, each ``ok`` or what is wrong with it."""

    status: Literal["live", "ready", "degraded", "not_ready", "leaving"]
    checks: dict[str, str]


async def ready(services: Services) -> Answer:
    """``GET /health/ready``: 200 where holds can be taken, else 503. That needs no Postgres: where only it is away
    orders wait, and the status is ``degraded``; so it is where some primaries of a cluster are away, whose sales wait.
    """
    redis, postgres = await asyncio.gather(
        _check(_check_redis(services)), _check(services.quick.run(_check_postgres, services))
    )
    checks = {"redis": redis, "postgres": postgres}
    if services.leaving:
        return _answer(503, Health("leaving", checks))
    if redis == AWAY or not services.migrated:
        return _answer(503, Health("not_ready", checks))
    return _answer(200, Health("ready" if redis == postgres == "ok" else "degraded", checks))


def live() -> Answer:
    """``GET /health/live``: the event loop turns."""
    return _answer(200, Health("live", {}))


def _answer(status: int, health: Health) -> Answer:
    return Answer(status, msgspec.json.encode(health), (JSON, (b"cache-control", b"no-store")))


async def _check(probe: Awaitable[object]) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            found = await probe
    except Exception:  # noqa: BLE001 - whatever it is, the server cannot be used
        return AWAY
    return found if isinstance(found, str) else "ok"


async def _check_redis(services: Services) -> str:
    client = services.redis
    if not isinstance(client, AsyncCluster):
        await client.ping()
        return "ok"
    answered, primaries = await client.count_primaries()
    if not answered:
        return AWAY
    return "ok" if answered == primaries else f"{primaries - answered} of {primaries} primaries away"


def _check_postgres(services: Services) -> str:
    with reading(services.db) as conn:
        conn.execute(text("SELECT 1"))
    if not services.migrated:
        try:
            services.migrated = not pending(services.db)
        except NewerSchema:
            services.migrated = True  # a newer version has been here, and it keeps what this one needs
    return "ok" if services.migrated else "not migrated"
