"""Every script's call, described once: what it is asked, and how its answer reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec

import lua
from engine import keys
from engine.command import Command, Reply, UnknownOutcome, command, outcome
from engine.outcomes import Outcome
from engine.records import (
    HoldRecord,
    Position,
    ProductState,
    SaleState,
    pairs,
    product_states,
    sale_state,
    unpack,
)

RECLAIM_MAX = 400
"""Overdue holds that one batch of holds may end: about 3 ms of Redis's time."""

SET_MAX = 1000
"""Holds that one call checks out or settles: one event carries them all, and Lua's stack has room for 8,000 values."""


class HoldRequest(msgspec.Struct, frozen=True, gc=False):
    """Units that a customer wants: ``lines`` as (product, qty), each product once, at least one line."""

    token: str
    customer: str
    lines: tuple[tuple[str, int], ...]


class HoldAnswer(msgspec.Struct, frozen=True, gc=False):
    """What became of one request of a batch. ``hold`` is there for ``held`` and ``replayed``; ``product`` where one is
    at fault; ``limit``, ``held_or_bought`` and ``tokens`` (the customer's live holds) for ``limit_exceeded``;
    ``available``, ``held``, ``wait_ms`` (to the next deadline, -1 for none) and ``limit`` for ``sold_out``;
    ``starts_ms`` for ``not_started``.
    """

    position: Position
    now_ms: int
    outcome: Outcome
    hold: HoldRecord | None = None
    product: str = ""
    limit: int = 0
    held_or_bought: int = 0
    tokens: tuple[str, ...] = ()
    available: int = 0
    held: int = 0
    wait_ms: int = -1
    starts_ms: int = 0


@dataclass(frozen=True, slots=True)
class HoldChange:
    """What became of a hold that a script was to change. ``hold`` is its record afterwards, where there is one."""

    position: Position
    now_ms: int
    outcome: Outcome
    hold: HoldRecord | None = None
    product: str = ""


@dataclass(frozen=True, slots=True)
class StockChange:
    """What became of a change to stock. ``seq`` is the event that says it; the figures say why it was refused."""

    position: Position
    outcome: Outcome
    product: str = ""
    wanted_total: int = 0
    held: int = 0
    sold: int = 0

    @property
    def done_at(self) -> Position:
        return self.position


@dataclass(frozen=True, slots=True)
class Shown:
    """A sale and its products at one moment; ``sale`` is None where Redis does not have it."""

    position: Position
    now_ms: int
    sale: SaleState | None
    products: dict[str, ProductState]


def hold(sale_id: str, requests: Sequence[HoldRequest], reclaim_max: int = RECLAIM_MAX) -> Command[list[HoldAnswer]]:
    """Take units for many customers in one step. The answers are in the order of the requests."""
    baskets: dict[tuple[tuple[str, int], ...], int] = {}
    for request in requests:
        baskets.setdefault(request.lines, len(baskets) + 1)
    products = list(dict.fromkeys(product for lines in baskets for product, _ in lines))
    argument = {
        "products": products,
        "baskets": [list(chain.from_iterable(lines)) for lines in baskets],
        "tokens": [request.token for request in requests],
        "names": [request.customer for request in requests],
        "picks": [baskets[request.lines] for request in requests],
        "reclaim_max": reclaim_max,
    }
    return Command(
        lua.script("hold"),
        keys.of_sale(sale_id, products),
        msgspec.msgpack.encode(argument),
        lambda raw: _read_hold_answers(raw, len(requests)),
    )


def _read_hold_answers(raw: list[Any], expected: int) -> list[HoldAnswer]:
    words, details = raw[3::2], raw[4::2]
    if not len(words) == len(details) == expected:  # or somebody would get somebody else's answer
        raise UnknownOutcome(f"hold.lua gave {len(words)} answers to {expected} requests")
    position, now_ms = Position(raw[0], raw[1]), raw[2]
    return [_read_hold_answer(position, now_ms, word, detail) for word, detail in zip(words, details, strict=True)]


def _read_hold_answer(position: Position, now_ms: int, said: bytes, detail: Any) -> HoldAnswer:
    word = outcome("hold", said)
    match word:
        case Outcome.HELD | Outcome.REPLAYED:
            return HoldAnswer(position, now_ms, word, hold=unpack(detail))
        case Outcome.SOLD_OUT:
            product, available, held, wait_ms, limit = detail
            return HoldAnswer(
                position,
                now_ms,
                word,
                product=product.decode(),
                available=available,
                held=held,
                wait_ms=wait_ms,
                limit=limit,
            )
        case Outcome.LIMIT_EXCEEDED:
            product, limit, held_or_bought, tokens = detail
            return HoldAnswer(
                position,
                now_ms,
                word,
                product=product.decode(),
                limit=limit,
                held_or_bought=held_or_bought,
                tokens=tuple(token for token in tokens.decode().split(",") if token),
            )
        case Outcome.NOT_STARTED:
            return HoldAnswer(position, now_ms, word, starts_ms=detail)
        case Outcome.UNKNOWN_PRODUCT | Outcome.MIXED_CURRENCIES:
            return HoldAnswer(position, now_ms, word, product=detail.decode())
        case _:
            return HoldAnswer(position, now_ms, word)


