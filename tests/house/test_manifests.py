"""What runs the engine elsewhere: each file is valid, and names only commands, options and variables that exist."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import jsonschema
import kubernetes_validate
import promql_parser
import pytest
import yaml

from engine.settings import Settings
from tests.deployed.stack import NEEDS, SERVERS, USERS
from tests.house.monitoring import read, selectors
from tests.house.paths import ROOT, pyproject

KUBERNETES = "1.37.0"
OVERLAYS = ["development", "production"]
COMPONENTS = ROOT / "k8s" / "components"
VARIABLE = re.compile(r"FLASHSALE_[A-Z_]+")
# Read by `docker compose` itself or by the tests, not by the engine.
OTHER_VARIABLES = {"FLASHSALE_TEST_REDIS_URL", "FLASHSALE_TEST_DATABASE_URL"}
COMPOSE = ROOT / "docker-compose.yml"
DEPLOYED = [COMPOSE, ROOT / "Dockerfile", *sorted((ROOT / "k8s").rglob("*.yaml"))]
CRDS = ROOT / "tests/house/crds"
"""Of KEDA, CloudNativePG and the Prometheus operator."""
PLAIN = [path for path in DEPLOYED if path.suffix == ".yaml" and path.name != "kustomization.yaml"]


def _documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


def _compose() -> dict[str, Any]:
    composed: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return composed


def _rendered(overlay: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "k8s" / "overlays" / overlay)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(done.stderr)
    return _documents(done.stdout)


def _check(document: dict[str, Any]) -> None:
    """Against Kubernetes' own schema of its kind, or that of the operator whose kind it is."""
    schema = CRDS / f"{document['kind']}.json"
    if schema.exists():
        jsonschema.validate(document, json.loads(schema.read_text()))
    else:
        kubernetes_validate.validate(document, KUBERNETES, True)


