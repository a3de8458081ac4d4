"""An error is one line on stderr that says what to do, never a traceback."""

import socket
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sale", "laod"], "see `flashsale sale --help`"),
        (["nonsense"], "see `flashsale --help`"),
        (["sale", "load"], "Missing argument 'FILE'"),
        (["stock", "adjust", "sneaker", "5"], "--reason"),
        (["stock", "adjust", "sneaker", "many", "--reason", "x"], "not a valid integer"),
        (["stock", "adjust", "sneaker", "0", "--reason", "x"], "must not be 0"),
        (["refund", "order_bf_x", "--line", "sneaker"], "PRODUCT=QTY"),
        (["demo", "--customers", "0"], "--customers"),
        (["up", "--port", "http"], "--port"),
        (["reconcile", "--json", "a", "b"], "unexpected extra argument"),
    ],
)
def test_a_usage_error_is_one_line_and_status_2(arguments: list[str], says: str, run: Run) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert says in result.err
    assert result.err.startswith("flashsale: ")
    assert result.err.count("\n") == 1


def test_what_cannot_be_reached_or_used_is_told_by_its_variable(
    loaded: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/x"
    for name, value, command, code in [
        ("FLASHSALE_REDIS_URL", "redis://127.0.0.1:1/0", "holds expire", 1),
        ("FLASHSALE_REDIS_URL", "redis://127.0.0.1:1/0", "reconcile bf", 2),
        ("FLASHSALE_REDIS_URL", "http://nobody", "sale show bf", 2),
        ("FLASHSALE_DATABASE_URL", nowhere, "sale list", 1),
        ("FLASHSALE_DATABASE_URL", nowhere, "reconcile", 2),
        ("FLASHSALE_REDIS_URL", "redis://127.0.0.1:port", "api --port 0", 2),
        ("FLASHSALE_DATABASE_URL", "mysql://x", "sale list", 2),
        ("FLASHSALE_DATABASE_URL", "postgresql://h/d?nonsense=1", "sale list", 2),
        ("FLASHSALE_STRIPE_API_BASE", "nonsense", "api --port 0", 2),
        ("FLASHSALE_CAPTURE_METHOD", "later", "sale list", 2),
        ("FLASHSALE_STRIPE_SECRET_KEY", "", "webhooks replay", 2),
        ("FLASHSALE_STRIPE_SECRET_KEY", "", "api --port 0", 2),
        ("FLASHSALE_STRIPE_SECRET_KEY", "", "worker", 2),
    ]:
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            result = run(*command.split())
        assert result.code == code, command
        assert name in result.err
        assert result.err.count("\n") == 1, result.err


def test_a_database_without_tables_asks_for_migrate(
    redis_url: str, empty_database_url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHSALE_REDIS_URL", redis_url)
    monkeypatch.setenv("FLASHSALE_DATABASE_URL", empty_database_url)
    result = run("sale", "list")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "flashsale migrate" in result.err
    assert run("migrate").code == 0
    assert run("migrate").out == "up to date\n"
    assert run("sale", "list").code == 0


def test_up_says_that_its_port_is_in_use(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("up", "--port", str(taken.getsockname()[1]), "--data-dir", str(tmp_path / "data"))
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "choose another with --port" in result.err
    assert not (tmp_path / "data").exists()
