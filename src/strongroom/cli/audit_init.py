"""`strongroom audit init`: look at a site, ask, and write the file that describes it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from strongroom.core.errors import UsageError

from .audit_options import add_site, add_way
from .output import DONE, NOTHING, Output
from .parsing import Command

if TYPE_CHECKING:
    from strongroom.audit.discovery import Plan
    from strongroom.audit.pages import Form
    from strongroom.audit.target import Target


def init(options: argparse.Namespace, out: Output) -> int:
    """Write the target file."""
    from .audit import opened_site, read_target, told_as_usage

    path = Path(options.output)
    if path.exists() and not options.force:
        raise UsageError(
            f"{path} is there already, and was left as it is.",
            hint="Name another file with --output, or write over it with --force.",
        )
    options.dry_run, options.second_user = False, None
    options.only, options.skip, options.samples, options.wait = [], [], 200, None
    with told_as_usage():
        target = read_target(options, out)
        with opened_site(options, target, out) as site:
            plan = site.discover()
    chosen = [form for form in plan.forms if _may_be_sent(form, out)]
    path.write_text(target_file(target, plan, chosen), "utf-8")
    document = {"file": str(path), "found": plan.told, "missing": plan.missing}
    lines = [*plan.told, *plan.missing, "", f"Written: {path}. Look through it, then:",
             f"  strongroom audit --target {path}"]  # fmt: skip
    out.answer(document, lines)
    return DONE if plan.proof is not None else NOTHING


def _may_be_sent(form: Form, out: Output) -> bool:
    """Whether the person at the terminal says that this form may be sent with made-up values."""
    if not (out.world.input.isatty() and out.world.err.isatty()) or out.as_json:
        return False
    fields = ", ".join(each.name for each in form.texts) or "no text"
    path = urlsplit(form.action).path
    return out.confirm(
        "May the audit send it, with made-up text, again and again?",
        ["", f"A form changes something: {form.method} {path} ({fields})"],
        yes=False,
    )


def target_file(target: Target, plan: Plan, chosen: list[Form]) -> str:
    """The TOML text: what was found, and what could be said more, commented out."""
    lines = ["# What `strongroom audit` is told of this site. docs/audit.md has every key.", "",
             f"url = {_quoted(target.url)}"]  # fmt: skip
    if target.user is not None:
        lines.append(f"user = {_quoted(target.user.name)}")
    lines += ['# second_user = "mallory"   # the attacker\'s own account', ""]
    lines += _found(plan)
    lines += ["# [timeouts]", '# idle = "30m"', '# absolute = "8h"', '# step_up_after = "5m"', ""]
    for form in plan.forms:
        lines += _change(form, "" if form in chosen else "# ")
    lines += [
        "# [password_change]",
        '# page = "/settings/password"',
        '# fields = { current = "{password}", new = "{new_password}", again = "{new_password}" }',
    ]
    return "\n".join(lines) + "\n"


def _found(plan: Plan) -> list[str]:
    lines: list[str] = []
    if plan.sign_in is None:
        lines += ["# [sign_in]", '# url = "/api/login"',
                  '# json = { username = "{user}", password = "{password}" }', ""]  # fmt: skip
    elif plan.sign_in.form is None:
        lines += ["[sign_in]", f"url = {_quoted(plan.sign_in.call.url)}",
                  f"json = {_table(dict(plan.sign_in.call.json or {}))}", ""]  # fmt: skip
    else:
        lines += [f"# Signing in: {plan.sign_in.where} was found by itself.", ""]
    if plan.proof is None:
        lines += ["# [proof]", '# url = "/account"', '# text = "Sign out"', ""]
    else:
        lines += ["[proof]", f"url = {_quoted(plan.proof.url)}"]
        lines += [f"text = {_quoted(plan.proof.marker)}"] if plan.proof.marker else []
        lines.append("")
    if plan.sign_out is None:
        lines += ["# [sign_out]", '# url = "/logout"', '# method = "POST"', ""]
    if plan.sessions_url:
        lines += ["[sessions]", f"url = {_quoted(plan.sessions_url)}", ""]
    return lines


def _change(form: Form, mark: str) -> list[str]:
    fields = {each.name: "audit {nonce}" for each in form.texts}
    page, path = urlsplit(form.page).path, urlsplit(form.action).path
    rows = [
        "[[change]]",
        f"name = {_quoted(path.strip('/') or 'change')}",
        f"page = {_quoted(page)}",
        f"url = {_quoted(path)}",
        f"fields = {_table(fields)}",
        f"read = {_quoted(page)}   # the page that shows what was changed",
    ]
    return [*(mark + row for row in rows), ""]


def _table(fields: dict[str, str]) -> str:
    inner = ", ".join(f"{_quoted(key)} = {_quoted(value)}" for key, value in fields.items())
    return f"{{ {inner} }}" if inner else "{}"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's."""
    return json.dumps(text).replace("\x7f", "\\u007f")


def _options(parser: argparse.ArgumentParser) -> None:
    add_site(parser)
    parser.add_argument(
        "--output", default="audit.toml", metavar="FILE", help="where to (default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    add_way(parser)


INIT = Command(
    "audit init",
    "Look at a site, ask, and write the file that describes it.",
    """Signs in and walks the pages, with GET only. At a terminal it asks of each form whether the
    audit may send it; otherwise the forms stand in the file commented out.""",
    ("strongroom audit init https://app.example/ --user alice",),
    _options,
    init,
)
