"""Sale files: JSON or YAML, read strictly. All faults are told at once, each with its field and its line."""

import difflib
import re
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from engine import ids
from engine.shapes import Money
from persistence.documents import Document, FieldError, MalformedDocument, read_json, read_yaml

NAME_MAX_CHARACTERS: Final = 200
PRICE_MAX: Final = 99_999_999
"""The largest amount that Stripe takes in one charge, in minor units."""
STOCK_MAX: Final = 10_000_000
LIMIT_MAX: Final = 1_000_000
TTL_MAX_SECONDS: Final = 86_400
HOLD_TTL_SECONDS: Final = 120
PAYMENT_TTL_SECONDS: Final = 300
PRODUCTS_MAX: Final = 1000

CURRENCY: Final = re.compile(r"[a-z]{3}")
_MOMENT = re.compile(r"(\d{4})-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)


class FileProduct(msgspec.Struct, frozen=True):
    """A product of a sale file; ``stock`` is the units that the file gives it in all."""

    id: str
    name: str
    price: Money
    compare_at_price: Money | None
    stock: int
    per_customer_limit: int | None


class SaleFile(msgspec.Struct, frozen=True):
    """A sale as its file says; ``starts_at`` None is at once, ``ends_at`` None is until it is ended."""

    id: str
    name: str
    starts_at: datetime | None
    ends_at: datetime | None
    hold_ttl_seconds: int
    payment_ttl_seconds: int
    products: tuple[FileProduct, ...]


class SaleFileError(ValueError):
    """A sale file with faults, in the order of their lines. ``malformed``: it is no JSON or YAML at all."""

    def __init__(self, errors: list[FieldError], *, malformed: bool = False) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = errors
        self.malformed = malformed


def parse(data: bytes, *, format: Literal["json", "yaml"], default_id: str = "") -> SaleFile:  # noqa: A002  # the word for it
    """Read a sale file; one without an ``id`` is that of ``default_id``. Raises ``SaleFileError`` with every fault
    that it has.
    """
    try:
        document = read_json(data) if format == "json" else read_yaml(data)
    except MalformedDocument as error:
        raise SaleFileError([error.error], malformed=True) from error
    if default_id and isinstance(document.value, dict):
        document.value.setdefault("id", default_id)
    reader = _Reader(document)
    file = reader.sale()
    if reader.errors:
        raise SaleFileError(sorted(reader.errors, key=lambda error: error.line or 0))
    return file


class _Reader:
    """Reads on after a fault with a value in its place, so that one look finds them all."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.errors: list[FieldError] = [
            FieldError(field, "is given twice", document.line(field)) for field in document.repeated
        ]

    def sale(self) -> SaleFile:
        of = self._object(
            "", self._document.value, "id name products", "starts_at ends_at hold_ttl_seconds payment_ttl_seconds"
        )
        starts_at = self._moment("starts_at", of.get("starts_at"))
        ends_at = self._moment("ends_at", of.get("ends_at"))
        if starts_at and ends_at and ends_at <= starts_at:
            self._fault("ends_at", "must be after starts_at")
        return SaleFile(
            id=self._name("id", of),
            name=self._text("name", of),
            starts_at=starts_at,
            ends_at=ends_at,
            hold_ttl_seconds=self._whole(
                "hold_ttl_seconds", of.get("hold_ttl_seconds", HOLD_TTL_SECONDS), 1, TTL_MAX_SECONDS
            ),
            payment_ttl_seconds=self._whole(
                "payment_ttl_seconds", of.get("payment_ttl_seconds", PAYMENT_TTL_SECONDS), 1, TTL_MAX_SECONDS
            ),
            products=self._products(of),
        )

    def _products(self, of: dict[str, Any]) -> tuple[FileProduct, ...]:
        if "products" not in of:
            return ()
        items = of["products"]
        if not isinstance(items, list) or not 1 <= len(items) <= PRODUCTS_MAX:
            self._fault("products", f"must be a list of 1 to {PRODUCTS_MAX} products")
            return ()
        products = tuple(self._product(f"products[{number}]", item) for number, item in enumerate(items))
        first: dict[str, int] = {}
        for number, product in enumerate(products):
            if product.id and first.setdefault(product.id, number) != number:
                self._fault(f"products[{number}].id", f"is the id of products[{first[product.id]}] too")
        return products

    def _product(self, field: str, value: object) -> FileProduct:
        of = self._object(field, value, "id name price stock", "compare_at_price per_customer_limit")
        price = self._money(f"{field}.price", of["price"]) if "price" in of else None
        compare_at, limit = of.get("compare_at_price"), of.get("per_customer_limit")
        if compare_at is not None:
            compare_at = self._money(f"{field}.compare_at_price", compare_at)
            if price and price.currency and compare_at.currency not in ("", price.currency):
                self._fault(f"{field}.compare_at_price.currency", f"must be the price's, {price.currency}")
        return FileProduct(
            id=self._name(f"{field}.id", of),
            name=self._text(f"{field}.name", of),
            price=price or Money(0, ""),
            compare_at_price=compare_at,
            stock=self._whole(f"{field}.stock", of["stock"], 0, STOCK_MAX) if "stock" in of else 0,
            per_customer_limit=None
            if limit is None
            else self._whole(f"{field}.per_customer_limit", limit, 1, LIMIT_MAX),
        )

    def _fault(self, field: str, message: str) -> None:
        self.errors.append(FieldError(field, message, self._document.line(field)))

    def _object(self, field: str, value: object, required: str, optional: str = "") -> dict[str, Any]:
        """The fields that are known here; those that are missing or unknown are faults."""
        if not isinstance(value, dict):
            self._fault(field, "must be an object")
            return {}
        known = [*required.split(), *optional.split()]
        inside = f"{field}." if field else ""
        for name in value:
            if name not in known:
                self._fault(f"{inside}{name}", f"is not a field of a sale file{_meant(name, known)}")
        for name in required.split():
            if name not in value:
                self._fault(f"{inside}{name}", "is missing")
        return {name: value[name] for name in value if name in known}

    def _name(self, field: str, of: dict[str, Any]) -> str:
        value = of.get(field.rpartition(".")[2], "-missing")
        if isinstance(value, str) and ids.NAME.fullmatch(value):
            return value
        if value != "-missing":
            self._fault(field, "must be 1 to 64 of A-Z a-z 0-9 . _ - as text, and begin with a letter or a digit")
        return ""

    def _text(self, field: str, of: dict[str, Any]) -> str:
        value = of.get(field.rpartition(".")[2], "-missing")
        if not isinstance(value, str) or not value.strip() or len(value) > NAME_MAX_CHARACTERS:
            self._fault(field, f"must be text of 1 to {NAME_MAX_CHARACTERS} characters")
        elif "\0" in value:
            self._fault(field, "must not hold a NUL")
        elif any("\ud800" <= character <= "\udfff" for character in value):
            self._fault(field, "holds half of a surrogate pair, which is no character")
        else:
            return value
        return ""

    def _whole(self, field: str, value: object, least: int, most: int) -> int:
        if type(value) is int and least <= value <= most:
            return value
        self._fault(field, f"must be a whole number from {least} to {most}")
        return 0

    def _lifetime(self, field: str, of: dict[str, Any], default: int) -> int:
        return self._whole(field, of.get(field, default), 1, TTL_MAX_SECONDS)

    def _money(self, field: str, value: object) -> Money:
        of = self._object(field, value, "amount currency")
        amount, currency = 0, of.get("currency", "")
        if "amount" in of:
            amount = self._whole(f"{field}.amount", of["amount"], 1, PRICE_MAX)
        if "currency" in of and not (isinstance(currency, str) and CURRENCY.fullmatch(currency)):
            self._fault(f"{field}.currency", "must be an ISO 4217 code of three lower-case letters, as usd")
            currency = ""
        return Money(amount, currency)

    def _moment(self, field: str, value: object) -> datetime | None:
        """A time to the millisecond, which is what Redis keeps."""
        if value is None:
            return None
        match = _MOMENT.fullmatch(value) if isinstance(value, str) else None
        if match and not match[3]:
            self._fault(field, "has no time zone: end it with Z or an offset like +01:00")
            return None
        try:
            if isinstance(value, str) and match and 1971 <= int(match[1]) <= 9998:
                moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
                return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        except ValueError:
            pass
        self._fault(field, "must be a time as 2026-11-27T08:00:00Z (RFC 3339)")
        return None


def _meant(name: str, known: list[str]) -> str:
    """A known field that is spelled nearly so, as a question."""
    near = difflib.get_close_matches(name[:NAME_MAX_CHARACTERS].lower(), known, 1)
    return f"; did you mean {near[0]}?" if near else ""
