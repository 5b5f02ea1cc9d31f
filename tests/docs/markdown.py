"""Reads the project's Markdown: files, links, headings, fenced blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+?) -->")
OUTPUT = "<!-- what it shows -->"


def files():
    """Every page a reader may open."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
    return sorted(path for path in found if ".venv" not in path.parts)


@dataclass(frozen=True)
class Block:
    path: Path
    line: int
    language: str
    text: str
    not_run: str | None
    is_output: bool = False

    @property
    def where(self):
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks(path):
    """The fenced blocks of a page, each with what stands just above it: a reason for not running it, or that it is
    what the block before it shows."""
    found, inside, start, language, reason, waiting = [], None, 0, "", None, None
    output = False
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fence = re.match(r"^\s*(`{3,})(\w*)", text)
        if inside is None and fence:
            inside, start, language, reason = [], number, fence[2], waiting
        elif inside is not None and fence and not fence[2]:
            found.append(Block(path, start, language, "\n".join(inside) + "\n", reason, output))
            inside, waiting, output = None, None, False
        elif inside is not None:
            inside.append(text)
        elif marker := NOT_RUN.search(text):
            waiting = marker["reason"]
        elif text.strip():
            waiting, output = None, text.strip() == OUTPUT
    assert inside is None, f"{path}: a fence is left open at line {start}"
    return found


def prose(path):
    """The page without its fenced blocks and comments."""
    text = re.sub(
        r"^\s*```.*?^\s*```\s*$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def anchors(path):
    """The fragments that a link to this page may end with, made as code hosts make them."""
    headings = re.findall(r"^#+ +(.+?)\s*$", prose(path), flags=re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "")).replace(" ", "-") for heading in plain}


def links(path):
    """Every target of a Markdown link or image on the page."""
    return re.findall(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", prose(path))