def _pods(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for document in documents:
        template = document.get("spec", {}).get("template")
        if template:
            yield document["metadata"]["name"], template["spec"]


def _our_commands() -> Iterator[tuple[str, list[str]]]:
    """Where a command line of ours stands, and its words."""
    for name, service in _compose()["services"].items():
        if "build" in service:
            yield f"compose {name}", service["command"]
    for path in PLAIN:
        for name, pod in _pods(_documents(path.read_text())):
            for container in pod["containers"]:
                if container["image"].startswith("flashsale"):
                    yield f"k8s {name}", container["args"]
    command = re.search(r"^CMD \[(.+)\]$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert command
    yield "Dockerfile", [word.strip().strip('"') for word in command.group(1).split(",")]


def test_the_compose_file_is_valid() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", COMPOSE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: str(path.relative_to(ROOT / "k8s")))
def test_each_kubernetes_file_is_valid(path: Path) -> None:
    documents = _documents(path.read_text())
    assert documents
    for document in documents:
        _check(document)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_names_files_that_exist(overlay: str) -> None:
    for folder in (ROOT / "k8s" / "base", ROOT / "k8s" / "overlays" / overlay, *COMPONENTS.iterdir()):
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        assert all((folder / name).exists() for name in kustomization["resources"])
        listed = {Path(name).name for name in kustomization["resources"]} | {"kustomization.yaml"}
        assert {path.name for path in folder.glob("*.yaml")} <= listed


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl renders overlays, and is not here")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_renders_to_valid_documents(overlay: str) -> None:
    documents = _rendered(overlay)
    for document in documents:
        _check(document)
    selected = {
        name: document["spec"]["selector"]["matchLabels"]
        for document in documents
        if document["kind"] == "PodDisruptionBudget"
        for name in [document["metadata"]["name"]]
    }
    labels = [
        document["spec"]["template"]["metadata"]["labels"]
        for document in documents
        if document["kind"] in {"Deployment", "StatefulSet"}
    ]
    for name, wanted in selected.items():
        assert any(wanted.items() <= each.items() for each in labels), name


def test_every_variable_that_is_set_is_read() -> None:
    known = set(Settings.names()) | OTHER_VARIABLES
    for path in DEPLOYED:
        unknown = set(VARIABLE.findall(path.read_text())) - known
        assert not unknown, path.name


def test_both_ways_to_run_tell_each_process_what_it_needs_and_no_more() -> None:
    wanted = NEEDS | {"migrate": ("DATABASE_URL",)}
    common = {"FLASHSALE_STRIPE_API_BASE", "FLASHSALE_CAPTURE_METHOD"}  # no secrets
    secrets = {
        document["metadata"]["name"]: document["stringData"]
        for document in _documents((ROOT / "k8s/overlays/development/secrets.yaml").read_text())
    }
    composed = _compose()["services"]
    for role, names in wanted.items():
        needed = {f"FLASHSALE_{name}" for name in names}
        told = composed[role]["environment"]
        assert set(told) - common == set(secrets[f"flashsale-{role}"]) == needed, role
        for urls in (told, secrets[f"flashsale-{role}"]):
            users = {urlsplit(str(value)).username for name, value in urls.items() if name.endswith("_URL")}
            assert users == ({"flashsale"} if role == "migrate" else {role, f"flashsale_{role}"} - {
                "flashsale_scheduler"}), role  # fmt: skip


def test_each_pod_reads_its_own_secret() -> None:
    for role in ("api", "worker", "scheduler", "migrate"):
        pods = dict(_pods(_documents((ROOT / f"k8s/base/{role}.yaml").read_text())))
        [container] = pods[f"flashsale-{role}"]["containers"]
        found = [source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source]
        assert found == [f"flashsale-{role}"]


def test_both_ways_to_run_give_the_servers_every_password() -> None:
    wanted = set(re.findall(r"\b[A-Z]+_PASSWORD", (SERVERS / "users.acl").read_text()))
    assert wanted == {f"{name}_PASSWORD" for name in USERS}
    assert wanted >= set(re.findall(r"\b[A-Z]+_PASSWORD", (SERVERS / "roles.sql").read_text()))
    documents = _documents((ROOT / "k8s/overlays/development/secrets.yaml").read_text())
    passwords = next(each for each in documents if each["metadata"]["name"] == "flashsale-passwords")["stringData"]
    assert set(passwords) == wanted | {"POSTGRES_PASSWORD"}
    services = _compose()["services"]
    assert set(services["redis"]["environment"]) == wanted
    assert set(services["postgres"]["environment"]) > wanted
    for document in documents:  # the URLs carry the passwords that the servers are told
        for name, value in document["stringData"].items():
            password = urlsplit(str(value)).password
            assert not name.endswith("_URL") or password in passwords.values(), name


def test_every_command_exists_with_its_options() -> None:
    module, _, function = pyproject()["project"]["scripts"]["flashsale"].partition(":")
    program = getattr(pytest.importorskip(module), function)
    group = program if isinstance(program, click.Group) else getattr(sys.modules[module], "cli", None)
    assert isinstance(group, click.Group), f"{module} has no click group named cli or {function}"
    found = list(_our_commands())
    assert {words[0] for _, words in found} == {"api", "worker", "scheduler", "migrate"}
    for where, (name, *options) in found:
        command = group.get_command(click.Context(group), name)
        assert command, f"{where}: {name}"
        known = {option for parameter in command.params for option in parameter.opts}
        assert {option for option in options if option.startswith("--")} <= known, where


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: str(path.relative_to(ROOT / "k8s")))
def test_every_pod_is_confined(path: Path) -> None:
    for name, pod in _pods(_documents(path.read_text())):
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"], name
            assert container["resources"]["limits"]["memory"], name


def test_every_container_is_confined() -> None:
    for name, service in _compose()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["user"] not in {"root", "0", "0:0"}, name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")


def test_whoever_is_waited_for_says_when_it_is_well() -> None:
    services = _compose()["services"]
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert services[name]["healthcheck"]["test"], name
    assert {name for name, service in services.items() if service.get("profiles")} == {"prometheus", "grafana"}


def test_every_file_that_a_container_is_given_exists() -> None:
    for name, service in _compose()["services"].items():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), name
                assert volume.endswith(":ro"), name
            else:
                assert source in _compose()["volumes"], name


