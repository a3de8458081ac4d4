"""The same hold on Postgres alone, which is what most people would build; written as well as it can be.

One statement is one transaction and one round trip: the stock is taken where there is enough of it, and only then the
hold is written. It is prepared, on a small pool of connections of its own (more of them only wait for the hot row). It
leaves out the customer's limit, the idempotent replay, the reclaiming of overdue holds and the ledger: in its favour.

``python -m loadtests.peer_postgres FD`` serves on the listening socket that it was given; ``PEER_DATABASE_URL`` names
the database, ``PEER_CONNECTIONS`` how many connections this process has.
"""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import msgspec
import psycopg
from litestar import Litestar, Response, get, post
from litestar.datastructures import State

from loadtests.serving import serve_process

SCHEMA: Final = """
CREATE SCHEMA IF NOT EXISTS peer;
CREATE TABLE IF NOT EXISTS peer.products (
    id text PRIMARY KEY, price bigint NOT NULL, currency text NOT NULL,
    total bigint NOT NULL, available bigint NOT NULL CHECK (available >= 0)
) WITH (fillfactor = 10);
CREATE TABLE IF NOT EXISTS peer.holds (
    id text PRIMARY KEY, customer_id text NOT NULL, product_id text NOT NULL, qty integer NOT NULL,
    unit_price bigint NOT NULL, currency text NOT NULL, status text NOT NULL DEFAULT 'held',
    created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL DEFAULT now() + interval '2 minutes'
);
"""
HOLD: Final = """
WITH taken AS (
    UPDATE peer.products SET available = available - %(qty)s
    WHERE id = %(product)s AND available >= %(qty)s RETURNING price, currency
)
INSERT INTO peer.holds (id, customer_id, product_id, qty, unit_price, currency)
SELECT %(id)s, %(customer)s, %(product)s, %(qty)s, price, currency FROM taken
RETURNING unit_price, currency, created_at, expires_at
"""


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    customer_id: str
    product_id: str
    qty: int


class Money(msgspec.Struct):
    amount: int
    currency: str


class Line(msgspec.Struct):
    product_id: str
    qty: int
    unit_price: Money


class Hold(msgspec.Struct):
    id: str
    customer_id: str
    status: str
    lines: list[Line]
    total: Money
    expires_at: datetime
    created_at: datetime


class Pool:
    """A few connections; the one that was used last goes first, for its statement is prepared and its cache is warm."""

    def __init__(self, connections: list[psycopg.AsyncConnection[Any]]) -> None:
        self._connections = connections
        self._free: asyncio.LifoQueue[psycopg.AsyncConnection[Any]] = asyncio.LifoQueue()
        for connection in connections:
            self._free.put_nowait(connection)

    @classmethod
    async def open(cls, url: str, size: int) -> "Pool":
        return cls(
            [await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=0) for _ in range(size)]
        )

    async def one(self, query: str, values: dict[str, Any]) -> Any:
        connection = await self._free.get()
        try:
            return await (await connection.execute(query, values, binary=True)).fetchone()
        finally:
            self._free.put_nowait(connection)

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


@post("/v1/holds")
async def hold(data: Wanted, state: State) -> Response[Any]:
    if not 1 <= data.qty <= 99 or not data.customer_id:
        return Response({"code": "validation_error"}, status_code=422)
    hold_id = "hold_" + secrets.token_urlsafe(15)
    pool: Pool = state.pool
    row = await pool.one(
        HOLD, {"id": hold_id, "customer": data.customer_id, "product": data.product_id, "qty": data.qty}
    )
    if row is None:
        return Response({"code": "sold_out", "product_id": data.product_id}, status_code=409)
    price, currency, created_at, expires_at = row
    line = Line(data.product_id, data.qty, Money(price, currency))
    total = Money(price * data.qty, currency)
    return Response(
        Hold(hold_id, data.customer_id, "held", [line], total, expires_at, created_at),
        status_code=201,
    )


@get("/health")
async def health() -> str:
    return "ok"


def create_app(url: str, connections: int) -> Litestar:
    @asynccontextmanager
    async def serve(app: Litestar) -> AsyncIterator[None]:
        app.state.pool = await Pool.open(url, connections)
        try:
            yield
        finally:
            await app.state.pool.close()

    return Litestar([hold, health], lifespan=[serve], openapi_config=None, logging_config=None)


if __name__ == "__main__":
    serve_process(
        create_app(os.environ["PEER_DATABASE_URL"], int(os.environ.get("PEER_CONNECTIONS", "8"))), int(sys.argv[1])
    )
