"""`Idempotency-Key` as Stripe keeps it: the first answer, for a day, for the same request."""

from hashlib import blake2b

from sandbox.stripe.errors import Fault, invalid
from sandbox.stripe.store import Answer, Store

KEPT_SECONDS = 24 * 3600
KEY_MAX = 255


def digest(fields: list[tuple[str, str]]) -> bytes:
    """Of the parameters, in whatever order they came."""
    return blake2b(repr(sorted(fields)).encode(), digest_size=16).digest()


class Keys:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._busy: set[str] = set()
        self._purged = 0

    def begin(self, key: str, path: str, sum_: bytes, now: int) -> Answer | None:
        """The answer to replay, or None: the caller goes on, and must `end` the key."""
        if len(key) > KEY_MAX:
            raise invalid(f"Idempotency keys can have up to {KEY_MAX} characters; yours has {len(key)}.")
        if key in self._busy:
            raise Fault(
                409,
                "There is currently another in-progress request using this Idempotent Key (that probably means you "
                f"submitted twice, and the other request is still going through): {key}. Please try again later.",
                kind="idempotency_error",
                code="idempotency_key_in_use",
                headers={"Stripe-Should-Retry": "true"},
            )
        kept = self._store.answer(key, now - KEPT_SECONDS)
        if kept is None:
            self._busy.add(key)
            return None
        if kept.path != path:
            raise _misused(f"for the same endpoint they were first used for ('{kept.path}' vs '{path}')", key)
        if kept.digest != sum_:
            raise _misused("with the same parameters they were first used with", key)
        return kept

    def keep(self, key: str, answer: Answer) -> None:
        self._store.keep_answer(key, answer)
        if answer.at - self._purged > 3600:
            self._purged = answer.at
            self._store.drop_answers(answer.at - KEPT_SECONDS)

    def end(self, key: str) -> None:
        self._busy.discard(key)


def _misused(rule: str, key: str) -> Fault:
    return Fault(
        400,
        f"Keys for idempotent requests can only be used {rule}. Try using a key other than '{key}' if you meant to "
        "execute a different request.",
        kind="idempotency_error",
    )
