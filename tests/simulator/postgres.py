"""The simulation with a real Postgres behind the stream: the drain, the fence and the rebuild are the real ones."""

from contextlib import suppress
from typing import Any, Final

from redis.exceptions import ConnectionError
from sqlalchemy import Connection, Engine, event, text

from engine import keys
from engine.command import Client
from engine.outcomes import Outcome
from engine.records import HoldRecord, Position
from persistence import orders
from persistence.archive import hold_record
from persistence.drain import Astray, drain_once
from persistence.rebuild import Lineage, batched, lineage, rebuild
from tests.simulator import steps
from tests.simulator.doing import Simulation
from tests.simulator.steps import token
from tests.simulator.wire import Wire
from tests.simulator.world import SALE, Broken, difference, read_entries

_TABLES = "sales, cursors, products, labels, holds, orders, order_lines, payments, ledger, order_changes, set_aside"


ORDER_OF: Final = {
    "held": "pending_payment",
    "paying": "pending_payment",
    "sold": "paid",
    "released": "cancelled",
    "expired": "cancelled",
}
"""What an order is, by its hold's status. ``held`` is one whose check-out Redis lost."""


class Stopped(RuntimeError):
    """The process was killed here."""


class Dying:
    """A client whose connection is lost after some script calls: the last of them has happened, unheard."""

    def __init__(self, client: Client, calls: int) -> None:
        self._client = client
        self._left = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def evalsha(self, *arguments: Any) -> Any:
        if self._left < 0:
            raise ConnectionError
        self._left -= 1
        reply = self._client.evalsha(*arguments)
        if self._left < 0:
            raise ConnectionError
        return reply


