"""The fixtures give each test a clean slate."""

import psycopg
import pytest
import redis


@pytest.mark.parametrize("again", [1, 2])
def test_redis_is_empty(redis_url: str, again: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left over", again)


@pytest.mark.parametrize("again", [1, 2])
def test_each_test_has_a_database_of_its_own(database_url: str, again: int) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE left_over (value integer)")


async def test_async_tests_run(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.ping()
