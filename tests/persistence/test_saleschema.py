"""The JSON Schema that editors use says what the parser says."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from persistence.salefile import SaleFile, SaleFileError, parse
from persistence.saleschema import schema
from tests.persistence.test_salefile_fuzz import ODD, PATHS, VALID, changed

SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

BETWEEN = ("must be after starts_at", "must be the price's", "is the id of products[")
"""What is wrong between two fields, which no schema says."""


def is_read(file: Any) -> list[str]:
    """The parser's complaints."""
    try:
        assert isinstance(parse(json.dumps(file).encode(), format="json"), SaleFile)
    except SaleFileError as refused:
        return [error.message for error in refused.errors]
    return []


def agree(file: Any) -> None:
    complaints = is_read(file)
    valid = VALIDATOR.is_valid(file)
    if not complaints:
        assert valid, [error.message for error in VALIDATOR.iter_errors(file)]
    elif valid:
        known = (*BETWEEN, "must be a time", "must be a whole number", "surrogate", "nested", "is no JSON")
        assert all(any(each in complaint for each in known) for complaint in complaints), complaints


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    agree(VALID)
    assert VALIDATOR.is_valid(VALID)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PATHS), ODD)
@example(["starts_at"], "1970-12-31T23:59:59Z")
@example(["starts_at"], "1971-01-01T00:00:00Z")
@example(["starts_at"], "9998-01-01T00:00:00+01:00")
@example(["starts_at"], "9999-01-01T00:00:00Z")
@example(["ends_at"], "2026-11-27 08:00:00z")
@example(["name"], " x ")
@example(["name"], "x\n")
@example(["products", 0, "price", "currency"], "usd\n")
@example(["id"], "bf\n")
@example(["products", 0, "compare_at_price"], None)
def test_what_the_parser_takes_the_schema_takes_and_no_more(path: list[str | int], value: Any) -> None:
    agree(changed(path, value))


@pytest.mark.parametrize(
    ("path", "least", "most"),
    [
        (["hold_ttl_seconds"], 1, 86400),
        (["payment_ttl_seconds"], 1, 86400),
        (["products", 0, "stock"], 0, 10_000_000),
        (["products", 0, "per_customer_limit"], 1, 1_000_000),
        (["products", 0, "price", "amount"], 1, 99_999_999),
    ],
)
def test_bounds_are_the_same_to_the_unit(path: list[str | int], least: int, most: int) -> None:
    for value, is_allowed in ((least - 1, False), (least, True), (most, True), (most + 1, False)):
        file = changed(path, value)
        assert (not is_read(file)) == VALIDATOR.is_valid(file) == is_allowed, (path, value)


@pytest.mark.parametrize("path", [["id"], ["name"], ["products"], ["products", 0, "id"], ["products", 0, "stock"]])
def test_what_is_required_is_the_same(path: list[str | int]) -> None:
    file: Any = changed(path, None)
    place = file
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    assert is_read(file) == ["is missing"]
    assert not VALIDATOR.is_valid(file)


def test_the_fields_are_the_same_and_each_is_described() -> None:
    places: list[tuple[list[str | int], Any]] = [
        ([], SCHEMA["properties"]), (["products", 0], SCHEMA["$defs"]["product"]["properties"])
    ]  # fmt: skip
    for path, properties in places:
        for name, field in properties.items():
            assert field.get("description"), name
            complaints = is_read(changed([*path, name], {"unknown": 1}))
            assert "is not a field of a sale file" not in " ".join(complaints[:1]) or "price" in name
    assert is_read(changed(["colour"], 1)) == ["is not a field of a sale file"]


@pytest.mark.parametrize(
    ("path", "meant"),
    [(["start_at"], "starts_at"), (["Name"], "name"), (["products", 0, "limit_per_customer"], "per_customer_limit"),
     (["products", 0, "price", "currancy"], "currency"), (["hold_ttl"], "hold_ttl_seconds")],
)  # fmt: skip
def test_an_unknown_field_names_the_one_that_was_meant(path: list[str | int], meant: str) -> None:
    [complaint] = is_read(changed(path, 1))
    assert complaint.endswith(f"; did you mean {meant}?")
