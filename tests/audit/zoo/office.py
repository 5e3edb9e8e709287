"""An office in Flask that asks for the name first and the password on a further page.

The cookie is Flask's own, signed, and holds nothing but the id of a record on the server; the
record is what a sign-out ends. `build(fault)` makes it with one fault.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Any

from flask import Flask, Response, redirect, request, session

PASSWORDS = {"alice": "correct horse battery"}
FLAGS = {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_SAMESITE": "Lax",
         "SESSION_COOKIE_NAME": "__Host-session"}  # fmt: skip


def build(fault: str = "") -> Flask:
    """The office, with this fault."""
    app = Flask(__name__)
    app.secret_key = "changeme" if fault == "key from a tutorial" else secrets.token_hex(32)
    app.config.update(FLAGS)
    if fault == "narrow path":
        app.config.update(SESSION_COOKIE_PATH="/office", SESSION_COOKIE_NAME="__Secure-session")
    records: dict[str, dict[str, Any]] = {}
    profile = {"name": "Alice"}

    def record() -> dict[str, Any]:
        known = records.get(session.get("id", ""))
        if known is None:
            session["id"] = secrets.token_urlsafe(32)
            known = records[session["id"]] = {"csrf": secrets.token_urlsafe(24)}
        return known

    def user() -> str:
        if fault == "all in the cookie":
            return "alice" if session.get("user") == 1 else ""
        known = records.get(session.get("id", ""), {})
        return str(known.get("user") or (fault == "half signed in" and known.get("asked")) or "")

    def form(action: str, fields: str, button: str) -> str:
        token = f'<input type="hidden" name="csrf_token" value="{record()["csrf"]}">'
        return (
            f'<form method="post" action="{action}">{token}{fields}<button>{button}</button></form>'
        )

    def page(body: str) -> str:
        out = form("/office/logout", "", "Log out") if user() else ""
        return f"<title>Office</title>{out}{body}"

    @app.before_request
    def protect() -> Any:
        if request.method == "POST":
            given = request.form.get("csrf_token", "")
            if not hmac.compare_digest(given, record()["csrf"]):
                return Response("Refused", 403)
        return None

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Frame-Options"] = "DENY"
        return response

    @app.get("/")
    def front() -> Any:
        return redirect("/office/")

    @app.get("/office/")
    def desk() -> Any:
        if not user():
            return redirect("/office/login")
        fields = '<input name="name">'
        return page(f"<p>{user()}: {profile['name']}</p>" + form("/office/name", fields, "Save"))

    @app.route("/office/login", methods=["GET", "POST"])
    def login() -> Any:
        if request.method == "GET":
            fields = '<input name="username" autocomplete="username">'
            return page(form("/office/login", fields, "Go on"))
        record()["asked"] = request.form["username"]
        return redirect("/office/password", 303)

    @app.route("/office/password", methods=["GET", "POST"])
    def password() -> Any:
        if request.method == "GET":
            return page(form("/office/password", '<input type="password" name="pw">', "Log in"))
        asked = record().get("asked", "")
        if PASSWORDS.get(asked) != request.form["pw"]:
            return redirect("/office/login", 303)
        records.pop(session.get("id", ""), None)
        session.clear()
        record()["user"] = asked
        if fault == "all in the cookie":
            session["user"] = 1
        return redirect("/office/", 303)

    @app.post("/office/name")
    def name() -> Any:
        if not user():
            return redirect("/office/login", 303)
        profile["name"] = request.form["name"]
        return redirect("/office/", 303)

    @app.post("/office/logout")
    def logout() -> Any:
        records.pop(session.get("id", ""), None)
        session.clear()
        answer = redirect("/office/login", 303)
        answer.headers["Clear-Site-Data"] = '"cache", "storage"'
        return answer

    return app
