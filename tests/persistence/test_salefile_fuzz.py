"""A sale file may be anything: it is read or refused with every fault's field, and nothing else ever happens."""

import copy
import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from persistence.salefile import SaleFile, SaleFileError, parse
from tests.persistence.test_salefile import YAML

SECONDS_MAX = 5
"""Of CPU: above what the deepest nesting takes, far below what an expansion of aliases would."""
VALID = yaml.safe_load(YAML) | {"starts_at": "2026-11-27T08:00:00Z"}
PATHS: list[list[str | int]] = [
    ["id"], ["name"], ["starts_at"], ["ends_at"], ["hold_ttl_seconds"], ["payment_ttl_seconds"], ["products"],
    ["products", 0], ["products", 0, "id"], ["products", 0, "name"], ["products", 0, "price"],
    ["products", 0, "price", "amount"], ["products", 0, "price", "currency"], ["products", 0, "compare_at_price"],
    ["products", 0, "stock"], ["products", 0, "per_customer_limit"], ["products", 1, "id"], ["extra"],
    ["products", 0, "extra"], ["products", 0, "price", "extra"],
]  # fmt: skip
ODD = st.one_of(
    st.sampled_from([
        True, False, None, 0, -1, 1.0, 1e308, 10**20, -(10**20), 2**63, float("nan"), float("inf"), "", " ", "\0",
        "a\0b",         "\ud800", "usd", "USD", "us", "ußd", "١٢", "1", "1e3", "0x10", "9999-12-31T23:59:59Z",
        "0000-00-00T00:00:00Z",
        "2026-02-30T00:00:00Z", "2026-11-27T24:00:00Z", "2026-11-27T08:00:60Z", "2026-11-27", "2026-11-27T08:00:00",
        "2026-11-27T08:00:00+99:00", "2026-11-27T08:00:00.123456789123Z", [], {}, [[]], [{}],
        {"a": 1}, "\u202e", "é" * 201,
    ]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ),
)  # fmt: skip
BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
)


def read(data: bytes, format_: Any) -> SaleFile | None:
    """The file, or None where it was refused as it should be."""
    began = time.thread_time()
    try:
        return parse(data, format=format_)
    except SaleFileError as refused:
        errors = refused.errors
    finally:
        assert time.thread_time() - began < SECONDS_MAX
    assert errors
    for error in errors:
        assert error.message
        assert "\n" not in error.message
        assert "Traceback" not in error.message
    return None


def changed(path: list[str | int], value: Any) -> dict[str, Any]:
    file: dict[str, Any] = copy.deepcopy(VALID)
    place: Any = file
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return file


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PATHS), ODD)
def test_one_odd_value_anywhere(path: list[str | int], value: Any) -> None:
    file = changed(path, value)
    read(json.dumps(file).encode(), "json")
    try:
        text = yaml.safe_dump(file, allow_unicode=True).encode()
    except UnicodeEncodeError:
        return  # half of a surrogate pair, which no file can hold
    read(text, "yaml")


@pytest.mark.torture
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(st.sampled_from(PATHS), ODD, st.sampled_from(PATHS), ODD)
def test_two_odd_values_anywhere_at_length(
    path: list[str | int], value: Any, other_path: list[str | int], other: Any
) -> None:
    try:
        file = changed(path, value)
        file = {**file, str(other_path[0]): other} if len(other_path) == 1 else file
        text = yaml.safe_dump(file, allow_unicode=True).encode()
    except UnicodeEncodeError:
        return
    read(text, "yaml")
    read(json.dumps(file).encode(), "json")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
@example(BOMB.encode())
@example(b"a: &a [*a]")
@example(b"? [1]\n: 2")
@example(b"!!python/object/apply:os.system ['true']")
@example(b"<<: &x {a: *x}")
@example(b"id: !!binary aGVsbG8=")
@example(b"%YAML 9.9\n---\nid: x")
@example(b"id: 2026-11-27\nname: 12:30:45\nproducts: 0o14")
@example(b"{" * 20_000)
@example(b"[" * 20_000)
@example(b"- " * 20_000)
@example(b'{"id": ' + b"9" * 20_000 + b"}")
@example(b'{"id": 1e999999}')
@example(b"id: " + b"9" * 20_000)
@example(b"id: 1_0_0\nname: .inf\nproducts: .nan")
@example(b'{"id": "a", "id": "b"}')
@example(b"id: a\nid: b")
@example(b"\xff\xfe{}")
@example(b"--- {}\n--- {}")
def test_bytes_of_any_kind(data: bytes) -> None:
    assert read(data, "json") is None
    assert read(data, "yaml") is None


def test_the_file_that_is_changed_is_one() -> None:
    assert read(json.dumps(VALID).encode(), "json")
