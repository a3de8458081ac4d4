"""The scripts that start Redis and its Sentinels in Kubernetes, run through a failover on addresses of this machine."""

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from engine import connections
from sandbox import binaries
from sandbox.processes import Child
from tests.cluster.servers import wait_until
from tests.house.paths import ROOT
from tests.house.test_manifests import _documents, _pods

pytestmark = [
    pytest.mark.torture,  # 5 s until a primary is down, several times
    pytest.mark.skipif(sys.platform != "linux", reason="wants a loopback address for each server"),
]
USERS = ("OWNER", "API", "WORKER", "SCHEDULER", "OPS", "REPLICA", "SENTINEL")
PASSWORDS = {f"{name}_PASSWORD": f"{name.lower()}pw" for name in USERS}
SCRIPTS = [ROOT / "k8s/servers", ROOT / "k8s/components/redis-sentinel"]
# What the image has: names found by DNS, and redis-cli, of which the scripts use one command.
GETENT = '#!/bin/sh\necho "127.0.1.1${2##*-}  $2"\n'
REDIS_CLI = f"""#!{sys.executable}
import sys, redis
host = sys.argv[sys.argv.index("-h") + 1].partition(".")[0][-1]
try:
    client = redis.Redis("127.0.1.2" + host, 26379, socket_timeout=2, decode_responses=True, protocol=2)
    print(*client.execute_command(*sys.argv[sys.argv.index("sentinel"):]), sep="\\n")
except redis.RedisError as error:
    sys.exit(str(error))
"""


class Servers:
    """Redis ``n`` is 127.0.1.1n, as its Service's address would be; Sentinel ``n`` is 127.0.1.2n."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, Child] = {}
        (folder / "bin").mkdir()
        (folder / "bin/redis-server").symlink_to(binaries.valkey_server())
        for name, text in (("getent", GETENT), ("redis-cli", REDIS_CLI)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        for file in (file for place in SCRIPTS for file in place.iterdir() if file.suffix in {".sh", ".acl"}):
            shutil.copy(file, folder / "bin")
        [pod] = [pod for _, pod in _pods(_documents((SCRIPTS[1] / "redis.yaml").read_text()))]
        self._options = pod["containers"][0]["args"][2:]

    def start(self, name: str) -> None:
        kind, number = name.split("-")
        home = self.folder / name
        home.mkdir(exist_ok=True)
        environment = {"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", **PASSWORDS}
        if kind == "redis":
            words = ["start-replicated.sh", *self._options, "--bind", f"127.0.1.1{number}", "--dir", str(home)]
            environment |= {"HOSTNAME": name, "ACL_FILE": str(home / "users.acl")}
        else:
            words = ["start-sentinel.sh", "--bind", f"127.0.1.2{number}"]
            environment |= {"POD_IP": f"127.0.1.2{number}", "SENTINEL_FILE": str(home / "sentinel.conf")}
        self.running[name] = Child(
            ["/bin/sh", self.folder / "bin" / words[0], *words[1:]],
            log=home / "log", record=home / "pid", death_signal=signal.SIGKILL, env=environment,
        )  # fmt: skip

    def stop(self) -> None:
        while self.running:
            self.running.popitem()[1].kill()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path)
    try:
        for number in range(3):
            servers.start(f"redis-{number}")
            servers.start(f"sentinel-{number}")
        yield servers
    finally:
        servers.stop()


def _replica_of(number: int) -> str | None:
    """Whom that Redis follows with all data; None where nobody."""
    with redis.Redis(f"127.0.1.1{number}", username="admin", password="ownerpw", protocol=2) as client:
        found = client.info("replication")
    return found["master_host"] if found.get("master_link_status") == "up" else None


def _agree() -> bool:
    for number in range(3):
        with redis.Redis(f"127.0.1.2{number}", 26379, username="sentinel", password="sentinelpw", protocol=2) as client:
            if len(client.sentinel_slaves("flashsale")) != 2 or len(client.sentinel_sentinels("flashsale")) != 2:
                return False
    return True


def test_the_scripts_of_kubernetes_follow_whom_the_sentinels_name(servers: Servers) -> None:
    wait_until(lambda: {_replica_of(1), _replica_of(2)} == {"127.0.1.10"}, "both follow the first")
    wait_until(_agree, "the Sentinels know each other and both replicas")
    url = "redis+sentinel://worker:workerpw@127.0.1.20:26379,127.0.1.21:26379,127.0.1.22:26379/flashsale"
    client = connections.connect(url)
    client.set("fs:tried", "1")
    with redis.Redis("127.0.1.20", 26379, protocol=2) as stranger, pytest.raises(redis.RedisError, match="permission"):
        stranger.execute_command("SENTINEL", "FAILOVER", "flashsale")
    servers.running.pop("redis-0").kill()
    wait_until(lambda: bool(client.set("fs:tried", "2")), "another is primary, with a replica of its own")
    servers.start("redis-0")
    wait_until(lambda: _replica_of(0) in {"127.0.1.11", "127.0.1.12"}, "who was primary follows")
    primary = _replica_of(0)
    servers.stop()
    for name in ("redis-0", "redis-1", "redis-2", "sentinel-0", "sentinel-1", "sentinel-2"):
        servers.start(name)
    wait_until(lambda: _replica_of(0) == primary, "after a stop of all, the one that had all is primary again")
    wait_until(lambda: client.get("fs:tried") == b"2" and bool(client.set("fs:tried", "3")), "and nothing is lost")
    client.close()
