"""The bodies that requests carry, decoded strictly, with all faults of a body named at once."""

import types
import typing
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Final, Generic, TypeVar
from unicodedata import category

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.wire import FAULTS_MAX, FIELD_MAX_CHARACTERS, invalid
from engine import ids
from persistence import salefile

T = TypeVar("T", bound=msgspec.Struct)
Fault = tuple[str, str]
"""The field and what is wrong with it."""

QTY_MAX: Final = 99
LINES_MAX: Final = 20
METADATA_MAX: Final = 20
DEPTH_MAX: Final = 32
"""Levels of brackets that a body may nest: several times what any body of this API has."""

Name = Annotated[str, Meta(min_length=1, max_length=64, description="An id that the shop chose.")]
Qty = Annotated[int, Meta(ge=1, le=QTY_MAX)]
CustomerId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        description="The shop's id of a customer: no control characters, no blanks around it, compared as it is.",
        # Looked at by ``customer_faults``: here it costs a hold nothing.
        extra_json_schema={"pattern": r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$"},
    ),
]
ProviderId = Annotated[str, Meta(min_length=1, max_length=255)]
MetadataKey = Annotated[str, Meta(min_length=1, max_length=40)]
MetadataValue = Annotated[str, Meta(max_length=500)]
Text = Annotated[str, Meta(min_length=1, max_length=500)]
FileId = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=f"^{ids.NAME.pattern}$", description="An id that the shop chose.")
]
FileName = Annotated[str, Meta(min_length=1, max_length=salefile.NAME_MAX_CHARACTERS)]
LifetimeSeconds = Annotated[int, Meta(ge=1, le=salefile.TTL_MAX_SECONDS)]


class HoldLineBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Units of one product."""

    product_id: Name
    qty: Qty


class HoldBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a customer wants: either ``lines``, or ``product_id`` and ``qty``."""

    customer_id: CustomerId
    lines: Annotated[list[HoldLineBody], Meta(min_length=1, max_length=LINES_MAX)] | UnsetType = UNSET
    product_id: Name | UnsetType = UNSET
    qty: Qty | UnsetType = UNSET


class OrderBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hold to order. ``payment_method_id`` (a saved card, with its ``payment_customer_id``) is charged at once."""

    hold_id: Annotated[str, Meta(min_length=1, max_length=255)]
    payment_method_id: ProviderId | None = None
    payment_customer_id: ProviderId | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=METADATA_MAX)] | None = None


class PayBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another card for an order whose payment failed."""

    payment_method_id: ProviderId


class StockBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Units to add, or to take where ``delta`` is below zero, and why."""

    delta: Annotated[int, Meta(ge=-salefile.STOCK_MAX, le=salefile.STOCK_MAX)]
    reason: Text


class RefundLineBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Units of one product that return."""

    product_id: Name
    qty: Qty


class RefundBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``amount`` in minor units of the order's currency (absent: all that is left); ``lines`` are the units that
    return, back on sale where ``restock`` is true.
    """

    amount: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    reason: Text | None = None
    lines: Annotated[list[RefundLineBody], Meta(min_length=1, max_length=LINES_MAX)] | None = None
    restock: bool | None = None


class EmptyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing: no body at all, or ``{}``."""


class MoneyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An amount in minor units, and its currency in lower case."""

    amount: Annotated[int, Meta(ge=1, le=salefile.PRICE_MAX)]
    currency: Annotated[str, Meta(pattern="^[a-z]{3}$")]


class FileProductBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A product of a sale file; ``stock`` is the units that it has in all."""

    id: FileId
    name: FileName
    price: MoneyBody
    stock: Annotated[int, Meta(ge=0, le=salefile.STOCK_MAX)]
    compare_at_price: MoneyBody | None = None
    per_customer_limit: Annotated[int, Meta(ge=1, le=salefile.LIMIT_MAX)] | None = None


class SaleFileBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sale file, as described; ``persistence.salefile`` reads it. Without ``starts_at`` it is live at once, without
    ``ends_at`` it is open until ended.
    """

    name: FileName
    products: Annotated[list[FileProductBody], Meta(min_length=1, max_length=salefile.PRODUCTS_MAX)]
    id: FileId | UnsetType = UNSET
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    hold_ttl_seconds: LifetimeSeconds = 120
    payment_ttl_seconds: LifetimeSeconds = 300


class EventDataBody(msgspec.Struct, frozen=True):
    """What the event is about."""

    object: dict[str, Any]


class EventBody(msgspec.Struct, frozen=True):
    """An event of the payment provider, as described; ``payments.inbox`` reads it."""

    id: str
    type: str
    data: EventDataBody


class Body(Generic[T]):
    """A body's decoder: msgspec's own where all is well, and a slower look at everything where it is not."""

    def __init__(self, shape: type[T], also: Callable[[Any], list[Fault]] | None = None) -> None:
        """``also`` names the faults of a JSON value that no type can say."""
        self._shape = shape
        self._also = also
        self._decode = msgspec.json.Decoder(shape).decode

    def decode(self, body: bytes) -> T:
        """Raises ``Refusal``: validation_error, 400 where the body is no JSON."""
        if b"\\u0000" not in body:
            try:
                return self._decode(body)
            except (ValueError, RecursionError):
                pass  # looked at below
        value = decode_json(body)
        faults = [
            *faults_of(self._shape, value, ""),
            *nul_faults(value),
            *(self._also(value) if self._also else []),
        ]
        if faults:
            raise invalid(faults)
        return msgspec.convert(value, self._shape)


def decode_json(body: bytes) -> Any:
    """Raises ``Refusal``: validation_error with status 400."""
    try:
        value = msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise invalid([("body", "is not UTF-8")], status=400) from error
    except RecursionError as error:
        raise invalid([("body", "is nested too deeply")], status=400) from error
    except ValueError as error:
        raise invalid([("body", f"is no JSON: {error}")], status=400) from error
    if _is_deep(value):
        raise invalid([("body", "is nested too deeply")], status=400)
    return value


def _is_deep(value: Any) -> bool:
    """Whether a JSON value nests deeper than ``DEPTH_MAX``; looked at level by level, without recursion."""
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        below: list[Any] = []
        for each in level:
            if isinstance(each, list):
                below += each
            elif isinstance(each, dict):
                below += each.values()
        if not below:
            return False
        level = below
    return True


def _at(path: str, name: str) -> str:
    name = name or '""'
    return f"{path}.{name}" if path else name


def faults_of(kind: Any, value: Any, path: str) -> list[Fault]:
    """Every fault of a JSON value against a type, as (field, message); fields read ``lines[0].qty``."""
    kind, metas = _unwrap(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct_faults(kind, value, path)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is list and isinstance(value, list):
        own = _own_faults(Annotated[list[Any], *metas] if metas else list[Any], value, path)
        return own + [
            fault for i, item in enumerate(value[:LINES_MAX]) for fault in faults_of(args[0], item, f"{path}[{i}]")
        ]
    if origin is dict and isinstance(value, dict):
        own = _own_faults(Annotated[dict[str, Any], *metas] if metas else dict[str, Any], value, path)
        return own + [
            fault
            for key, item in list(value.items())[:METADATA_MAX]
            for fault in (
                *_own_faults(args[0], key, _at(path, key[:40])),
                *faults_of(args[1], item, _at(path, key[:40])),
            )
        ]
    return _own_faults(Annotated[kind, *metas] if metas else kind, value, path)


def _unwrap(kind: Any) -> tuple[Any, list[Any]]:
    """A field's type without ``| UNSET``, ``| None`` around containers, and its metadata."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [each for each in typing.get_args(kind) if each is not UnsetType]
        inner = [each for each in members if each is not types.NoneType]
        if len(members) == 1 or (len(inner) == 1 and _is_container(inner[0])):
            return _unwrap(inner[0])
        return typing.Union[tuple(members)], []  # noqa: UP007 - built from values
    if typing.get_origin(kind) is Annotated:
        inner_kind, *metas = typing.get_args(kind)
        return inner_kind, metas
    return kind, []


def _is_container(kind: Any) -> bool:
    return typing.get_origin(_unwrap(kind)[0]) in (list, dict)


def _own_faults(kind: Any, value: Any, path: str) -> list[Fault]:
    try:
        msgspec.convert(value, kind, strict=True)
    except (msgspec.ValidationError, RecursionError) as error:
        return [(path or "body", str(error).partition(" - at ")[0])]
    return []


