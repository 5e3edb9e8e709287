"""One Django project for all tests of this process: Django can be configured only once.

What a test needs changed it changes with `override_settings`, and a site of the scenarios brings
its own managers (`served_by`).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import django
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.signals import got_request_exception
from django.urls import re_path
from django.utils.decorators import sync_and_async_middleware

from strongroom import Keyring
from strongroom.keyfile import generate
from strongroom.testing.clock import START

KEYS: Keyring = generate("django-tests", START)
OURS = "strongroom.integrations.django"
MIDDLEWARE = [
    "tests.support.django_project.choose_urls",
    "django.middleware.security.SecurityMiddleware",
    f"{OURS}.middleware.SessionMiddleware",
    f"{OURS}.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

if not settings.configured:
    settings.configure(
        SECRET_KEY="only for tests, and only in this process",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests.support.django_urls",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            OURS,
        ],
        MIDDLEWARE=MIDDLEWARE,
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        MESSAGE_STORAGE="django.contrib.messages.storage.session.SessionStorage",
        SESSION_ENGINE=OURS,
        SESSION_COOKIE_SECURE=True,
        STRONGROOM={"store": "memory://", "keys": KEYS},
        USE_TZ=True,
        LOGGING_CONFIG=None,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        STATIC_URL="/static/",
    )
    django.setup()

from strongroom.integrations.django import runtime  # noqa: E402 - after django.setup()

present_site: ContextVar[Any] = ContextVar("present_site", default=None)


@sync_and_async_middleware
def choose_urls(get_response: Any) -> Any:
    """The URLs of the kind of site that is being served, where one is."""

    def choose(request: Any) -> None:
        site = present_site.get()
        if site is not None:
            kind = site.kind.name.replace("-", "_")
            request.urlconf = (re_path(r"^(?P<path>.*)$", _PAGES[kind]()),)

    if iscoroutinefunction(get_response):

        async def amiddleware(request: Any) -> Any:
            choose(request)
            return await get_response(request)

        return amiddleware

    def middleware(request: Any) -> Any:
        choose(request)
        return get_response(request)

    return middleware


_errors: ContextVar[list[BaseException] | None] = ContextVar("django_errors", default=None)


def _note_error(**_: Any) -> None:
    noted, error = _errors.get(), sys.exc_info()[1]
    if noted is not None and error is not None:
        noted.append(error)


got_request_exception.connect(_note_error, weak=False)


def errors_of_this_request() -> list[BaseException]:
    """What Django answers with its page for 500 from here on, in this request."""
    noted: list[BaseException] = []
    _errors.set(noted)
    return noted


def _wsgi_page() -> Any:
    from tests.support.kinds import django_wsgi

    return django_wsgi.page


def _asgi_page() -> Any:
    from tests.support.kinds import django_asgi

    return django_asgi.page


_PAGES: dict[str, Any] = {"django_wsgi": _wsgi_page, "django_asgi": _asgi_page}


@contextmanager
def served_by(site: Any) -> Iterator[None]:
    """While an application of Django's is made: the site's managers serve it."""
    from strongroom.integrations.django.options import Options

    def async_manager() -> Any:
        assert asyncio.get_running_loop() is not None
        return site.manager

    options = Options(store=None, keys=None, policy=site.manager.policy)
    runtime.fix(runtime.Runtime(options, site.sync_manager, async_manager))
    try:
        yield
    finally:
        runtime.fix(None)
