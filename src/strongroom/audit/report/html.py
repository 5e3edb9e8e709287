"""The report as one self-contained HTML file, for a client: no script, no font, nothing to fetch.

Everything that came from the site is escaped, and the page forbids scripts to itself, so that a
hostile site cannot do anything to whoever reads its report.
"""

from __future__ import annotations

from html import escape

from .document import Document

_STYLE = """
:root{--ink:#1d2330;--soft:#5b6475;--line:#e2e5ec;--paper:#fff;--page:#f5f6f9;--code:#f3f4f8;
--fail:#b42318;--failbg:#fdeceb;--warn:#93560a;--warnbg:#fdf3e1;--pass:#1a6b43;--passbg:#e6f4ec;
--dim:#5b6475;--dimbg:#eef0f4;--mark:#28406b}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#a3abbb;--line:#333a48;
--paper:#1c212b;--page:#13171f;--code:#151a23;--fail:#ff9a91;--failbg:#3a1d1c;--warn:#f2c078;
--warnbg:#372a14;--pass:#83d3a8;--passbg:#16301f;--dim:#a3abbb;--dimbg:#272d39;--mark:#a9c1ef}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:58rem;margin:0 auto;padding:3rem 1.5rem 5rem}
h1{font-size:1.9rem;line-height:1.2;margin:.2rem 0 .4rem;letter-spacing:-.01em;
overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:3rem 0 1rem;padding-bottom:.4rem;border-bottom:1px solid var(--line)}
h3{font-size:1.05rem;margin:0;flex:1}
.kicker{color:var(--mark);font-weight:600;font-size:.85rem;letter-spacing:.06em;
text-transform:uppercase;margin:0}
.meta{color:var(--soft);margin:0}
.sum{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.8rem;
margin:2rem 0}
.sum div{background:var(--paper);border:1px solid var(--line);border-radius:.6rem;
padding:.9rem 1rem}
.sum b{display:block;font-size:1.8rem;line-height:1.1;font-variant-numeric:tabular-nums}
.sum span{color:var(--soft);font-size:.9rem}
.sum .fail b{color:var(--fail)}.sum .warn b{color:var(--warn)}.sum .pass b{color:var(--pass)}
.card{background:var(--paper);border:1px solid var(--line);border-left:4px solid var(--line);
border-radius:.6rem;padding:1.1rem 1.3rem;margin:0 0 1rem}
.card.fail{border-left-color:var(--fail)}.card.warn{border-left-color:var(--warn)}
.head{display:flex;gap:.7rem;align-items:baseline;flex-wrap:wrap}
.tag{font-size:.78rem;font-weight:600;padding:.1rem .55rem;border-radius:1rem;white-space:nowrap}
.tag.fail{color:var(--fail);background:var(--failbg)}
.tag.warn{color:var(--warn);background:var(--warnbg)}
.tag.dim{color:var(--dim);background:var(--dimbg)}
.what{margin:.6rem 0;font-weight:500;overflow-wrap:anywhere}
dl{margin:.6rem 0 0;display:grid;grid-template-columns:5rem 1fr;gap:.35rem 1rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
pre{background:var(--code);border:1px solid var(--line);border-radius:.4rem;padding:.7rem .9rem;
overflow-x:auto;font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,monospace;margin:.4rem 0;
white-space:pre-wrap;overflow-wrap:anywhere}
code{font:.88em ui-monospace,SFMono-Regular,Menlo,monospace}
details{margin-top:.7rem}summary{cursor:pointer;color:var(--mark)}
table{width:100%;border-collapse:collapse;background:var(--paper);border:1px solid var(--line);
border-radius:.6rem;overflow:hidden}
td{padding:.55rem .9rem;border-top:1px solid var(--line);vertical-align:top}
tr:first-child td{border-top:0}td:first-child{width:46%}
td+td{color:var(--soft);font-size:.93rem;overflow-wrap:anywhere}
.found{color:var(--soft);margin:1rem 0 0;padding-left:1.1rem}
footer{margin-top:3rem;color:var(--soft);font-size:.9rem}
@media (max-width:40rem){dl{grid-template-columns:1fr}dt{margin-top:.4rem}
td{display:block;width:auto!important;border-top:0}tr{display:block;
border-top:1px solid var(--line)}}
@media print{body{background:#fff}main{padding:0}.card,.sum div{break-inside:avoid}}
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_TABLES = (
    ("could not tell", "Could not be told"),
    ("pass", "Passed"),
    ("not applicable", "Not applicable"),
)


def to_html(told: Document) -> str:
    """The whole page."""
    findings = [each for each in told["results"] if each["outcome"] in ("fail", "warn")]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>Session audit of {escape(told['url'])}</title><style>{_STYLE}</style></head>",
        f"<body><main>{_top(told)}",
        f"<h2>Findings</h2>{''.join(map(_card, findings)) or _nothing(told)}",
    ]
    for outcome, title in _TABLES:
        rows = [each for each in told["results"] if each["outcome"] == outcome]
        if rows:
            parts.append(f"<h2>{title}</h2><table>{''.join(map(_row, rows))}</table>")
    parts.append(
        "<footer>Made by <code>strongroom audit</code>. A check passes only when its own probe was "
        "first seen to work on this site. Secrets are masked: the same number is the same secret."
        "</footer></main></body></html>\n"
    )
    return "".join(parts)


def _nothing(told: Document) -> str:
    if not told["counts"]["pass"]:
        return "<p>The audit did not get far enough to find anything.</p>"
    return "<p>None. Every check that could be made has passed.</p>"


def _top(told: Document) -> str:
    counts = told["counts"]
    boxes = (
        ("fail", counts["fail"], "failed"),
        ("warn", counts["warn"], "warnings"),
        ("pass", counts["pass"], "passed"),
        ("dim", counts["could not tell"], "could not be told"),
        ("dim", counts["not applicable"], "not applicable"),
    )
    shown = "".join(f'<div class="{k}"><b>{n}</b><span>{w}</span></div>' for k, n, w in boxes)
    found = "".join(f"<li>{escape(each)}</li>" for each in [*told["found"], *told["missing"]])
    frameworks = f" · looks like {', '.join(told['frameworks'])}" if told["frameworks"] else ""
    return (
        f'<p class="kicker">Session security audit</p><h1>{escape(told["url"])}</h1>'
        f'<p class="meta">{escape(told["started"].replace("T", " ").replace("Z", " UTC"))} · '
        f"{told['requests']} requests · {told['seconds']:.0f} s{escape(frameworks)}</p>"
        f'<div class="sum">{shown}</div><ul class="found">{found}</ul>'
    )


def _card(result: Document) -> str:
    kind = result["outcome"]
    details = "".join(f"<p>{escape(each)}</p>" for each in result["details"])
    accepted = '<span class="tag dim">accepted</span>' if result["accepted"] else ""
    snippets = "".join(
        f"<dt>{escape(each['framework'])}</dt><dd><pre>{escape(each['code'])}</pre></dd>"
        for each in result["snippets"]
    )
    return (
        f'<section class="card {kind}"><div class="head"><h3>{escape(result["title"])}</h3>'
        f'{accepted}<span class="tag {kind}">{kind} · {result["severity"]}</span></div>'
        f'<p class="what">{escape(result["summary"])}</p>{details}<dl>'
        f"<dt>Why</dt><dd>{escape(result['why'])}</dd><dt>Fix</dt><dd>{escape(result['fix'])}</dd>"
        f"{snippets}<dt>How</dt><dd>{escape(result['how'])}</dd>"
        f"<dt>Check</dt><dd><code>{result['id']}</code> · {escape(', '.join(result['references']))}"
        f"</dd></dl>{_evidence(result['evidence'])}</section>"
    )


def _evidence(exchanges: list[Document]) -> str:
    if not exchanges:
        return ""
    shown = "".join(f"<pre>{escape(_exchange(each))}</pre>" for each in exchanges)
    count = "1 exchange" if len(exchanges) == 1 else f"{len(exchanges)} exchanges"
    return f"<details><summary>Evidence: {count}</summary>{shown}</details>"


def _exchange(each: Document) -> str:
    rows = [each["request"], *each["request_headers"]]
    rows += ["", each["request_body"]] if each["request_body"] else []
    rows += ["", f"{each['status']}", *each["response_headers"]]
    rows += ["", each["response_body"]] if each["response_body"] else []
    return "\n".join(rows)


def _row(result: Document) -> str:
    return f"<tr><td>{escape(result['title'])}</td><td>{escape(result['summary'])}</td></tr>"
