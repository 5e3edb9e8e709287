"""Which of the frameworks' own tests are run, and each that we answer differently, with the reason.

docs/upstream.md is drawn from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Suite:
    """Tests of one package's source distribution."""

    package: str
    says: str
    """What is run."""
    files: tuple[str, ...]
    passes: int
    """How many answer as the framework's own sessions do."""
    select: str = ""
    differs: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Those that do not, by the reason."""
    version: str = ""
    """The release series that this is true of, where each brings other tests."""

    @property
    def different(self) -> set[str]:
        """The names of all that we answer differently."""
        return {name for names in self.differs.values() for name in names}


_COOKIE = (
    "The cookie is `__Host-`: `Path=/`, no `Domain`, `Secure`, `HttpOnly`, `SameSite`, and belongs "
    "to the policy. What applications set for it elsewhere has no effect, and the log says so (P18)"
)
_CLOCKS = (
    "The clocks are the policy's and are kept by the server; the cookie ends with the window "
    "unless the session is permanent (P9)"
)

FLASK = Suite(
    "flask",
    "every test of its own that is about sessions or flashed messages",
    (
        "tests/test_basic.py",
        "tests/test_config.py",
        "tests/test_reqctx.py",
        "tests/test_session_interface.py",
        "tests/test_signals.py",
        "tests/test_testing.py",
    ),
    passes=10,
    select="session or flash",
    differs=MappingProxyType(
        {
            _COOKIE: (
                "test_session_path",
                "test_session_using_application_root",
                "test_session_using_session_settings",
                "test_session_using_samesite_attribute",
                "test_session_dynamic_cookie_name",
            ),
            "`SECRET_KEY` plays no part: what opens a session is random, and keys are rotated by "
            "`strongroom keys`": (
                "test_missing_session",
                "test_session_secret_key_fallbacks",
                "test_session_transactions_no_null_sessions",
            ),
            "A permanent session's cookie says `Max-Age`, which goes before `Expires` in every "
            "browser": ("test_session_expiration",),
            "A cookie is sent only when something changed; a response that neither looked at the "
            "session nor carries its cookie says no `Vary: Cookie` (P13)": (
                "test_session_cookie_setting",
                "test_session_refresh_vary",
            ),
            "`session.modified` says whether something is still to be saved; after the response it "
            "has been": ("test_session_accessed",),
            "No tuples, `Markup` and `uuid.UUID`: what goes in is what comes out, and what cannot "
            "is refused with a sentence": ("test_session_special_types", "test_extended_flashing"),
            "An interface put in the place of ours is refused, with a sentence": (
                "test_open_session_with_endpoint",
            ),
        }
    ),
)

FLASK_LOGIN = Suite(
    "flask-login",
    "all of its tests, on an application with our extension",
    ("tests/test_login.py",),
    passes=111,
    differs=MappingProxyType(
        {
            "Signing in starts a new session, with empty data: what was planted before is worth "
            "nothing. `SessionPolicy(carry_over=...)` keeps what it names (P10)": (
                "test_session_protection_strong_deletes_session",
            )
        }
    ),
)

STARLETTE = Suite(
    "starlette",
    "its tests of `SessionMiddleware`; `JSONResponse` is told that a session is a mapping: write "
    "`dict(request.session)`, because ours is no dict",
    ("tests/middleware/test_session.py",),
    passes=5,
    differs=MappingProxyType(
        {
            _COOKIE: (
                "test_partitioned_session",
                "test_secure_session",
                "test_session_cookie_subpath",
                "test_domain_cookie",
            ),
            _CLOCKS: ("test_session", "test_session_expires", "test_session_zero_max_age"),
            "The cookie has another name; the test deletes one called `session`": (
                "test_session_cookie",
            ),
        }
    ),
)

DJANGO = Suite(
    "django",
    "what it asks of every session engine (`SessionTestsMixin`), and of its middleware",
    ("sessions_tests",),
    passes=58,
    version="5.2",
    differs=MappingProxyType(
        {
            "A session has no text form: what is stored is sealed, and opens only with the cookie "
            "(P3, P4)": (
                "test_decode",
                "test_decode_failure_logged_to_security",
                "test_decode_serializer_exception",
            ),
            "`session_key` is the public id. It opens nothing, cannot be chosen, and is not the "
            "cookie's value (P2, P3)": (
                "test_session_key_empty_string_invalid",
                "test_session_key_too_short_invalid",
                "test_session_key_valid_string_saved",
                "test_empty_session_saved",
            ),
            "Without `set_expiry` the policy's idle timeout holds, not `SESSION_COOKIE_AGE` (P9)": (
                "test_default_expiry",
                "test_default_expiry_async",
                "test_custom_expiry_reset",
                "test_custom_expiry_reset_async",
            ),
            "The cookie never outlives the browser": (
                "test_get_expire_at_browser_close",
                "test_get_expire_at_browser_close_async",
            ),
            _COOKIE: ("test_no_httponly_session_cookie", "test_samesite_session_cookie"),
            "A cookie that nobody of ours issued is neither believed nor deleted (P2, P13)": (
                "test_session_delete_on_end",
                "test_session_delete_on_end_with_custom_domain_and_path",
            ),
            "A cookie is sent only when something changed; `SESSION_SAVE_EVERY_REQUEST` is not "
            "needed, for the server keeps the clock (P13)": (
                "test_save_every_request_with_non_empty_session_renews_session_cookie",
            ),
            "The test puts a session of Django's database engine into the request; in ours a late "
            "write to an ended session is dropped, and an event tells of it (P6)": (
                "test_session_update_error_redirect",
            ),
        }
    ),
)

AIOHTTP_SESSION = Suite(
    "aiohttp-session",
    "those of its tests that are not about its own storages and their cookies",
    ("tests/test_http_exception.py", "tests/test_response_types.py"),
    passes=2,
    select="test_exceptions or test_stream_response",
)

SUITES = {
    suite.package: suite for suite in (STARLETTE, FLASK, FLASK_LOGIN, DJANGO, AIOHTTP_SESSION)
}

WITHOUT_TESTS = ("quart", "litestar")
"""Their source distributions hold no tests, so there is nothing to run."""
