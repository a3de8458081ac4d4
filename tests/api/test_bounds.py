"""Time and bytes before a caller is known: what one request may cost the process, make it answer and make it log.

Every route of the route table is asked with hostile paths, queries, headers, cookies and bodies, with the admin token
and without one. An answer that is right and a hundred times as large as its question fails here.
"""

import io
import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import structlog

from api.app import PAGES, ROUTES
from engine import log_format
from engine.log_format import TRACE_MAX_CHARACTERS, TRACES_A_MINUTE
from tests.api.server import ADMIN_TOKEN, Shop, check_problem, fields, product

CPU_SECONDS_MAX = 0.05
"""Of all threads of the server for one request, its best of three: a cookie of 15 KB needed 0.4."""
KNOWN_CPU_SECONDS_MAX = 0.25
"""The same of a body that comes with the admin token: a sale file is read with its line numbers, in a thread."""
ANSWER_BYTES_MAX = 4096
"""Of a problem, beside twice the request's own length."""
LOG_BYTES_MAX = 1024
"""Beside the request's own length."""

DEEP = 600
"""Levels that the JSON parser takes and a recursive look at the faults did not."""
BODIES = [
    b"",
    b"{}",
    b"[" * DEEP + b"]" * DEEP,
    b"[" * 30_000,
    b'{"a":' * 9_000,
    b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    b"[" * 300 + b'"\\u0000"' + b"]" * 300,
    b'{"k":[' + b",".join([b'"\\u0000"'] * 6_000) + b"]}",
    b'{"' + b"k" * 20_000 + b'":[' + b",".join([b'"\\u0000"'] * 4_000) + b"]}",
    b"{" + b",".join(b'"f%d":1' % i for i in range(5_000)) + b"}",
    b"{" + b",".join(b'"\\u0001%d":"\\u0000"' % i for i in range(3_000)) + b"}",
    b'{"name":"x","products":[' + b",".join([b"{}"] * 20_000) + b"]}",
    b'{"name":"x","products":[' + b",".join([b'{"a":1,"b":2}'] * 4_000) + b"]}",
    b'{"metadata":{' + b",".join(b'"%d":1' % i for i in range(5_000)) + b"}}",
    b'{"lines":[' + b",".join([b"[]"] * 20_000) + b"]}",
    b'{"qty":' + b"9" * 60_000 + b"}",
    b'"' + b"\\u0001" * 10_000 + b'"',
    b"\xff" * 60_000,
    b"&".join([b"token=x"] * 6),
    b"&".join([b"a=%00"] * 10_000),
    b"token=" + b"%" * 60_000,
    b"=" * 60_000,
    b" " * 65_000,
]
KINDS = [b"application/json", b"application/x-www-form-urlencoded"]
HEADERS = [
    (b"cookie", b'flashsale_ops="' + b"\\0" * 7_500 + b'"'),
    (b"cookie", b"a=b;" * 3_700),
    (b"cookie", b"flashsale_ops=" + b"1." * 7_000),
    (b"cookie", b"flashsale_ops;" * 1_000),
    (b"authorization", b"Basic " + b"=" * 15_000),
    (b"authorization", b" " * 15_000),
    (b"if-none-match", b'W/"a",' * 2_400),
    (b"stripe-signature", b"t=1" + b",v1=00" * 2_400),
    (b"stripe-signature", b"," * 15_000),
    (b"content-type", b"application/json;" * 850),
    (b"accept", b"a/b;q=0.1," * 1_400),
    (b"accept-encoding", b"gzip;q=1," * 1_500),
    (b"x-request-id", b"x" * 15_000),
    (b"idempotency-key", b"\xff" * 15_000),
    (b"origin", b"http://["),
    (b"origin", b"http://" + b"[" * 15_000),
    (b"traceparent", b"00-" * 5_000),
    (b"range", b"bytes=" + b"0-1," * 3_700),
    (b"x-forwarded-proto", b"," * 15_000),
]
NAMES = [b"x", b"a" * 9_000, b"%00" * 3_000, b"%F0%9F%92%A9" * 1_000, b"hold_x_" + b"A" * 20, b"%C0%AF", b"." * 64]
QUERIES = [
    b"&".join([b"a=1"] * 3_000), b"limit=" + b"9" * 9_000, b"cursor=" + b"A" * 9_000, b"after=" + b"9" * 9_000,
    b"%" * 9_000, b"sale_id=" + b"%00" * 3_000, b"=" * 9_000,
]  # fmt: skip


