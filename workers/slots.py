"""How many slices of a kind run at once, over all machines. A slot is a key that its slice keeps alive: a slice
whose process was killed loses it within two seconds, one that waits for Postgres keeps it.
"""

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import redis
import structlog
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from workers.queues import Kind

SLOTS = 2
"""Slots of each kind. The second is for spare workers only: see ``take``."""
SLOT_SECONDS = 2.0
REFRESH_SECONDS = 0.5

log = structlog.get_logger()


def slot_key(kind: Kind, number: int) -> str:
    return f"fs:slice:{kind.value}:{number}"


def kinds_without_slice(queue: redis.Redis) -> set[Kind]:
    """The kinds whose first slot nobody has."""
    kinds = list(Kind)
    values = queue.mget([slot_key(kind, 0) for kind in kinds])
    return {kind for kind, value in zip(kinds, values, strict=True) if value is None}


class Slot:
    """A slot that is ours until it is left or lost. ``lost`` is set where somebody else has it by now. A Redis that was
    away, or came back with older data, has merely forgotten whose it is.
    """

    def __init__(self, queue: redis.Redis, kind: Kind, number: int) -> None:
        self.kind = kind
        self.number = number
        self.lost = threading.Event()
        self._left = threading.Event()
        self._lock = Lock(queue, slot_key(kind, number), timeout=SLOT_SECONDS, thread_local=False)
        self._keeper = threading.Thread(target=self._keep, name=f"slot-{kind.value}", daemon=True)

    def take(self) -> bool:
        """Whether it was free; it is ours then."""
        if not self._lock.acquire(blocking=False):
            return False
        self._keeper.start()
        return True

    def leave(self) -> None:
        self._left.set()
        self._keeper.join()
        with contextlib.suppress(LockError, RedisError):
            self._lock.release()

    def _keep(self) -> None:
        while not self._left.wait(REFRESH_SECONDS):
            try:
                if not self._hold_on():
                    self.lost.set()
                    return
            except RedisError as error:
                log.warning("slot_not_refreshed", kind=self.kind.value, error=str(error))

    def _hold_on(self) -> bool:
        """Whether it is ours for longer, or again."""
        try:
            return self._lock.reacquire()
        except LockError:
            return bool(self._lock.acquire(blocking=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


@contextlib.contextmanager
def take(queue: redis.Redis, kind: Kind) -> Iterator[Slot | None]:
    """A free slot of this kind, or None. A second slice of a kind starts only where every kind has its first, so
    that with few workers no kind is left without one.
    """
    slot = _free_slot(queue, kind)
    if slot is None:
        yield None
        return
    with slot:
        yield slot


def _free_slot(queue: redis.Redis, kind: Kind) -> Slot | None:
    for number in range(SLOTS):
        if number and kinds_without_slice(queue):
            return None
        slot = Slot(queue, kind, number)
        if slot.take():
            return slot
    return None
