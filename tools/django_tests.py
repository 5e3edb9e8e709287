"""Django's own tests of sessions, auth and messages, run on our session engine.

    pip download --no-deps --no-binary :all: django==5.2.19 && tar xzf django-5.2.19.tar.gz
    python tools/django_tests.py django-5.2.19

The source distribution's version must be the installed one. What we answer differently on purpose
stands in `DIFFERENT` with the reason, and in docs/django.md; anything else that fails is an error,
and so is an entry that passes by now. Nothing of Django's is copied here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

KEY = "the session_key is the public id: no caller chooses it, and a rotation keeps it"
TEXT = "there is no text form of a session"
CLOSE = "the session cookie always goes when the browser closes"
AGAIN = "a sign-in always begins a new session"

_SECURITY = "StrongroomTests.test_decode_failure_logged_to_security"
DIFFERENT = {
    "StrongroomTests.test_decode": TEXT,
    f"{_SECURITY} (encoded='Zmxhc2tkajphbGtkamY=')": TEXT,
    f"{_SECURITY} (encoded='bad:encoded:value')": TEXT,
    "StrongroomTests.test_decode_serializer_exception": TEXT,
    "StrongroomTests.test_get_expire_at_browser_close": CLOSE,
    "StrongroomTests.test_get_expire_at_browser_close_async": CLOSE,
    "StrongroomTests.test_session_key_empty_string_invalid": KEY,
    "StrongroomTests.test_session_key_too_short_invalid": KEY,
    "StrongroomTests.test_session_key_valid_string_saved": KEY,
    "TestGetUser.test_aget_user_fallback_secret": KEY,
    "TestGetUser.test_get_user_fallback_secret": KEY,
    "SessionAuthenticationTests.test_user_password_change_updates_session": KEY,
    "LoginTest.test_session_key_flushed_on_login_after_password_change": AGAIN,
}

LABELS = {
    "sessions": ["strongroom_sessions"],
    "auth": [
        f"auth_tests.{name}"
        for name in (
            "test_auth_backends test_basic test_context_processors test_decorators "
            "test_login test_middleware test_remote_user test_signals test_views"
        ).split()
    ],
    "messages": ["messages_tests"],
}


def configure(tests: Path, folder: str) -> None:
    """Settings as Django's own runner has them, with our engine and middleware."""
    from django.conf import settings

    from strongroom.core.policy import SessionPolicy
    from strongroom.keyfile import development_keys

    policy = SessionPolicy(
        idle_timeout=TWO_WEEKS,
        absolute_timeout=2 * TWO_WEEKS,
        anonymous_idle=TWO_WEEKS,
        anonymous_absolute=2 * TWO_WEEKS,
    )
    settings.configure(
        SECRET_KEY="django_tests_secret_key",  # noqa: S106 - not one
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="urls",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        STATIC_URL="static/",
        SITE_ID=1,
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        MIGRATION_MODULES={"auth": None, "contenttypes": None, "sessions": None, "sites": None},
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "DIRS": [str(tests / "templates")],
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.debug",
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sites",
            "django.contrib.sessions",
            "django.contrib.messages",
            "django.contrib.admin.apps.SimpleAdminConfig",
            "django.contrib.staticfiles",
            "strongroom.integrations.django",
            "auth_tests",
            "messages_tests",
            "sessions_tests",
        ],
        MIDDLEWARE=[
            "strongroom.integrations.django.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        SESSION_ENGINE="strongroom.integrations.django",
        STRONGROOM={
            "store": f"sqlite:///{folder}/sessions.db",
            "keys": development_keys(Path(folder) / "keys")[0],
            "policy": policy,
            "sinks": [],
        },
        USE_TZ=False,
        LOGGING_CONFIG=None,
    )


def session_tests() -> Any:
    """Django's mixin for session engines, on ours."""
    import types

    from django.test import TestCase
    from sessions_tests.tests import SessionTestsMixin  # type: ignore[import-not-found]

    from strongroom.integrations.django import SessionStore

    made = type("StrongroomTests", (SessionTestsMixin, TestCase), {"backend": SessionStore})
    module = types.ModuleType("strongroom_sessions")
    made.__module__ = module.__name__
    setattr(module, made.__name__, made)
    sys.modules[module.__name__] = module
    return made


def main(argv: list[str]) -> int:
    """Run them -> 0 where they answer as expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="the unpacked source distribution")
    parser.add_argument("parts", nargs="*", default=list(LABELS))
    told = parser.parse_args(argv)
    tests = (told.source / "tests").resolve()
    sys.path[:0] = [str(tests)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        configure(tests, folder)
        return _run(told.parts)


def _run(parts: list[str]) -> int:
    import django
    from django.test.runner import DiscoverRunner

    django.setup()
    case = session_tests()
    runner = DiscoverRunner(verbosity=0, interactive=False)
    runner.setup_test_environment()
    databases = runner.setup_databases()
    try:
        suite = unittest.TestSuite()
        if "sessions" in parts:
            suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(case))
        labels = [each for part in parts if part != "sessions" for each in LABELS[part]]
        for label in labels:
            suite.addTests(unittest.defaultTestLoader.loadTestsFromName(label))
        _ALL.extend(_cases(suite))
        result = unittest.TextTestRunner(verbosity=0, stream=sys.stderr).run(suite)
    finally:
        runner.teardown_databases(databases)
        runner.teardown_test_environment()
    return _judge(result)


def _judge(result: unittest.TestResult) -> int:
    failed = {_name(test) for test, _ in (*result.failures, *result.errors)}
    surprises = sorted(failed - DIFFERENT.keys())
    ran = {_name(test).partition(" (")[0] for test in _ALL}
    stale = sorted(n for n in DIFFERENT.keys() - failed if n.partition(" (")[0] in ran)
    print(f"{result.testsRun} run, {len(failed)} answered differently:")
    for name in sorted(failed & DIFFERENT.keys()):
        print(f"  {name}: {DIFFERENT[name]}")
    for name in surprises:
        print(f"  {name}: NOT EXPECTED")
    for name in stale:
        print(f"  {name}: PASSES BY NOW, remove it from the list")
    return 1 if surprises or stale else 0


_ALL: list[unittest.TestCase] = []


def _cases(suite: Any) -> list[unittest.TestCase]:
    """Each test of a suite."""
    if isinstance(suite, unittest.TestCase):
        return [suite]
    return [case for each in suite for case in _cases(each)]


def _name(test: unittest.TestCase) -> str:
    """Class and method, and what a subtest was given."""
    return ".".join(test.id().split(".")[-2:])


if __name__ == "__main__":
    from datetime import timedelta

    TWO_WEEKS = timedelta(weeks=2)
    raise SystemExit(main(sys.argv[1:]))
