"""The payments' context as a worker process needs it."""

import redis
import sqlalchemy
from redis.exceptions import RedisError

from engine.command import Client
from engine.settings import SettingError, Settings
from payments.context import Context
from payments.provider import Provider
from payments.wake import call

THREADS = 16
"""Calls to Stripe under way at once in one payments slice: each waits, most of its time, for an answer."""


def open_context(settings: Settings, db: sqlalchemy.Engine, client: Client, queue: redis.Redis) -> Context:
    """Raises ``SettingError`` where there is no key of the payment provider."""
    if not settings.stripe_secret_key:
        raise SettingError(
            "there is no payment provider: set FLASHSALE_STRIPE_SECRET_KEY (`flashsale up` runs a stand-in instead)"
        )

    def wake() -> None:
        try:
            call(queue)
        except RedisError:
            return  # the slice looks by itself

    return Context(db, client, Provider.from_settings(settings), settings, wake)
