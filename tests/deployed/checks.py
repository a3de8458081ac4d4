"""What every answer of the API must be, for schemathesis, which loads this module by name."""

from typing import Any

import schemathesis

from persistence.refusals import PROBLEMS

MAY_FAIL = {"sale_paused", "sale_unavailable"}
"""What a healthy API may answer with a status of 500 or more; nothing is fenced, and nothing is away."""


@schemathesis.check
def problems_are_ours(ctx: Any, response: Any, case: Any) -> None:
    """An error is a problem of the contract that says what is wrong, and nothing of how the code is made."""
    assert "Traceback" not in response.text, "a traceback"
    assert 'File "' not in response.text, "a traceback"
    assert response.headers.get("x-request-id"), "no X-Request-Id"
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == ["application/problem+json"]
    if not response.content:
        assert case.method == "HEAD"
        return
    body = response.json()
    code = body["code"]
    assert code in PROBLEMS, code
    assert body["type"] == f"/problems/{code}"
    assert body["status"] == response.status_code
    assert response.status_code == PROBLEMS[code].status or (code, response.status_code) == ("validation_error", 400)
    assert response.status_code < 500 or code in MAY_FAIL, body
    assert body["title"], "no title"
    assert body["detail"], "no detail"
    if code == "validation_error":
        assert all(error["message"] for error in body["errors"])
        assert all(error["field"] for error in body["errors"])
