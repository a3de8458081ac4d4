"""Ids name their sale, cannot be guessed, and a retry finds its own."""

import pytest

from engine import ids


def test_an_id_names_its_sale_and_its_token() -> None:
    token = ids.new_token()
    assert len(token) == ids.TOKEN_LENGTH
    for sale_id in ("bf", "black-friday", "a_b_c", "x" * 64, "2026.11_27"):
        assert ids.parse("hold", ids.hold_id(sale_id, token)) == (sale_id, token)
        assert ids.parse("order", ids.order_id(sale_id, token)) == (sale_id, token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hold_",
        "hold__" + "a" * 20,
        "hold_bf_" + "a" * 19,
        "hold_b{f_" + "a" * 20,
        "hold_bf_" + "é" * 20,
        "order_bf_x",
    ],
)
def test_what_is_no_id_is_none(text: str) -> None:
    assert ids.parse("hold", text) is None


def test_the_same_parts_give_the_same_token_and_no_others_do() -> None:
    parts = ("POST /v1/holds", "ann", "bf", "key-1")
    token = ids.derived_token(b"secret", *parts)
    assert token == ids.derived_token(b"secret", *parts)
    others = [
        ids.derived_token(b"other", *parts),
        *(ids.derived_token(b"secret", *parts[:n], "x", *parts[n + 1 :]) for n in range(4)),
    ]
    assert len({token, *others}) == 6
