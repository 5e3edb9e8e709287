"""A report in the form that somebody wants: terminal, JSON, SARIF, JUnit, HTML, Markdown.

All are made from one document (`document.py`), in which every secret is masked already, so that no
format can forget it.
"""

from __future__ import annotations

from collections.abc import Callable

from strongroom.audit.run import Report

from .document import Document, document
from .html import to_html
from .json import to_json
from .junit import to_junit
from .markdown import to_markdown
from .sarif import to_sarif
from .terminal import to_terminal

FORMATS: dict[str, Callable[[Document], str]] = {
    "terminal": to_terminal,
    "json": to_json,
    "sarif": to_sarif,
    "junit": to_junit,
    "html": to_html,
    "markdown": to_markdown,
}


def render(report: Report, form: str) -> str:
    """The report in this form. `form` is one of `FORMATS`."""
    return FORMATS[form](document(report))


__all__ = ["FORMATS", "document", "render"]
