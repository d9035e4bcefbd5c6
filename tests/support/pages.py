"""Markdown pages as the house tests see them: their code, their links, and the tests they name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .source import ROOT, has_reason

_BLOCK = re.compile(r"^```(?P<kind>\w*)[^\n]*\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!--\s*not run:(?P<why>[^>]*)-->\s*\Z")
_LINK = re.compile(r"\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
_TEST = re.compile(r"\btests/[\w/]+\.py(?:::\w+)*")


@dataclass(frozen=True)
class Page:
    """One Markdown file; `path` is relative to the project."""

    path: str
    text: str

    def code(self, kind: str) -> str:
        """The page's blocks of one kind as one file, in order, each line at its own number in the page.

        A block below a comment `<!-- not run: why -->` is left out.
        """
        made = ""
        for block in _BLOCK.finditer(self.text):
            excused = _NOT_RUN.search(self.text[: block.start()])
            if block["kind"] != kind or (excused and has_reason(excused["why"])):
                continue
            before = self.text.count("\n", 0, block.start("code"))
            made += "\n" * (before - made.count("\n")) + block["code"]
        return made

    def links(self) -> list[str]:
        """The relative links of the page, without anchors; those inside code are no links."""
        prose = _BLOCK.sub("", self.text)
        targets = (found["target"].partition("#")[0] for found in _LINK.finditer(prose))
        return [target for target in targets if target and "://" not in target and "mailto:" not in target]

    def named_tests(self) -> list[str]:
        """Every `tests/....py`, with `::name` parts if any, that the page mentions."""
        return sorted(set(_TEST.findall(self.text)))


def pages() -> list[Page]:
    """README, CHANGELOG, and every page of docs and tests."""
    found: list[Path] = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/**/*.md")]
    return [Page(p.relative_to(ROOT).as_posix(), p.read_text(encoding="utf-8")) for p in sorted(found)]
