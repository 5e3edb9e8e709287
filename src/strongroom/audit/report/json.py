"""The report as JSON: the document itself."""

from __future__ import annotations

import json

from .document import Document


def to_json(told: Document) -> str:
    """The document as JSON, ASCII only."""
    return json.dumps(told, indent=2) + "\n"
