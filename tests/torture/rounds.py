"""One round: a sale, a fault in the middle of it, and what was broken by it."""

import random
import re
import time
from dataclasses import dataclass, field

from engine.records import Position
from tests.torture import promises
from tests.torture.ledger import Ledger
from tests.torture.stage import Sale, Stage

EVENTS_BEFORE, EVENTS_LOST = 30, 30
"""Drained events of a sale before Redis's files are copied, and between the copy and the roll-back, at least."""
STORIES_MAX = 5
GROW_SECONDS = NOTICE_SECONDS = 300.0


@dataclass(slots=True)
class Round:
    """``broken`` is empty where every promise was kept. Times in seconds."""

    what: str
    holds: int = 0
    paid: int = 0
    lost: int = 0
    recovered: float = 0.0
    noticed: float = 0.0
    selling: float = 0.0
    settled: float = 0.0
    waited_for: str = ""
    """What it took most of that time to settle."""
    broken: list[str] = field(default_factory=list)


def kill_in_a_sale(stage: Stage, component: str, luck: random.Random) -> Round:
    """SIGKILL at a random moment; no data is lost by it."""
    found = Round(f"SIGKILL {component}")
    sale = stage.open_sale()
    crowd = stage.crowd(sale, luck.randrange(1_000_000))
    crowd.start()
    time.sleep(luck.uniform(0.2, 1.5))
    stage.kill(component, luck)
    time.sleep(luck.uniform(0, 0.5))
    found.recovered = stage.recover()
    time.sleep(luck.uniform(0.3, 0.8))
    crowd.leave()
    _finish(stage, sale, crowd.ledger, found)
    found.broken += promises.no_hold_lost(stage, sale, crowd.ledger)
    found.broken += promises.nothing_forgotten(stage, sale)
    found.broken += _stories(stage, found.broken)
    return found


def roll_back_in_a_sale(stage: Stage, luck: random.Random, *, grown: bool) -> Round:
    """Redis with an older copy of its files. ``grown``: nobody looks before it has more events again than Postgres."""
    found = Round("rolled back, grown past the cursor" if grown else "rolled back")
    sale = stage.open_sale()
    crowd = stage.crowd(sale, luck.randrange(1_000_000), loses_data=True)
    crowd.start()
    _drained_past(stage, sale, EVENTS_BEFORE)
    older = stage.copy_redis()
    _drained_past(stage, sale, stage.show(sale).position.seq + EVENTS_LOST)
    time.sleep(luck.uniform(0, 0.4))
    if grown:
        stage.stop_workers()
        time.sleep(luck.uniform(0, 0.3))
    stage.redis.kill()
    known, cursor = stage.drained(sale)
    stage.roll_back_redis(older)
    with stage.client() as client:
        dead = stage.drainers(client)  # their slots came back with the old files
    if grown:
        # Buyers who cancel wait for the workers, in the end all of them: somebody new comes, or the sale stands still.
        stage.wait(
            lambda: stage.sells(sale) and stage.show(sale).position.seq > cursor.seq,
            f"{sale.id} grows past {cursor}",
            GROW_SECONDS,
        )
    restored_at = _watch(stage, sale, cursor, found, dead if grown else None)
    found.broken += promises.known_is_restored(stage, sale, known)
    time.sleep(luck.uniform(0.3, 0.8))
    stage.recover()
    crowd.leave()
    _finish(stage, sale, crowd.ledger, found)
    found.broken += promises.unknown_is_lost(stage, sale, crowd.ledger, restored_at)
    found.broken += _stories(stage, found.broken)
    return found


def _drained_past(stage: Stage, sale: Sale, seq: int) -> None:
    stage.wait(lambda: stage.cursor(sale).seq > seq, f"{sale.id} is drained past {seq}", GROW_SECONDS)


def _watch(stage: Stage, sale: Sale, before: Position, found: Round, dead: set[bytes] | None) -> float:
    """Until the sale sells again after its rebuild; when that was. Times count from now, or from the moment at which
    a drainer ran again that is none of the ``dead``.
    """
    began = time.monotonic()
    looks = dead is None
    end = began + NOTICE_SECONDS
    with stage.client() as client:
        while True:
            assert time.monotonic() < end, f"{sale.id} was not rebuilt in {NOTICE_SECONDS:g} s"
            stage.supervise()
            if dead is not None and not looks and stage.drainers(client) - dead:
                began, looks = time.monotonic(), True
            epoch, fenced = stage.epoch(client, sale)
            if not found.noticed and (fenced or epoch > before.epoch):
                found.noticed = time.monotonic() - began
            if epoch > before.epoch and not fenced and stage.sells(sale):
                found.selling = time.monotonic() - began
                return time.time()
            time.sleep(0.003)


def _finish(stage: Stage, sale: Sale, ledger: Ledger, found: Round) -> None:
    """Wait until all is settled, and look at what must be true after any fault."""
    try:
        found.settled, found.waited_for = stage.settle(sale)
    except AssertionError as error:
        found.broken.append(str(error))
    found.holds, found.paid, found.lost = len(ledger.told), ledger.count("paid", "captured"), ledger.count("lost")
    found.broken += promises.nothing_oversold(stage, sale)
    found.broken += promises.no_word_broken(stage, sale, ledger)
    found.broken += promises.no_payment_unsettled(stage, sale)
    found.broken += promises.reconciled(stage, sale)


def _stories(stage: Stage, broken: list[str]) -> list[str]:
    """What both stores and the provider have of each order or payment that a breach names."""
    named = sorted(set(re.findall(r"(?:order|hold|pi)_[A-Za-z0-9_-]+", " ".join(broken))))
    return [line for each in named[:STORIES_MAX] for line in stage.story(each)]
