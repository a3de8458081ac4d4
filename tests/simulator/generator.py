"""Steps by chance, but not blindly: most are about holds and products that are there, in a state where they matter."""

from collections.abc import Callable
from itertools import accumulate
from random import Random
from typing import Final

from tests.simulator import steps
from tests.simulator.model import Model
from tests.simulator.steps import PRODUCTS, Ask, Lines, Step, token

RECLAIM_MAX: Final = (400, 400, 3, 2, 1)
LEANINGS: Final = (0.2, 1, 1, 3)


class Generator:
    """The next step after those that made the model what it is. Each schedule has its own leaning: steps that are rare
    in one are frequent in another, for what needs many of a kind is never met where all kinds are mixed alike.
    """

    def __init__(self, seed: int, *, faults: bool = True) -> None:
        random = Random(seed)
        self._seed, self._steps = seed, 0
        self._random = random
        self._asked: dict[int, Ask] = {}
        weighted: list[tuple[int, Callable[[Model], Step]]] = [
            (26, self._hold), (12, self._checkout), (9, self._settle), (6, self._release), (6, self._cancel),
            (5, self._retake), (8, self._restock), (6, self._expire), (2, self._load), (4, self._adjust),
            (2, self._control), (2, self._look), (1, self._mend), (3, self._trim), (5, self._pass), (6, self._pass_to),
            (6, self._drain), (1, self._fence),
        ]  # fmt: skip
        if faults and random.random() < 0.6:
            weighted += [(1, self._copy), (1, self._lose), (2, self._rebuild), (1, self._overtaken)]
        self._makers = [maker for _, maker in weighted]
        self._weights = list(accumulate(weight * random.choice(LEANINGS) for weight, _ in weighted))
        self._again_share = random.choice((0.02, 0.1, 0.3))
        self._unaimed_share = random.choice((0.1, 0.3))
        self._holds_max = random.choice((8, 30, 1000))
        self._lines_counts = random.choice(((1,), (1, 1, 2, 3), (2, 3)))
        self._qtys = random.choice(((1,), (1, 1, 2, 3), (2, 3)))

    def next(self, model: Model) -> Step:
        # Each step's chances are its own: what one step finds does not change which ones follow.
        self._steps += 1
        self._random.seed(self._seed * 1_000_003 + self._steps)
        if not model.exists and self._random.random() < 0.3:
            return self._random.choice((self._load, self._rebuild, self._overtaken))(model)
        if model.fenced and self._random.random() < 0.15:
            return self._rebuild(model)
        [maker] = self._random.choices(self._makers, cum_weights=self._weights)
        return maker(model)

    def _again(self) -> bool:
        return self._random.random() < self._again_share

    def _a_hold(self, model: Model, *statuses: str) -> int:
        """One in such a state, if a few tries find it."""
        if not self._asked:
            return 0
        number = 0
        for _ in range(1 if self._random.random() < self._unaimed_share else 5):
            number = self._random.randrange(len(self._asked) + 1)
            record = model.holds.get(token(number))
            if record and record.status in statuses:
                break
        return number

    def _lines(self) -> Lines:
        products = self._random.sample(range(len(PRODUCTS)), self._random.choice(self._lines_counts))
        return tuple((product, self._random.choice(self._qtys)) for product in products)

    def _ask(self) -> Ask:
        if self._asked and (self._random.random() < 0.2 or len(self._asked) >= self._holds_max):
            earlier = self._asked[self._random.randrange(len(self._asked))]
            return earlier if self._random.random() < 0.7 else Ask(earlier.hold, self._lines())
        number = len(self._asked)
        ask = Ask(number, self._lines())
        self._asked[number] = ask
        return ask

    def _ask_for_what_is_held(self, model: Model) -> Ask | None:
        """More than is available of a product that somebody holds or held: it may have been abandoned."""
        scarce = [product for product, id_ in enumerate(PRODUCTS) if model.deadlines.get(id_) and id_ in model.products]
        if not scarce:
            return None
        product = self._random.choice(scarce)
        ask = Ask(len(self._asked), ((product, model.available(PRODUCTS[product]) + self._random.choice((1, 2))),))
        self._asked[ask.hold] = ask
        return ask

    def _hold(self, model: Model) -> Step:
        aimed = self._ask_for_what_is_held(model) if self._random.random() < 0.25 else None
        asks = (aimed,) if aimed else tuple(self._ask() for _ in range(self._random.choice((1, 1, 2, 3, 5))))
        return steps.Hold(asks, self._random.choice(RECLAIM_MAX), self._again())

    def _checkout(self, model: Model) -> Step:
        count = self._random.choice((1, 1, 2, 4))
        asks = tuple((self._a_hold(model, "held"), self._random.randrange(2)) for _ in range(count))
        return steps.Checkout(asks, self._again())

    def _settle(self, model: Model) -> Step:
        count = self._random.choice((1, 1, 2, 4))
        return steps.Settle(tuple(self._a_hold(model, "paying", "held") for _ in range(count)), self._again())

    def _release(self, model: Model) -> Step:
        brought = self._random.choice((9, 9, 1))
        return steps.Release(self._a_hold(model, "held"), brought, self._again())

    def _cancel(self, model: Model) -> Step:
        ending = self._random.choice(("released", "expired", "expired"))
        return steps.Cancel(self._a_hold(model, "paying", "sold"), ending, self._again())

    def _retake(self, model: Model) -> Step:
        return steps.Retake(self._a_hold(model, "expired"), self._again())

    def _restock(self, model: Model) -> Step:
        hold = self._a_hold(model, "sold")
        lines: Lines = self._lines()
        if (ask := self._asked.get(hold)) and self._random.random() < 0.8:
            lines = tuple((product, self._random.choice((1, 1, qty))) for product, qty in ask.lines)
            lines = lines[: self._random.randint(1, len(lines))]
        return steps.Restock(hold, self._random.randrange(12), lines, self._again())

    def _expire(self, _: Model) -> Step:
        products = self._random.sample(range(len(PRODUCTS)), self._random.choice((1, 2, 3, 3)))
        return steps.Expire(tuple(products), self._random.choice((1, 2, 3, 100)), self._again())

    def _load(self, model: Model) -> Step:
        random = self._random
        if model.products and random.random() < 0.4:  # the same file again, perhaps with another window
            items = tuple(
                (PRODUCTS.index(id_), of.loaded, of.limit, of.price - 1000) for id_, of in model.products.items()
            )
        else:
            some = random.sample(range(len(PRODUCTS)), 2 if model.exists else random.choice((2, 3, 3)))
            items = tuple(
                (p, random.randint(2, 9), random.choice((0, 0, 2, 3)), random.choice((0, 0, 1))) for p in some
            )
        starts, ends = random.choice(((0, 0), (0, 0), (0, 0), (30, 0), (0, 100), (20, 300)))
        return steps.Load(items, starts, ends, random.choice((60, 60, 90)), self._again())

    def _adjust(self, _: Model) -> Step:
        delta = self._random.choice((-6, -2, -1, 1, 1, 2))
        return steps.Adjust(self._random.randrange(len(PRODUCTS)), delta, self._random.randrange(12), self._again())

    def _control(self, model: Model) -> Step:
        if model.state == "paused" and self._random.random() < 0.7:
            return steps.Control("open", self._again())
        return steps.Control(self._random.choice(("paused", "paused", "open", "open", "ended")), self._again())

    def _look(self, _: Model) -> Step:
        only = self._random.choice((None, (), (0,), (0, 2), (0, 1, 2)))
        return steps.Look(only, tuple(range(0, len(self._asked) + 1, 3)))

    def _fence(self, _: Model) -> Step:
        return steps.Fence(self._random.random() < 0.5, self._random.choice((None, 0, 0, -1, 1)))

    def _mend(self, _: Model) -> Step:
        counter = self._random.choice(("available", "held", "sold"))
        return steps.Mend(
            self._random.randrange(len(PRODUCTS)), counter, self._random.choice((-2, 1, 5)), self._again()
        )

    def _trim(self, _: Model) -> Step:
        return steps.Trim(self._random.choice((0, 1, 3, 50)), self._random.choice((0, 0, 0, -1, 1)))

    def _pass(self, _: Model) -> Step:
        return steps.Pass(self._random.choice((1, 1_000, 20_000, 60_000, 60_000, -5_000)))

    def _pass_to(self, model: Model) -> Step:
        hold = self._a_hold(model, "held", "paying") if self._random.random() < 0.9 else -1
        return steps.PassTo(hold, self._random.choice((-1, 0, 0, 0, 1)))

    def _drain(self, _: Model) -> Step:
        return steps.Drain(self._random.choice((1, 2, 5, 500, 500)), self._random.random() < 0.2)

    def _copy(self, _: Model) -> Step:
        return steps.Copy()

    def _lose(self, _: Model) -> Step:
        return steps.Lose(self._random.random() < 0.3)

    def _rebuild(self, _: Model) -> Step:
        stops = self._random.randrange(6) if self._random.random() < 0.3 else None
        return steps.Rebuild(self._random.choice((1, 3, 100)), stops, self._random.choice((0, 0, 0, 2, 9)))

    def _overtaken(self, _: Model) -> Step:
        return steps.Overtaken()
