"""`flashsale doctor`: what is not as a sale wants it is named, with what to change."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from cli.doctor.findings import Finding, Look, State, exit_status, judge_clock
from cli.doctor.postgres import look_at_postgres
from cli.doctor.redis_server import look_at_redis
from cli.doctor.stripe_account import look_at_stripe
from engine.settings import Settings
from payments.handlers import HANDLERS
from sandbox.servers import EmbeddedRedis
from sandbox.stripe.process import StripeStandIn
from tests.cli.conftest import Run

WEBHOOK = "http://127.0.0.1:9/v1/payments/webhook"


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StripeStandIn]:
    with StripeStandIn(webhook_url=WEBHOOK) as running:
        yield running


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """As production runs it."""
    with EmbeddedRedis(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
def settings(valkey: EmbeddedRedis, database_url: str, stand_in: StripeStandIn) -> Settings:
    return Settings(
        redis_url=valkey.url,
        database_url=database_url,
        stripe_secret_key=stand_in.secret_key,
        stripe_webhook_secret=stand_in.webhook_secret,
        stripe_api_base=stand_in.base_url,
    )


def found(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def faults(findings: Iterator[Finding]) -> dict[str, str]:
    """What is neither fine nor advice."""
    return {each.check: each.state for each in findings if each.state in (State.WRONG, State.UNKNOWN)}


def test_servers_that_are_set_as_they_should_be_have_no_fault(settings: Settings) -> None:
    assert faults(look_at_redis(settings)) == {}
    assert faults(look_at_stripe(settings)) == {}
    postgres = found(look_at_postgres(settings))
    assert postgres["schema"].state is State.FINE
    assert postgres["version"].state is State.FINE
    assert postgres["clock"].state is State.FINE


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [
        ("appendfsync", "everysec", "fsync"),
        ("appendonly", "no", "append-only file"),
        ("maxmemory-policy", "allkeys-lru", "eviction"),
    ],
)
def test_a_redis_that_may_lose_something_is_named(
    settings: Settings, valkey: EmbeddedRedis, name: str, value: str, check: str
) -> None:
    with valkey.client() as client:
        [(_, before)] = client.config_get(name).items()
        client.config_set(name, value)
        try:
            finding = found(look_at_redis(settings))[check]
        finally:
            client.config_set(name, str(before))
    assert (finding.state, finding.said) == (State.WRONG, value)
    assert f"CONFIG SET {name}" in finding.change


def test_a_redis_that_is_nearly_full_is_named(settings: Settings, valkey: EmbeddedRedis) -> None:
    with valkey.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.1))
        try:
            assert found(look_at_redis(settings))["memory"].state is State.WRONG
        finally:
            client.config_set("maxmemory", 0)


def test_a_postgres_that_may_lose_a_commit_or_has_no_schema_is_named(
    settings: Settings, empty_database_url: str
) -> None:
    engine = sqlalchemy.create_engine(empty_database_url)
    name = engine.url.database
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(sqlalchemy.text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
        conn.execute(sqlalchemy.text(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'serializable'"))
    engine.dispose()
    looked = found(look_at_postgres(replace(settings, database_url=empty_database_url)))
    assert looked["synchronous commit"].state is State.WRONG
    assert looked["isolation"].said == "serializable"
    assert looked["schema"].change == "run `flashsale migrate`"


def test_a_webhook_endpoint_that_is_told_too_little_is_named(settings: Settings, stand_in: StripeStandIn) -> None:
    stand_in.aim(WEBHOOK, events=["payment_intent.succeeded"])
    try:
        webhook = found(look_at_stripe(settings))["webhook"]
        assert webhook.state is State.WRONG
        assert "payment_intent.amount_capturable_updated" in webhook.said
        stand_in.aim(WEBHOOK, events=sorted(HANDLERS))
        assert found(look_at_stripe(settings))["webhook"].state is State.FINE
        stand_in.aim("http://127.0.0.1:9/elsewhere")
        assert found(look_at_stripe(settings))["webhook"].state is State.ADVICE, "a test key may use `stripe listen`"
    finally:
        stand_in.aim(WEBHOOK)


def test_a_key_that_is_refused_and_secrets_that_are_none_are_named(settings: Settings) -> None:
    looked = found(look_at_stripe(replace(settings, stripe_secret_key="sk_test_another", stripe_webhook_secret="x")))
    assert looked["key"].state is State.WRONG
    assert looked["webhook secret"].state is State.WRONG
    assert found(look_at_stripe(replace(settings, stripe_secret_key="")))["key"].said == "none"
    assert found(look_at_stripe(replace(settings, capture_method="automatic")))["capture"].state is State.ADVICE


def test_a_clock_that_is_off_is_named() -> None:
    look = Look("x")
    judge_clock(look, 0.4, 0.01)
    judge_clock(look, -30.0, 0.01)
    judge_clock(look, 3.0, 2.5)  # a slow answer proves nothing
    assert [each.state for each in look.findings] == [State.FINE, State.WRONG, State.FINE]


def test_the_status_says_the_worst() -> None:
    def of(*states: State) -> int:
        return exit_status(Finding("s", "c", state, "") for state in states)

    assert of(State.FINE, State.ADVICE) == 0
    assert of(State.FINE, State.UNKNOWN) == 2
    assert of(State.UNKNOWN, State.WRONG) == 1


def test_it_prints_a_line_for_each_finding_and_exits_with_the_worst(
    run: Run, stores: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHSALE_REDIS_URL", settings.redis_url)
    result = run("doctor")
    assert result.code == 1, "no Stripe key, no admin token"
    assert result.err == ""
    assert any("fine" in line and "eviction" in line and "noeviction" in line for line in result.out.splitlines())
    assert "set FLASHSALE_ADMIN_TOKEN" in result.out
    shown: dict[str, Any] = run("doctor", "--json").json
    assert shown["ok"] is False
    assert {"subject", "check", "state", "said", "change"} == shown["findings"][0].keys()
    assert settings.database_url.split("@")[0] not in result.out, "no password"


def test_servers_that_are_away_are_status_2(
    run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "REDIS_URL": "redis://127.0.0.1:9",
        "DATABASE_URL": "postgresql://127.0.0.1:9/x",
        "ADMIN_TOKEN": "t",
        "STRIPE_SECRET_KEY": settings.stripe_secret_key,
        "STRIPE_WEBHOOK_SECRET": settings.stripe_webhook_secret,
        "STRIPE_API_BASE": settings.stripe_api_base,
    }.items():
        monkeypatch.setenv(f"FLASHSALE_{name}", value)
    result = run("doctor", "--json")
    assert {(each["subject"], each["state"]) for each in result.json["findings"] if each["check"] == "reach"} == {
        ("redis", "unknown"),
        ("postgres", "unknown"),
    }
    wrong = [each for each in result.json["findings"] if each["state"] == "wrong"]
    assert [each["check"] for each in wrong] in ([], ["open files"]), wrong
    assert result.code == (1 if wrong else 2)


def test_without_urls_it_starts_nothing(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("doctor", "--json")
    said = [each["said"] for each in result.json["findings"] if each["check"] == "reach"]
    assert all(each.startswith("FLASHSALE_") for each in said)
    assert len(said) == 2
    assert list(tmp_path.iterdir()) == []
