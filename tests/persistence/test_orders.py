"""Orders are written once, with the names of the moment of the hold; the feed never changes its order."""

import threading
from collections.abc import Sequence

import pytest
from sqlalchemy import Engine, text, update

from engine import ids, shapes
from engine.records import HoldRecord, Line
from persistence import feed, orders
from persistence.orders import NewOrder
from persistence.tables import orders as orders_table

CREATED_MS = 1_795_000_000_000


@pytest.fixture
def shop(db: Engine) -> Engine:
    """A sale of sneakers (renamed once: rev 2) and socks, without any order."""
    with db.begin() as conn:
        for statement in (
            "INSERT INTO sales (id, name, hold_ttl_ms, payment_ttl_ms) VALUES ('bf', 'BF', 1, 1)",
            (
                "INSERT INTO products (sale_id, id, name, price, currency, loaded, rev, total)"
                " VALUES ('bf', 'sneaker', 'Newer', 900, 'usd', 9, 2, 9), ('bf', 'sock', 'Sock', 50, 'usd', 9, 1, 9)"
            ),
            (
                "INSERT INTO labels (sale_id, product_id, rev, name, price, currency)"
                " VALUES ('bf', 'sneaker', 1, 'Sneaker', 1000, 'usd'), ('bf', 'sneaker', 2, 'Newer', 900, 'usd'),"
                " ('bf', 'sock', 1, 'Sock', 50, 'usd')"
            ),
        ):
            conn.execute(text(statement))
    return db


def new_order(*lines: Line, customer: str = "ann", **metadata: str) -> NewOrder:
    lines = lines or (Line("sneaker", 2, 1000, 1), Line("sock", 1, 50, 1))
    record = HoldRecord("paying", customer, "usd", CREATED_MS - 9, CREATED_MS, lines, CREATED_MS + 9, "first")
    return NewOrder(ids.new_token(), record, CREATED_MS, metadata)


def place(db: Engine, new: Sequence[NewOrder]) -> list[str]:
    with db.begin() as conn:
        written = orders.insert_orders(conn, "bf", new)
        feed.append(conn, written)
        return written


def changes(db: Engine, after: int = 0, limit: int = 100) -> list[shapes.OrderChange]:
    with db.connect() as conn:
        return feed.read(conn, after, limit)


def test_an_order_reads_as_it_was_won(shop: Engine) -> None:
    new = new_order(gift="yes")
    order_id = ids.order_id("bf", new.token)
    assert place(shop, [new]) == [order_id]

    with shop.connect() as conn:
        order = orders.read_order(conn, order_id)
        assert orders.read_order(conn, ids.order_id("bf", ids.new_token())) is None
    usd = shapes.Money
    assert order == shapes.Order(
        id=order_id,
        hold_id=ids.hold_id("bf", new.token),
        sale_id="bf",
        customer_id="ann",
        status="pending_payment",
        lines=[
            shapes.OrderLine("sneaker", "Sneaker", 2, usd(1000, "usd")),
            shapes.OrderLine("sock", "Sock", 1, usd(50, "usd")),
        ],
        total=usd(2050, "usd"),
        payment=shapes.Payment("stripe", None, None, "requires_payment_method"),
        amount_refunded=usd(0, "usd"),
        metadata={"gift": "yes"},
        created_at=shapes.rfc3339_ms(CREATED_MS),
    )


def test_hundreds_are_written_together_and_each_once(shop: Engine) -> None:
    new = [new_order(customer=f"customer-{n}") for n in range(300)]
    assert len(place(shop, new[:100])) == 100

    assert set(place(shop, new)) == {ids.order_id("bf", order.token) for order in new[100:]}
    assert place(shop, new) == []
    with shop.connect() as conn:
        counted = conn.execute(
            text("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_lines), count(*) FROM payments")
        ).one()
        wanted = [ids.order_id("bf", order.token) for order in new]
        assert [order.id for order in orders.read_orders(conn, [*wanted, "order_none"])] == wanted
    assert tuple(counted) == (300, 600, 300)


def test_a_label_that_was_not_drained_yet_writes_nothing(shop: Engine) -> None:
    with pytest.raises(LookupError, match=r"\('sock', 7\)"):
        place(shop, [new_order(), new_order(Line("sock", 1, 50, 7))])
    with shop.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM orders")) == 0
        assert orders.label_names(conn, "bf", [("sneaker", 1), ("sneaker", 2)]) == {
            ("sneaker", 1): "Sneaker",
            ("sneaker", 2): "Newer",
        }


def test_the_feed_shows_each_change_as_it_was_then(shop: Engine) -> None:
    [first] = place(shop, [new_order()])
    [second] = place(shop, [new_order(customer="bob")])
    with shop.begin() as conn:
        conn.execute(update(orders_table).where(orders_table.c.id == first).values(status="cancelled"))
        feed.append(conn, [first, first])

    seen = changes(shop)
    assert [(change.cursor, change.order.id, change.order.status) for change in seen] == [
        ("1", first, "pending_payment"),
        ("2", second, "pending_payment"),
        ("3", first, "cancelled"),
    ]
    assert changes(shop, after=1, limit=1) == seen[1:2]
    assert changes(shop, after=3) == []


def test_an_append_that_is_rolled_back_leaves_no_gap(shop: Engine) -> None:
    [order_id] = place(shop, [new_order()])
    with pytest.raises(LookupError, match="no such order"):
        place_change(shop, "order_bf_" + ids.new_token())
    place_change(shop, order_id)

    assert [change.cursor for change in changes(shop)] == ["1", "2"]


def test_a_reader_never_passes_a_change_that_commits_later(shop: Engine) -> None:
    [slow] = place(shop, [new_order()])
    [fast] = place(shop, [new_order()])
    with shop.connect() as holder:
        feed.append(holder, [slow])
        other = threading.Thread(target=place_change, args=(shop, fast))
        other.start()
        other.join(0.2)
        assert other.is_alive()
        assert [change.cursor for change in changes(shop)] == ["1", "2"]
        holder.commit()
    other.join()

    assert [(change.cursor, change.order.id) for change in changes(shop, after=2)] == [("3", slow), ("4", fast)]


def place_change(db: Engine, order_id: str) -> None:
    with db.begin() as conn:
        feed.append(conn, [order_id])
