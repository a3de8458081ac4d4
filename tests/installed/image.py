"""The Dockerfile's build stage without docker: its RUN steps, as they are written there, in folders of ours."""

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.house.paths import ROOT, files, packages

DOCKERFILE = ROOT / "Dockerfile"
FOLDERS = ("/opt/flashsale", "/tmp/build", "/tmp/wheel")
"""The only folders outside the source that the steps may name. Each becomes one of ours."""
OF_THE_MACHINE = ("useradd",)
"""Steps of the second stage that would change this machine. They are not run."""


def run_steps() -> list[str]:
    """Each RUN step as one shell command."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    return re.findall(r"^RUN (.+)$", text, re.MULTILINE)


def build_steps() -> list[str]:
    return [step for step in run_steps() if not step.startswith(OF_THE_MACHINE)]


class Image:
    """``build`` makes ``home/flashsale``, which is /opt/flashsale of the image. ``cache`` keeps what the lock files
    alone decide, so that the next build installs our own wheel only.
    """

    def __init__(self, home: Path, cache: Path) -> None:
        self.venv = cache / "opt-flashsale"
        self._home = home
        self._cache = cache
        self._folders = {"/opt/flashsale": self.venv, "/tmp/build": cache / "build", "/tmp/wheel": home / "wheel"}

    def build(self) -> None:
        dependencies, ours = build_steps()
        source = self._home / "source"
        source.mkdir()
        for name in ("requirements.lock", "requirements-build.lock"):
            shutil.copy(ROOT / name, source)
        kept = self._cache / self._hash(dependencies)
        if kept.exists() and (self._cache / "build" / "bin" / "pip").exists():
            shutil.rmtree(self.venv, ignore_errors=True)
            shutil.copytree(kept, self.venv, symlinks=True)
        else:
            for old in self._cache.iterdir():
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            self._sh(dependencies, source)
            scratch = kept.with_suffix(".new")
            shutil.copytree(self.venv, scratch, symlinks=True)
            scratch.rename(kept)
        copied = {*packages(), "LICENSE", "README.md", "pyproject.toml"}
        for path in (path.relative_to(ROOT) for path in files()):
            if path.parts[0] in copied:
                (source / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, source / path)
        self._sh(ours, source)

    def _sh(self, step: str, source: Path) -> None:
        bin_ = self._cache / "bin"  # beside the environments, which point to it
        bin_.mkdir(exist_ok=True)
        python = bin_ / "python"
        if not python.exists():  # the image's own Python: the one that runs the tests, outside of its environment
            python.symlink_to(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))
        for theirs, ours in self._folders.items():
            step = re.sub(rf"(?<!\S){re.escape(theirs)}(?=/|\s|$)", shlex.quote(str(ours)), step)
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(
            ["/bin/sh", "-ec", step],
            cwd=source,
            env=env | {"PATH": f"{bin_}:/usr/bin:/bin", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{step}\n{done.stdout[-3000:]}"

    def _hash(self, step: str) -> str:
        parts = [step, sys.version, platform.machine(), sys.base_prefix]
        parts += [(ROOT / name).read_text() for name in ("requirements.lock", "requirements-build.lock")]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
