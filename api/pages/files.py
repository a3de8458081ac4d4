"""The pages' files: read once, served under the digest of all of them, with a policy that allows nothing else."""

import hashlib
import html
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Final

from api.wire import Answer
from persistence.refusals import Refusal

_TYPES: Final = {
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}
"""What anybody may fetch as it is; the pages themselves are filled in first."""

_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SAFE: Final = ((b"referrer-policy", b"same-origin"),)
_PAGE: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", _POLICY),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    *_SAFE,
)


@dataclass(frozen=True, slots=True)
class Files:
    """``version`` is of all files together: modules name each other without one, and are never mixed."""

    version: str
    pages: dict[str, str]
    others: dict[str, bytes]


@cache
def load() -> Files:
    found = {each.name: each.read_bytes() for each in (files("api.pages") / "static").iterdir() if each.is_file()}
    digest = hashlib.sha256(b"".join(b"%s\0%s\0" % (name.encode(), found[name]) for name in sorted(found)))
    return Files(
        version=digest.hexdigest()[:16],
        pages={name: body.decode() for name, body in found.items() if name.endswith(".html")},
        others={name: body for name, body in found.items() if PurePath(name).suffix in _TYPES},
    )


def static(version: str, name: str, known: bytes) -> Answer:
    """A file. Under its own version it never changes; under another (an upgrade is under way) it is asked for again
    each time. ``known`` is If-None-Match. Raises ``Refusal``: not_found.
    """
    kept = load()
    body = kept.others.get(name)
    if body is None:
        raise Refusal("not_found", "There is no such file.")
    tag = f'"{kept.version}"'.encode()
    lasting = b"public, max-age=31536000, immutable" if version == kept.version else b"no-cache"
    headers = ((b"etag", tag), (b"cache-control", lasting), *_SAFE)
    if known == tag:
        return Answer(304, b"", headers)
    return Answer(200, body, ((b"content-type", _TYPES[PurePath(name).suffix]), *headers))


def page(name: str, status: int = 200, **values: str) -> Answer:
    """A page with each ``{{value}}`` filled in, as text."""
    kept = load()
    text = kept.pages[name]
    for key, value in {"static": f"/static/{kept.version}", **values}.items():
        text = text.replace("{{" + key + "}}", html.escape(value))
    return Answer(status, text.encode(), _PAGE)


def redirect(to: str, *headers: tuple[bytes, bytes]) -> Answer:
    """See ``to`` instead, with GET."""
    return Answer(303, b"", ((b"location", to.encode()), (b"cache-control", b"no-store"), *headers))
