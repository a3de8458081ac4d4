"""The servers that production brings: Redis with its Sentinels, PostgreSQL by an operator, and who is told of them."""

import re
import shutil
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from engine import connections
from tests.deployed.stack import NEEDS, SERVERS, USERS
from tests.house.paths import ROOT
from tests.house.test_manifests import COMPONENTS, CRDS, _check, _documents, _pods, _rendered

SENTINEL, CNPG = COMPONENTS / "redis-sentinel", COMPONENTS / "postgres-cnpg"
renders = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl renders overlays, and is not here")


def _production() -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["kind"], each["metadata"]["name"]): each for each in _rendered("production")}


def _container(documents: dict[tuple[str, str], dict[str, Any]], name: str) -> dict[str, Any]:
    [container] = dict(_pods(list(documents.values())))[name]["containers"]
    assert isinstance(container, dict)
    return container


@renders
def test_production_tells_each_process_its_servers_as_its_own_user() -> None:
    documents = _production()
    services = {name for kind, name in documents if kind == "Service"}
    for role in ("api", "worker", "scheduler"):
        container = _container(documents, f"flashsale-{role}")
        told = {each["name"]: each for each in container["env"]}
        names = list(told)
        urls = [name for name in names if name.startswith("FLASHSALE_")]
        assert set(urls) == {f"FLASHSALE_{name}" for name in NEEDS[role] if name.endswith("_URL")}
        for name in urls:
            value = told[name]["value"]
            [password] = re.findall(r"\$\((\w+)\)", value)
            assert names.index(password) < names.index(name), "Kubernetes puts in only what it has read before"
            secret = told[password]["valueFrom"]["secretKeyRef"]
            if name == "FLASHSALE_DATABASE_URL":
                assert secret == {"name": f"postgres-{role}", "key": "password"}
                assert value == f"postgresql://flashsale_{role}:$({password})@postgres-rw:5432/flashsale"
                continue
            assert secret == {"name": "flashsale-passwords", "key": f"{role.upper()}_PASSWORD"}
            connections.connect(value).close()
            user, _, hosts = urlsplit(value).netloc.replace(f":$({password})", "").partition("@")
            assert user == role
            assert hosts.split(",") == [f"redis-sentinel-{number}.redis-sentinel:26379" for number in range(3)]
            assert "redis-sentinel" in services
    migrate = _container(documents, "flashsale-migrate")
    [url] = migrate["env"]
    cluster = documents["Cluster", "postgres"]["metadata"]["name"]
    assert url["valueFrom"]["secretKeyRef"] == {"name": f"{cluster}-app", "key": "uri"}
    for name, others in (
        ("scheduler", []),
        ("migrate", []),
        ("api", ["flashsale-api"]),
        ("worker", ["flashsale-worker"]),
    ):
        sources = _container(documents, f"flashsale-{name}")["envFrom"]
        assert [source["secretRef"]["name"] for source in sources if "secretRef" in source] == others


@renders
def test_redis_is_reached_by_who_needs_it_and_each_by_an_address_that_stays() -> None:
    documents = _production()
    stateful = documents["StatefulSet", "redis"]["spec"]
    for number in range(stateful["replicas"]):
        service = documents["Service", f"redis-address-{number}"]["spec"]
        assert service["selector"] == {"statefulset.kubernetes.io/pod-name": f"redis-{number}"}
        assert service["publishNotReadyAddresses"] is True, "a replica that is not ready yet has to be reached"
        assert "clusterIP" not in service, "the pod's own address would go with it"
    for name, port in (("redis", 6379), ("redis-sentinel", 26379)):
        spec = documents["StatefulSet", name]["spec"]
        assert spec["replicas"] == 3
        assert spec["podManagementPolicy"] == "Parallel"
        assert documents["Service", name]["spec"]["clusterIP"] == "None"
        assert documents["PodDisruptionBudget", name]["spec"]["maxUnavailable"] == 1
        spread = {each["topologyKey"]: each["whenUnsatisfiable"] for each in spec["template"]["spec"][
            "topologySpreadConstraints"]}  # fmt: skip
        assert spread["kubernetes.io/hostname"] == "DoNotSchedule"
        policy = documents["NetworkPolicy", name]["spec"]
        [ingress] = policy["ingress"]
        assert [each["port"] for each in ingress["ports"]] == [port]
        [source] = ingress["from"]
        [allowed] = source["podSelector"]["matchExpressions"]
        assert set(allowed["values"]) == {
            "flashsale-api", "flashsale-worker", "flashsale-scheduler", "redis", "redis-sentinel"}  # fmt: skip
        mounted = next(each for each in spec["template"]["spec"]["volumes"] if each["name"] == "servers")
        files = documents["ConfigMap", mounted["configMap"]["name"]]["data"]
        script = spec["template"]["spec"]["containers"][0]["args"][1].removeprefix("/etc/flashsale/")
        assert script in files
        assert {"users.acl", "replication.acl", "start-redis.sh"} <= set(files)


