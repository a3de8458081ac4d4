"""One deployed stack for all tests of this folder; each speaks of sales of its own."""

from collections.abc import Iterator

import pytest

from tests.deployed.stack import Stack, deployed


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """It logs all that it can: what must not be logged would be found here."""
    with deployed(tmp_path_factory.mktemp("deployed"), FLASHSALE_LOG_LEVEL="debug") as made:
        yield made
