"""What every report is made of: plain data, with every secret masked.

The keys are the JSON report's, and stable. What a server sent is cut short and stripped of whatever
a terminal or a viewer would act upon.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from strongroom.audit.fixes import FIXES, snippets
from strongroom.audit.masking import Secrets
from strongroom.audit.run import Report, Result
from strongroom.audit.verdict import FAMILIES, OUTCOMES
from strongroom.audit.wire import Reply

Document = dict[str, Any]

FORMAT = 1
_MOST_HEADERS = 24
_MOST_BODY = 600
_MOST_LINE = 300
_MOST_EXCHANGES = 6
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\u02ff\u0370-\u1fff\u2010-\u2027\u2030-\ud7ff\n]")
_SHOWN = frozenset(
    "location content-type cache-control pragma vary set-cookie clear-site-data server "
    "x-powered-by "
    "strict-transport-security content-security-policy x-frame-options referrer-policy "
    "access-control-allow-origin access-control-allow-credentials www-authenticate retry-after "
    "x-content-type-options allow".split()
)
_HIDDEN = frozenset(("accept", "accept-language", "host", "user-agent"))


def document(report: Report) -> Document:
    """The whole report as plain data."""
    secrets = report.secrets
    counted = Counter(each.verdict.outcome for each in report.results)
    return {
        "format": FORMAT,
        "tool": "strongroom audit",
        "url": clean(secrets.mask(report.url)),
        "started": report.started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "seconds": round(report.seconds, 1),
        "requests": report.requests,
        "frameworks": list(report.frameworks),
        "found": [clean(secrets.mask(each)) for each in report.plan.told],
        "missing": [clean(secrets.mask(each)) for each in report.plan.missing],
        "families": list(FAMILIES.values()),
        "counts": {each: counted.get(each, 0) for each in OUTCOMES},
        "findings": len(report.findings),
        "results": [_result(each, report) for each in _ordered(report)],
    }


def _ordered(report: Report) -> list[Result]:
    families = list(FAMILIES)
    severities = ("critical", "high", "medium", "low", "info")
    return sorted(
        report.results,
        key=lambda r: (
            OUTCOMES.index(r.verdict.outcome),
            severities.index(r.severity),
            families.index(r.check.family),
        ),
    )


def _result(result: Result, report: Report) -> Document:
    check, verdict, secrets = result.check, result.verdict, report.secrets
    told: Document = {
        "id": check.id,
        "family": check.family,
        "family_title": FAMILIES[check.family],
        "title": check.title,
        "outcome": verdict.outcome,
        "severity": result.severity,
        "accepted": result.accepted,
        "summary": clean(secrets.mask(verdict.summary)),
        "details": [clean(secrets.mask(each)) for each in verdict.details],
        "references": list(check.refs),
        "why": check.why,
        "how": check.how,
        "evidence": [exchange(each, secrets) for each in verdict.evidence[-_MOST_EXCHANGES:]],
    }
    if verdict.outcome in ("fail", "warn"):
        told["fix"] = FIXES[check.fix].text
        told["snippets"] = [
            {"framework": name, "code": code}
            for name, code in snippets(check.fix, report.frameworks)
        ]
    return told


def exchange(reply: Reply, secrets: Secrets) -> Document:
    """One request and its response, without what nobody needs and nobody may see."""
    request = reply.request
    sent = [(k, v) for k, v in request.headers if k.lower() not in _HIDDEN]
    came = [(k, v) for k, v in reply.headers if k in _SHOWN]
    parts = urlsplit(request.url)
    return {
        "number": reply.number,
        "request": f"{request.method} {_line(secrets.mask(request.url))}",
        "host": parts.netloc,
        "request_headers": _headers(sent, secrets),
        "request_body": _body(request.body, secrets),
        "status": reply.status,
        "response_headers": _headers(came, secrets),
        "response_body": _body(reply.body, secrets) if reply.media_type != "image/png" else "",
    }


def _headers(pairs: list[tuple[str, str]], secrets: Secrets) -> list[str]:
    return [
        _line(f"{name}: {secrets.header(name, value)}") for name, value in pairs[:_MOST_HEADERS]
    ]


def _line(text: str) -> str:
    shown = clean(text).replace("\n", " ")
    return shown if len(shown) <= _MOST_LINE else f"{shown[:_MOST_LINE]}…"


def _body(body: bytes, secrets: Secrets) -> str:
    # Masked before it is cut: a secret across the edge would be half shown.
    text = clean(secrets.mask(body[:20_000].decode("utf-8", "replace")))
    text = "\n".join(line for line in text.splitlines() if line.strip())
    return text if len(text) <= _MOST_BODY else f"{text[:_MOST_BODY]}…"


def clean(text: str) -> str:
    """The text without control characters, escapes and what turns the direction of writing."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r", "").replace("\t", " "))