def _read_hold_change(reply: Reply) -> HoldChange:
    match reply.outcome, reply.rest:
        case ((Outcome.LIMIT_EXCEEDED | Outcome.SOLD_OUT | Outcome.TOO_MANY), [product]):
            return HoldChange(reply.position, reply.now_ms, reply.outcome, product=product.decode())
        case _, [bytes(record)]:
            return HoldChange(reply.position, reply.now_ms, reply.outcome, hold=unpack(record))
        case _, [int(seq)]:
            position = Position(reply.position.epoch, seq)
            return HoldChange(position, reply.now_ms, reply.outcome)
        case _:
            return HoldChange(reply.position, reply.now_ms, reply.outcome)


def checkout(
    sale_id: str, tokens: Sequence[str], products: Sequence[str], checkout_ids: Sequence[str]
) -> Command[list[HoldChange]]:
    """Held holds enter payment, each for the request of its own ``checkout_ids`` alone: ``paying``, or ``replayed`` for
    the same request again. The answers are in the order of the tokens.
    """
    return _change_holds("checkout", sale_id, tokens, products, checkouts=checkout_ids)


def settle(sale_id: str, tokens: Sequence[str], products: Sequence[str]) -> Command[list[HoldChange]]:
    """The money of these holds is authorised: each is ``settled``, or ``replayed`` where it was before. The answers are
    in the order of the tokens.
    """
    return _change_holds("settle", sale_id, tokens, products)


def _change_holds(
    name: str, sale_id: str, tokens: Sequence[str], products: Sequence[str], **more: Sequence[str]
) -> Command[list[HoldChange]]:
    if len(tokens) > SET_MAX:
        raise ValueError(f"{SET_MAX} holds are changed at once at most")
    return Command(
        lua.script(name),
        keys.of_sale(sale_id, products),
        msgspec.msgpack.encode({"products": products, "tokens": tokens, **more}),
        lambda raw: _read_hold_changes(name, raw, len(tokens)),
    )


def _read_hold_changes(name: str, raw: list[Any], expected: int) -> list[HoldChange]:
    if len(raw) - 3 != expected:
        raise UnknownOutcome(f"{name}.lua gave {len(raw) - 3} answers to {expected} tokens")
    position, now_ms = Position(raw[0], raw[1]), raw[2]
    return [
        HoldChange(position, now_ms, outcome(name, word), unpack(record[0]) if record else None)
        for word, *record in raw[3:]
    ]


def retake(sale_id: str, token: str) -> Command[HoldChange]:
    """Late money takes an expired hold's units again, if they are there: ``retaken``."""
    return command("retake", sale_id, _read_hold_change, token=token)


def release(sale_id: str, token: str, products: Sequence[str]) -> Command[HoldChange]:
    """A customer gives a held hold back: ``released``, ``expired`` or ``unchanged``."""
    return command("release", sale_id, _read_hold_change, products, token=token)


def cancel(sale_id: str, token: str, products: Sequence[str], ending: str) -> Command[HoldChange]:
    """An order ends without money: its hold becomes ``ending`` (``released`` or ``expired``). Ask the payment provider
    first.
    """
    return command("cancel", sale_id, _read_hold_change, products, token=token, ending=ending)


def restock(sale_id: str, token: str, command_id: str, lines: Sequence[tuple[str, int]]) -> Command[HoldChange]:
    """Units of a sold hold come back for sale, once for each ``command_id``: ``restocked`` or ``replayed``, at
    ``position``.
    """
    return command("restock", sale_id, _read_hold_change, token=token, command=command_id, lines=lines)


def expire(sale_id: str, products: Sequence[str], limit: int) -> Command[tuple[int, bool]]:
    """End overdue holds of these products, ``limit`` at most. Reads as (how many ended, whether the limit was
    reached).
    """
    if not 0 < limit <= 1000:  # one event carries them all, and Lua's stack has room for 8,000 values
        raise ValueError("limit is 1 to 1000")
    return command("expire", sale_id, _read_expired, products, limit=limit)


def _read_expired(reply: Reply) -> tuple[int, bool]:
    return (reply.rest[0], bool(reply.rest[1])) if reply.outcome is Outcome.EXPIRED else (0, False)


class LoadItem(msgspec.Struct, frozen=True):
    """A product of a sale file, in minor units; 0 stands for no ``compare_at`` and no ``limit``."""

    id: str
    name: str
    price: int
    compare_at: int
    currency: str
    stock: int
    limit: int


def load(
    sale_id: str,
    *,
    create: bool,
    name: str,
    starts_ms: int,
    ends_ms: int,
    hold_ttl_ms: int,
    payment_ttl_ms: int,
    items: Sequence[LoadItem],
) -> Command[StockChange]:
    """Put a sale on sale or bring it up to date: ``loaded``, ``unchanged`` or ``below_committed``."""
    return command(
        "load",
        sale_id,
        _read_stock_change,
        create=int(create),
        name=name,
        starts_ms=starts_ms,
        ends_ms=ends_ms,
        hold_ttl_ms=hold_ttl_ms,
        payment_ttl_ms=payment_ttl_ms,
        items=items,
    )


