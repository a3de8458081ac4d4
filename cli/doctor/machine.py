"""This machine: open files, and what its kernel does to a Redis that runs on it."""

import resource
from pathlib import Path

from cli.doctor.findings import Look

FILES_MIN = 4_096
FILES_WANTED = 65_536
"""Each connection is a file; a rush brings thousands to one process."""
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def judge_files(look: Look) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    change = f"`ulimit -n {FILES_WANTED}` before the API starts; LimitNOFILE in systemd, ulimits in compose"
    if soft == resource.RLIM_INFINITY or soft >= FILES_WANTED:
        look.fine("open files", "no limit" if soft == resource.RLIM_INFINITY else str(soft))
    elif soft >= FILES_MIN:
        look.advice("open files", str(soft), change)
    else:
        look.wrong("open files", str(soft), change)


def judge_kernel(look: Look) -> None:
    """Of the machine that Redis runs on, where that is this one; silent where nothing can be seen."""
    if (overcommit := _read(OVERCOMMIT)) is not None:
        change = "`sysctl vm.overcommit_memory=1`, or rewriting its file may fail for want of memory"
        look.expect("overcommit", overcommit, ("1",), change, soft=True)
    if (pages := _read(HUGE_PAGES)) is not None:
        chosen = pages.partition("[")[2].partition("]")[0]
        change = f"`echo madvise > {HUGE_PAGES}`: with always, a fork makes Redis slow for a moment"
        look.expect("huge pages", chosen, ("madvise", "never"), change, soft=True)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
