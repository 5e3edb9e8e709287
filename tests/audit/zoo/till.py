"""A till that is spoken to in JSON-RPC, all by POST, and a state that is shown for a token.

The page only starts a script, and names the token against forgery that the script sends in a
header, even where it reads. The cookie is a random id and its signature. Each fault is one line.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import uuid
from typing import Any

from itsdangerous import Signer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

PASSWORDS = {"alice": "correct horse battery"}
_SHOWN = {"Cache-Control": "no-store", "Content-Security-Policy": "frame-ancestors 'none'"}
_KEY = secrets.token_bytes(32)


def build(fault: str = "", mark: str = "!") -> Starlette:
    """The till with this fault, or without any; `mark` stands before the signature."""
    sessions: dict[str, dict[str, Any]] = {}
    label = {"alice": "none"}

    def signed(identity: str) -> str:
        if fault == "key from a tutorial":  # as Flask-Session signs an id
            signer = Signer("keyboard cat", salt="flask-session", key_derivation="hmac")
            return signer.sign(identity).decode()
        made = base64.b64encode(hmac.digest(_KEY, identity.encode(), "sha1")).decode().rstrip("=")
        return f"{identity}{mark}{made}"

    def token() -> str:
        return signed(str(uuid.uuid4()) if fault == "uuid" else secrets.token_urlsafe(24))

    def found(request: Request) -> dict[str, Any]:
        return sessions.get(request.cookies.get("__Host-till", ""), {})

    def keep(response: Response, value: str, **more: Any) -> Response:
        response.set_cookie(
            "__Host-till", value, secure=True, httponly=True, samesite="lax", **more
        )
        return response

    def checked(request: Request, record: dict[str, Any]) -> bool:
        return bool(record) and request.headers.get("x-till-csrf-token") == record["csrf"]

    async def home(request: Request) -> Response:
        csrf = found(request).get("csrf", "")
        return HTMLResponse(
            f"<title>Till</title><script>const csrf_token = '{csrf}';</script>", headers=_SHOWN
        )

    def say(result: object, status: int = 200) -> Response:
        return JSONResponse({"result": result, "id": 1}, status, _SHOWN)

    async def rpc(request: Request) -> Response:
        kind = request.headers.get("content-type")
        if kind != "application/json" and fault != "any text is JSON":
            return say("not JSON", 415)
        said = json.loads(await request.body())
        record = found(request)
        match said.get("method"):
            case "enter" if PASSWORDS.get(said["name"]) == said["password"]:
                if fault != "keeps the old one":
                    sessions.pop(request.cookies.get("__Host-till", ""), None)
                value = token()
                sessions[value] = {"name": said["name"], "csrf": secrets.token_hex(16)}
                return keep(say(True), value)
            case "who":
                return say(record.get("name", "nobody"))
            case "leave" if record:
                if fault != "forgets to delete":
                    del sessions[request.cookies["__Host-till"]]
                left = keep(say(True), "", max_age=0)
                left.headers["Clear-Site-Data"] = '"cache", "storage"'
                return left
        return say("refused", 403)

    async def show_label(request: Request) -> Response:
        record = found(request)
        return say(label["alice"]) if checked(request, record) else say("refused", 403)

    async def set_label(request: Request) -> Response:
        record = found(request)
        if not record or not (checked(request, record) or fault == "no token asked for"):
            return say("refused", 403)
        label["alice"] = str((await request.form())["label"])
        return say(True)

    return Starlette(
        routes=[
            Route("/", home),
            Route("/rpc", rpc, methods=["POST"]),
            Route("/label", show_label),
            Route("/label", set_label, methods=["POST"]),
        ]
    )
