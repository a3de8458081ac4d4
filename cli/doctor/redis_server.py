"""Redis: its version, what it does when it is killed or full, its clock; of a cluster each node."""

import time
from collections.abc import Iterator
from typing import Any

import redis
from redis.exceptions import RedisError, ResponseError

from cli.doctor.findings import Finding, Look, judge_clock
from cli.doctor.machine import judge_kernel
from engine import connections
from engine.cluster import Cluster
from engine.settings import SettingError, Settings

VERSION_MIN = 7
FULL = 0.8
"""Part of ``maxmemory`` past which there is little room for a rush."""
LOCAL = ("127.0.0.1", "localhost", "::1")


def look_at_redis(settings: Settings) -> Iterator[Finding]:
    """The sales' Redis, then RQ's where it is another."""
    yield from _look(settings.redis_url, "redis", keeps_sales=True)
    try:
        queue = settings.queue_url
    except SettingError as error:
        look = Look("queue redis")
        look.wrong("settings", "a cluster, which RQ cannot use", str(error))
        yield from look.findings
        return
    if queue != settings.redis_url:
        yield from _look(queue, "queue redis", keeps_sales=False)


def _look(url: str, subject: str, *, keeps_sales: bool) -> Iterator[Finding]:
    try:
        client = connections.connect(url, reply_timeout_seconds=3.0)
        nodes = list(_nodes(client, subject))
    except (RedisError, SettingError) as error:
        look = Look(subject)
        look.unknown("reach", str(error), "start it, or set its URL (FLASHSALE_REDIS_URL, FLASHSALE_QUEUE_REDIS_URL)")
        yield from look.findings
        return
    if isinstance(client, Cluster):
        yield from _look_at_cluster(client, subject)
    for name, node in nodes:
        look = Look(name)
        try:
            _look_at_node(look, node, keeps_sales=keeps_sales)
        except RedisError as error:
            look.unknown("reach", str(error), "start it, or check its URL, its password and the way to it")
        yield from look.findings
    client.close()


def _nodes(client: Any, subject: str) -> Iterator[tuple[str, redis.Redis]]:
    if not isinstance(client, Cluster):
        yield subject, client
        return
    client.execute_command("CLUSTER INFO")
    found: list[Any] = client.get_nodes()  # type: ignore[no-untyped-call]
    for node in sorted(found, key=lambda node: (node.server_type, node.name)):
        yield f"{subject} {node.name} ({node.server_type})", client.get_redis_connection(node)


def _look_at_cluster(client: Cluster, subject: str) -> Iterator[Finding]:
    look = Look(subject)
    info = client.execute_command("CLUSTER INFO")
    state = info["cluster_state"] if isinstance(info, dict) else "unknown"
    look.expect("cluster state", state, ("ok",), "see `CLUSTER NODES` for who is away, and bring it back")
    primaries: list[Any] = client.get_primaries()  # type: ignore[no-untyped-call]
    bare = [node.name for node in primaries if len(_owners(client, node.name)) < 2]
    if bare:
        change = "give each primary a replica, or its sales are away for as long as it is"
        look.wrong("replicas", f"none of {', '.join(bare)}", change)
    else:
        look.fine("replicas", "each primary has one")
    yield from look.findings


def _owners(client: Cluster, primary: str) -> list[Any]:
    """The nodes that have the first slot of that primary: itself, then its replicas."""
    caches = client.nodes_manager.slots_cache.values()
    return next((nodes for nodes in caches if nodes[0].name == primary), [])


def _look_at_node(look: Look, node: redis.Redis, *, keeps_sales: bool) -> None:
    before = time.time()
    seconds, micros = node.time()
    after = time.time()
    info: dict[str, Any] = node.info()
    _judge_version(look, info)
    judge_clock(look, seconds + micros / 1e6 - (before + after) / 2, (after - before) / 2)
    if info.get("loading"):
        look.wrong("loading", "it reads its data", "wait until it is done")
    try:
        config: Any = node.config_get(
            "appendonly", "appendfsync", "maxmemory-policy", "maxmemory", "cluster-require-full-coverage"
        )
    except ResponseError as error:
        change = "allow CONFIG GET to this user, or check appendonly, appendfsync and maxmemory-policy where it is run"
        look.unknown("settings", str(error), change)
        return
    change = "`CONFIG SET maxmemory-policy noeviction`, and in its file: evicted stock or jobs are lost"
    look.expect("eviction", config["maxmemory-policy"], ("noeviction",), change)
    _judge_memory(look, info, int(config.get("maxmemory") or 0))
    if keeps_sales:
        _judge_persistence(look, info, config)
        if info.get("cluster_enabled"):
            change = "`no`, so that the other primaries' sales go on while one waits for its replica"
            look.expect("full coverage", config["cluster-require-full-coverage"], ("no",), change, soft=True)
    host = node.connection_pool.connection_kwargs.get("host", "")
    if host in LOCAL:
        judge_kernel(look)


def _judge_version(look: Look, info: dict[str, Any]) -> None:
    name = "valkey" if "valkey_version" in info else "redis"
    version = str(info[f"{name}_version"])
    if int(version.partition(".")[0]) >= VERSION_MIN:
        look.fine("version", f"{name} {version}")
    else:
        look.wrong("version", f"{name} {version}", f"run Redis {VERSION_MIN} or newer, or Valkey")


def _judge_memory(look: Look, info: dict[str, Any], limit: int) -> None:
    used = int(info["used_memory"])
    said = f"{used / 2**20:.0f} MiB used of {f'{limit / 2**20:.0f} MiB' if limit else 'what the machine has'}"
    if limit and used > limit * FULL:
        look.wrong("memory", said, "raise maxmemory: when it is full, holds answer 503 `unavailable`")
    else:
        look.fine("memory", said)


def _judge_persistence(look: Look, info: dict[str, Any], config: dict[str, str]) -> None:
    change = "`CONFIG SET appendonly yes`, and in its file: without it a restart forgets what Postgres has not got yet"
    look.expect("append-only file", config["appendonly"], ("yes",), change)
    change = "`CONFIG SET appendfsync always`, and in its file: an acknowledged hold must outlive a power cut"
    look.expect("fsync", config["appendfsync"], ("always",), change)
    status = str(info.get("aof_last_write_status", "ok"))
    look.expect("last write", status, ("ok",), "its disk is full or broken: look at its log")
