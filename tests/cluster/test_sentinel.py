"""One primary with a replica, watched by a Sentinel: clients find whoever is primary."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from engine import commands, connections
from engine.command import run_async
from engine.outcomes import Outcome
from sandbox import binaries
from sandbox.processes import Child, free_port
from sandbox.servers import EmbeddedRedis
from tests.cluster.servers import PASSWORD, ask, node, wait_until
from tests.sales import SaleUnderTest

SERVICE = "shop"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[EmbeddedRedis, str]]:
    """The primary, and the URL of the service."""
    with node(tmp_path / "a") as primary, node(tmp_path / "b") as replica:
        ask(replica, "REPLICAOF", "127.0.0.1", primary.port)
        wait_until(lambda: b"master_link_status:up" in ask(replica, "INFO", "replication"), "the replica has the data")
        port = free_port()
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
        )
        sentinel = Child(
            [binaries.valkey_server(), config, "--sentinel"],
            log=tmp_path / "sentinel.log",
            record=tmp_path / "sentinel.pid",
            death_signal=signal.SIGKILL,
        )
        try:
            with redis.Redis(port=port) as client:
                wait_until(lambda: len(client.sentinel_slaves(SERVICE)) == 1, "the sentinel knows the replica")
            yield primary, f"redis+sentinel://:{PASSWORD}@127.0.0.1:{port}/{SERVICE}"
        finally:
            sentinel.kill()


@pytest.mark.anyio
async def test_clients_follow_a_sentinel_to_the_new_primary(pair: tuple[EmbeddedRedis, str]) -> None:
    primary, url = pair
    client, async_client = connections.connect(url), connections.connect_async(url)
    sale = SaleUnderTest(client)
    assert sale.load(sneaker=5) is Outcome.LOADED
    token = sale.hold("ann", sneaker=1)
    assert ask(primary, "WAIT", 1, 10_000) == 1
    assert (await run_async(async_client, commands.show(sale.id))).products["sneaker"].held == 1
    primary.kill()
    with pytest.raises(redis.RedisError):
        sale.show()
    wait_until(lambda: sale.counters("sneaker") == (5, 4, 1, 0), "the replica has taken over")
    assert sale.status(token) == "held"
    with pytest.raises(redis.RedisError):  # the connection that it had; nothing is sent twice by itself
        await run_async(async_client, commands.show(sale.id))
    assert (await run_async(async_client, commands.show(sale.id))).products["sneaker"].held == 1
    await async_client.aclose()
    client.close()
