"""What the environment says, read once at the door (``Settings.from_env``) and passed down from there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from engine import urls

PREFIX = "FLASHSALE_"


class SettingError(ValueError):
    """A variable of the environment that cannot be used. The message names it and says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field a variable: ``redis_url`` is ``FLASHSALE_REDIS_URL``. Secrets are left out of the repr."""

    redis_url: str = field(default="", repr=False)
    """Stock and holds. ``redis://``, ``rediss://``, ``redis+cluster://h:p,h:p`` or
    ``redis+sentinel://h:p,h:p/service``.
    """
    queue_redis_url: str = field(default="", repr=False)
    """RQ's own Redis; where it is empty, the same server."""
    database_url: str = field(default="", repr=False)
    """``postgresql://...``; ``postgres://`` is understood too."""
    admin_token: str = field(default="", repr=False)
    shop_token: str = field(default="", repr=False)
    stripe_secret_key: str = field(default="", repr=False)
    stripe_webhook_secret: str = field(default="", repr=False)
    stripe_api_base: str = ""
    """Where Stripe's API is; empty: Stripe's own address."""
    capture_method: str = "manual"
    """``manual``: authorise, commit, capture. ``automatic``: Stripe captures at once, and what cannot be given is
    refunded.
    """
    stripe_max_per_second: int = 80
    """Calls to Stripe that one process starts in a second at most; Stripe's live limit is 100 an account."""
    stripe_timeout_seconds: int = 20
    payment_grace_seconds: int = 60
    """How long a provider that does not answer may delay the release of a hold whose payment period ran out."""
    hold_batch_max: int = 256
    """Requests that one script call takes at most: past it a call gets long (about 15 us a hold) and no cheaper a
    hold.
    """
    hold_queue_max: int = 4096
    """Hold requests that may wait in one process; past it the answer is ``overloaded``."""
    browser_origins: str = ""
    """Origins of other sites whose pages may send what changes something: ``https://shop.example``, by commas."""
    sold_out_ms: int = 5
    """How long a process may answer ``sold_out`` by itself after Redis said so; 0: never."""
    product_stale_ms: int = 0
    """How old the stock in an answer may be, in a process's memory and in a CDN together; 0: read for who asks."""
    database_pool_size: int = 20
    """Connections to Postgres that one process keeps at most."""
    database_prepare: int = 1
    """0 prepares no statements: for a pooler in transaction mode that does not follow them."""
    log_level: str = "info"
    data_dir: str = ""
    """Where embedded servers keep their data; only ``up``, ``demo`` and commands without URLs look at it."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Raises ``SettingError`` that names the variable. An empty variable counts as unset."""
        values: dict[str, Any] = {}
        for each in fields(cls):
            name = PREFIX + each.name.upper()
            text = environ.get(name, "").strip()
            if not text:
                continue
            values[each.name] = _whole(name, text, 0 if each.name in _MAY_BE_ZERO else 1) if each.type is int else text
        settings = cls(**values)
        settings._check()
        return settings

    @classmethod
    def names(cls) -> list[str]:
        """Every variable that is read, as ``FLASHSALE_...``."""
        return [PREFIX + each.name.upper() for each in fields(cls)]

    @property
    def known_origins(self) -> frozenset[bytes]:
        """``browser_origins`` as a browser sends them. Raises ``SettingError``."""
        found = set()
        for text in filter(None, (each.strip().lower() for each in self.browser_origins.split(","))):
            if not _ORIGIN.fullmatch(text):
                raise SettingError(
                    "FLASHSALE_BROWSER_ORIGINS is origins by commas (scheme, host and port, no path), "
                    f"as https://shop.example, not {text[:100]!r}"
                )
            found.add(text.encode())
        return frozenset(found)

    @property
    def queue_url(self) -> str:
        """Where RQ's jobs, slots and wake-ups are. Raises ``SettingError`` where that is a cluster, which RQ cannot
        use.
        """
        url = self.queue_redis_url or self.redis_url
        if url.startswith("redis+cluster://"):
            raise SettingError(
                "RQ cannot use a cluster: set FLASHSALE_QUEUE_REDIS_URL to a redis:// or redis+sentinel:// server"
            )
        return url

    def _check(self) -> None:
        for name, check in _URLS.items():
            if url := getattr(self, name):
                try:
                    check(url)
                except ValueError as error:
                    raise SettingError(f"{PREFIX}{name.upper()} {error}") from None
        _ = self.queue_url
        _ = self.known_origins
        if self.capture_method not in ("manual", "automatic"):
            raise SettingError(f"FLASHSALE_CAPTURE_METHOD is manual or automatic, not {self.capture_method!r}")
        if self.hold_batch_max > 1000:
            raise SettingError("FLASHSALE_HOLD_BATCH_MAX is 1000 at most: one script call holds up all others")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise SettingError(f"FLASHSALE_LOG_LEVEL is debug, info, warning or error, not {self.log_level!r}")


_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_URLS = {
    "redis_url": urls.check_redis,
    "queue_redis_url": urls.check_redis,
    "database_url": urls.check_postgres,
    "stripe_api_base": urls.check_http,
}
_MAY_BE_ZERO = ("sold_out_ms", "product_stale_ms", "database_prepare")


def _whole(name: str, text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= 1_000_000):
        raise SettingError(f"{name} is a whole number from {least} to 1000000, not {text!r}")
    return int(text)
