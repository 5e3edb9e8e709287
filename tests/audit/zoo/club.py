"""A club's website in Starlette: sound, and with any one of many faults.

`build(fault)` makes the application; the line with the fault is the one that names it. Sessions are
records on the server, the cookie is random, sign-in rotates, unsafe requests carry a token that is
bound to the session. `guard` chooses what protects against forgery: `token`, `origin`, `metadata`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import html
import json
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

HERE = "https://club.example"
PASSWORDS = {"alice": "correct horse battery", "mallory": "staple of the forger"}
IDLE, ABSOLUTE, RECENT = 1800, 7200, 300
KEY = secrets.token_bytes(32)
KNOWN_KEY = b"keyboard cat"

Record = dict[str, Any]


class Club:
    """The records of the club: members, sessions, and the one fault."""

    def __init__(self, fault: str, guard: str) -> None:
        self.fault, self.guard = fault, guard
        self.passwords = dict(PASSWORDS)
        self.names = {user: user.title() for user in PASSWORDS}
        self.sessions: dict[str, Record] = {}
        self.cookie = "id" if fault in ("no prefix", "no secure") else "__Host-id"
        self.cookie = "__Secure-id" if fault == "domain" else self.cookie
        self.issued = 0
        self.pending: dict[str, Record | None] = {}
        self.static = {user: secrets.token_urlsafe(32) for user in PASSWORDS}

    def has(self, fault: str) -> bool:
        return self.fault == fault

    # Tokens

    def token(self, user: str = "") -> str:
        self.issued += 1
        match self.fault:
            case "short token":
                return secrets.token_hex(4)
            case "half random token":
                return "0" * 24 + secrets.token_hex(10)
            case "counter token":
                return f"{900_000_000_000 + self.issued:032x}"
            case "time token":
                return f"{time.time_ns():032x}"
            case "hashed counter":
                return hashlib.md5(str(self.issued).encode()).hexdigest()
            case "hashed name":
                return hashlib.sha1(f"{user}{self.issued}".encode()).hexdigest()
            case "uuid token":
                return str(uuid.uuid4())
            case "biased token":
                return bytes(each & 0x0F for each in secrets.token_bytes(20)).hex()
            case "repeating token" if not user:
                return hashlib.sha256(KEY + bytes([self.issued % 7])).hexdigest()
            case "static token" if user:
                return self.static[user]
            case "name in token":
                head = base64.urlsafe_b64encode(f"user={user or 'nobody'};".encode()).decode()
                return head.rstrip("=") + "." + secrets.token_urlsafe(32)
            case "password in cookie" | "unchecked part":
                return secrets.token_urlsafe(48)
        return secrets.token_urlsafe(32)

    def open(self, user: str = "", old: Record | None = None) -> Record:
        token = self.token(user)
        record = {"token": token, "user": user, "at": time.time(), "seen": time.time(),
                  "auth": time.time(), "csrf": secrets.token_urlsafe(24), "data": {},
                  "id": secrets.token_hex(8), "address": ""}  # fmt: skip
        if old is not None and self.has("data carried along"):
            record["data"] = old["data"]
        self.sessions[self.key(token)] = record
        return record

    def key(self, token: str) -> str:
        return token[:32] if self.has("unchecked part") else token

    def find(self, token: str) -> Record | None:
        record = self.sessions.get(self.key(token))
        if record is None:
            return None
        now = time.time()
        idle = now - record["seen"] > IDLE and not self.has("no idle timeout")
        old = now - record["at"] > ABSOLUTE and not self.has("no absolute timeout")
        if self.has("idle moves everything"):
            old = False
        if idle or old:
            del self.sessions[self.key(token)]
            return None
        record["seen"] = now
        return dict(record)

    def save(self, record: Record) -> None:
        """Only what still exists is written; what has ended stays ended."""
        key = self.key(record["token"])
        if key in self.sessions or self.has("writes back what ended"):
            self.sessions[key] = record

    def end(self, record: Record) -> None:
        self.sessions.pop(self.key(record["token"]), None)

    def of(self, user: str) -> list[Record]:
        return [each for each in self.sessions.values() if each["user"] == user]


def page(club: Club, title: str, body: str, record: Record | None = None) -> HTMLResponse:
    out = ""
    if record is not None and record["user"] and not club.has("no sign-out shown"):
        out = form(record, "/sign-out", "", "Sign out")
        out += '<a href="/home">Home</a> <a href="/sessions">Your sessions</a>'
        if club.has("sign-out link"):
            out = '<a href="/sign-out">Sign out</a> <a href="/home">Home</a>'
    return HTMLResponse(f"<title>{title}</title>{out}<main>{body}</main>")


def form(record: Record, action: str, fields: str, button: str) -> str:
    token = f'<input type="hidden" name="csrf_token" value="{record["csrf"]}">'
    return f'<form method="post" action="{action}">{token}{fields}<button>{button}</button></form>'


def build(fault: str = "", guard: str = "token") -> Starlette:
    """The club, with this fault."""
    club = Club(fault, guard)

    def loaded(request: Request) -> Record | None:
        token = request.cookies.get(club.cookie, "")
        if not token and club.has("token in url"):
            token = request.query_params.get("sid", "")
        record = club.find(token) if token else None
        if record is None and token and club.has("adopts foreign ids") and len(token) > 20:
            record = club.open()
            del club.sessions[record["token"]]
            record.update(token=token, adopted=True)
            club.sessions[token] = record
        return record

    def user_of(request: Request, record: Record | None) -> str:
        if club.has("identity header") and request.headers.get("x-forwarded-user"):
            return request.headers["x-forwarded-user"]
        if club.has("jwt") or club.has("jwt none"):
            return _jwt_user(club, request.cookies.get("__Host-jwt", ""))
        if club.has("second cookie") and not record:
            remembered = request.cookies.get("__Host-remember", "")
            alive = [each for each in club.sessions.values() if _remembered(each) == remembered]
            return alive[0]["user"] if alive else ""
        return record["user"] if record else ""

    def csrf_token(record: Record) -> str:
        if club.has("token per user") and record["user"]:
            return hashlib.sha256(KEY + record["user"].encode()).hexdigest()
        if club.has("token for everybody"):
            return hashlib.sha256(KEY).hexdigest()
        return str(record["csrf"])

    def refused(
        request: Request, record: Record | None, given: str, *, sign_in: bool = False
    ) -> bool:
        path = request.url.path
        if club.has("no protection") and path in ("/name", "/api/name", "/theme"):
            return False
        if club.has("sign-in unprotected") and sign_in:
            return False
        if club.has("sign-out unprotected") and path == "/sign-out":
            return False
        if club.guard == "origin":
            return _foreign_origin(club, request)
        if club.guard == "metadata":
            return _foreign_metadata(club, request)
        if club.has("multipart unchecked") and "multipart" in request.headers["content-type"]:
            return False
        if club.has("any token") and given and path == "/name":
            return False
        return record is None or not hmac.compare_digest(given, csrf_token(record))

    def dress(response: Response, record: Record | None, request: Request) -> Response:
        age = 86400 if club.has("short hsts") else 31536000
        if not club.has("no hsts"):
            response.headers["Strict-Transport-Security"] = f"max-age={age}"
        response.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        if club.has("referrer"):
            response.headers["Referrer-Policy"] = "unsafe-url"
        answers = club.has("answers to .css") and request.url.path.endswith(".css")
        if not answers and not (club.has("cacheable") and request.url.path == "/home"):
            response.headers["Cache-Control"] = "no-store"
        if club.has("set-cookie cached") and request.url.path == "/sign-in":
            del response.headers["Cache-Control"]
        if club.has("reflected cors") and request.headers.get("origin"):
            response.headers["Access-Control-Allow-Origin"] = request.headers["origin"]
            response.headers["Access-Control-Allow-Credentials"] = "true"
        if club.has("framed"):
            del response.headers["Content-Security-Policy"]
        return response

    def set_cookie(response: Response, record: Record) -> None:
        line = f"{club.cookie}={record['token']}; Path=/"
        line += "" if club.has("no secure") else "; Secure"
        line += "" if club.has("no httponly") else "; HttpOnly"
        same = "None" if club.has("samesite none") or club.has("framed") else "Lax"
        same = "Lax" if club.guard == "metadata" else same
        line += "" if club.has("no samesite") else f"; SameSite={same}"
        line += "; Domain=club.example" if club.has("domain") else ""
        line += "; Max-Age=31536000" if club.has("lives a year") else ""
        response.headers.append("Set-Cookie", line)
        if club.has("set twice"):
            response.headers.append("Set-Cookie", line)
        if club.has("broken prefix"):
            response.headers.append("Set-Cookie", "__Host-theme=dark; Secure; Path=/shop")
        if club.has("too large"):
            response.headers.append("Set-Cookie", f"theme={'x' * 5000}; Secure; Path=/")
        if record["user"] and club.has("second cookie"):
            flags = "Path=/; Secure; SameSite=Lax"
            response.headers.append("Set-Cookie", f"__Host-remember={_remembered(record)}; {flags}")
        if record["user"] and club.has("password in cookie"):
            value = base64.b64encode(PASSWORDS[record["user"]].encode()).decode()
            flags = "Path=/; Secure; HttpOnly; SameSite=Lax"
            response.headers.append("Set-Cookie", f"hint={value}; {flags}")
        if record["user"] and (club.has("jwt") or club.has("jwt none")):
            flags = "Path=/; Secure; HttpOnly; SameSite=Lax"
            response.headers.append("Set-Cookie", f"__Host-jwt={_jwt(record)}; {flags}")

    # Pages

    async def front(request: Request) -> Response:
        return page(club, "The club", '<a href="/sign-in">Sign in</a>', loaded(request))

    async def sign_in_page(request: Request) -> Response:
        record = loaded(request) or club.open()
        fields = '<input name="user" autocomplete="username"><input type="password" name="pw">'
        shown = dict(record, csrf=csrf_token(record))
        response = page(club, "Sign in", form(shown, "/sign-in", fields, "Sign in"))
        set_cookie(response, record)
        return response

    async def sign_in(request: Request) -> Response:
        old = loaded(request)
        given = await _fields(request)
        if refused(request, old, given.get("csrf_token", ""), sign_in=True):
            return Response("Refused", 403)
        user = given.get("user", "")
        if club.passwords.get(user) != given.get("pw"):
            if club.has("wrong password half in") and user in club.passwords and old:
                old["user"] = user
                club.save(old)
            return RedirectResponse("/sign-in", 303)
        if club.has("shares what comes at once"):
            record = club.pending.setdefault(user, None) or signed_in(user, old)
            club.pending[user] = record
            await asyncio.sleep(0.05)
            club.pending.pop(user, None)
        else:
            record = signed_in(user, old)
        record["address"] = request.headers.get("x-forwarded-for", "") if club.has(
            "address from header") else "192.0.2.9"  # fmt: skip
        response: Response = RedirectResponse("/home", 303)
        if club.has("token in redirect"):
            response = RedirectResponse(f"/home?sid={record['token']}", 303)
        set_cookie(response, record)
        return response

    def signed_in(user: str, old: Record | None) -> Record:
        if old is not None and club.has("no rotation"):
            old.update(user=user, auth=time.time())
            club.save(old)
            return old
        if old is not None and old.get("adopted"):
            old.update(user=user, auth=time.time())
            club.save(old)
            return old
        if old is not None and not (club.has("old one lives") and old["user"]):
            club.sessions.pop(club.key(old["token"]), None)
        return club.open(user, old)

    async def home(request: Request) -> Response:
        record = loaded(request)
        user = user_of(request, record)
        if not user:
            return RedirectResponse("/sign-in", 303)
        record = record or club.open(user)
        shown = dict(record, csrf=csrf_token(record), user=user)
        body = f"<p>Welcome, {html.escape(club.names[user])} ({user}).</p>"
        if club.has("forwarded host"):
            host = request.headers.get("x-forwarded-host", "club.example")
            body += f'<link rel="canonical" href="https://{html.escape(host)}/home">'
        if club.has("token in page"):
            body += f"<script>const session = '{record['token']}';</script>"
        body += form(shown, "/name", '<input name="name">', "Change the name")
        body += "<script>new WebSocket(`wss://${location.host}/live`)</script>"
        response: Response = page(club, "Home", body, shown)
        record["data"]["pages"] = record["data"].get("pages", 0) + 1
        if club.has("rotates without overlap") and record["data"]["pages"] % 6 == 5:
            club.end(record)
            successor = {**record, "token": club.token(user)}
            club.sessions[successor["token"]] = successor
            set_cookie(response, successor)
        return response

    async def change_name(request: Request) -> Response:
        record = loaded(request)
        given = await _fields(request)
        if club.has("change by get"):
            given = {**dict(request.query_params), **given}
        method = request.method
        if club.has("method override"):
            method = request.query_params.get("_method", method)
            given = {**dict(request.query_params), **given}
        if method != "POST" and not club.has("change by get"):
            return Response("POST it", 405)
        user = user_of(request, record)
        if not user or record is None:
            return RedirectResponse("/sign-in", 303)
        is_get = request.method == "GET"
        if not is_get and refused(request, record, given.get("csrf_token", "")):
            return Response("Refused", 403)
        if time.time() - record["auth"] > RECENT and not club.has("no step-up"):
            return RedirectResponse("/confirm", 303)
        club.names[user] = given.get("name", "")
        record["data"]["last"] = "name"
        club.save(record)
        return RedirectResponse("/home", 303)

    async def api_name(request: Request) -> Response:
        record = loaded(request)
        kind = request.headers.get("content-type", "")
        if record is None or not record["user"]:
            return JSONResponse({"error": "sign in"}, 401)
        if kind != "application/json" and not club.has("json as text"):
            return JSONResponse({"error": "send JSON"}, 415)
        body = json.loads(await request.body() or b"{}")
        club.names[record["user"]] = str(body.get("name", ""))
        return JSONResponse({"name": club.names[record["user"]]})

    async def sign_out(request: Request) -> Response:
        record = loaded(request)
        if (
            request.method == "GET"
            and not club.has("sign-out by get")
            and not club.has("sign-out link")
        ):
            return Response("POST it", 405)
        given = await _fields(request)
        if record and request.method == "POST" and refused(
            request, record, given.get("csrf_token", "")
        ):  # fmt: skip
            return Response("Refused", 403)
        if record and not club.has("sign-out in the browser only"):
            club.end(record)
        response = RedirectResponse("/", 303)
        if not club.has("no clear-site-data"):
            response.headers["Clear-Site-Data"] = '"cache", "storage"'
        names = [club.cookie, "__Host-jwt", "__Host-remember", "hint"]
        for name in names[1:] if club.has("cookie stays") else names:
            at = "; Domain=club.example" if club.has("domain") and name == club.cookie else ""
            response.headers.append("Set-Cookie", f"{name}=; Path=/; Max-Age=0; Secure{at}")
        return response

    async def sessions(request: Request) -> Response:
        record = loaded(request)
        if record is None or not record["user"]:
            return RedirectResponse("/sign-in", 303)
        rows: list[str] = []
        mine = [record] if club.has("list of one") else club.of(record["user"])
        for each in mine:
            name = each["token"] if club.has("token in list") else each["id"]
            shown = dict(record, csrf=csrf_token(record))
            button = "" if each["id"] == record["id"] else form(
                shown, f"/sessions/{each['id']}/end", "", "End this session")  # fmt: skip
            rows.append(f"<li>{name} from {each['address']} {button}</li>")
        return page(club, "Your sessions", f"<ul>{''.join(rows)}</ul>", record)

    async def end_session(request: Request) -> Response:
        record = loaded(request)
        given = await _fields(request)
        if record is None or refused(request, record, given.get("csrf_token", "")):
            return Response("Refused", 403)
        for each in club.of(record["user"]):
            if each["id"] == request.path_params["id"] and not club.has("ends in the list only"):
                club.end(each)
        return RedirectResponse("/sessions", 303)

    async def password(request: Request) -> Response:
        record = loaded(request)
        if record is None or not record["user"]:
            return RedirectResponse("/sign-in", 303)
        shown = dict(record, csrf=csrf_token(record))
        if request.method == "GET":
            fields = '<input type="password" name="old"><input type="password" name="new">'
            return page(club, "Password", form(shown, "/password", fields, "Change"), record)
        given = await _fields(request)
        if refused(request, record, given.get("csrf_token", "")):
            return Response("Refused", 403)
        user = record["user"]
        if club.passwords[user] != given.get("old") and not club.has("old password not asked"):
            return page(club, "Password", "That is not your password.", record)
        club.passwords[user] = given["new"]
        for each in club.of(user):
            if not club.has("password change ends nothing"):
                club.end(each)
        response = RedirectResponse("/home", 303)
        set_cookie(response, club.open(user))
        return response

    async def confirm(request: Request) -> Response:
        record = loaded(request)
        if record is None or not record["user"]:
            return RedirectResponse("/sign-in", 303)
        shown = dict(record, csrf=csrf_token(record))
        if request.method == "GET":
            fields = '<input type="password" name="pw">'
            return page(club, "Confirm", form(shown, "/confirm", fields, "Confirm"), record)
        given = await _fields(request)
        if refused(request, record, given.get("csrf_token", "")):
            return Response("Refused", 403)
        if club.passwords[record["user"]] != given.get("pw"):
            return RedirectResponse("/confirm", 303)
        if club.has("step-up keeps the token"):
            record["auth"] = time.time()
            club.save(record)
            return RedirectResponse("/home", 303)
        club.sessions.pop(club.key(record["token"]), None)
        response = RedirectResponse("/home", 303)
        set_cookie(response, club.open(record["user"]))
        return response

    async def reset(request: Request) -> Response:
        record = loaded(request) or club.open()
        if request.method == "GET":
            shown = dict(record, csrf=csrf_token(record))
            asking = form(shown, "/reset", '<input name="user">', "Send me a link")
            response: Response = page(club, "Reset", asking)
            set_cookie(response, record)
            return response
        given = await _fields(request)
        if club.has("reset half in"):
            record["user"] = given.get("user", "")
            club.save(record)
        return page(club, "Reset", "Look into your mail.")

    async def basket(request: Request) -> Response:
        record = loaded(request) or club.open()
        given = await _fields(request)
        if request.method == "POST" and not refused(request, record, given.get("csrf_token", "")):
            record["data"]["basket"] = given.get("item", "")
            club.save(record)
        shown = dict(record, csrf=csrf_token(record))
        body = html.escape(record["data"].get("basket", ""))
        response = page(club, "Basket", body + form(shown, "/basket", '<input name="item">', "Add"))
        set_cookie(response, record)
        return response

    async def live(socket: WebSocket) -> None:
        allowed = socket.headers.get("origin") == HERE or club.has("socket for everybody")
        if not allowed or club.find(socket.cookies.get(club.cookie, "")) is None:
            await socket.close()
            return
        await socket.accept()
        await socket.close()

    def route(
        path: str, endpoint: Callable[[Request], Awaitable[Response]], *methods: str
    ) -> Route:
        async def whole(request: Request) -> Response:
            record = loaded(request)
            return dress(await endpoint(request), record, request)

        return Route(path, whole, methods=list(methods or ("GET",)))

    return Starlette(
        routes=[
            route("/", front),
            route("/sign-in", sign_in_page, "GET"),
            route("/sign-in", sign_in, "POST"),
            route("/sign-out", sign_out, "GET", "POST"),
            route("/home{tail:path}", home)
            if club.has("answers to .css")
            else route("/home", home),
            route("/name", change_name, "GET", "POST"),
            route("/api/name", api_name, "POST"),
            route("/sessions", sessions),
            route("/sessions/{id}/end", end_session, "POST"),
            route("/password", password, "GET", "POST"),
            route("/confirm", confirm, "GET", "POST"),
            route("/reset", reset, "GET", "POST"),
            route("/basket", basket, "GET", "POST"),
            WebSocketRoute("/live", live),
        ]
    )


async def _fields(request: Request) -> dict[str, str]:
    if "multipart" in request.headers.get("content-type", ""):
        async with request.form() as given:
            return {key: str(value) for key, value in given.items()}
    body = (await request.body()).decode("utf-8", "replace")
    return {key: values[0] for key, values in parse_qs(body, keep_blank_values=True).items()}


def _foreign_origin(club: Club, request: Request) -> bool:
    origin = request.headers.get("origin")
    if origin is None and club.has("trusts any metadata"):
        return "sec-fetch-site" not in request.headers
    if origin is None:
        return not club.has("origin may be missing")
    if club.has("origin by prefix"):
        return not origin.startswith(HERE)
    if club.has("origin by suffix"):
        return not origin.endswith("club.example")
    if club.has("origin by part"):
        return "club.example" not in origin
    if club.has("null origin"):
        return origin not in (HERE, "null")
    if club.has("sibling origin"):
        host = urlsplit(origin).hostname or ""
        return origin != HERE and not (origin[:8] == "https://" and host.endswith(".club.example"))
    return origin != HERE


def _foreign_metadata(club: Club, request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is None:
        return not club.has("metadata may be missing")
    if club.has("same-site allowed"):
        return site == "cross-site"
    return site not in ("same-origin", "none")


def _remembered(record: Record) -> str:
    return hmac.digest(KEY, record["id"].encode(), "sha256").hex()


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _jwt(record: Record) -> str:
    head = _b64(b'{"alg":"HS256","typ":"JWT"}')
    body = _b64(json.dumps({"sub": record["id"]}).encode())
    return f"{head}.{body}.{_b64(hmac.digest(KEY, f'{head}.{body}'.encode(), 'sha256'))}"


def _jwt_user(club: Club, token: str) -> str:
    """Who a JWT names, if its session still lives."""
    if token.count(".") != 2:
        return ""
    head, body, signature = token.split(".")
    try:
        alg = json.loads(base64.urlsafe_b64decode(head + "=="))["alg"]
        sid = json.loads(base64.urlsafe_b64decode(body + "=="))["sub"]
    except (ValueError, KeyError):
        return ""
    good = hmac.compare_digest(
        _b64(hmac.digest(KEY, f"{head}.{body}".encode(), "sha256")), signature
    )
    if not good and not (club.has("jwt none") and str(alg).lower() == "none"):
        return ""
    return next((r["user"] for r in club.sessions.values() if r["id"] == sid), "")
