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


def test_no_secret_in_the_repr() -> None:
    shown = repr(Settings(stripe_secret_key="sk_live_1", admin_token="t0ken", database_url="postgresql://u:pw@h/d"))
    assert not any(secret in shown for secret in ("sk_live_1", "t0ken", "pw"))
