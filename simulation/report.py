"""What the simulation says: as values, as Markdown, and as pictures."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

from .honest import Bothered
from .schedules import Verdicts
from .thieves import Outcome

SECOND, MINUTE = 1_000, 60_000


def document(honest: Bothered, outcomes: list[Outcome], verdicts: Verdicts) -> dict[str, Any]:
    """Everything, as plain values."""
    months = honest.user_months
    return {
        "honest": {
            "people": honest.people,
            "days": honest.days,
            "requests": honest.requests,
            "sign_ins": honest.sign_ins,
            "signed_out_by_a_signal": honest.signed_out,
            "called_thieves": honest.called_thieves,
            "signals_a_user_month": _rates(honest.signals, months),
            "notices_a_user_month": _rates(honest.notices, months),
            "by_kind": {
                kind: {
                    "told_a_month": round(
                        counts["told"] / (honest.people_of[kind] * honest.days / 30), 2
                    ),
                    "asked_again_a_month": round(
                        honest.asked[kind] / (honest.people_of[kind] * honest.days / 30), 2
                    ),
                }
                for kind in sorted(honest.people_of)
                for counts in [honest.by_kind.get(kind, Counter[str]())]
            },
        },
        "attacks": {each.name: _attack(each) for each in outcomes},
        "schedules": {
            "played": verdicts.schedules,
            "requests": verdicts.requests,
            "cookies_sent": verdicts.renewals,
            "crashes": verdicts.crashes,
            "lost_responses": verdicts.lost,
            "retried_requests": verdicts.retried,
            "called_thieves": verdicts.called_thieves,
            "ended": verdicts.ended,
            "quietly_refused": verdicts.sign_ins_asked,
        },
    }


def _rates(counts: Counter[str], months: float) -> dict[str, float]:
    return {name: round(count / months, 3) for name, count in counts.most_common()}


def _attack(outcome: Outcome) -> dict[str, Any]:
    by = Counter(each.by for each in outcome.attempts if each.noticed_after is not None)
    worst = outcome.worst_time
    middle = outcome.median_time
    return {
        "times": len(outcome.attempts),
        "noticed": outcome.rate,
        "median_seconds": None if middle is None else round(middle / SECOND),
        "worst_seconds": None if worst is None else round(worst / SECOND),
        "by": dict(by.most_common()),
        "got_in": outcome.share_acting,
        "could_do_what_is_sensitive": outcome.share_sensitive,
        "longest_minutes": round(max(each.lasted for each in outcome.attempts) / MINUTE),
    }


def markdown(told: dict[str, Any]) -> str:
    """The three tables of the documentation."""
    honest, attacks = told["honest"], told["attacks"]
    pages = f"{honest['requests']:,} requests, {honest['sign_ins']:,} sign-ins"
    lines = [
        f"{honest['people']} honest people, {honest['days']} days: {pages}. "
        "Signed out by a signal: "
        f"{honest['signed_out_by_a_signal']}. Called a thief: {honest['called_thieves']}.",
        "",
        "| signal | raised, a user-month | the owner is told, a user-month |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| `{name}` | {rate:.3f} | {honest['notices_a_user_month'].get(name, 0):.3f} |"
        for name, rate in honest["signals_a_user_month"].items()
    ]
    lines += [
        "",
        "| people | told, a month | asked once more, a month |",
        "| --- | --- | --- |",
        *(
            f"| {kind} | {row['told_a_month']:.2f} | {row['asked_again_a_month']:.2f} |"
            for kind, row in honest["by_kind"].items()
        ),
        "",
        "| attack | noticed | after (median, worst) | by | got in | could do what is sensitive |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_attack_row(name, row) for name, row in attacks.items()),
        "",
        _schedules(told["schedules"]),
    ]
    return "\n".join(lines) + "\n"


def _schedules(row: dict[str, Any]) -> str:
    return (
        f"{row['played']:,} random schedules of honest browsers: {row['requests']:,} requests, "
        f"{row['cookies_sent']:,} cookies sent, {row['lost_responses']:,} responses lost, "
        f"{row['retried_requests']:,} requests sent twice, {row['crashes']:,} crashes with an "
        f"older jar. Called a thief: {row['called_thieves']}. Sessions that ended: {row['ended']}. "
        f"Requests quietly not signed in: {row['quietly_refused']:,}."
    )


def _attack_row(name: str, row: dict[str, Any]) -> str:
    after = "never"
    if row["median_seconds"] is not None:
        after = f"{_span(row['median_seconds'])}, {_span(row['worst_seconds'])}"
    by = ", ".join(f"{each} {count}" for each, count in row["by"].items()) or "nothing"
    return (
        f"| {name} | {row['noticed']:.0%} | {after} | {by} | {row['got_in']:.0%} | "
        f"{row['could_do_what_is_sensitive']:.0%} |"
    )


def _span(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds / 60:.0f} min"


def plots(told: dict[str, Any]) -> dict[str, str]:
    """Two pictures as SVG: what honest people notice, and how much of each attack is noticed."""
    honest, attacks = told["honest"], told["attacks"]
    return {
        "honest.svg": bars(
            "Notices to an honest person, a month",
            {kind: row["told_a_month"] for kind, row in honest["by_kind"].items()},
            "{:.2f}",
        ),
        "attacks.svg": bars(
            "Share of attacks that are noticed",
            {name: row["noticed"] for name, row in attacks.items()},
            "{:.0%}",
        ),
    }


def bars(title: str, values: dict[str, float], form: str) -> str:
    """Horizontal bars with their values, readable in light and dark."""
    height = 40 + 26 * len(values)
    most = max(values.values(), default=0) or 1
    rows = []
    for number, (name, value) in enumerate(values.items()):
        y = 44 + 26 * number
        rows.append(f'<text x="232" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        rows.append(f'<rect x="240" y="{y}" width="{320 * value / most:.1f}" height="18" rx="2"/>')
        shown = escape(form.format(value))
        rows.append(f'<text x="{246 + 320 * value / most:.1f}" y="{y + 13}">{shown}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" role="img" '
        f'aria-label="{escape(title)}"><style>text{{font:13px sans-serif;fill:#555}}'
        "rect{fill:#4a7fb5}@media(prefers-color-scheme:dark){text{fill:#bbb}rect{fill:#7fb0e0}}"
        f'</style><text x="16" y="24" style="font-size:15px">{escape(title)}</text>'
        f"{''.join(rows)}</svg>\n"
    )
