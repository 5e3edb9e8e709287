"""Django's own session tests, with our engine in the place of its engines, and our middleware.

Run in the folder of Django's tests; RESULTS names the file for what came out.
"""

from __future__ import annotations

import json
import os
import unittest
from pathlib import Path
from typing import Any

import django
from django.conf import settings

from strongroom.keyfile import generate

OURS = "strongroom.integrations.django"
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}

settings.configure(
    SECRET_KEY="only for these tests",
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": SQLITE},
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "sessions_tests",
        OURS,
    ],
    SESSION_ENGINE=OURS,
    SESSION_COOKIE_SECURE=True,
    STRONGROOM={"store": "memory://", "keys": generate("upstream", 0), "sinks": ()},
    USE_TZ=False,
    LOGGING_CONFIG=None,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

from django.test import TestCase  # noqa: E402
from django.test.runner import DiscoverRunner  # noqa: E402
from sessions_tests import tests as theirs  # type: ignore[import-not-found] # noqa: E402

from strongroom.integrations.django import SessionStore, middleware  # noqa: E402

theirs.SessionMiddleware = middleware.SessionMiddleware


class EngineTests(theirs.SessionTestsMixin, TestCase):  # type: ignore[misc]
    """What Django asks of every engine."""

    backend = SessionStore


class Noting(unittest.TextTestResult):
    """Notes what came out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.came_out: dict[str, bool] = {}

    def startTest(self, test: Any) -> None:  # noqa: N802 - unittest's
        self.came_out.setdefault(test._testMethodName, True)
        super().startTest(test)

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802 - unittest's
        self.came_out[test._testMethodName] = False
        super().addError(test, err)

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802 - unittest's
        self.came_out[test._testMethodName] = False
        super().addFailure(test, err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802 - unittest's
        if err is not None:
            self.came_out[test._testMethodName] = False
        super().addSubTest(test, subtest, err)


def main() -> None:
    """Run both classes of tests."""
    runner = DiscoverRunner(verbosity=0)
    runner.setup_test_environment()
    runner.setup_databases()
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    suite = unittest.TestSuite([load(EngineTests), load(theirs.SessionMiddlewareTests)])
    result = unittest.TextTestRunner(resultclass=Noting).run(suite)
    assert isinstance(result, Noting)
    Path(os.environ["RESULTS"]).write_text(json.dumps(result.came_out), encoding="utf-8")


if __name__ == "__main__":
    main()
