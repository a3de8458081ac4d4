"""Questions to many sales at once, wherever each of them lies; above all where they stand."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from engine import keys
from engine.cluster import by_server
from engine.command import Client
from engine.records import Position


@dataclass(frozen=True, slots=True)
class Head:
    """``position`` and ``mark`` are the last event's; None where Redis does not have the sale, or has no whole numbers
    for it.
    """

    position: Position | None
    mark: str
    fenced: bool


def ask_each(
    client: Client, sale_ids: Iterable[str], ask: Callable[[Any, str], None], *, raises: bool = True
) -> tuple[dict[str, list[Any]], dict[str, RedisError]]:
    """Ask many sales the same: ``ask(pipeline, sale_id)`` queues the commands of one. The answers of each sale; and the
    sales whose server did not answer, with what it said instead, for the others are not held up by them. Where a
    command is refused, its error is the answer if not ``raises``. Raises ``RedisError`` where no server answered.
    """
    answers: dict[str, list[Any]] = {}
    away: dict[str, RedisError] = {}
    for group in by_server(client, sale_ids):
        try:
            answers.update(_ask(client, group, ask, raises))
        except RedisError as error:
            away.update(dict.fromkeys(group, error))
    if away and not answers:
        raise next(iter(away.values()))
    return answers, away


def _ask(client: Client, group: list[str], ask: Callable[[Any, str], None], raises: bool) -> dict[str, list[Any]]:
    pipeline = client.pipeline(transaction=False)
    for sale_id in group:
        ask(pipeline, sale_id)
    found = pipeline.execute(raise_on_error=raises)
    size = len(found) // len(group)
    return {sale_id: found[at * size : (at + 1) * size] for at, sale_id in enumerate(group)}


def read_heads(client: Client, sale_ids: Iterable[str]) -> tuple[dict[str, Head], dict[str, RedisError]]:
    """Where each sale stands, and the sales whose server is away. Raises as ``ask_each``."""

    def ask(pipeline: Any, sale_id: str) -> None:
        pipeline.hmget(keys.sale(sale_id), ["epoch", "seq", "mark", "fenced"])

    answers, away = ask_each(client, sale_ids, ask)
    return {sale_id: _head(*values) for sale_id, [values] in answers.items()}, away


def read_marks(client: Client, positions: Mapping[str, Position]) -> dict[str, str]:
    """The mark of each sale's event at its position, empty where there is none. Sales whose server is away, or whose
    stream cannot be read, are left out. Raises as ``ask_each``.
    """

    def ask(pipeline: Any, sale_id: str) -> None:
        entry = positions[sale_id].entry
        pipeline.xrange(keys.events(sale_id), entry, entry)

    answers, _ = ask_each(client, positions, ask, raises=False)
    return {
        sale_id: found[0][1].get(b"mark", b"").decode(errors="replace") if found else ""
        for sale_id, [found] in answers.items()
        if isinstance(found, list)
    }


def _head(epoch: Any, seq: Any, mark: Any, fenced: Any) -> Head:
    try:
        position = Position(int(epoch), int(seq))
    except (TypeError, ValueError):
        position = None
    return Head(position, (mark or b"").decode(errors="replace"), fenced == b"1")
