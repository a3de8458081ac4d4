"""A migrated database, for tests of what Postgres keeps."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from persistence import database


@pytest.fixture
def db(database_url: str) -> Iterator[Engine]:
    engine = database.connect(database_url)
    yield engine
    engine.dispose()
