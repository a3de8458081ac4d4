"""Answers that a CDN or a browser may keep, and the ones that they have already."""

import base64
import hashlib
from typing import Final

from api.wire import JSON, Answer

_ETAG_BYTES: Final = 12


_ASK_AGAIN: Final = (b"cache-control", b"no-cache")


def tagged(body: bytes) -> Answer:
    """JSON with its ``ETag``, by which it is asked for again each time."""
    tag = base64.urlsafe_b64encode(hashlib.blake2b(body, digest_size=_ETAG_BYTES).digest())
    return Answer(200, body, (JSON, (b"etag", b'"' + tag + b'"'), _ASK_AGAIN))


def keepable(answer: Answer, seconds: float) -> Answer:
    """A tagged answer that may be kept for ``seconds``: whole ones, so below one it stays as it is."""
    if seconds < 1:
        return answer
    control = (b"cache-control", b"public, max-age=%d" % int(seconds))
    return Answer(200, answer.body, tuple(control if pair is _ASK_AGAIN else pair for pair in answer.headers))


def unless_known(answer: Answer, if_none_match: bytes | None) -> Answer:
    """304 without a body where the client has this answer."""
    if if_none_match is None or answer.status != 200:
        return answer
    tag = dict(answer.headers).get(b"etag")
    if tag is None or not _names(if_none_match, tag):
        return answer
    return Answer(304, b"", tuple(pair for pair in answer.headers if pair is not JSON))


def _names(if_none_match: bytes, tag: bytes) -> bool:
    """Compared weakly: a proxy that packs a body makes its tag weak."""
    given = [each.strip().removeprefix(b"W/") for each in if_none_match.split(b",")]
    return tag in given or given == [b"*"]
