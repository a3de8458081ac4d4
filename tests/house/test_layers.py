"""Imports go downward only, and the rule covers every package that there is."""

import subprocess
import sys
from pathlib import Path

import grimp

from tests.house.paths import ROOT, packages, pyproject


def test_imports_go_downward_only() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_package_is_in_the_rule_and_is_shipped() -> None:
    on_disk = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    shipped = pyproject()["tool"]["setuptools"]["packages"]["find"]["include"]
    layers = pyproject()["tool"]["importlinter"]["contracts"][0]["layers"]
    in_layers = sorted(name.strip() for layer in layers for name in layer.split("|"))

    assert [name for name in on_disk if name not in {"tests", "loadtests"}] == packages()
    assert in_layers == packages()
    assert sorted(shipped) == sorted(name for package in packages() for name in (package, f"{package}.*"))


def test_only_the_command_line_knows_the_sandbox() -> None:
    graph = grimp.build_graph(*packages(), cache_dir=None)
    inside = graph.find_descendants("sandbox") | {"sandbox"}
    importers = {importer for module in inside for importer in graph.find_modules_that_directly_import(module)}
    assert {module.split(".")[0] for module in importers} <= {"sandbox", "cli"}
