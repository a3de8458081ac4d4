"""A disk of a test's own, which it may make small: a tmpfs, for whoever may mount one."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

SIZE_KIB = 256 * 1024


class Disk:
    """What is written below ``folder`` until the disk is taken away again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def leave_room(self, kib: int) -> None:
        """From now on it takes that much more and then is full."""
        stat = os.statvfs(self.folder)
        self.resize((stat.f_blocks - stat.f_bfree) * stat.f_frsize // 1024 + kib)

    def resize(self, kib: int = SIZE_KIB) -> None:
        subprocess.run(["mount", "-o", f"remount,size={kib}k", self.folder], check=True)


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Disk | None]:
    """None where this user may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_KIB}k", "flashsale-test", str(folder)]
    try:
        mounted = subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield Disk(folder) if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=False)