def test_the_operator_is_given_the_alerts_and_grafana_the_dashboard() -> None:
    rules, monitor = (
        yaml.safe_load((ROOT / "monitoring" / name).read_text())
        for name in ("prometheusrule.yaml", "servicemonitor.yaml")
    )
    _check(rules)
    _check(monitor)
    assert rules["spec"] == yaml.safe_load((ROOT / "monitoring/alerts.yaml").read_text())
    [service] = [each for each in _documents((ROOT / "k8s/base/api.yaml").read_text()) if each["kind"] == "Service"]
    assert service["metadata"]["labels"].items() >= monitor["spec"]["selector"]["matchLabels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    base = yaml.safe_load((ROOT / "k8s/base/kustomization.yaml").read_text())
    assert base["labels"][0]["pairs"][monitor["spec"]["jobLabel"]] == "flashsale", "the alerts' job"
    provider = yaml.safe_load((ROOT / "monitoring/grafana/dashboards/flashsale.yaml").read_text())["providers"][0]
    mounted = {volume.split(":")[1] for volume in _compose()["services"]["grafana"]["volumes"]}
    assert f"{provider['options']['path']}/dashboard.json" in mounted


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl renders overlays, and is not here")
def test_production_is_spread_scaled_watched_and_shut_off() -> None:
    documents = _rendered("production")
    kinds = {document["kind"] for document in documents}
    assert {"HorizontalPodAutoscaler", "ScaledObject", "PodDisruptionBudget", "NetworkPolicy"} <= kinds
    assert {"ServiceMonitor", "PrometheusRule"} <= kinds
    scaled = {
        document["spec"]["scaleTargetRef"]["name"]
        for document in documents
        if document["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}
    }
    for document in documents:
        assert document["metadata"].get("namespace") == "flashsale", document["metadata"]["name"]
        if document["kind"] == "Deployment":
            name = document["metadata"]["name"]
            assert ("replicas" in document["spec"]) == (name not in scaled), f"{name} has two who own its number"
    [scaler] = [document for document in documents if document["kind"] == "ScaledObject"]
    asked = {name for name, _ in selectors(promql_parser.parse(scaler["spec"]["triggers"][0]["metadata"]["query"]))}
    assert asked <= {name for _, name, _ in read()}, "a metric that no alert and no panel knows"
    assert re.search(r"^USER 10001:10001$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_redis_never_evicts_and_has_every_hold_on_disk() -> None:
    commands = [_compose()["services"]["redis"]["command"]]
    for _, pod in _pods(_documents((ROOT / "k8s/overlays/development/redis.yaml").read_text())):
        commands.append(pod["containers"][0]["args"])
    assert len(commands) == 2
    for command in commands:
        assert command[:2] == ["sh", "/etc/flashsale/start-redis.sh"]
        options = dict(zip(command[2::2], command[3::2], strict=True))
        assert options == {
            "--appendonly": "yes",
            "--appendfsync": "always",
            "--maxmemory-policy": "noeviction",
            "--save": "",
            "--maxmemory": options["--maxmemory"],  # below the container's own: it refuses, and is not killed
        }


def test_the_api_is_probed_where_it_answers() -> None:
    pods = dict(_pods(_documents((ROOT / "k8s/base/api.yaml").read_text())))
    container = pods["flashsale-api"]["containers"][0]
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["startupProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"


def test_the_image_is_built_from_the_locks_alone() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for install in re.findall(r"pip install (.+?)(?: \\)?$", dockerfile, re.MULTILINE):
        assert install.startswith(("--require-hashes -r requirements", "--no-deps /tmp/wheel/")), install
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    assert set(pyproject()["tool"]["importlinter"]["root_packages"]) <= set(kept)
