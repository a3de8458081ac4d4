"""Receiving the payment provider's events: verified here, stored in sets, answered once they are stored."""

from typing import Final

from api.asker import Asker
from api.services import Services
from api.wire import Answer, Headers
from payments import inbox

RECEIVED: Final = Answer(200, b'{"received":true}')


def begin(services: Services, asker: Asker, headers: Headers, body: bytes) -> None:
    """``POST /v1/payments/webhook`` for the express way. Raises ``Refusal`` and ``Overloaded``."""

    def done(stored: bool | Exception) -> None:
        if isinstance(stored, Exception):
            asker.fail(stored)
        else:
            asker.answer(RECEIVED)

    services.inbox.submit(_read(services, headers, body), done)


async def receive(services: Services, headers: Headers, body: bytes) -> Answer:
    """The same for a handler that can wait."""
    await services.inbox.do(_read(services, headers, body))
    return RECEIVED


def _read(services: Services, headers: Headers, body: bytes) -> inbox.Arrived:
    signature = (headers.stripe_signature or b"").decode("latin-1")
    return inbox.read(body, signature, services.settings.stripe_webhook_secret)
