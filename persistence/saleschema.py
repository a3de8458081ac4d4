"""The JSON Schema of a sale file, for editors. Its bounds are those of ``persistence.salefile``, which also refuses
what a schema cannot say, as an end before its start.
"""

from typing import Any, Final

from engine import ids
from persistence import salefile

PATH: Final = "/schema/sale-file.json"

_END: Final = r"$(?!\n)"
"""The end of the text: to Python ``$`` is also before a last line break."""
_TEXT_PATTERN: Final = r"^[^\u0000]*[^\s\u0000][^\u0000]*" + _END
_MOMENT_PATTERN: Final = (
    r"^(?:19(?:7[1-9]|[89][0-9])|[2-8][0-9]{3}|9[0-8][0-9]{2}|99(?:[0-8][0-9]|9[0-8]))"
    r"-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})" + _END
)

Json = dict[str, Any]


def schema() -> Json:
    """The document that is served at ``PATH``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sale file of flashsale",
        "$defs": {"name": _name(), "money": _money(), "product": _product()},
        **_object(
            required=("id", "name", "products"),
            id=_ref("name", "The sale's id: it is in URLs and in the ids of holds and orders."),
            name=_text("What the shop calls the sale."),
            starts_at=_moment("When holds may be taken from. Absent: at once."),
            ends_at=_moment("When holds are no longer taken. Absent: when the sale is ended by hand."),
            hold_ttl_seconds=_whole(
                1, salefile.TTL_MAX_SECONDS, "How long a hold lasts.", default=salefile.HOLD_TTL_SECONDS
            ),
            payment_ttl_seconds=_whole(
                1, salefile.TTL_MAX_SECONDS, "How long a check-out may take.", default=salefile.PAYMENT_TTL_SECONDS
            ),
            products={
                "type": "array",
                "description": "What is sold, each id once. A product that a later file leaves out stays as it is.",
                "minItems": 1,
                "maxItems": salefile.PRODUCTS_MAX,
                "items": {"$ref": "#/$defs/product"},
            },
        ),
    }


def _product() -> Json:
    limit = _whole(1, salefile.LIMIT_MAX, "Units that one customer may hold and buy. null: no limit.")
    return _object(
        required=("id", "name", "price", "stock"),
        id=_ref("name", "The product's id. A product is in one sale at a time that has not ended."),
        name=_text("What the shop calls the product. An order keeps the name as it was."),
        price=_ref("money", "The price of a unit. A change counts for holds made after it."),
        compare_at_price={
            "anyOf": [{"$ref": "#/$defs/money"}, {"type": "null"}],
            "description": "The price before the sale, for the shop to show, in the price's currency.",
        },
        stock=_whole(0, salefile.STOCK_MAX, "Units in all. Compared with the last loaded file's."),
        per_customer_limit=limit | {"type": ["integer", "null"]},
    )


def _money() -> Json:
    return _object(
        required=("amount", "currency"),
        amount=_whole(1, salefile.PRICE_MAX, "In minor units: 12900 is 129.00 usd."),
        currency={
            "type": "string",
            "pattern": f"^{salefile.CURRENCY.pattern}{_END}",
            "description": "An ISO 4217 code in lower case, as usd.",
        },
    )


def _name() -> Json:
    return {"type": "string", "pattern": f"^{ids.NAME.pattern}{_END}"}


def _object(*, required: tuple[str, ...], **properties: Json) -> Json:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


def _ref(name: str, description: str) -> Json:
    return {"$ref": f"#/$defs/{name}", "description": description}


def _text(description: str) -> Json:
    return {
        "type": "string",
        "minLength": 1,
        "maxLength": salefile.NAME_MAX_CHARACTERS,
        "pattern": _TEXT_PATTERN,
        "description": description,
    }


def _whole(least: int, most: int, description: str, *, default: int | None = None) -> Json:
    found: Json = {"type": "integer", "minimum": least, "maximum": most, "description": description}
    return found if default is None else found | {"default": default}


def _moment(description: str) -> Json:
    return {
        "type": ["string", "null"],
        "format": "date-time",
        "pattern": _MOMENT_PATTERN,
        "description": f"{description} RFC 3339 with its offset, as 2026-11-27T08:00:00Z.",
    }