class Way(NamedTuple):
    """A route of the table."""

    method: bytes
    path: bytes

    def target(self, name: bytes) -> bytes:
        return re.sub(rb"\{\w+:\w+\}", lambda _: name, self.path)

    @property
    def has_name(self) -> bool:
        return b"{" in self.path


def ways() -> list[Way]:
    found = []
    for handler in [*ROUTES, *PAGES]:
        doc: Any = handler.opt.get("doc")
        methods = getattr(handler, "http_methods", None) or [doc.method if doc else "GET"]
        found += [Way(str(method).encode(), path.encode()) for path in handler.paths for method in methods]
    return sorted(found)


class Meter:
    """Sends requests over one connection after another, and measures what each took and made."""

    def __init__(self, url: str, logged: io.StringIO) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._address = host, int(port)
        self._logged = logged

    def send(self, data: bytes) -> tuple[int, bytes, float, int]:
        """Status, the whole answer, CPU seconds of the server's threads, and bytes logged."""
        with socket.create_connection(self._address, timeout=20) as connection:
            before, log_before = time.process_time() - time.thread_time(), self._logged.tell()
            answer = b""
            try:
                connection.sendall(data)
                while chunk := connection.recv(1 << 20):
                    answer += chunk
                    if b"text/event-stream" in answer:
                        break
            except (ConnectionResetError, BrokenPipeError):
                pass
            cpu = time.process_time() - time.thread_time() - before
            status = int(answer.split(b" ", 2)[1]) if answer else 0
            return status, answer, cpu, self._logged.tell() - log_before

    def check(self, data: bytes, cpu_seconds_max: float = CPU_SECONDS_MAX) -> int:
        """One request within its bounds; its status. CPU is measured again where it seems too much."""
        status, answer, cpu, logged = self.send(data)
        for _ in range(2):
            if cpu > cpu_seconds_max:
                cpu = min(cpu, self.send(data)[2])
        what = (data[:120], len(data), status, answer[:200])
        assert cpu <= cpu_seconds_max, (cpu, what)
        assert logged <= LOG_BYTES_MAX + len(data), (logged, what)
        assert status < 500, what
        if status >= 400:
            assert len(answer) <= ANSWER_BYTES_MAX + 2 * len(data), (len(answer), what)
        return status


@pytest.fixture
def meter(api_url: str, shop: Shop, caplog: pytest.LogCaptureFixture) -> Iterator[Meter]:
    shop.load(product("sock", 5))
    for warm in ("/ops", "/metrics", "/schema/openapi.json", "/health/ready"):
        shop.client.get(warm)
    logged, before = io.StringIO(), structlog.get_config()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *log_format.rendering(structlog.processors.JSONRenderer()),
        ],
        logger_factory=structlog.PrintLoggerFactory(logged),
        cache_logger_on_first_use=False,
    )
    yield Meter(api_url, logged)
    structlog.configure(**before)
    assert [each.getMessage() for each in caplog.get_records("call") if each.levelno >= logging.ERROR] == []


def request(way: Way, target: bytes, *headers: tuple[bytes, bytes], body: bytes = b"") -> bytes:
    lines = [b"%b %b HTTP/1.1" % (way.method, target), b"host: shop", b"connection: close"]
    if way.method not in (b"GET", b"HEAD"):
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, *(b"%b: %b" % pair for pair in headers), b"", b""]) + body


ADMIN = (b"authorization", b"Bearer " + ADMIN_TOKEN.encode())
OWN = (b"origin", b"http://shop")


