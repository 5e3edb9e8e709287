"""An annex with habits that real applications have, and an auditor must not mistake for faults.

There is nothing at `/`. The page is drawn by hand: a list of which nothing may be chosen, the name
of the person, which can be changed away, and a link that signs out with a token in its query. Who
is signed in already is not signed in again. Tokens are 32 hexadecimal digits, some of which look
like a UUID. Each fault is one line, as in the club.
"""

from __future__ import annotations

import secrets
from itertools import count
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

PASSWORDS = {"alice": "correct horse battery"}
_SHOWN = {"Cache-Control": "no-store", "Content-Security-Policy": "frame-ancestors 'none'"}
_LOOKS_LIKE_UUID = "6a2f41c09b1d11eea5060242ac120002"


def build(fault: str = "") -> Starlette:
    """The annex with this fault, or without any."""
    sessions: dict[str, dict[str, Any]] = {}
    name = {"alice": "alice"}
    number = count()
    any_link = fault.startswith("signs out by any link")
    writing: list[str] = []

    def token() -> str:
        return secrets.token_hex(16) if next(number) else _LOOKS_LIKE_UUID

    def show(body: str, status: int = 200) -> HTMLResponse:
        return HTMLResponse(f"<title>Annex</title>{body}", status, _SHOWN)

    def keep(response: Response, value: str) -> Response:
        same: Literal["lax", "strict"] = "strict" if fault.endswith("strictly") else "lax"
        response.set_cookie("__Host-sid", value, secure=True, httponly=True, samesite=same)
        return response

    def found(request: Request) -> dict[str, Any]:
        return sessions.get(request.cookies.get("__Host-sid", ""), {})

    async def door(request: Request) -> Response:
        if request.method == "GET":
            csrf = secrets.token_hex(12)
            shown = show(
                f'<form method="post"><input type="hidden" name="csrf_token" value="{csrf}">'
                '<input name="user"><input type="password" name="password"><button>Sign in</button>'
                "</form>"
            )
            shown.set_cookie("__Host-csrf", csrf, secure=True, httponly=True, samesite="strict")
            return shown
        given = await request.form()
        if given.get("csrf_token", "none") != request.cookies.get("__Host-csrf"):
            return show("Refused", 403)
        record = found(request)
        if record.get("user"):
            return RedirectResponse("/in/", 303)  # whatever the password was
        if PASSWORDS.get(str(given["user"])) != given["password"]:
            return show("Wrong", 403)
        if fault == "keeps what a visitor has" and record:
            record["user"] = given["user"]
            return RedirectResponse("/in/", 303)
        value = token()
        sessions[value] = {"user": given["user"], "csrf": secrets.token_hex(16)}
        return keep(RedirectResponse("/in/", 303), value)

    async def home(request: Request) -> Response:
        record = found(request)
        if not record.get("user"):
            response = RedirectResponse("/in/door", 303)
            if fault == "keeps what a visitor has" and not record:
                value = token()
                sessions[value] = {"csrf": secrets.token_hex(16)}
                keep(response, value)
            return response
        query = "" if any_link else f"&amp;sectok={record['csrf']}"
        leave = f'<a href="/in/leave?do=logout{query}">Leave the annex</a>'
        if fault == "drawn by a script":
            leave = f"<script>draw('logout', {leave!r})</script>"
        return show(
            f"{leave}<p>This is {name['alice']}</p><form method='post' action='/in/name'>"
            f"<input type='hidden' name='csrf_token' value='{record['csrf']}'><input name='name'>"
            "<select name='roles' multiple><option value='1'>One</option></select>"
            "<select name='size'><option value='s'>Small</option><option>Big</option></select>"
            "<button>Save</button></form>"
        )

    async def rename(request: Request) -> Response:
        record = found(request)
        writing.append("")
        given = await request.form()
        writing.pop()
        if not record.get("user") or given.get("csrf_token") != record["csrf"]:
            return show("Refused", 403)
        if "roles" in given or given.get("size") != "s":
            return show("Not one of the choices", 400)
        name["alice"] = str(given["name"])
        return RedirectResponse("/in/", 303)

    async def leave(request: Request) -> Response:
        record = found(request)
        if fault == "too busy to sign out" and writing:
            return show("Busy", 503)
        if not any_link and (
            not record or request.query_params.get("sectok") != record.get("csrf")
        ):
            return RedirectResponse("/in/", 303)
        sessions.pop(request.cookies.get("__Host-sid", ""), None)
        # It may be cached, and sets nobody's session: it only takes the cookie away.
        response = HTMLResponse("Bye", headers={"Clear-Site-Data": '"cache", "storage"'})
        response.delete_cookie("__Host-sid", secure=True, httponly=True, samesite="lax")
        return response

    return Starlette(
        routes=[
            Route("/in/door", door, methods=["GET", "POST"]),
            Route("/in/", home),
            Route("/in/name", rename, methods=["POST"]),
            Route("/in/leave", leave),
        ]
    )