def adjust(sale_id: str, product: str, delta: int, reason: str, command_id: str) -> Command[StockChange]:
    """Add or take stock, once for each ``command_id``: ``adjusted`` or ``replayed``, done at ``position``; or
    ``below_committed``.
    """
    return command(
        "adjust", sale_id, _read_stock_change, product=product, delta=delta, reason=reason, command=command_id
    )


def _read_stock_change(reply: Reply) -> StockChange:
    match reply.rest:
        case [bytes(product), int(wanted), int(held), int(sold)]:
            return StockChange(reply.position, reply.outcome, product.decode(), wanted, held, sold)
        case [int(wanted), int(held), int(sold)]:
            return StockChange(reply.position, reply.outcome, "", wanted, held, sold)
        case [int(seq)]:
            return StockChange(Position(reply.position.epoch, seq), reply.outcome)
        case _:
            return StockChange(reply.position, reply.outcome)


def control(sale_id: str, state: str, *, reopen: bool = False) -> Command[Reply]:
    """People set a sale ``paused``, ``open`` or ``ended``: ``changed``, ``unchanged``; ``ended`` without ``reopen``."""
    return command("control", sale_id, lambda reply: reply, state=state, reopen=int(reopen))


def show(sale_id: str, only: Sequence[str] | None = None) -> Command[Shown]:
    """A sale and its stock at one moment; with ``only``, of these products (an unknown one is left out)."""
    return command("show", sale_id, lambda reply: _read_shown(sale_id, reply), only=only)


def _read_shown(sale_id: str, reply: Reply) -> Shown:
    if reply.outcome is Outcome.NO_SALE:
        return Shown(reply.position, reply.now_ms, None, {})
    sale, stock = reply.rest
    return Shown(reply.position, reply.now_ms, sale_state(sale_id, pairs(sale)), product_states(pairs(stock)))


def peek(sale_id: str, tokens: Sequence[str]) -> Command[tuple[Reply, list[HoldRecord | None]]]:
    """Holds as they are, in the order of ``tokens``, with Redis's time in the reply; all None where Redis lost the
    sale.
    """

    def read(reply: Reply) -> tuple[Reply, list[HoldRecord | None]]:
        if reply.outcome is Outcome.NO_SALE:
            return reply, [None] * len(tokens)
        return reply, [unpack(record) if record else None for record in reply.rest]

    return command("peek", sale_id, read, tokens=tokens)


def trim(sale_id: str, cursor: Position, mark: str, keep: int) -> Command[Reply]:
    """Drop events up to ``keep`` before the cursor's, if the cursor's entry is there with its mark: ``trimmed`` or
    ``astray``.
    """
    keep_from = Position(cursor.epoch, max(cursor.seq - keep, 0)).entry
    return command("trim", sale_id, lambda reply: reply, cursor=cursor.entry, cursor_mark=mark, keep_from=keep_from)


def mend(
    sale_id: str,
    repairs: int,
    counters: Sequence[tuple[str, str, int]] = (),
    customers: Sequence[tuple[str, str, str]] = (),
) -> Command[Reply]:
    """Bring back (product, field, difference) and (field, value seen, value): ``mended``, or ``overtaken``."""
    return command("mend", sale_id, lambda reply: reply, repairs=repairs, counters=counters, customers=customers)


def fence(sale_id: str, *, fenced: bool, epoch: int = 0) -> Command[Reply]:
    """Shut a sale whose data cannot be trusted, or free it (with ``epoch`` in that one only): ``changed`` or not."""
    return command("fence", sale_id, lambda reply: reply, fenced=int(fenced), epoch=epoch)


class ResetItem(msgspec.Struct, frozen=True):
    """A product as a rebuild begins with it; 0 stands for no ``compare_at`` and no ``limit``."""

    id: str
    name: str
    price: int
    compare_at: int
    currency: str
    limit: int
    loaded: int
    rev: int
    total: int


def reset(sale_id: str, epoch: int, settings: Mapping[str, str | int], items: Sequence[ResetItem]) -> Command[Reply]:
    """Begin a sale again under a new epoch, fenced, without holds: ``changed``, or ``overtaken`` by a later rebuild."""
    flat = [part for pair in settings.items() for part in pair]
    products = [item.id for item in items]
    return command("reset", sale_id, lambda reply: reply, products, epoch=epoch, settings=flat, items=items)


def restore(
    sale_id: str,
    epoch: int,
    holds: Sequence[tuple[str, HoldRecord]] = (),
    commands: Sequence[str] = (),
    *,
    known: bool = True,
) -> Command[Reply]:
    """Bring back holds as (token, record) and ids of done commands: ``restored``, and how many did not fit. With
    ``known`` false the holds' own events were lost, and happen again.
    """
    products = list(dict.fromkeys(product for _, record in holds for product in record.products))
    return command(
        "restore", sale_id, lambda reply: reply, products, epoch=epoch, known=int(known), holds=holds, commands=commands
    )
