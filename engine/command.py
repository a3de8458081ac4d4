"""A script call, described once and run by whoever has a connection: the API's async one or a worker's sync one."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
import redis
import redis.asyncio
from redis.exceptions import NoScriptError

import lua
from engine import ids, keys, tracing
from engine.outcomes import OF_SCRIPT, Outcome
from engine.records import Position

T = TypeVar("T")
Client = redis.Redis | redis.RedisCluster
AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster


class UnknownOutcome(RuntimeError):
    """A script answered a word that this version does not know."""


class Reply(NamedTuple):
    """What every script answers with: where the sale stands, Redis's time, a word, and what that word carries."""

    position: Position
    now_ms: int
    outcome: Outcome
    rest: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Command(Generic[T]):
    """A call without its I/O: the script, its keys, its packed argument, and how its reply reads."""

    script: lua.Script
    keys: list[str]
    argument: bytes
    read: Callable[[list[Any]], T]


def command(
    name: str, sale_id: str, read: Callable[[Reply], T], products: Sequence[str] = (), /, **argument: Any
) -> Command[T]:
    """Describe a call of ``lua/{name}.lua``. ``products`` are those whose deadlines the script may touch."""
    if products:
        argument["products"] = list(products)
    return Command(
        lua.script(name),
        keys.of_sale(sale_id, products),
        msgspec.msgpack.encode(argument),
        lambda raw: read(reply(name, raw)),
    )


def reply(name: str, raw: list[Any]) -> Reply:
    """Read the head of a reply. Raises ``UnknownOutcome`` for a word that is not the script's."""
    return Reply(Position(raw[0], raw[1]), raw[2], outcome(name, raw[3]), raw[4:])


def outcome(name: str, word: bytes) -> Outcome:
    """The word as an ``Outcome`` of that script. Raises ``UnknownOutcome``."""
    found = _OUTCOMES[name].get(word)
    if found is None:
        raise UnknownOutcome(f"{name}.lua answered {word!r}")
    return found


_OUTCOMES: Final = {name: {word.value.encode(): word for word in words} for name, words in OF_SCRIPT.items()}


def run(client: Client, call: Command[T]) -> T:
    """Run a command. Raises ``redis.exceptions.RedisError`` where Redis is away or refuses; then it may or may not
    have happened.
    """
    if not tracing.on:
        return _run(client, call)
    with tracing.span(f"{call.script.name}.lua", "client", db__system__name="redis"):
        return _run(client, call)


def _run(client: Client, call: Command[T]) -> T:
    keys_and_args: list[str | bytes] = [*call.keys, ids.new_mark(), call.argument]
    try:
        raw: Any = client.evalsha(call.script.sha, len(call.keys), *keys_and_args)
    except NoScriptError:
        raw = client.eval(call.script.source, len(call.keys), *keys_and_args)
    return call.read(raw)


async def run_async(client: AsyncClient, call: Command[T]) -> T:
    """The same on an async connection."""
    return await run_by(client.execute_command, call)


async def run_by(ask: Callable[..., Awaitable[Any]], call: Command[T]) -> T:
    """The same by whatever asks Redis a command and gives its reply."""
    keys_and_args = (len(call.keys), *call.keys, ids.new_mark(), call.argument)
    try:
        raw = await ask("EVALSHA", call.script.sha, *keys_and_args)
    except NoScriptError:
        raw = await ask("EVAL", call.script.source, *keys_and_args)
    return call.read(raw)
