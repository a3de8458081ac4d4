"""What Postgres says of an error may go into a log."""

import secrets
import traceback

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from engine.settings import SettingError
from persistence import database


def test_an_address_that_cannot_be_read_does_not_tell_its_password() -> None:
    for url in (
        "postgresql://flashsale:hush-7@[::1/x",
        "postgresql://u:hush-7@h:1/x?nonsense=1",
        "postgresql://hush-7:%zz@h/x",
    ):
        with pytest.raises(SettingError) as raised:
            database.connect(url)
        assert "hush-7" not in str(raised.value)


def test_a_row_that_was_refused_is_not_told(database_url: str) -> None:
    secret = secrets.token_hex(8)  # made up here, for a traceback shows the source
    engine = database.connect(database_url, 1)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE kept (client_secret text, n int CHECK (n > 0))"))
    with pytest.raises(IntegrityError) as raised, engine.begin() as conn:
        conn.execute(text("INSERT INTO kept VALUES (:secret, -1)"), {"secret": secret})
    engine.dispose()
    said = "".join(traceback.format_exception(raised.value)) + str(raised.value.orig)
    assert "violates check constraint" in said
    assert secret not in said
