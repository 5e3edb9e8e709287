"""Two kinds of pictures as SVG: bars beside names, and curves. Readable on light and dark pages."""

from __future__ import annotations

import math
from html import escape

_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-size:14px;font-weight:600}"
    ".o{fill:#0969da}.p{fill:#afb8c1}.a{stroke:#d0d7de}.l{fill:none;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.p{fill:#6e7681}.a{stroke:#30363d}}"
)
_COLOURS = ("#0969da", "#bf3989", "#1a7f37", "#9a6700")
_WIDTH, _NAMES, _BAR, _GAP = 860, 330, 18, 7

Curve = list[tuple[float, float]]


def bars(title: str, named: list[tuple[str, float, bool]]) -> str:
    """One bar a name, the longest as wide as there is room; ours in another colour."""
    longest = max(value for _, value, _ in named)
    room = _WIDTH - _NAMES - 70
    parts = [f'<text class="t" x="0" y="16">{escape(title)}</text>']
    for number, (name, value, is_ours) in enumerate(named):
        top = 32 + number * (_BAR + _GAP)
        width = max(1.0, value / longest * room)
        kind = "o" if is_ours else "p"
        middle = top + _BAR - 5
        parts += [
            f'<text x="{_NAMES - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{_NAMES}" y="{top}" width="{width:.1f}" height="{_BAR}"/>',
            f'<text x="{_NAMES + width + 6:.1f}" y="{middle}">{_figure(value)}</text>',
        ]
    return _whole(parts, 32 + len(named) * (_BAR + _GAP), title)


def lines(title: str, curves: dict[str, Curve]) -> str:
    """One curve a name, over a logarithmic axis that begins at the smallest x."""
    height, left, top, bottom = 320, 60, 40, 280
    right = _WIDTH - 190
    xs = sorted({x for curve in curves.values() for x, _ in curve})
    highest = max(y for curve in curves.values() for _, y in curve) * 1.1

    def across(x: float) -> float:
        low, high = math.log1p(xs[0]), math.log1p(xs[-1])
        return left + (math.log1p(x) - low) / (high - low) * (right - left)

    def up(y: float) -> float:
        return bottom - y / highest * (bottom - top)

    parts = [f'<text class="t" x="0" y="16">{escape(title)}</text>']
    parts.append(f'<path class="a" d="M{left} {top}V{bottom}H{right}" fill="none"/>')
    for x in xs:
        parts.append(
            f'<text x="{across(x):.1f}" y="{bottom + 18}" text-anchor="middle">{x:,.0f}</text>'
        )
    for y in (0.0, highest / 2, highest):
        parts.append(
            f'<text x="{left - 8}" y="{up(y) + 4:.1f}" text-anchor="end">{_figure(y)}</text>'
        )
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in curve)
        end = up(curve[-1][1]) + 4
        parts += [
            f'<path class="l" stroke="{colour}" d="M{path}"/>',
            f'<text x="{right + 10}" y="{end:.1f}">{escape(name)}</text>',
        ]
    return _whole(parts, height, title)


def _figure(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _whole(parts: list[str], height: int, title: str) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
            f'aria-label="{escape(title)}">',
            f"<style>{_STYLE}</style>",
            *parts,
            "</svg>",
            "",
        ]
    )
