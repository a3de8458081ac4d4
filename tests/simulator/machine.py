"""The same steps as Hypothesis chooses them: slower, and it shrinks by itself what it finds.

Every script has a rule (``RULE_OF``), or the tests fail.
"""

from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.simulator import steps
from tests.simulator.doing import Simulation
from tests.simulator.steps import PRODUCTS, Ask, Lines

holds: Final = st.integers(0, 5)
products: Final = st.integers(0, len(PRODUCTS) - 1)
again: Final = st.booleans()
lines: Final[st.SearchStrategy[Lines]] = st.lists(
    st.tuples(products, st.integers(1, 3)), min_size=1, max_size=3, unique_by=lambda line: line[0]
).map(tuple)
items: Final = st.lists(
    st.tuples(products, st.integers(1, 9), st.integers(0, 3), st.integers(0, 1)),
    min_size=1,
    max_size=3,
    unique_by=lambda item: item[0],
).map(tuple)


class SaleMachine(RuleBasedStateMachine):
    """A sale from its first file on. ``simulation`` is shared: each machine begins it anew."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self.simulation = simulation
        simulation.start()

    @initialize(stock=st.integers(1, 9), limit=st.integers(0, 3))
    def first_load(self, stock: int, limit: int) -> None:
        items = tuple((product, stock, limit if product == 0 else 0, 0) for product in range(len(PRODUCTS)))
        self.simulation.apply(steps.Load(items))

    @rule(asks=st.lists(st.builds(Ask, holds, lines), min_size=1, max_size=4).map(tuple), again=again)
    def hold(self, asks: tuple[Ask, ...], again: bool) -> None:
        self.simulation.apply(steps.Hold(asks, again=again))

    @rule(hold=holds, qty=st.integers(1, 3), reclaim_max=st.integers(1, 3))
    def hold_with_few_to_reclaim(self, hold: int, qty: int, reclaim_max: int) -> None:
        self.simulation.apply(steps.Hold((Ask(hold, ((0, qty),)),), reclaim_max))

    @rule(asks=st.lists(st.tuples(holds, st.integers(0, 1)), min_size=1, max_size=4).map(tuple), again=again)
    def checkout(self, asks: tuple[tuple[int, int], ...], again: bool) -> None:
        self.simulation.apply(steps.Checkout(asks, again))

    @rule(of=st.lists(holds, min_size=1, max_size=4).map(tuple), again=again)
    def settle(self, of: tuple[int, ...], again: bool) -> None:
        self.simulation.apply(steps.Settle(of, again))

    @rule(hold=holds, brought=st.sampled_from((9, 1)), again=again)
    def release(self, hold: int, brought: int, again: bool) -> None:
        self.simulation.apply(steps.Release(hold, brought, again))

    @rule(hold=holds, ending=st.sampled_from(("released", "expired")), again=again)
    def cancel(self, hold: int, ending: str, again: bool) -> None:
        self.simulation.apply(steps.Cancel(hold, ending, again))

    @rule(hold=holds, again=again)
    def retake(self, hold: int, again: bool) -> None:
        self.simulation.apply(steps.Retake(hold, again))

    @rule(hold=holds, refund=st.integers(0, 4), lines=lines, again=again)
    def restock(self, hold: int, refund: int, lines: Lines, again: bool) -> None:
        self.simulation.apply(steps.Restock(hold, refund, lines, again))

    @rule(of=st.permutations(range(len(PRODUCTS))), count=st.integers(1, 3), limit=st.sampled_from((1, 2, 100)))
    def expire(self, of: list[int], count: int, limit: int) -> None:
        self.simulation.apply(steps.Expire(tuple(of[:count]), limit))

    @rule(items=items, starts=st.sampled_from((0, 0, 30)), ends=st.sampled_from((0, 0, 200)), again=again)
    def load(self, items: Any, starts: int, ends: int, again: bool) -> None:
        self.simulation.apply(steps.Load(items, starts, ends, again=again))

    @rule(product=products, delta=st.integers(-6, 3).filter(bool), command=st.integers(0, 9), again=again)
    def adjust(self, product: int, delta: int, command: int, again: bool) -> None:
        self.simulation.apply(steps.Adjust(product, delta, command, again))

    @rule(state=st.sampled_from(("open", "open", "paused", "ended")), again=again)
    def control(self, state: str, again: bool) -> None:
        self.simulation.apply(steps.Control(state, again))

    @rule(only=st.none() | st.lists(products, unique=True).map(tuple), of=st.lists(holds, min_size=1).map(tuple))
    def look(self, only: tuple[int, ...] | None, of: tuple[int, ...]) -> None:
        self.simulation.apply(steps.Look(only, of))

    @rule(fenced=st.booleans(), epoch=st.none() | st.integers(-1, 1))
    def fence(self, fenced: bool, epoch: int | None) -> None:
        self.simulation.apply(steps.Fence(fenced, epoch))

    @rule(product=products, counter=st.sampled_from(("available", "held", "sold")), by=st.integers(-2, 5), again=again)
    def mend(self, product: int, counter: str, by: int, again: bool) -> None:
        self.simulation.apply(steps.Mend(product, counter, by, again))

    @rule(keep=st.integers(0, 5), ahead=st.sampled_from((0, 0, -1, 1)))
    def trim(self, keep: int, ahead: int) -> None:
        self.simulation.apply(steps.Trim(keep, ahead))

    @rule(ms=st.sampled_from((1, 20_000, 60_000, -5_000)))
    def time_passes(self, ms: int) -> None:
        self.simulation.apply(steps.Pass(ms))

    @rule(hold=holds, off=st.integers(-1, 1))
    def time_comes(self, hold: int, off: int) -> None:
        self.simulation.apply(steps.PassTo(hold, off))

    @rule(events=st.integers(1, 9), crashes=st.booleans())
    def drain(self, events: int, crashes: bool) -> None:
        self.simulation.apply(steps.Drain(events, crashes))

    @rule()
    def copy(self) -> None:
        self.simulation.apply(steps.Copy())

    @rule(everything=st.booleans())
    def lose(self, everything: bool) -> None:
        self.simulation.apply(steps.Lose(everything))

    @rule(batch=st.integers(1, 9), stops_after=st.none() | st.integers(0, 5), cut=st.sampled_from((0, 0, 2)))
    def rebuild(self, batch: int, stops_after: int | None, cut: int) -> None:
        self.simulation.apply(steps.Rebuild(batch, stops_after, cut))

    @rule()
    def overtaken(self) -> None:
        self.simulation.apply(steps.Overtaken())

    @invariant()
    def every_promise_holds(self) -> None:
        """Each call is checked where it is made; here, what it left."""
        self.simulation.check()
        self.simulation.compare()

    def teardown(self) -> None:
        self.simulation.apply(steps.Drain(10_000))


RULE_OF: Final[dict[str, Callable[..., None]]] = {
    "adjust": SaleMachine.adjust,
    "cancel": SaleMachine.cancel,
    "checkout": SaleMachine.checkout,
    "control": SaleMachine.control,
    "expire": SaleMachine.expire,
    "fence": SaleMachine.fence,
    "hold": SaleMachine.hold,
    "load": SaleMachine.load,
    "mend": SaleMachine.mend,
    "peek": SaleMachine.look,
    "release": SaleMachine.release,
    "reset": SaleMachine.rebuild,
    "restock": SaleMachine.restock,
    "restore": SaleMachine.rebuild,
    "retake": SaleMachine.retake,
    "settle": SaleMachine.settle,
    "show": SaleMachine.look,
    "trim": SaleMachine.trim,
}
