"""Which site a browser's request comes from: what another site's page sends changes nothing here."""

from collections.abc import Collection
from typing import Final

from api.wire import Headers
from persistence.refusals import Refusal

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FOREIGN: Final = frozenset({b"cross-site", b"same-site"})


def is_foreign(headers: Headers, known: Collection[bytes]) -> bool:
    """Whether a browser says that another site's page sent this, and the page's origin is none of ``known``. What is
    no browser sends neither header. Behind a proxy that ends TLS the scheme differs, so hosts are compared.
    """
    origin, site = headers.origin, headers.sec_fetch_site
    if origin is None and site is None:
        return False
    if origin is not None and origin.lower() in known:
        return False
    if site is not None and site.lower() in _FOREIGN:
        return True
    return origin is not None and origin.lower().partition(b"://")[2] != (headers.host or b"").lower()


def refusal() -> Refusal:
    return Refusal(
        "forbidden", "A page of another site may not send this. FLASHSALE_BROWSER_ORIGINS names those that may."
    )
