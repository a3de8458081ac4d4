"""The life of a sale: loaded, paused, resumed, ended, its stock adjusted. Redis decides; each call returns once
Postgres has the event.
"""

from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection, Engine, func, select, text, update
from sqlalchemy.dialects import postgresql

from engine import commands, shapes
from engine.command import Client, Command, run
from engine.outcomes import Outcome
from engine.records import Position
from persistence import housekeeping, overview
from persistence.audit import last_action, note
from persistence.database import reading
from persistence.drain import Astray, NotDrained, drain_to
from persistence.housekeeping import republish, retire
from persistence.overview import list_sales, show_sale
from persistence.refusals import Refusal
from persistence.salefile import STOCK_MAX, SaleFile
from persistence.tables import claims, cursors, ledger, sales

__all__ = [
    "LoadResult",
    "NotWithdrawn",
    "adjust_stock",
    "list_sales",
    "load_sale",
    "republish",
    "retire",
    "set_state",
    "show_sale",
    "withdraw",
]

RETRY_SECONDS: Final = 2
REASON_MAX_CHARACTERS: Final = 500

Verb = Literal["pause", "resume", "end"]
_STATES: Final[dict[str, str]] = {"pause": "paused", "resume": "open", "end": "ended"}


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The sale as it is now; ``changed`` is false where the file said nothing new."""

    sale: shapes.Sale
    changed: bool


def load_sale(db: Engine, redis: Client, file: SaleFile) -> LoadResult:
    """Put a sale on sale or bring it up to date; the same file again changes nothing. Raises ``Refusal``:
    ``product_in_other_sale``, ``stock_below_committed``, ``sale_ended`` (put away), ``sale_unavailable``,
    ``unavailable``; then nothing changed.
    """
    with db.begin() as conn:
        create = _take_sale(conn, file)
        _claim_products(conn, file)
        change = run(redis, _load(file, create=create))
        match change.outcome:
            case Outcome.BELOW_COMMITTED:
                raise _below_committed(change.product, change)
            case Outcome.NO_SALE | Outcome.FENCED:
                raise _unavailable(file.id)
        opened = _reopen(conn, redis, file.id)
        changed = opened is not None or change.outcome is Outcome.LOADED
        if changed:
            note(conn, "load", file.id, products=len(file.products))
    housekeeping.publish(redis, {product.id: file.id for product in file.products})
    _drain(db, redis, file.id, opened or change.position)
    return LoadResult(show_sale(db, redis, file.id), changed)


def _reopen(conn: Connection, redis: Client, sale_id: str) -> Position | None:
    """Open a sale that was withdrawn; the event's position, or None where it was not."""
    if not _is_withdrawn(conn, sale_id):
        return None
    reply = run(redis, commands.control(sale_id, _STATES["resume"], reopen=True))
    return reply.position if reply.outcome is Outcome.CHANGED else None


def _is_withdrawn(conn: Connection, sale_id: str) -> bool:
    return last_action(conn, sale_id, ("load", "end", "withdraw")) == "withdraw"


def _take_sale(conn: Connection, file: SaleFile) -> bool:
    """Write the sale's row and keep it locked, so that loads of one sale come one after the other. True where Redis
    may not have it yet: once Postgres has an event of it, a Redis without it has lost it.
    """
    definition = {
        "name": file.name,
        "starts_at": file.starts_at,
        "ends_at": file.ends_at,
        "hold_ttl_ms": file.hold_ttl_seconds * 1000,
        "payment_ttl_ms": file.payment_ttl_seconds * 1000,
    }
    retired_at = conn.scalar(
        postgresql.insert(sales)
        .values(id=file.id, **definition)
        .on_conflict_do_update(index_elements=["id"], set_=definition)
        .returning(sales.c.retired_at)
    )
    if retired_at is not None:
        raise put_away(file.id)
    conn.execute(postgresql.insert(cursors).values(sale_id=file.id).on_conflict_do_nothing())
    row = conn.execute(select(cursors.c.epoch, cursors.c.seq).where(cursors.c.sale_id == file.id)).one()
    return Position(row.epoch, row.seq) == Position(1, 0)


_OTHERS = text("""
    SELECT product_id, sale_id FROM claims JOIN sales ON sales.id = sale_id
     WHERE product_id = ANY(:products) AND sale_id <> :sale
       AND state <> 'ended' AND (ends_at IS NULL OR ends_at > now())""")


