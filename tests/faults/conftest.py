"""One house for the tests that break and mend it; those that want another build their own."""

from collections.abc import Iterator
from itertools import count

import pytest

from tests.faults.house import House, house

_numbers = count(1)


@pytest.fixture(scope="package")
def shared_house(tmp_path_factory: pytest.TempPathFactory, outer_environment: dict[str, str]) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house")) as made:
        yield made


@pytest.fixture
def sale_id() -> str:
    """A sale of the test's own."""
    return f"sale-{next(_numbers)}"


@pytest.fixture
def open_house(shared_house: House) -> House:
    """The shared house, whole."""
    assert shared_house.is_ready()
    return shared_house
