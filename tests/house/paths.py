"""Where the project's own files are, for the tests that read them."""

import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages() -> list[str]:
    """The project's top-level packages, as import-linter is told of them."""
    return sorted(pyproject()["tool"]["importlinter"]["root_packages"])


@cache
def files() -> list[Path]:
    """Every file that is or would be committed; outside a clone, every file of the folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        found = [
            path for path in ROOT.rglob("*") if not set(path.parts) & {".venv", ".git", "__pycache__", ".pytest_cache"}
        ]
    return sorted(path for path in found if path.is_file())