def test_redis_in_production_never_evicts_and_never_sells_alone() -> None:
    [pod] = [pod for _, pod in _pods(_documents((SENTINEL / "redis.yaml").read_text()))]
    command = pod["containers"][0]["args"]
    assert command[:2] == ["sh", "/etc/flashsale/start-replicated.sh"]
    options = dict(zip(command[2::2], command[3::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--save"] == ""
    assert options["--min-replicas-to-write"] == "1"
    down_after = re.search(r"down-after-milliseconds flashsale (\d+)", (SENTINEL / "start-sentinel.sh").read_text())
    assert down_after
    assert int(options["--min-replicas-max-lag"]) * 1000 < int(down_after[1]), "two primaries would sell"
    assert options["--replica-serve-stale-data"] == "no", "the readiness probe asks by it"
    assert pod["containers"][0]["readinessProbe"]["exec"]["command"] == ["redis-cli", "-e", "ping"]


def test_the_servers_of_production_are_told_every_password() -> None:
    wanted = {name for file in (SERVERS / "users.acl", SENTINEL / "replication.acl")
              for name in re.findall(r"\b[A-Z]+_PASSWORD", file.read_text())}  # fmt: skip
    assert wanted == {f"{name}_PASSWORD" for name in (*USERS, "REPLICA", "SENTINEL")}
    head = (SENTINEL / "kustomization.yaml").read_text().partition("resources:")[0]
    assert all(f"{name.removesuffix('PASSWORD')}" in head for name in wanted)


def test_the_operator_makes_the_roles_before_they_are_given_rights() -> None:
    [cluster] = _documents((CNPG / "postgres.yaml").read_text())
    _check(cluster)
    roles = re.findall(r"CREATE ROLE (\w+)", (SERVERS / "roles.sql").read_text())
    spec = cluster["spec"]
    assert spec["bootstrap"]["initdb"]["postInitSQL"] == [f"CREATE ROLE {role} LOGIN" for role in roles]
    assert [each["name"] for each in spec["managed"]["roles"]] == roles
    for each in spec["managed"]["roles"]:
        assert each["login"] is True, "the operator takes it away where it is not said"
        assert each["passwordSecret"]["name"] == each["name"].replace("flashsale_", "postgres-")
    assert spec["postgresql"]["synchronous"] == {
        "method": "any", "number": 1, "dataDurability": "required", "failoverQuorum": True}  # fmt: skip
    assert spec["instances"] >= 3
    [policy] = _documents((CNPG / "networkpolicy.yaml").read_text())
    labels = {"cnpg.io/cluster": cluster["metadata"]["name"]}
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    [spread] = spec["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("minimumSyncReplicas", 1),
        ("postgresql.synchronous.number", 0),
        ("postgresql.synchronous.dataDurability", "strict"),
        ("postgresql.parameters.max_connections", 600),
        ("managed.roles", [{"login": True}]),
        ("affinity.podAntiAffinityType", "hard"),
    ],
)
def test_the_schema_of_the_operators_resource_refuses(path: str, value: Any) -> None:
    cluster = yaml.safe_load((CNPG / "postgres.yaml").read_text())
    *parents, name = path.split(".")
    part = cluster["spec"]
    for parent in parents:
        part = part[parent]
    part[name] = value
    with pytest.raises(jsonschema.ValidationError):
        _check(cluster)


def test_each_schema_names_its_source() -> None:
    for path in CRDS.glob("*.json"):
        assert re.search(r"custom resource definition \(Apache-2\.0\)", path.read_text()), path.relative_to(ROOT)
