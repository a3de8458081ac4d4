"""A real cluster on this machine: three primaries with a replica each, as ``redis-cli --cluster create`` makes them."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from sandbox.processes import free_port
from sandbox.servers import EmbeddedRedis

PASSWORD = "of-the-cluster"
NODE_TIMEOUT_MS = 1000
SLOTS = 16384
FORMED_SECONDS = 60.0


def wait_until(check: Callable[[], bool], what: str, seconds: float = FORMED_SECONDS) -> None:
    """A Redis that is away for a moment is no answer yet."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError):
            if check():
                return
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Shard:
    """A primary, its replica, and the slots that they have."""

    primary: EmbeddedRedis
    replica: EmbeddedRedis
    slots: range


class Cluster:
    """``shards[n].primary`` is what it was at the start, whatever failed over since."""

    def __init__(self, shards: list[Shard]) -> None:
        self.shards = shards

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{shard.primary.port}" for shard in self.shards)
        return f"redis+cluster://:{PASSWORD}@{hosts}"

    @property
    def nodes(self) -> list[EmbeddedRedis]:
        return [node for shard in self.shards for node in (shard.primary, shard.replica)]

    def shard_of(self, sale_id: str) -> Shard:
        slot = key_slot(sale_id.encode())
        return next(shard for shard in self.shards if slot in shard.slots)

    def sale_on(self, shard: Shard, name: str) -> str:
        """A sale id that lies there."""
        return next(each for each in (f"{name}-{number}" for number in range(100)) if self.shard_of(each) is shard)

    def hand_over(self, shard: Shard) -> None:
        """A planned switch: the replica takes over with everything, and the primary becomes its replica."""
        ask(shard.replica, "CLUSTER", "FAILOVER")
        self.wait_promoted(shard)

    def wait_promoted(self, shard: Shard) -> None:
        """The shard's replica is primary by now, and every node that lives says so."""

        def is_primary() -> bool:
            return ask(shard.replica, "ROLE")[0] == b"master" and self.is_ok()

        wait_until(is_primary, "the replica is promoted")

    def is_ok(self) -> bool:
        return all(b"cluster_state:ok" in ask(node, "CLUSTER", "INFO") for node in self.nodes if node.running)


def ask(node: EmbeddedRedis, *command: Any) -> Any:
    """What one node says, as it says it."""
    with contextlib.closing(node.client()) as client:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*command)  # type: ignore[no-untyped-call]
            return connection.read_response()
        finally:
            client.connection_pool.release(connection)


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(_cluster_node(folder / f"node-{number}")) for number in range(6)]
        thirds = [range(SLOTS * third // 3, SLOTS * (third + 1) // 3) for third in range(3)]
        shards = [Shard(nodes[third], nodes[third + 3], slots) for third, slots in enumerate(thirds)]
        cluster = Cluster(shards)
        _form(cluster)
        yield cluster


def node(home: Path, **cluster: str) -> EmbeddedRedis:
    """A server that replicates and is replicated with the password of all of them; not started yet."""
    options = {"primaryauth": PASSWORD, "repl-diskless-sync-delay": "0", "appendfsync": "everysec"}
    made = EmbeddedRedis(home, options=options | {name.replace("_", "-"): value for name, value in cluster.items()})
    made.home.mkdir(parents=True)
    (made.home / "password").write_text(PASSWORD)
    return made


def _cluster_node(home: Path) -> EmbeddedRedis:
    return node(
        home,
        cluster_enabled="yes",
        cluster_config_file="nodes.conf",
        cluster_node_timeout=str(NODE_TIMEOUT_MS),
        cluster_port=str(free_port()),  # its default is 10,000 above the other, which may be past the last
        cluster_require_full_coverage="no",
        cluster_replica_validity_factor="0",
    )


def _form(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    bus = {node.port: int(ask(node, "CONFIG", "GET", "cluster-port")[b"cluster-port"]) for node in cluster.nodes}
    for number, node in enumerate(cluster.nodes):
        ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for shard in cluster.shards:
        ask(shard.primary, "CLUSTER", "ADDSLOTSRANGE", shard.slots[0], shard.slots[-1])
    for node in cluster.nodes[1:]:
        ask(node, "CLUSTER", "MEET", "127.0.0.1", first.port, bus[first.port])
    wait_until(lambda: all(_knows_all(cluster, node) for node in cluster.nodes), "every node knows every other")
    for shard in cluster.shards:
        ask(shard.replica, "CLUSTER", "REPLICATE", ask(shard.primary, "CLUSTER", "MYID"))
    wait_until(lambda: all(_is_replicating(shard) for shard in cluster.shards), "each replica has its primary's data")
    wait_until(cluster.is_ok, "the cluster is formed")


def _knows_all(cluster: Cluster, node: EmbeddedRedis) -> bool:
    lines = ask(node, "CLUSTER", "NODES").splitlines()
    return len(lines) == len(cluster.nodes) and not any(b"handshake" in line for line in lines)


def cut_off(shard: Shard) -> None:
    """From here on the replica gets nothing that happens, and stays ready to take over."""
    ask(shard.replica, "CONFIG", "SET", "primaryauth", "another")
    ask(shard.primary, "CLIENT", "KILL", "TYPE", "replica")
    wait_until(lambda: not _is_replicating(shard), "the replica is cut off")


def _is_replicating(shard: Shard) -> bool:
    return b"master_link_status:up" in ask(shard.replica, "INFO", "replication")
