"""The project's pages as tests read them: headings, tables, links."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.house.paths import ROOT

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")


def pages() -> list[Path]:
    """Every page that people read first."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@cache
def page(name: str) -> str:
    """The text of a page of ``docs/``, without its fenced code."""
    return _FENCED.sub("", (ROOT / "docs" / name).read_text())


def codes(text: str) -> list[str]:
    """What stands in backticks."""
    return _CODE.findall(text)


def sections(text: str, level: int) -> dict[str, str]:
    """What stands under each heading of a level, up to the next of the same or a higher one."""
    found: dict[str, str] = {}
    parts = re.split(rf"^(#{{1,{level}}}) (.+)$", text, flags=re.MULTILINE)
    for marks, heading, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        if len(marks) == level:
            assert heading not in found, f"two headings {heading!r}"
            found[heading] = body
    return found


def rows(text: str) -> Iterator[list[str]]:
    """The rows of a text's tables, without their heads, as cells."""
    lines = text.splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        if line.startswith("| ") and not line.startswith("| ---") and above.startswith("|"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def first_cells(text: str) -> list[str]:
    """What stands in backticks in the first column of a text's tables."""
    return [code for row in rows(text) for code in codes(row[0])]


def anchors(path: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of headings."""
    headings = re.findall(r"^#{1,6} (.+)$", _FENCED.sub("", path.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path: Path) -> list[str]:
    """The targets of a page's links, without those to other hosts."""
    found = re.findall(r"\]\(([^)\s]+)\)", _FENCED.sub("", path.read_text()))
    return [target for target in found if "://" not in target]
