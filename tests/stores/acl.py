"""The ACL rules that docs/valkey.md lists, read from the page itself: the two cannot differ."""

from __future__ import annotations

import re
from pathlib import Path

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "valkey.md"


def _rules() -> tuple[str, ...]:
    text = _PAGE.read_text(encoding="utf-8")
    found = re.search(r"^ACL SETUSER shop on >\S+ (.*)$", text, re.MULTILINE)
    assert found is not None, "docs/valkey.md shows no ACL SETUSER line"
    return tuple(found[1].split())


RULES = _rules()