class PostgresSimulation(Simulation):
    """``db`` is a migrated database of its own; ``client`` speaks to the same Redis as ``wire``."""

    def __init__(self, wire: Wire, client: Client, db: Engine) -> None:
        self.client, self.db = client, db
        super().__init__(wire)

    def start(self) -> None:
        super().start()
        with self.db.begin() as conn:
            conn.execute(text(f"TRUNCATE {_TABLES} CASCADE"))
            conn.execute(
                text("INSERT INTO sales (id, name, hold_ttl_ms, payment_ttl_ms) VALUES (:sale, '', 1, 1)"),
                {"sale": SALE},
            )
            conn.execute(text("INSERT INTO cursors (sale_id) VALUES (:sale)"), {"sale": SALE})

    def _order(self, of: str, record: HoldRecord) -> None:
        if self.follower.order(of, record, self.model.now):
            with self.db.begin() as conn:
                orders.insert_orders(conn, SALE, [orders.NewOrder(of, record, self.model.now)])

    def _restock(self, step: steps.Restock) -> None:
        """A refund is an order's, and there is an order only where somebody checked out."""
        record = self.model.holds.get(token(step.hold))
        if not record or record.status != "sold" or record.checkout:
            super()._restock(step)

    def _drain(self, step: steps.Drain) -> None:
        at, intact = self.follower.position, self.intact()
        self._check_lineage(intact=intact)
        try:
            if step.crashes:
                self._stopped_drain(step.events)
            else:
                drained = drain_once(self.db, self.client, SALE, entries=step.events)
                assert drained
                if intact:
                    self.follow(self.history[at.seq : drained.position.seq])
                if drained.position != self.follower.position:
                    raise Broken(f"the drain stands at {drained.position}, not {self.follower.position}")
        except Astray:
            if intact or not at.seq:
                raise Broken(f"nothing was lost, and the drain from {at.entry} went astray") from None
        else:
            if at.seq and not intact:
                raise Broken(f"the drain went on from {at.entry}, which Redis has lost")
        self.compare()
        self.compare_tables()

    def _stopped_drain(self, events: int) -> None:
        """It did all but commit."""

        def stop(_: Connection) -> None:
            raise Stopped

        event.listen(self.db, "commit", stop)
        try:
            with suppress(Stopped):
                drain_once(self.db, self.client, SALE, entries=events)
        finally:
            event.remove(self.db, "commit", stop)

    def _check_lineage(self, *, intact: bool) -> None:
        if self.follower.sale is None:
            return
        found = lineage(self.client, SALE, self.follower.position, self.follower.mark)
        wanted = Lineage.INTACT if intact and not self.model.fenced else Lineage.REDIS_LOST_DATA
        if found is not wanted:
            raise Broken(f"the fence sees {found}, and it is {wanted}")

    def compare_tables(self) -> None:
        """Every row is what the events said."""
        follower = self.follower
        with self.db.connect() as conn:
            [cursor] = conn.execute(text("SELECT epoch, seq, mark FROM cursors"))
            products = {row.id: row for row in conn.execute(text("SELECT * FROM products"))}
            holds: dict[str, HoldRecord] = {}
            for row in conn.execute(text("SELECT * FROM holds")):
                holds[row.id[-20:]] = hold_record(row, row.status)
                if row.refused:
                    raise Broken(f"the last guard refused {row.id}")
            ordered = {row.id[-20:]: row.status for row in conn.execute(text("SELECT id, status FROM orders"))}
            left = conn.execute(text("SELECT entry, error FROM set_aside")).first()
            ledger = conn.execute(
                text("""SELECT product_id, sum(qty) FILTER (WHERE to_counter = 'sold') AS came,
                               sum(qty) FILTER (WHERE from_counter = 'sold') AS went FROM ledger GROUP BY 1""")
            )
            sold = {row.product_id: (row.came or 0) - (row.went or 0) for row in ledger}
        if left:
            raise Broken(f"an event was set aside: {left}")
        if (Position(cursor.epoch, cursor.seq), cursor.mark) != (follower.position, follower.mark):
            raise Broken(f"the cursor is {cursor}, not {follower.position} {follower.mark}")
        for of, status in ordered.items():
            hold = holds.get(of)
            if hold and not self.within_a_call() and status != ORDER_OF[hold.status]:
                raise Broken(f"the hold {of} is {hold.status}, its order {status}")
        if holds != follower.holds:
            raise Broken(f"holds in Postgres: {difference(holds, follower.holds)}")
        for product, counters in follower.projection.counters.items():
            row = products[product]
            if (row.total, row.held, row.sold) != (counters.total, counters.held, counters.sold):
                raise Broken(f"Postgres has {row}, not {counters}")
            if sold.get(product, 0) != counters.sold:
                raise Broken(f"the ledger adds up to {sold.get(product, 0)} of {product} sold, not {counters.sold}")

    def _rebuild(self, step: steps.Rebuild) -> None:
        """One that is stopped is begun again at once, as the workers do."""
        follower, model = self.follower, self.model
        if follower.sale is None:
            return
        earlier = max(follower.position.epoch, model.epoch)
        if step.stops_after is not None:
            dying: Any = Dying(self.client, step.stops_after)
            with suppress(ConnectionError):
                rebuild(self.db, dying, SALE, batch=step.batch)
            self._follow_the_cursor()
        self._follow_the_rest()
        rebuilt = rebuild(self.db, self.client, SALE, batch=step.batch)
        epoch, expired = rebuilt.epoch, 0
        if not earlier < epoch <= earlier + 2:
            raise Broken(f"{rebuilt} after epoch {earlier}")
        follower.begin_epoch(epoch - 1)
        model.begin(self.now_ms, "")
        outcome = model.reset(epoch, follower.state, follower.sale, follower.items())
        assert outcome is Outcome.CHANGED
        for holds, known in ((follower.to_restore(), True), (follower.lost(), False)):
            for batch in batched(holds, step.batch):
                _, [count] = model.restore(epoch, batch, [], known=known)
                expired += count
        model.restore(epoch, [], list(follower.commands), known=True)
        model.fence(fenced=False, epoch=epoch)
        [mark, entries] = self.wire.send(
            ("HGET", keys.sale(SALE), "mark"), ("XRANGE", keys.events(SALE), f"{epoch}-0", "+")
        )
        model.last_mark = mark.decode()
        self.history, self.unfinished = read_entries(entries), False
        said = [(event.position, event.kind, event.holds) for event in self.history]
        if said != [(event.position, event.kind, event.holds) for event in model.events] or rebuilt.expired != expired:
            raise Broken(f"{rebuilt}: its events are\n  {said}\nand not\n  {model.events}")
        self.check()

    def _follow_the_cursor(self) -> None:
        """A rebuild that died had perhaps drained the rest, and perhaps begun its epoch."""
        with self.db.connect() as conn:
            [cursor] = conn.execute(text("SELECT epoch, seq FROM cursors"))
        at = self.follower.position
        if self.intact():
            self.follow(self.history[at.seq : cursor.seq if cursor.epoch == at.epoch else None])
        if cursor.epoch > at.epoch:
            self.follower.begin_epoch(cursor.epoch - 1)

    def _follow_the_rest(self) -> None:
        """What the rebuild drains before it begins: of an intact history, or of the epoch that another one began."""
        at = self.follower.position
        [entries] = self.wire.send(("XRANGE", keys.events(SALE), f"({at.entry}", "+"))
        events = [event for event in read_entries(entries) if event.position.epoch == at.epoch]
        if events and (at.seq == 0 or self.intact()):
            self.follow(events)
