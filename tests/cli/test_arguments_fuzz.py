"""Arguments of any kind: the exit status is the contract's, and an error is one line that says what to do."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed
from hypothesis import settings as bounds
from hypothesis import strategies as st

from tests.cli.conftest import Result, Run
from tests.house.paths import ROOT

ODD = st.one_of(
    st.sampled_from([
        "", " ", "-", "--", "---", "-h", "--help", "--json=1", "-1", "0", "1.5", "1e3", "9" * 30, "9" * 5_000, "nan",
        "inf",
        "٣", "é", "\u202e", "😀", "\udcff", "a\udc80b", "x" * 300, "x" * 100_000, "a\nb", "a\rb", "\x1b[2J", "..", "/",
        ".",
        "/dev/null", "/nowhere/at/all", "~", "*", "%s", "%(x)s", "{0}", "$HOME", "'", "; DROP TABLE sales", "a=b",
        "=1", "sneaker=",
        "sneaker=0", "sneaker=100", "sneaker=1=1", "sneaker=\u00b2", "order_bf_" + "A" * 20, "order_\udcff_" + "A" * 20,
        "hold_bf_" + "A" * 20, "http://", "http://[", "ftp://x", "http://a b", "http://127.0.0.1:1",
        "http://127.0.0.1:99999",
    ]),
    st.text(st.characters(exclude_characters="\0"), max_size=12),
)  # fmt: skip
COMMANDS = [
    "@", "sale @", "sale load @", "sale show @", "sale pause @", "sale resume @", "sale end @", "sale list @",
    "stock adjust @ 5 --reason x", "stock adjust sneaker @ --reason x", "stock adjust sneaker 1 --reason @",
    "holds expire @", "reconcile @", "reconcile --json @", "reconcile @ --apply", "rebuild @", "refund @",
    "refund order --amount @", "refund order --line @", "refund order --line sneaker=@", "refund order --key @",
    "refund order --reason @", "refund order --restock @", "webhooks @", "webhooks list --status @",
    "webhooks replay @",
    "customer show @", "customer erase @ --yes", "customer show --json @", "report @", "report bf --html @",
    "top --once --interval @", "disputes @",
]  # fmt: skip
NO_NUMBER = ["", "x", "1e3", "9" * 5_000, "é", "\udcff", "0x10", " ", "nan"]
NO_ADDRESS = ["nowhere.invalid", "999.1.1.1", "::zz", "a b", "x" * 300, "a..b", "\udcff", "é" * 70, "http://127.0.0.1"]
FAST = bounds(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.fixture(autouse=True)
def shop(loaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sale, and a payment provider that is not there: no command gets so far as to ask it."""
    monkeypatch.setenv("FLASHSALE_STRIPE_SECRET_KEY", "sk_test_x")
    monkeypatch.setenv("FLASHSALE_STRIPE_WEBHOOK_SECRET", "whsec_x")
    monkeypatch.setenv("FLASHSALE_STRIPE_API_BASE", "http://127.0.0.1:1")


def check(result: Result, arguments: list[str]) -> None:
    shown = (arguments, result.code, result.out[-500:], result.err[-500:])
    assert result.code in {0, 1, 2}, shown
    assert "Traceback" not in result.out + result.err, shown
    assert "unexpected:" not in result.err, shown
    assert "Postgres does not answer" not in result.err, shown
    assert "Redis does not answer" not in result.err, shown
    if result.code == 0:
        assert result.err == "", shown
    elif "\n  " not in result.err:  # a group that is given nothing says what it has
        assert result.err.startswith("flashsale: "), shown
        assert result.err.count("\n") == 1, shown
        assert len(result.err) < 1_000, (len(result.err), shown)


def call(run: Run, command: str, value: str) -> None:
    arguments = [value if word == "@" else word.replace("=@", f"={value}") for word in command.split()]
    check(run(*arguments), arguments)


@FAST
@given(st.sampled_from(COMMANDS), ODD)
def test_odd_arguments(run: Run, command: str, value: str) -> None:
    call(run, command, value)


def test_every_command_with_an_odd_argument(run: Run) -> None:
    for command in COMMANDS:
        for value in ("\udcff", "x" * 100_000):
            call(run, command, value)


def test_what_is_no_number(run: Run) -> None:
    for command in (
        "demo --customers", "demo --stock", "demo --seed", "up --port", "up --api-workers", "api --port",
        "api --workers", "worker --processes", "top --interval",
    ):  # fmt: skip
        for value in NO_NUMBER:
            result = run(*command.split(), value)
            check(result, [command, value])
            assert result.code == 2, (command, value)


def test_what_is_no_address(run: Run) -> None:
    for role in ("api", "up"):
        for value in NO_ADDRESS:
            arguments = [role, "--host", value, "--port", "0"]
            result = run(*arguments)
            check(result, arguments)
            assert result.code == 1
            assert "cannot listen on" in result.err


def test_bytes_that_are_no_text_in_a_process() -> None:
    command = [os.fsencode(sys.executable), b"-m", b"cli.main", b"customer", b"show", b"\xff"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"flashsale: an argument holds bytes that are no UTF-8, so nothing here can have that name\n"


@pytest.mark.torture
def test_odd_arguments_at_length(run: Run) -> None:
    number = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**31))
    print(f"seed {number} (SEED={number} repeats it)")  # noqa: T201

    @bounds(FAST, max_examples=5_000, derandomize=False)
    @seed(number)
    @given(st.sampled_from(COMMANDS), ODD)
    def send(command: str, value: str) -> None:
        call(run, command, value)

    send()
