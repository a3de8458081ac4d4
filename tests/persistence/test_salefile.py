"""Sale files are read strictly, and every fault is told with its field and its line."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.shapes import Money
from persistence.salefile import FileProduct, SaleFile, SaleFileError, parse

YAML = b"""\
id: black-friday
name: "Black Friday"
starts_at: 2026-11-27T08:00:00Z
ends_at: '2026-11-28T01:00:00.250+01:00'
hold_ttl_seconds: 60
products:
  - id: sneaker-42
    name: Sneaker 42
    price: {amount: 12900, currency: usd}
    compare_at_price:
      amount: 19900
      currency: usd
    stock: 500
    per_customer_limit: 2
  - {id: sock, name: Sock, price: {amount: 900, currency: usd}, stock: 0, per_customer_limit: null}
"""

SALE = SaleFile(
    id="black-friday",
    name="Black Friday",
    starts_at=datetime(2026, 11, 27, 8, tzinfo=UTC),
    ends_at=datetime(2026, 11, 28, 0, 0, 0, 250_000, tzinfo=UTC),
    hold_ttl_seconds=60,
    payment_ttl_seconds=300,
    products=(
        FileProduct("sneaker-42", "Sneaker 42", Money(12900, "usd"), Money(19900, "usd"), 500, 2),
        FileProduct("sock", "Sock", Money(900, "usd"), None, 0, None),
    ),
)


def minimal(**changes: Any) -> dict[str, Any]:
    product = {"id": "sneaker", "name": "Sneaker", "price": {"amount": 100, "currency": "usd"}, "stock": 5}
    return {"id": "bf", "name": "BF", "products": [product], **changes}


def product(**changes: Any) -> dict[str, Any]:
    return minimal(products=[{**minimal()["products"][0], **changes}])


def faults(value: Any) -> list[str]:
    with pytest.raises(SaleFileError) as raised:
        parse(json.dumps(value).encode(), format="json")
    return [error.field for error in raised.value.errors]


def lines(data: bytes, format: Any) -> list[tuple[int | None, str]]:  # noqa: A002
    with pytest.raises(SaleFileError) as raised:
        parse(data, format=format)
    return [(error.line, error.field) for error in raised.value.errors]


def test_yaml_and_json_say_the_same() -> None:
    assert parse(YAML, format="yaml") == SALE
    as_json = json.dumps(
        {
            "id": "black-friday",
            "name": "Black Friday",
            "starts_at": "2026-11-27T08:00:00Z",
            "ends_at": "2026-11-28T00:00:00.250999Z",
            "hold_ttl_seconds": 60,
            "products": [
                {
                    "id": "sneaker-42",
                    "name": "Sneaker 42",
                    "price": {"amount": 12900, "currency": "usd"},
                    "compare_at_price": {"amount": 19900, "currency": "usd"},
                    "stock": 500,
                    "per_customer_limit": 2,
                },
                {"id": "sock", "name": "Sock", "price": {"amount": 900, "currency": "usd"}, "stock": 0},
            ],
        },
        indent=2,
    )
    assert parse(as_json.encode(), format="json") == SALE
    assert parse(as_json.encode(), format="yaml") == SALE
    assert parse(b"\xef\xbb\xbf" + as_json.encode(), format="json") == SALE


def test_what_is_left_out_has_its_default() -> None:
    file = parse(json.dumps(minimal(starts_at=None, ends_at=None)).encode(), format="json")
    assert (file.starts_at, file.ends_at, file.hold_ttl_seconds, file.payment_ttl_seconds) == (None, None, 120, 300)


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        (minimal(id="-bf"), ["id"]),
        (minimal(id="b f"), ["id"]),
        (minimal(id="x" * 65), ["id"]),
        (minimal(id=7), ["id"]),
        (minimal(name=""), ["name"]),
        (minimal(name="   "), ["name"]),
        (minimal(name="x" * 201), ["name"]),
        (minimal(name="a\0b"), ["name"]),
        (minimal(hold_ttl_seconds=0), ["hold_ttl_seconds"]),
        (minimal(hold_ttl_seconds=86_401), ["hold_ttl_seconds"]),
        (minimal(hold_ttl_seconds=1.5), ["hold_ttl_seconds"]),
        (minimal(hold_ttl_seconds=60.0), ["hold_ttl_seconds"]),
        (minimal(hold_ttl_seconds="60"), ["hold_ttl_seconds"]),
        (minimal(hold_ttl_seconds=True), ["hold_ttl_seconds"]),
        (minimal(hold_ttl_seconds=None), ["hold_ttl_seconds"]),
        (minimal(payment_ttl_seconds=10**30), ["payment_ttl_seconds"]),
        (minimal(starts_at="2026-11-27T08:00:00"), ["starts_at"]),
        (minimal(starts_at="2026-11-27"), ["starts_at"]),
        (minimal(starts_at="2026-13-27T08:00:00Z"), ["starts_at"]),
        (minimal(starts_at="0001-01-01T00:00:00+23:00"), ["starts_at"]),
        (minimal(starts_at=1_795_000_000), ["starts_at"]),
        (minimal(starts_at="2026-11-27T08:00:00Z", ends_at="2026-11-27T09:00:00+01:00"), ["ends_at"]),
        (minimal(products=[]), ["products"]),
        (minimal(products={}), ["products"]),
        (minimal(products=minimal()["products"] * 2), ["products[1].id"]),
        (minimal(products=minimal()["products"] * 1001), ["products"]),
        (minimal(products=["sneaker"]), ["products[0]"]),
        (minimal(start="now"), ["start"]),
        (product(colour="red"), ["products[0].colour"]),
        (product(stock=-1), ["products[0].stock"]),
        (product(stock=10_000_001), ["products[0].stock"]),
        (product(stock="5"), ["products[0].stock"]),
        (product(per_customer_limit=0), ["products[0].per_customer_limit"]),
        (product(per_customer_limit=1_000_001), ["products[0].per_customer_limit"]),
        (product(price={"amount": 0, "currency": "usd"}), ["products[0].price.amount"]),
        (product(price={"amount": 100_000_000, "currency": "usd"}), ["products[0].price.amount"]),
        (product(price={"amount": 1, "currency": "USD"}), ["products[0].price.currency"]),
        (product(price={"amount": 1, "currency": "usd", "tax": 1}), ["products[0].price.tax"]),
        (product(price=100), ["products[0].price"]),
        (product(compare_at_price={"amount": 0, "currency": "usd"}), ["products[0].compare_at_price.amount"]),
        (product(compare_at_price={"amount": 9, "currency": "eur"}), ["products[0].compare_at_price.currency"]),
        ({}, ["id", "name", "products"]),
        ([], [""]),
        (None, [""]),
        ("sale", [""]),
    ],
)
def test_a_fault_names_its_field(value: Any, fields: list[str]) -> None:
    assert faults(value) == fields


def test_all_faults_are_told_at_once_by_line() -> None:
    broken = YAML.replace(b"id: black-friday", b"id: black friday").replace(b"amount: 19900", b"amount: lots")
    broken = broken.replace(b"hold_ttl_seconds: 60", b"hold_ttl: 60").replace(b"stock: 500", b"stock: 010")
    broken = broken.replace(b"stock: 0,", b"")

    assert lines(broken, "yaml") == [
        (1, "id"),
        (5, "hold_ttl"),
        (11, "products[0].compare_at_price.amount"),
        (13, "products[0].stock"),
        (15, "products[1].stock"),
    ]


def test_json_has_lines_too() -> None:
    data = b"""{
  "id": "bf", "name": 5,
  "products": [
    {"id": "a", "name": "{\\"]:,", "price": {"amount": 1,
      "currency": "usd"}, "stock": -1},
    {"id": "b", "name": "B",
     "price": {"amount": 1,
               "currency": "dollars"},
     "stock": 1, "stock": 2},
    7
  ]
}"""
    assert lines(data, "json") == [
        (2, "name"),
        (5, "products[0].stock"),
        (8, "products[1].price.currency"),
        (9, "products[1].stock"),
        (10, "products[2]"),
    ]


@pytest.mark.parametrize(
    ("format_", "data", "line"),
    [
        ("json", b"", 1),
        ("json", b'{"id": "bf",\n "name":', 2),
        ("json", b'{"id": "bf",\n "name": }', 2),
        ("json", b"id: bf", 1),
        ("json", b'{"id": "\xff"}', 1),
        ("json", b"[" * 100_000, None),
        ("json", b'{"id": NaN}', 1),
        ("yaml", b"id: bf\nname: [", 2),
        ("yaml", b"id: bf\nname: a\0b", 2),
        ("yaml", b"id: &x bf\nname: *x", 2),
        ("yaml", b"id: bf\n--- \nid: bg", 2),
        ("yaml", b"id: !!python/object:os.system bf", 1),
        ("yaml", b"? [a]\n: 1", 1),
        ("yaml", b"[" * 20_000, None),
    ],
)
def test_what_is_no_document_says_where_it_breaks(format_: Any, data: bytes, line: int | None) -> None:
    with pytest.raises(SaleFileError) as raised:
        parse(data, format=format_)
    [error] = raised.value.errors
    assert raised.value.malformed
    assert error.field == ""
    assert "\n" not in str(error)
    if line is not None:
        assert error.line == line


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"just text", b"- 1"])
def test_yaml_that_is_no_sale(data: bytes) -> None:
    assert lines(data, "yaml")[0][1] == ""
    assert all(line for line, _ in lines(data, "yaml"))


def test_yaml_words_are_text_unless_json_has_them() -> None:
    for word in (b"yes", b"on", b"0x10", b"1_000", b"12:30"):
        assert lines(YAML.replace(b"stock: 500", b"stock: " + word), "yaml") == [(13, "products[0].stock")]
    assert parse(YAML.replace(b"name: Sneaker 42", b"name: on"), format="yaml").products[0].name == "on"


def test_half_a_surrogate_is_no_character() -> None:
    assert lines(YAML.replace(b'"Black Friday"', b'"\\ud800"'), "yaml")[0][0] == 2
    assert lines(b'{"id": "bf", "name": "\\ud800"}', "json")


def test_a_fault_in_one_line_for_people() -> None:
    with pytest.raises(
        SaleFileError, match=r"^line 13: products\[0\]\.stock must be a whole number from 0 to 10000000$"
    ):
        parse(YAML.replace(b"stock: 500", b"stock: -1"), format="yaml")
