"""Every page of the bank: small screens, landmarks, labels, contrast, and a quiet console."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyotp
import pytest

from .conftest import Visit, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

OPEN = ("/", "/sign-in", "/sign-up", "/signed-out", "/nothing", "/desk")
OWN = (
    "/account",
    "/move",
    "/devices",
    "/activity",
    "/settings",
    "/settings/email",
    "/settings/password",
    "/confirm",
    "/desk",
    "/nothing",
)
ATTACKS = ("after-renewal", "forged-form", "stolen-database")


def every_page(visitor: Visitor) -> Any:
    """Each page of the bank, one after the other; the forms with errors, too."""
    for path in OPEN:
        yield visitor.go(path)
    visitor.go("/sign-up")
    visitor.press("Open the account")
    yield visitor.page
    visitor.sign_in()
    for path in OWN:
        yield visitor.go(path)
    for name in ATTACKS:
        visitor.go("/desk")
        visitor.page.locator(f"form[action='/desk/{name}'] button").click()
        visitor.page.wait_for_url("**/desk/played/*")
        yield visitor.page
    yield from pages_of_a_second_factor(visitor)


def pages_of_a_second_factor(visitor: Visitor) -> Any:
    """Adding an app, its recovery codes, a transfer to approve, and the second step."""
    yield visitor.go("/settings/factors")
    yield visitor.go("/settings/factors/passkey")
    yield visitor.go("/settings/factors/app")
    app = pyotp.TOTP(visitor.page.locator(".figure").inner_text().replace(" ", ""))
    visitor.page.get_by_label("Code").fill(app.generate_otp(visitor.town.clock() // 30_000))
    visitor.press("Add it")
    yield visitor.page
    visitor.go("/move")
    visitor.page.get_by_label("To", exact=True).fill("bob")
    visitor.page.get_by_label("Amount in euros").fill("1200")
    visitor.press("Move the money")
    yield visitor.page
    visitor.press("Approve it")
    yield visitor.page
    visitor.town.clock.advance(timedelta(minutes=6))
    yield visitor.go("/settings/email")
    visitor.page.get_by_role("button", name="Sign out").click()
    visitor.page.wait_for_url("**/signed-out")
    visitor.sign_in()
    visitor.page.get_by_text("Your phone is not here?").click()
    yield visitor.page


def test_nothing_hangs_over_a_small_screen(visit: Visit) -> None:
    """At 320 pixels, as at 400 % zoom, nothing scrolls sideways (WCAG 1.4.10)."""
    visitor = visit(320, 640)
    for page in every_page(visitor):
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 320, page.url


def test_every_page_is_built_for_everybody(visit: Visit) -> None:
    """One heading, landmarks, a language, a title of its own, labels, targets large enough."""
    visitor = visit()
    titles: dict[str, str] = {}
    for page in every_page(visitor):
        found = page.evaluate(STRUCTURE)
        assert found["problems"] == [], page.url
        titles[page.url.partition("?")[0]] = page.title()
        assert page.title().endswith("· Tern & Holloway"), page.url
    own = [title for url, title in titles.items() if "/played/" not in url]
    assert len(set(own)) == len(own)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read(visit: Visit, scheme: str) -> None:
    """Contrast of 4.5 to 1, or 3 to 1 for large letters, by day and by night (WCAG 1.4.3)."""
    visitor = visit(color_scheme=scheme)
    for page in every_page(visitor):
        assert page.evaluate(CONTRAST) == [], page.url


STRUCTURE = """() => {
    const problems = [], all = (what) => [...document.querySelectorAll(what)];
    const shown = (each) => each.getClientRects().length > 0;
    if (all('h1').length !== 1) problems.push(`${all('h1').length} h1`);
    if (document.documentElement.lang !== 'en') problems.push('no language');
    for (const what of ['main', 'header', 'footer'])
        if (all(what).length !== 1) problems.push(`${all(what).length} ${what}`);
    const signedIn = all("form[action='/sign-out']").length;
    if (signedIn && all('nav[aria-label]').length !== 1) problems.push('no navigation');
    for (const input of all('input:not([type=hidden])').filter(shown))
        if (!input.labels.length) problems.push(`no label: ${input.name}`);
    for (const each of all('a, button').filter(shown))
        if (!each.innerText.trim() && !each.getAttribute('aria-label')) problems.push('no name');
    for (const each of all('button, .button').filter(shown))
        if (each.getBoundingClientRect().height < 24) problems.push(`small: ${each.innerText}`);
    for (const each of all('[aria-describedby], [aria-labelledby]'))
        for (const name of ['aria-describedby', 'aria-labelledby'])
            for (const id of (each.getAttribute(name) || '').split(' ').filter(Boolean))
                if (!document.getElementById(id)) problems.push(`no #${id}`);
    let level = 1;
    for (const each of all('h1, h2, h3')) {
        const next = Number(each.tagName[1]);
        if (next > level + 1) problems.push(`a level is left out before ${each.innerText}`);
        level = next;
    }
    const ids = all('[id]').map((each) => each.id);
    if (new Set(ids).size !== ids.length) problems.push('an id twice');
    const scripts = all('script').filter((each) => !each.src.endsWith('/static/passkey.js'));
    if (scripts.length || all('[onclick], [style]').length) problems.push('script or inline style');
    return {problems};
}"""

CONTRAST = """() => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const channel = (value) => {
        value /= 255;
        return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    };
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const behind = (element) => {
        for (let each = element; each; each = each.parentElement) {
            const colour = numbers(getComputedStyle(each).backgroundColor);
            if (colour.length < 4 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const problems = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement, style = getComputedStyle(element);
        if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
        const [one, other] = [light(numbers(style.color)), light(behind(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
        const least = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
        if (ratio < least) problems.push(`${ratio.toFixed(2)}: ${walker.currentNode.data.trim()}`);
    }
    return problems;
}"""
