"""Stripe's error answers: `{"error": {"type", "code", "message", "param", "doc_url", ...}}` and their status."""

from typing import Any

DOCS = "https://stripe.com/docs"


class Fault(Exception):
    """An error answer.

    `kept`: the endpoint had begun, so the idempotency layer remembers this answer; a request that failed validation
    (or met another one, or the rate limit) leaves nothing behind and its key may be used again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        kept: bool = False,
        extra: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.kept = kept
        self.extra = extra or {}
        self.headers = headers or {}

    def body(self, request_id: str) -> dict[str, Any]:
        error: dict[str, Any] = {}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = doc_url(self.code)
        error["message"] = self.message
        if self.param is not None:
            error["param"] = self.param
        error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        error["type"] = self.kind
        return {"error": error | self.extra}


def doc_url(code: str) -> str:
    return f"{DOCS}/error-codes/{code.replace('_', '-')}"


def invalid(message: str, param: str | None = None, code: str | None = None) -> Fault:
    """A parameter that is refused before anything begins."""
    return Fault(400, message, param=param, code=code)


def missing(param: str) -> Fault:
    return invalid(f"Missing required param: {param}.", param, "parameter_missing")


def no_such(what: str, identifier: str, param: str, *, status: int = 400) -> Fault:
    """404 for the object that the path names, 400 for one that a parameter names."""
    return Fault(status, f"No such {what}: '{identifier}'", code="resource_missing", param=param)


def unexpected_state(message: str, intent: dict[str, Any]) -> Fault:
    return Fault(400, message, code="payment_intent_unexpected_state", kept=True, extra={"payment_intent": intent})


def unknown_route(method: str, path: str) -> Fault:
    return Fault(
        404,
        f"Unrecognized request URL ({method}: {path}). Please see {DOCS} or we can help at https://support.stripe.com/.",
    )


def no_key() -> Fault:
    return Fault(
        401,
        "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer "
        f"auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See {DOCS}/api#authentication for details, or we can "
        "help at https://support.stripe.com/.",
        headers={"WWW-Authenticate": 'Bearer realm="Stripe"'},
    )


def bad_key(key: str) -> Fault:
    shown = f"{key[:8]}{'*' * max(len(key) - 12, 4)}{key[-4:]}" if len(key) > 12 else "*" * len(key)
    return Fault(401, f"Invalid API Key provided: {shown}", headers={"WWW-Authenticate": 'Bearer realm="Stripe"'})


def secret_key_required() -> Fault:
    return Fault(
        401,
        "This API call cannot be made with a publishable API key. Please use a secret API key. You can find a list of "
        "your API keys at https://dashboard.stripe.com/account/apikeys.",
        code="secret_key_required",
    )


def rate_limited() -> Fault:
    return Fault(
        429,
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        headers={"Stripe-Rate-Limited-Reason": "global-rate", "Stripe-Should-Retry": "true"},
    )


def broken(status: int = 500) -> Fault:
    return Fault(
        status,
        "An unknown error occurred",
        kind="api_error",
        headers={"Stripe-Should-Retry": "true"},
    )
