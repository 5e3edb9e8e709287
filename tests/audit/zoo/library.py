"""A library in Django, in a process of its own: `python -m tests.audit.zoo.library PORT FAULT`.

Django's settings are for a whole process, and other tests have theirs. It listens on plain http on
this machine, as a developer's server does.
"""

from __future__ import annotations

import secrets
import socketserver
import sys
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

PASSWORD = "correct horse battery"
PORT, FAULT = int(sys.argv[1]), " ".join(sys.argv[2:])
SIGNED = "django.contrib.sessions.backends.signed_cookies"
CACHED = "django.contrib.sessions.backends.cache"

settings.configure(
    SECRET_KEY="secret" if FAULT == "key from a tutorial" else secrets.token_hex(32),
    ALLOWED_HOSTS=["*"] if FAULT == "any host" else ["127.0.0.1"],
    USE_X_FORWARDED_HOST=FAULT == "any host",
    ROOT_URLCONF=__name__,
    SESSION_ENGINE=SIGNED if FAULT in ("in the cookie", "key from a tutorial") else CACHED,
    SESSION_COOKIE_SAMESITE=None if FAULT == "no samesite" else "Lax",
    SESSION_COOKIE_HTTPONLY=FAULT != "no httponly",
    SESSION_EXPIRE_AT_BROWSER_CLOSE=True,
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        *(["django.middleware.csrf.CsrfViewMiddleware"] if FAULT != "no csrf" else []),
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
)
names = {"alice": "Alice"}
"""What the one form changes."""


def form(request: HttpRequest, action: str, fields: str, button: str) -> str:
    token = f'<input type="hidden" name="csrfmiddlewaretoken" value="{get_token(request)}">'
    return f'<form method="post" action="{action}">{token}{fields}<button>{button}</button></form>'


def answer(body: str) -> HttpResponse:
    response = HttpResponse(f"<title>Library</title>{body}")
    if FAULT != "cached":
        response["Cache-Control"] = "no-store"
    return response


def home(request: HttpRequest) -> HttpResponse:
    user = request.session.get("reader")
    if not user:
        return HttpResponseRedirect("/login/")
    body = form(request, "/logout/", "", "Log out") + f"<p>Reader alice: {names['alice']}</p>"
    body += form(request, "/name/", '<input name="name">', "Save")
    body += f'<a href="{request.build_absolute_uri("/")}">Home</a>'
    return answer(body)


def login(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        if request.POST["username"] != "alice" or request.POST["password"] != PASSWORD:
            return HttpResponse("Wrong", status=403)
        if FAULT == "no cycle_key":
            request.session["visited"] = True
        else:
            request.session.flush()
            request.session.cycle_key()
        request.session["reader"] = 7
        return HttpResponseRedirect("/")
    if FAULT == "no cycle_key":
        request.session["visited"] = True
    fields = '<input name="username"><input type="password" name="password">'
    response = answer(form(request, "/login/", fields, "Log in"))
    response["Cache-Control"] = "no-store"
    return response


def logout(request: HttpRequest) -> HttpResponse:
    if request.method == "POST" or FAULT == "logout by get":
        request.session.flush()
    response = HttpResponseRedirect("/login/")
    response["Clear-Site-Data"] = '"cache", "storage"'
    return response


def name(request: HttpRequest) -> HttpResponse:
    if request.session.get("reader") and request.method == "POST":
        names["alice"] = request.POST["name"]
    return HttpResponseRedirect("/")


urlpatterns = [
    path("", home),
    path("login/", login),
    path("logout/", logout),
    path("name/", csrf_exempt(name) if FAULT == "one view exempt" else name),
]


class Threaded(socketserver.ThreadingMixIn, WSGIServer):
    """Django's own development server has threads, too."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """Says nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        return


if __name__ == "__main__":
    django.setup()
    server = make_server("127.0.0.1", PORT, WSGIHandler(), Threaded, Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()
