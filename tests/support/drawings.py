"""A part of a page that the code says: a test compares it, a command draws it anew."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Drawing:
    """What stands in `page` between `begin` and `end`."""

    page: Path
    begin: str
    end: str
    draw: Callable[[], str]

    def shown(self) -> str:
        """As the page has it."""
        _, shown, _ = self._parts()
        return shown.strip()

    def main(self) -> int:
        """Print what would be drawn, or with `--write` draw it."""
        if sys.argv[1:] != ["--write"]:
            print(self.draw())
            return 0
        before, _, after = self._parts()
        self.page.write_text(f"{before}\n{self.draw()}\n{after}", encoding="utf-8")
        return 0

    def _parts(self) -> tuple[str, str, str]:
        text = self.page.read_text(encoding="utf-8")
        start, end = text.index(self.begin) + len(self.begin), text.index(self.end)
        return text[:start], text[start:end], text[end:]