def _claim_products(conn: Connection, file: SaleFile) -> None:
    """Each product for this sale. Another sale's is taken over if that sale has ended, and refused if not."""
    wanted = sorted(product.id for product in file.products)
    mine = postgresql.insert(claims).values([{"product_id": product, "sale_id": file.id} for product in wanted])
    # Changes nothing where there is a claim, but locks it; whether its sale has ended is asked after that.
    conn.execute(mine.on_conflict_do_update(index_elements=["product_id"], set_={"sale_id": claims.c.sale_id}))
    refuse_claimed(conn, file)
    conn.execute(
        update(claims).where(claims.c.product_id.in_(wanted), claims.c.sale_id != file.id).values(sale_id=file.id)
    )


def refuse_claimed(conn: Connection, file: SaleFile) -> None:
    """Raises ``Refusal``: product_in_other_sale, for the file's first product that a sale has which has not ended."""
    wanted = [product.id for product in file.products]
    others = {row.product_id: row.sale_id for row in conn.execute(_OTHERS, {"products": wanted, "sale": file.id})}
    for product in wanted:
        if other := others.get(product):
            raise Refusal(
                "product_in_other_sale",
                f"Product {product} is in sale {other}, which has not ended.",
                product_id=product,
                sale_id=other,
            )


def _load(file: SaleFile, *, create: bool) -> Command[commands.StockChange]:
    return commands.load(
        file.id,
        create=create,
        name=file.name,
        starts_ms=shapes.to_ms(file.starts_at) if file.starts_at else 0,
        ends_ms=shapes.to_ms(file.ends_at) if file.ends_at else 0,
        hold_ttl_ms=file.hold_ttl_seconds * 1000,
        payment_ttl_ms=file.payment_ttl_seconds * 1000,
        items=[
            commands.LoadItem(
                id=product.id,
                name=product.name,
                price=product.price.amount,
                compare_at=product.compare_at_price.amount if product.compare_at_price else 0,
                currency=product.price.currency,
                stock=product.stock,
                limit=product.per_customer_limit or 0,
            )
            for product in file.products
        ],
    )


def set_state(db: Engine, redis: Client, sale_id: str, state: Verb) -> shapes.Sale:
    """``pause``, ``resume`` or ``end`` a sale; one that is so already stays so. Raises ``Refusal``:
    ``sale_not_found``, ``sale_ended`` (an ended sale is not paused or resumed), ``sale_unavailable``,
    ``unavailable``.
    """
    before = show_sale(db, redis, sale_id)
    if before.status == "ended" and state != "end":
        raise _ended(sale_id)
    if before.status == "ended" and overview.is_retired(db, sale_id):
        return before
    reply = run(redis, commands.control(sale_id, _STATES[state]))
    match reply.outcome:
        case Outcome.NO_SALE | Outcome.FENCED:
            raise _unavailable(sale_id)
        case Outcome.ENDED:
            raise _ended(sale_id)
        case Outcome.CHANGED:
            with db.begin() as conn:
                note(conn, state, sale_id)
        case _ if state == "end":
            _end_withdrawn(db, sale_id)
    _drain(db, redis, sale_id, reply.position)
    return show_sale(db, redis, sale_id)


def _end_withdrawn(db: Engine, sale_id: str) -> None:
    """A withdrawn sale that people end stays ended."""
    with db.begin() as conn:
        if _is_withdrawn(conn, sale_id):
            note(conn, "end", sale_id)


class NotWithdrawn(Exception):
    """A sale that cannot be withdrawn; the message says why, and what to do instead."""


def withdraw(db: Engine, redis: Client, sale_id: str) -> shapes.Sale:
    """End a scheduled sale that has had no hold, so that its products are free for another sale and its file can be
    loaded again. Raises ``NotWithdrawn``, and ``Refusal`` as ``set_state``.
    """
    before = show_sale(db, redis, sale_id)
    if before.status == "ended":
        with reading(db) as conn:
            if _is_withdrawn(conn, sale_id):
                return before
    if before.fenced:
        raise _unavailable(sale_id)
    if before.status not in ("scheduled", "paused") or not _is_ahead(db, sale_id):
        raise NotWithdrawn(
            f"sale {sale_id} is {before.status} and not scheduled: `flashsale sale end {sale_id}` ends it for good"
        )
    if any(each.stock.held or each.stock.sold for each in before.products) or _had_holds(db, sale_id):
        raise NotWithdrawn(f"sale {sale_id} has had holds: `flashsale sale end {sale_id}` ends it for good")
    with db.begin() as conn:  # first, so that the next load knows it, also after a crash
        note(conn, "withdraw", sale_id)
    reply = run(redis, commands.control(sale_id, _STATES["end"]))
    if reply.outcome in (Outcome.NO_SALE, Outcome.FENCED):
        raise _unavailable(sale_id)
    _drain(db, redis, sale_id, reply.position)
    return show_sale(db, redis, sale_id)


