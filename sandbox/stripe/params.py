"""Strict parameters: what the installed `stripe` package's typed parameters know, and nothing else.

Each `stripe.params` TypedDict is read once into a `Schema` (by its `__annotations__`: `typing.get_type_hints` fails on
most of them); nested ones on their first use. A `Literal[...] | str` in the package is an enum at Stripe, so only its
words pass.
"""

import importlib
import re
import sys
import types
import typing
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any

from stripe._request_options import RequestOptions

from sandbox.stripe.errors import Fault, invalid, missing
from sandbox.stripe.forms import Tree

OPTIONS = frozenset(RequestOptions.__annotations__)
TEXT_MAX = 5000
WHOLE = re.compile(r"-?[0-9]{1,18}")
NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,12})?")
METADATA_KEYS_MAX, METADATA_KEY_MAX, METADATA_VALUE_MAX = 50, 40, 500


@dataclass(slots=True)
class Kind:
    """What one parameter may be: the union of everything that is set here."""

    words: list[str] = field(default_factory=list)
    unset: bool = False
    text: bool = False
    whole: bool = False
    number: bool = False
    flag: bool = False
    items: "Kind | None" = None
    values: "Kind | None" = None
    shapes: list[type] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Schema:
    fields: dict[str, Kind]
    required: frozenset[str]


@cache
def operation(name: str) -> Schema:
    """`payment_intent_create` -> the schema of `stripe.params.PaymentIntentCreateParams`."""
    module = importlib.import_module(f"stripe.params._{name}_params")
    title = "".join(word.capitalize() for word in name.split("_"))
    return schema(getattr(module, f"{title}Params"))


@cache
def schema(shape: type) -> Schema:
    names = vars(sys.modules[shape.__module__])
    fields = {
        name: _kind(annotation, names, Kind())
        for name, annotation in shape.__annotations__.items()
        if name not in OPTIONS
    }
    required: frozenset[str] = getattr(shape, "__required_keys__", frozenset())
    return Schema(fields, required & fields.keys())


def _kind(annotation: Any, names: dict[str, Any], kind: Kind) -> Kind:  # noqa: C901 - one case for each typing form
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        # The package's own annotations, which Python itself would evaluate the same way.
        annotation = eval(annotation, dict(names))  # noqa: S307
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.NotRequired, typing.Required):
        return _kind(args[0], names, kind)
    if origin in (typing.Union, types.UnionType):
        for member in args:
            _kind(member, names, kind)
    elif origin is typing.Literal:
        kind.unset |= "" in args
        kind.words += [word for word in args if word]
    elif origin is list:
        kind.items = _kind(args[0], names, Kind())
    elif origin is dict:
        kind.values = _kind(args[1], names, Kind())
    elif annotation is str:
        kind.text = True
    elif annotation is int:
        kind.whole = True
    elif annotation in (float, Decimal):
        kind.number = True
    elif annotation is bool:
        kind.flag = True
    elif hasattr(annotation, "__required_keys__"):
        kind.shapes.append(annotation)
    return kind


def check(known: Schema, given: Tree, *, also: frozenset[str] = frozenset(), path: str = "") -> dict[str, Any]:
    """The parameters with their types, or the first fault: unknown names, then missing ones, then each value."""
    unknown = [_name(path, name) for name in given if name not in known.fields and name not in also]
    if unknown:
        plural = "s" if len(unknown) > 1 else ""
        raise invalid(f"Received unknown parameter{plural}: {', '.join(unknown)}", unknown[0], "parameter_unknown")
    for name in sorted(known.required):
        if name not in given:
            raise missing(_name(path, name))
    checked: dict[str, Any] = {}
    for name, value in given.items():
        kind = known.fields.get(name)
        checked[name] = value if kind is None else _value(kind, value, _name(path, name))
    return checked


def _name(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name


def _value(kind: Kind, value: "str | Tree", path: str) -> Any:
    if isinstance(value, str):
        return _scalar(kind, value, path)
    if kind.items is not None and all(key.isdecimal() for key in value):
        places = sorted(value, key=int)
        return [_value(kind.items, value[place], f"{path}[{place}]") for place in places]
    if kind.values is not None:
        checked = {key: _value(kind.values, item, f"{path}[{key}]") for key, item in _blanks(kind, value)}
        return _metadata(checked, path) if path == "metadata" else checked
    if kind.shapes:
        return _shaped(kind.shapes, value, path)
    raise invalid(f"Invalid {_wanted(kind)}", path)


def _blanks(kind: Kind, value: Tree) -> list[tuple[str, "str | Tree"]]:
    """A blank value of a mapping unsets its key."""
    assert kind.values is not None
    kind.values.unset = True
    return list(value.items())


def _shaped(shapes: list[type], value: Tree, path: str) -> Any:
    fault: Fault | None = None
    for shape in shapes:
        try:
            return check(schema(shape), value, path=path)
        except Fault as refused:
            fault = fault or refused
    assert fault is not None
    raise fault


def _scalar(kind: Kind, value: str, path: str) -> Any:
    if value == "":
        return _empty(kind, path)
    if value in kind.words:
        return value
    if kind.flag and value in ("true", "false"):
        return value == "true"
    if kind.whole and WHOLE.fullmatch(value):
        return int(value)
    if kind.number and NUMBER.fullmatch(value):
        return Decimal(value)
    if kind.text and not kind.words:
        if len(value) > TEXT_MAX:
            raise invalid(f"Invalid string: {value[:32]}...; must be at most {TEXT_MAX} characters", path)
        if "\x00" in value:
            raise invalid(f"Invalid string: {path} contains a NUL byte", path)
        return value
    raise _refused(kind, value, path)


def _empty(kind: Kind, path: str) -> str:
    if kind.unset:
        return ""
    raise invalid(
        f"You passed an empty string for '{path}'. We assume empty values are an attempt to unset a parameter; however "
        f"'{path}' cannot be unset. You should remove '{path}' from your request or supply a non-empty value.",
        path,
        "parameter_invalid_empty",
    )


def _refused(kind: Kind, value: str, path: str) -> Fault:
    if kind.words:
        words = kind.words
        listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])}, or {words[-1]}"
        return invalid(f"Invalid {path}: must be one of {listed}", path)
    if kind.whole:
        return invalid(f"Invalid integer: {value[:100]}", path, "parameter_invalid_integer")
    return invalid(f"Invalid {_wanted(kind)}: {value[:100]}", path)


def _wanted(kind: Kind) -> str:
    if kind.flag:
        return "boolean"
    if kind.whole:
        return "integer"
    if kind.number:
        return "decimal"
    if kind.items is not None:
        return "array"
    return "string" if kind.text or kind.words else "object"


def _metadata(pairs: dict[str, Any], path: str) -> dict[str, Any]:
    if len(pairs) > METADATA_KEYS_MAX:
        raise invalid(f"You can specify up to {METADATA_KEYS_MAX} metadata keys, but you passed {len(pairs)}.", path)
    for key, value in pairs.items():
        if len(key) > METADATA_KEY_MAX:
            raise invalid(
                f"Metadata keys can have up to {METADATA_KEY_MAX} characters, but you passed in a key that is "
                f"{len(key)} characters. Invalid key: {key}",
                path,
            )
        if len(value) > METADATA_VALUE_MAX:
            raise invalid(
                f"Metadata values can have up to {METADATA_VALUE_MAX} characters, but you passed in a value that is "
                f"{len(value)} characters. Invalid value: {value}",
                f"{path}[{key}]",
            )
    return pairs
