"""Many holds at once, straight through the scripts: what HTTP brought in a long sale is there in seconds."""

from dataclasses import replace
from itertools import count
from typing import Any

import redis

from engine import commands, ids
from engine.command import run
from engine.commands import HoldRequest

BATCH = 256

_customers = count(1)


def requests(product: str, how_many: int) -> list[HoldRequest]:
    """One unit each, every customer another one, with an id of 20 characters."""
    return [HoldRequest(ids.new_token(), f"customer-{next(_customers):011}", ((product, 1),)) for _ in range(how_many)]


def fill(client: redis.Redis, sale_id: str, product: str, how_many: int, batch: int = BATCH) -> None:
    """Take that many holds. Raises ``RuntimeError`` where one was refused."""
    left = how_many
    while left:
        size = min(batch, left)
        # Reading 256 records costs Python more than taking them costs Redis.
        call = replace(commands.hold(sale_id, requests(product, size)), read=_count_held)
        held: Any = run(client, call)
        if held != size:
            raise RuntimeError(f"only {held} of {size} holds were taken")
        left -= size


def _count_held(raw: list[Any]) -> Any:
    return raw[3::2].count(b"held")
