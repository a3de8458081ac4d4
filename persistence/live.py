"""The live picture of the sales, for the people who watch: counters from Redis, money and waiting work from Postgres.

``read`` makes all of it. Who looks each second asks ``live_rows.read`` less often and gives ``read_sales`` the last
answer: Redis's part costs some round trips a sale and no scan. Without Postgres the picture is made all the same.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from engine import commands, ids, keys
from engine.command import Client, run
from engine.commands import Shown
from engine.records import HoldRecord, Position, ProductState, SaleState
from engine.settings import Settings
from engine.shapes import Stock
from persistence import live_rows
from persistence.drift import Promise
from persistence.live_rows import Notice, Rows, SaleMoney
from persistence.overview import lag_seconds
from persistence.promises import PROMISES

SALES_MAX: Final = 20
"""Sales in one picture, the newest."""
PRODUCTS_MAX: Final = 50
"""Products that are shown of a sale, in the order of their ids; its ``stock`` counts all."""
EXPIRIES_MAX: Final = 6
OVERDUE_MS: Final = 5_000
"""A hold so long past its deadline should have been swept."""
GRACE_SECONDS: Final = Settings().payment_grace_seconds


class LiveProduct(msgspec.Struct, frozen=True):
    """``price`` in minor units of ``currency``."""

    id: str
    name: str
    price: int
    currency: str
    stock: Stock


class Expiry(msgspec.Struct, frozen=True):
    """A live hold and when it ends by itself; ``status`` is ``held`` or ``paying``."""

    at_ms: int
    hold_id: str
    status: str
    units: int


class LiveSale(msgspec.Struct, frozen=True):
    """A sale as Redis has it at ``now_ms``. ``holds`` were taken in all; ``paying`` are in payment; ``overdue`` are
    held past their deadline and not swept; ``unsound`` counts products whose counters do not add up. What only
    Postgres can say is None without it.
    """

    id: str
    name: str
    status: str
    fenced: bool
    starts_ms: int
    ends_ms: int
    now_ms: int
    epoch: int
    seq: int
    stock: Stock
    products: list[LiveProduct]
    products_in_all: int
    holds: int
    paying: int
    overdue: int
    unsound: int
    expiries: list[Expiry]
    lag_events: int | None
    lag_seconds: float | None
    money: SaleMoney | None


class Promises(msgspec.Struct, frozen=True):
    """The breaches of each promise, as ``persistence.promises`` counts them: zero is well, None is not known without
    Postgres.
    """

    never_oversold: int | None
    no_money_without_a_thing: int | None
    no_stranded_stock: int | None
    once: int | None


class Waiting(msgspec.Struct, frozen=True):
    """Work that waits: webhook events by status, dues by kind, events set aside for people, orders that the last guard
    refused, and the age of the oldest authorisation that is not captured.
    """

    webhook_events: dict[str, int]
    payments_due: dict[str, int]
    events_set_aside: int
    orders_refused: int
    oldest_authorisation_seconds: float


class Live(msgspec.Struct, frozen=True):
    """The picture. ``postgres`` is false where it did not answer; then what it alone knows is None or empty."""

    postgres: bool
    promises: Promises
    waiting: Waiting | None
    notices: list[Notice]
    sales: list[LiveSale]


def read(db: Engine, redis: Client, grace_seconds: int = GRACE_SECONDS) -> Live:
    """All of it, once. ``grace_seconds`` is the setting ``payment_grace_seconds``. Raises ``RedisError``; a Postgres
    that is away is said in the picture.
    """
    rows = None
    with suppress(SQLAlchemyError):
        rows = live_rows.read(db, redis, grace_seconds)
    return picture(read_sales(redis, rows), rows)


def picture(sales: list[LiveSale], rows: Rows | None) -> Live:
    """Put both parts together; ``rows`` is None where Postgres did not answer."""
    unsound = sum(sale.unsound for sale in sales)
    return Live(
        postgres=rows is not None,
        promises=_promises(unsound, rows.promises if rows else {}),
        waiting=Waiting(
            rows.figures.webhook_events,
            rows.figures.payments_due,
            rows.figures.events_set_aside,
            rows.figures.orders_refused,
            rows.figures.oldest_authorisation_seconds,
        )
        if rows
        else None,
        notices=rows.notices if rows else [],
        sales=sales,
    )


def _promises(unsound: int, broken: Mapping[Promise, int]) -> Promises:
    """Counters that do not add up are seen at once, before the slower look has counted them."""
    found: dict[str, int | None] = {name: broken.get(name) for name in PROMISES}
    found["never_oversold"] = max(unsound, found["never_oversold"] or 0) if broken else unsound or None
    return Promises(**found)


def read_sales(redis: Client, rows: Rows | None, known: Sequence[str] = ()) -> list[LiveSale]:
    """The newest sales that Redis has, as they are now. Without ``rows``, ``known`` names them; without either, the
    sales that products are in. A sale whose server of a cluster is away is left out. Raises ``RedisError`` where none
    answers.
    """
    sale_ids = list(rows.cursors) if rows else list(known) or _claiming(redis)
    found, away = [], None
    for sale_id in sale_ids[:SALES_MAX]:
        try:
            found.append(_read_sale(redis, sale_id, rows))
        except RedisError as error:
            away = error
    if away and not found:
        raise away
    return [sale for sale in found if sale is not None]


def _claiming(redis: Client) -> list[str]:
    names: Any = redis.hvals(keys.PRODUCTS)
    return sorted({name.decode() for name in names})


def _read_sale(redis: Client, sale_id: str, rows: Rows | None) -> LiveSale | None:
    shown = run(redis, commands.show(sale_id))
    sale = shown.sale
    if sale is None:
        return None
    products = list(shown.products.values())
    counts = _count(redis, sale_id, [each.id for each in products[:PRODUCTS_MAX]], shown.now_ms)
    cursor = rows.cursors.get(sale_id) if rows else None
    behind, age = _lag(redis, sale, cursor, shown)
    return LiveSale(
        id=sale.id,
        name=sale.name,
        status=sale.status_at(shown.now_ms),
        fenced=sale.fenced,
        starts_ms=sale.starts_ms,
        ends_ms=sale.ends_ms,
        now_ms=shown.now_ms,
        epoch=shown.position.epoch,
        seq=shown.position.seq,
        stock=Stock(*(sum(getattr(each, name) for each in products) for name in Stock.__struct_fields__)),
        products=[_product(each) for each in products[:PRODUCTS_MAX]],
        products_in_all=len(products),
        unsound=sum(not _is_sound(each) for each in products),
        lag_events=behind,
        lag_seconds=age,
        money=rows.sales.get(sale_id) if rows else None,
        **counts,
    )


def _product(state: ProductState) -> LiveProduct:
    stock = Stock(state.total, state.available, state.held, state.sold)
    return LiveProduct(state.id, state.name, state.price, state.currency, stock)


def _is_sound(state: ProductState) -> bool:
    adds_up = state.available + state.held + state.sold == state.total
    return adds_up and min(state.available, state.held, state.sold) >= 0


def _lag(redis: Client, sale: SaleState, cursor: Position | None, shown: Shown) -> tuple[int | None, float | None]:
    if cursor is None or cursor.epoch != shown.position.epoch:
        return None, None
    return max(shown.position.seq - cursor.seq, 0), lag_seconds(redis, sale.id, cursor, shown)


def _count(redis: Client, sale_id: str, products: Sequence[str], now_ms: int) -> dict[str, Any]:
    """Holds by what they wait for, from the ends of the sorted sets."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.hlen(keys.holds(sale_id))
    sets = [keys.payments(sale_id), *(keys.deadlines(sale_id, product) for product in products)]
    pipeline.zcard(sets[0])
    for each in sets[1:]:
        pipeline.zcount(each, "-inf", now_ms - OVERDUE_MS)
    for each in sets:
        pipeline.zrange(each, 0, EXPIRIES_MAX - 1, withscores=True)
    holds, paying, *rest = pipeline.execute()
    overdue, ends = rest[: len(products)], rest[len(products) :]
    soonest = sorted({(int(score), token.decode()) for end in ends for token, score in end})[:EXPIRIES_MAX]
    return {
        "holds": holds,
        "paying": paying,
        "overdue": sum(overdue),
        "expiries": _expiries(redis, sale_id, soonest),
    }


def _expiries(redis: Client, sale_id: str, soonest: Sequence[tuple[int, str]]) -> list[Expiry]:
    """Those of the holds that still wait: a deadline may outlive its hold."""
    if not soonest:
        return []
    _, records = run(redis, commands.peek(sale_id, [token for _, token in soonest]))
    return [
        Expiry(at_ms, ids.hold_id(sale_id, token), record.status, _units(record))
        for (at_ms, token), record in zip(soonest, records, strict=True)
        if record is not None and record.status in ("held", "paying")
    ]


def _units(record: HoldRecord) -> int:
    return sum(line.qty - line.returned for line in record.lines)
