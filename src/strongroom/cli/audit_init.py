"""`strongroom audit init`: look at a site, ask, and write the file that describes it."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from strongroom.core.errors import UsageError

from .audit_options import add_site, add_way
from .output import DONE, NOTHING, Output
from .parsing import Command

if TYPE_CHECKING:
    from strongroom.audit.discovery import Plan
    from strongroom.audit.pages import Form
    from strongroom.audit.recipes import View
    from strongroom.audit.target import Target


_OLD = re.compile(r"old|current|present", re.IGNORECASE)


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
        known = _more(target, out)
    chosen = [
        form for form in plan.forms if not _changes_password(form) and _may_be_sent(form, out)
    ]
    path.write_text(target_file(known, plan, chosen), "utf-8")
    document = {"file": str(path), "found": plan.told, "missing": plan.missing}
    lines = [*plan.told, *plan.missing, "", f"Written: {path}. Look through it, then:",
             f"  strongroom audit --target {path}"]  # fmt: skip
    out.answer(document, lines)
    return DONE if plan.proof is not None else NOTHING


def _somebody_is_there(out: Output) -> bool:
    return out.world.input.isatty() and out.world.err.isatty() and not out.as_json


def _more(target: Target, out: Output) -> Target:
    """The target with what the person at the terminal knows of it, and no page tells."""
    from strongroom.audit.target import Account, seconds

    if not _somebody_is_there(out) or not target.accounts:
        return target
    if target.other is None:
        name = _asked("A second user, as the attacker's own account", out)
        more = (Account(name, ""),) if name else ()
        target = replace(target, accounts=(*target.accounts, *more))
    if not target.idle:
        idle = _asked("After which idle time a session is said to end, such as 30m", out)
        target = replace(target, idle=seconds(idle) if idle else 0)
    if not target.absolute:
        longest = _asked("After which time it is said to end in any case, such as 8h", out)
        target = replace(target, absolute=seconds(longest) if longest else 0)
    return target


def _asked(what: str, out: Output) -> str:
    out.world.err.write(f"{what} (empty: not known): ")
    out.world.err.flush()
    return out.world.input.readline().strip()


def _changes_password(form: Form) -> bool:
    """Whether this form changes a password: it asks for one more than once, and for no name."""
    return len(form.passwords) > 1 and not form.texts


def _may_be_sent(form: Form, out: Output) -> bool:
    """Whether the person at the terminal says that this form may be sent with made-up values."""
    if not _somebody_is_there(out):
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
    if target.other is not None:
        lines += [f"second_user = {_quoted(target.other.name)}"]
    else:
        lines += ['# second_user = "mallory"   # the attacker\'s own account']
    lines += [f"websocket = {_quoted(plan.websocket)}"] if plan.websocket else []
    lines += ["", *_found(plan), *_timeouts(target)]
    for form in plan.forms:
        if not _changes_password(form):
            lines += _change(form, "" if form in chosen else "# ")
    lines += _password_change(next(filter(_changes_password, plan.forms), None))
    return "\n".join(lines) + "\n"


def _timeouts(target: Target) -> list[str]:
    said = {"idle": target.idle, "absolute": target.absolute}
    rows = [f'{name} = "{seconds:.0f}s"' for name, seconds in said.items() if seconds]
    if rows:
        return ["[timeouts]", *rows, '# step_up_after = "5m"', ""]
    return ["# [timeouts]", '# idle = "30m"', '# absolute = "8h"', '# step_up_after = "5m"', ""]


def _password_change(form: Form | None) -> list[str]:
    """The form that was seen, or an example; commented out either way: it is not sent unasked."""
    page = "/settings/password"
    fields = {"current": "{password}", "new": "{new_password}", "again": "{new_password}"}
    if form is not None:
        page = urlsplit(form.page).path
        names = [each.name for each in form.passwords]
        old = next((each for each in names if _OLD.search(each)), names[0])
        fields = {each: "{password}" if each == old else "{new_password}" for each in names}
    return [
        "# The password is changed, and changed back:",
        "# [password_change]",
        f"# page = {_quoted(page)}",
        f"# fields = {_table(fields)}",
    ]


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
        lines += ["[proof]", f"url = {_quoted(plan.proof.url)}", *_asked_with(plan.proof.view)]
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


def _asked_with(view: View) -> list[str]:
    """What is sent along where the proof is no plain page."""
    if view.recipe is None:
        return []
    call = view.recipe.call
    rows = [f"page = {_quoted(call.page)}"] if call.page else []
    rows.append(f"method = {_quoted(call.method)}")
    said = {"fields": call.fields or None, "json": call.json, "headers": call.headers or None}
    return rows + [f"{key} = {_inline(each)}" for key, each in said.items() if each is not None]


def _table(fields: Mapping[str, Any]) -> str:
    inner = ", ".join(f"{_quoted(key)} = {_inline(value)}" for key, value in fields.items())
    return f"{{ {inner} }}" if inner else "{}"


def _inline(value: Any) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, dict):
        return _table(cast("dict[str, Any]", value))
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, cast('Sequence[Any]', value)))}]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value, default=str)


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
    """Signs in and walks the pages, with GET only. At a terminal it asks for a second user,
    for the timeouts that are promised, and of each form whether the audit may send it; otherwise
    these stand in the file commented out.""",
    ("strongroom audit init https://app.example/ --user alice",),
    _options,
    init,
)
