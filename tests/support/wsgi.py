"""A small browser on top of a WSGI application: it keeps cookies, sends what browsers send, and
holds application and middleware to PEP 3333 (`wsgiref.validate`)."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from tests.support.browser import FIREFOX, HTML


@dataclass
class WsgiResponse:
    """What came back. `error` is what the application let escape to the server."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    error: BaseException | None = None

    @property
    def cookies(self) -> list[str]:
        """The Set-Cookie lines."""
        return [value for name, value in self.headers if name.lower() == "set-cookie"]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def header(self, name: str) -> str | None:
        """A header's values joined by a comma, or None."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None


@dataclass
class WsgiBrowser:
    """One browser profile. `fetch` plays server and client at once, to the last byte."""

    app: Callable[..., Iterable[bytes]]
    host: str = "shop.example"
    scheme: str = "https"
    cookies: dict[str, str] = field(default_factory=dict)
    strict: bool = True

    def get(self, path: str, **how: Any) -> WsgiResponse:
        """A navigation."""
        return self.fetch("GET", path, **how)

    def post(self, path: str, form: dict[str, str] | None = None, **how: Any) -> WsgiResponse:
        """A form of our own page is sent."""
        body = urlencode(form or {}).encode()
        return self.fetch("POST", path, body=body, **how)

    def fetch(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        site: str | None = "same-origin",
        headers: dict[str, str] | None = None,
        content_type: str = "application/x-www-form-urlencoded",
        read: int | None = None,
        environ: dict[str, Any] | None = None,
        deliver: bool = True,
    ) -> WsgiResponse:
        """Send a request. `read` is after how many parts of the body the client hangs up."""
        given = self._environ(method, path, body, site, headers or {}, content_type)
        given.update(environ or {})
        head: list[Any] = [None, []]
        written: list[bytes] = []

        def start_response(status: str, fields: Any, exc_info: Any = None) -> Any:
            if exc_info and head[0] is not None:
                raise exc_info[1]
            head[:] = [status, list(fields)]
            return written.append

        error = None
        parts = None
        app = validator(self.app) if self.strict else self.app
        try:
            parts = app(given, start_response)
            for count, part in enumerate(parts):
                written.append(part)
                if read is not None and count + 1 >= read:
                    break
        except Exception as raised:
            error = raised
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        status = 500 if head[0] is None else int(head[0][:3])
        response = WsgiResponse(status, head[1], b"".join(written), error)
        if deliver:
            self.keep(response)
        return response

    def keep(self, response: WsgiResponse) -> None:
        """The response arrives: its cookies go into the jar."""
        for line in response.cookies:
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value

    def _environ(
        self,
        method: str,
        path: str,
        body: bytes,
        site: str | None,
        headers: dict[str, str],
        content_type: str,
    ) -> dict[str, Any]:
        raw, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(raw, "latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": self.host,
            "SERVER_PORT": "443" if self.scheme == "https" else "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "203.0.113.9",
            "HTTP_HOST": self.host,
            "HTTP_USER_AGENT": FIREFOX,
            "HTTP_ACCEPT": HTML,
            "wsgi.url_scheme": self.scheme,
            "wsgi.input": io.BytesIO(body),
        }
        if site is not None:
            environ["HTTP_SEC_FETCH_SITE"] = site
            environ["HTTP_SEC_FETCH_MODE"] = "navigate"
            environ["HTTP_SEC_FETCH_DEST"] = "document"
        if self.cookies:
            environ["HTTP_COOKIE"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        if method not in ("GET", "HEAD"):
            environ["CONTENT_TYPE"] = content_type
            environ["CONTENT_LENGTH"] = str(len(body))
        for name, value in headers.items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        setup_testing_defaults(environ)
        return environ
