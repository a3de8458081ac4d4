"""Settings come from the environment, once, and a bad one is named."""

import pytest

from engine.settings import SettingError, Settings


def test_unset_and_empty_are_defaults() -> None:
    assert Settings.from_env({"FLASHSALE_CAPTURE_METHOD": "", "OTHER": "x"}) == Settings()


def test_each_field_is_a_variable() -> None:
    settings = Settings.from_env({"FLASHSALE_REDIS_URL": "redis://h", "FLASHSALE_HOLD_BATCH_MAX": "8"})
    assert (settings.redis_url, settings.hold_batch_max) == ("redis://h", 8)


@pytest.mark.parametrize(
    ("name", "value"),
    [("CAPTURE_METHOD", "later"), ("HOLD_BATCH_MAX", "0"), ("HOLD_BATCH_MAX", "many"), ("LOG_LEVEL", "loud")],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"FLASHSALE_{name}"):
        Settings.from_env({f"FLASHSALE_{name}": value})


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", "http://h"),
        ("REDIS_URL", "redis"),
        ("REDIS_URL", "redis://h:secret"),
        ("REDIS_URL", "redis://:secret/secret@h:6379"),
        ("REDIS_URL", "redis://h:70000"),
        ("REDIS_URL", "redis://h?db=secret"),
        ("REDIS_URL", "redis+sentinel://h:26379"),
        ("REDIS_URL", "redis+sentinel://h:x/main"),
        ("QUEUE_REDIS_URL", "redis://[::1"),
        ("DATABASE_URL", "mysql://u:secret@h/d"),
        ("STRIPE_API_BASE", "stripe.test"),
        ("STRIPE_API_BASE", "http://"),
        ("STRIPE_API_BASE", "http://h:secret"),
    ],
)
def test_a_bad_url_is_named_and_no_part_of_it_told(name: str, url: str) -> None:
    with pytest.raises(SettingError, match=f"FLASHSALE_{name} ") as refused:
        Settings.from_env({f"FLASHSALE_{name}": url})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", "redis://u:p@h:6379/0"),
        ("REDIS_URL", "rediss://[::1]:6379"),
        ("REDIS_URL", "unix:///run/redis.sock"),
        ("REDIS_URL", "redis+sentinel://:p@a,b:26380/main"),
        ("QUEUE_REDIS_URL", "redis://"),
        ("DATABASE_URL", "postgres://u@a:1,b:2/d"),
        ("STRIPE_API_BASE", "https://stripe.test:8443/base"),
    ],
)
def test_a_url_of_each_kind_is_taken(name: str, url: str) -> None:
    assert getattr(Settings.from_env({f"FLASHSALE_{name}": url}), name.lower()) == url


def test_no_secret_in_the_repr() -> None:
    shown = repr(Settings(stripe_secret_key="sk_live_1", admin_token="t0ken", database_url="postgresql://u:pw@h/d"))
    assert not any(secret in shown for secret in ("sk_live_1", "t0ken", "pw"))