def _is_ahead(db: Engine, sale_id: str) -> bool:
    """Whether its start is still to come."""
    with reading(db) as conn:
        return bool(conn.scalar(select(sales.c.starts_at > func.now()).where(sales.c.id == sale_id)))


def _had_holds(db: Engine, sale_id: str) -> bool:
    with reading(db) as conn:
        moved = ledger.c.sale_id == sale_id, ledger.c.hold_id.is_not(None)
        return conn.scalar(select(ledger.c.id).where(*moved).limit(1)) is not None


def adjust_stock(
    db: Engine, redis: Client, product_id: str, delta: int, reason: str, command_id: str
) -> shapes.Product:
    """Add or take units of a product, once for each ``command_id``. Raises ``Refusal``: ``validation_error``,
    ``product_not_found``, ``stock_below_committed``, ``sale_unavailable``, ``unavailable``.
    """
    _check_adjustment(delta, reason)
    with reading(db) as conn:
        sale_id = conn.scalar(select(claims.c.sale_id).where(claims.c.product_id == product_id))
    if sale_id is None:
        raise Refusal("product_not_found", f"There is no product {product_id[:64]!r} in a sale.")
    change = run(redis, commands.adjust(sale_id, product_id, delta, reason, command_id))
    match change.outcome:
        case Outcome.BELOW_COMMITTED:
            raise _below_committed(product_id, change)
        case Outcome.NO_SALE | Outcome.FENCED | Outcome.UNKNOWN_PRODUCT:
            raise _unavailable(sale_id)
        case Outcome.ADJUSTED:
            with db.begin() as conn:
                note(conn, "adjust", product_id, sale_id=sale_id, delta=delta, reason=reason)
    _drain(db, redis, sale_id, change.position)
    shown = run(redis, commands.show(sale_id, [product_id]))
    if shown.sale is None or product_id not in shown.products:
        raise _unavailable(sale_id)
    return shapes.product(shown.sale, shown.products[product_id], shown.now_ms)


def _check_adjustment(delta: int, reason: str) -> None:
    errors = []
    if delta == 0 or not -STOCK_MAX <= delta <= STOCK_MAX:
        errors.append({"field": "delta", "message": f"must be a whole number from -{STOCK_MAX} to {STOCK_MAX}, not 0"})
    if not reason.strip() or len(reason) > REASON_MAX_CHARACTERS or "\0" in reason:
        errors.append({"field": "reason", "message": f"must be text of 1 to {REASON_MAX_CHARACTERS} characters"})
    if errors:
        raise Refusal("validation_error", f"{errors[0]['field']} {errors[0]['message']}.", errors=errors)


def _drain(db: Engine, redis: Client, sale_id: str, position: Position) -> None:
    try:
        drain_to(db, redis, sale_id, position)
    except NotDrained as error:
        raise Refusal(
            "unavailable", "It is done, but not in Postgres yet: the same again is safe.", retry_after=RETRY_SECONDS
        ) from error
    except Astray as error:
        raise _unavailable(sale_id) from error


def _below_committed(product_id: str, change: commands.StockChange) -> Refusal:
    return below_committed(product_id, change.wanted_total, change.held, change.sold)


def below_committed(product_id: str, total: int, held: int, sold: int) -> Refusal:
    """The refusal of a change after which a product would have ``total`` units."""
    return Refusal(
        "stock_below_committed",
        f"Product {product_id} would have {total} units; {held} are held and {sold} sold.",
        product_id=product_id,
        total=total,
        held=held,
        sold=sold,
    )


def put_away(sale_id: str) -> Refusal:
    """The refusal of a load under the id of a retired sale."""
    return Refusal("sale_ended", f"Sale {sale_id} ended and was put away: give the new sale an id of its own.")


def _unavailable(sale_id: str) -> Refusal:
    return Refusal("sale_unavailable", f"Sale {sale_id} is being restored. Try again.", retry_after=RETRY_SECONDS)


def _ended(sale_id: str) -> Refusal:
    return Refusal("sale_ended", f"Sale {sale_id} has ended: it cannot be paused or resumed.")