def _struct_faults(shape: type[msgspec.Struct], value: Any, path: str) -> list[Fault]:
    if not isinstance(value, dict):
        return _own_faults(dict, value, path)
    kinds = typing.get_type_hints(shape, include_extras=True)
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    faults = []
    for name, field in fields.items():
        if name in value:
            if value[name] is None and _is_none_allowed(kinds[field.name]):
                continue
            faults += faults_of(kinds[field.name], value[name], _at(path, name))
        elif field.required:
            faults.append((_at(path, name), "is missing"))
    unknown = (name for name in value if name not in fields)
    return faults + [(_at(path, name[:64]), "is not a field of this body") for name in islice(unknown, FAULTS_MAX)]


def _is_none_allowed(kind: Any) -> bool:
    return types.NoneType in typing.get_args(kind)


def nul_faults(value: Any) -> list[Fault]:
    """A fault for each text that holds a NUL, ``FAULTS_MAX`` at most: Postgres has no place for it."""
    return list(islice(_nul_faults(value, ""), FAULTS_MAX))


def _nul_faults(value: Any, path: str) -> Iterator[Fault]:
    path = path[:FIELD_MAX_CHARACTERS]
    if isinstance(value, str):
        if "\0" in value:
            yield path or "body", "holds a NUL"
    elif isinstance(value, list):
        for i, item in enumerate(value):
            if isinstance(item, str | list | dict):
                yield from _nul_faults(item, f"{path}[{i}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if "\0" in key:
                yield path or "body", "has a key that holds a NUL"
            yield from _nul_faults(item, _at(path, key[:64].replace("\0", "")))


def hold_faults(value: Any) -> list[Fault]:
    """What is wrong between the fields of a ``HoldBody``: the two forms mixed, neither whole, a product wanted too
    often.
    """
    if not isinstance(value, dict):
        return []
    faults = customer_faults(value.get("customer_id"))
    if "lines" in value:
        both = [(name, "stands beside lines: send one or the other") for name in ("product_id", "qty") if name in value]
        return faults + both + _sum_faults(value["lines"])
    if "product_id" in value or "qty" in value:
        return faults + [(name, "is missing") for name in ("product_id", "qty") if name not in value]
    return [*faults, ("lines", "is missing")]


def customer_faults(customer_id: Any) -> list[Fault]:
    """A customer's id has no control characters, no line ends and no blanks around it. What else looks alike, the shop
    makes alike.
    """
    if not isinstance(customer_id, str) or not customer_id:
        return []
    if customer_id[0].isspace() or customer_id[-1].isspace():
        return [("customer_id", "has a blank before or after it")]
    # A NUL is told by itself.
    if not customer_id.isprintable() and any(category(each) in _CONTROL for each in customer_id.replace("\0", "")):
        return [("customer_id", "holds a control character")]
    return []


_CONTROL: Final = frozenset({"Cc", "Zl", "Zp"})


def _sum_faults(lines: Any) -> list[Fault]:
    faults, summed = [], dict[str, int]()
    for i, line in enumerate(lines if isinstance(lines, list) else []):
        match line:
            case {"product_id": str(product_id), "qty": int(qty)} if 1 <= qty <= QTY_MAX:
                summed[product_id] = summed.get(product_id, 0) + qty
                if summed[product_id] > QTY_MAX:
                    faults.append((f"lines[{i}].qty", f"all lines of a product are {QTY_MAX} together at most"))
    return faults


def stock_faults(value: Any) -> list[Fault]:
    """A change of nothing is none."""
    return [("delta", "is not 0")] if isinstance(value, dict) and value.get("delta") == 0 else []


def lines_of(body: HoldBody) -> tuple[tuple[str, int], ...]:
    """The lines of a hold, each product once, in the order of their first mention. Raises ``Refusal``:
    validation_error.
    """
    if body.lines is UNSET:
        if body.product_id is not UNSET and body.qty is not UNSET:
            return ((body.product_id, body.qty),)
    elif body.product_id is UNSET and body.qty is UNSET:
        summed: dict[str, int] = {}
        for line in body.lines:
            summed[line.product_id] = summed.get(line.product_id, 0) + line.qty
        if max(summed.values()) <= QTY_MAX:
            return tuple(summed.items())
    raise invalid(hold_faults(msgspec.to_builtins(body)))


def is_name(text: str) -> bool:
    """Whether a sale or a product could be called so: anything else is not looked up."""
    return ids.NAME.fullmatch(text) is not None