def test_no_request_costs_many_times_its_size(meter: Meter) -> None:
    for way in ways():
        ask(meter, way)


def ask(meter: Meter, way: Way) -> None:
    """Every hostile request of a route."""
    target = way.target(b"x")
    for header in HEADERS:
        meter.check(request(way, target, header))
    for query in QUERIES:
        meter.check(request(way, target + b"?" + query, ADMIN))
    for name in NAMES if way.has_name else ():
        meter.check(request(way, way.target(name), ADMIN))
    if way.method in (b"POST", b"PUT"):
        for body in BODIES:
            for kind in KINDS:
                for more in ((), (OWN,)):
                    meter.check(request(way, target, (b"content-type", kind), *more, body=body))
            meter.check(request(way, target, ADMIN, body=body), cpu_seconds_max=KNOWN_CPU_SECONDS_MAX)


def test_nested_bodies_are_400(shop: Shop) -> None:
    for deep in (33, 100, 500, 600, 990, 1_000, 1_100, 5_000):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            inner = opening * deep + "1" + closing * deep
            for body in (inner, f'{{"customer_id":"ann","product_id":"sock","qty":1,"x":{inner}}}'):
                answer = shop.client.post("/v1/holds", content=body)
                assert fields(check_problem(answer, 400, "validation_error")) == ["body"], deep


def test_faults_that_are_told_are_bounded(shop: Shop) -> None:
    body = json.dumps({f"field-{i}-" + "x" * 300: 1 for i in range(150)})
    told = check_problem(shop.client.post("/v1/holds", content=body), 422, "validation_error")
    assert len(told["errors"]) == 20
    assert all(len(each["field"]) <= 120 and len(each["message"]) <= 200 for each in told["errors"])
    assert len(told["detail"]) < 2_000


def test_forms_that_are_odd(shop: Shop) -> None:
    form = {"content-type": "application/x-www-form-urlencoded", "origin": str(shop.client.base_url).rstrip("/")}
    for body in (b"&".join([b"a=1"] * 6), b"&" * 9_000, b"token=a&" * 6):
        answer = shop.client.post("/ops/login", content=body, headers=form)
        assert fields(check_problem(answer, 422, "validation_error")) == ["body"]
    for body in (
        b"",
        b"token",
        b"token=",
        b"=",
        b"token=%ff%fe",
        b"\xff\xfe",
        b"token=%00",
        b"token=%ED%A0%80",
        b"a=1;b",
    ):
        assert shop.client.post("/ops/login", content=body, headers=form).status_code == 403
    for origin in ("http://[", "http://[::1", "null", "//", "http://]", "é"):
        headers = [(b"content-type", form["content-type"].encode()), (b"origin", origin.encode("latin-1"))]
        check_problem(shop.client.post("/ops/login", content=b"token=x", headers=headers), 403, "forbidden")


def test_a_defect_is_logged_with_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    logged, before = io.StringIO(), structlog.get_config()
    structlog.configure(
        processors=log_format.rendering(structlog.processors.JSONRenderer()),
        logger_factory=structlog.PrintLoggerFactory(logged),
        cache_logger_on_first_use=False,
    )

    def deep(level: int) -> None:
        if level == 0:
            raise ValueError("x" * 100_000)
        [deep, deep][level % 2](level - 1)

    try:
        for _ in range(TRACES_A_MINUTE + 5):
            try:
                deep(200)
            except ValueError as error:
                structlog.get_logger().error("internal_error", exc_info=error, text="y" * 100_000)
    finally:
        structlog.configure(**before)
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert [("exception" in line) for line in lines] == [True] * TRACES_A_MINUTE + [False] * 5
    assert max(len(line.get("exception", "")) for line in lines) <= TRACE_MAX_CHARACTERS + 10
    assert all(len(line["text"]) < 3_000 for line in lines)
    assert lines[-1]["error"] == "ValueError"
    assert "test_bounds.py" in lines[-1]["at"]
