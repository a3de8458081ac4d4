"""What no linter checks: short files, and nothing of one machine in what is committed."""

import re
from pathlib import Path

import pytest

from tests.house.paths import ROOT, files, packages

MAX_LINES = 400

# Spelled in pieces, so that this file does not name them itself.
HOSTS = (
    "pypi" + ".org",
    "python" + "hosted.org",
    "registry." + "npmjs.org",
    "deb.debian" + ".org",
    "proxy.golang" + ".org",
)
MACHINE = re.compile("|".join([*map(re.escape, HOSTS), r"(?<![\w.])/wor" + r"k/", r"(?<![\w.])/roo" + r"t/"]))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_of_ours_is_longer_than_400_lines() -> None:
    ours = {*packages(), "tests", "loadtests"}
    long = {
        _name(path): lines
        for path in files()
        if path.relative_to(ROOT).parts[0] in ours
        and path.suffix in {".py", ".lua"}
        and (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long, "split by noun"


def test_nothing_committed_names_a_registry_host_or_a_path_of_one_machine() -> None:
    found = [
        f"{_name(path)}:{number}: {line.strip()[:80]}"
        for path in files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if MACHINE.search(line)
    ]
    assert not found


@pytest.mark.parametrize("line", ["see /wor" + "k/x", "https://" + HOSTS[0] + "/simple", "/roo" + "t/.venv"])
def test_the_rule_would_notice(line: str) -> None:
    assert MACHINE.search(line)


def test_text_files_end_in_one_newline_and_carry_no_tabs() -> None:
    for path in files():
        if path.suffix in {".py", ".lua", ".toml", ".yaml", ".yml"}:
            text = path.read_text()
            assert not text or (text.endswith("\n") and not text.endswith("\n\n")), _name(path)
            assert "\t" not in text, _name(path)
