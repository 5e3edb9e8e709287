"""Django: `request.session`, `django.contrib.auth` and the test client, as its users know them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin, auth, messages
from django.contrib.auth import (
    authenticate,
    login,
    logout,
    update_session_auth_hash,
)
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.core.exceptions import SynchronousOnlyOperation
from django.core.management import call_command
from django.db import connections
from django.http import HttpResponse, JsonResponse
from django.template import Context, Engine
from django.test import AsyncClient, Client, override_settings
from django.test.utils import setup_test_environment, teardown_test_environment
from django.urls import path
from django.views.decorators.csrf import csrf_exempt, ensure_csrf_cookie

from strongroom import EndReason, SessionPolicy, UsageError
from strongroom.core.events import CredentialsChanged, LoginFailed, LoginSuccess
from strongroom.integrations.django import SessionStore, runtime, session_of
from tests.support.django_project import KEYS

pytestmark = pytest.mark.slow  # The tables of django.contrib.auth take a second to make.

_numbers = count()
EVENTS: list[Any] = []
STRONGROOM = {"store": "memory://", "keys": KEYS, "sinks": [EVENTS.append]}


@pytest.fixture(scope="module")
def database():
    """Django's test environment and a database, as its test runner makes them."""
    setup_test_environment()
    connection = connections["default"]
    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0)
    yield
    connection.creation.destroy_test_db(name, verbosity=0)
    connections.close_all()
    teardown_test_environment()


@pytest.fixture(autouse=True)
def project(database):
    """A project with a memory of its own."""
    EVENTS.clear()
    with override_settings(STRONGROOM=dict(STRONGROOM), ROOT_URLCONF=__name__):
        yield
        runtime.current().serving.stop()


@pytest.fixture
def user():
    """An account."""
    from django.contrib.auth.models import User

    return User.objects.create_user(f"alice{next(_numbers)}", password="secret-1")


def told(event: type) -> list[Any]:
    return [each for each in EVENTS if isinstance(each, event)]


# The pages.


def whoami(request):
    return JsonResponse(
        {
            "user": request.user.get_username(),
            "subject": session_of(request).subject,
            "key": request.session.session_key,
            "data": {k: v for k, v in request.session.items() if not k.startswith("_auth")},
        }
    )


async def awhoami(request):
    user = await request.auser()
    return JsonResponse({"user": user.get_username(), "subject": session_of(request).subject})


def sign_in(request):
    user = authenticate(request, username=request.POST["name"], password=request.POST["password"])
    if user is not None:
        login(request, user)
    return HttpResponse(status=int(request.POST.get("status", 200)))


async def asign_in(request):
    found = await auth.aauthenticate(
        request, username=request.POST["name"], password=request.POST["password"]
    )
    if found is not None:
        await auth.alogin(request, found)
    return HttpResponse()


def sign_out(request):
    logout(request)
    return HttpResponse()


async def asign_out(request):
    await auth.alogout(request)
    return HttpResponse()


def change_password(request):
    request.user.set_password(request.POST["password"])
    request.user.save()
    update_session_auth_hash(request, request.user)
    return HttpResponse()


def put(request):
    for key, value in request.GET.items():
        request.session[key] = value
    return HttpResponse()


def nested(request):
    request.session.setdefault("cart", {"books": []})["books"].append(1)
    return HttpResponse()


def run(request):
    """A page whose body is the test's: see `on_page`."""
    return _BODIES[request.GET["body"]](request) or HttpResponse()


async def arun(request):
    return await _BODIES[request.GET["body"]](request) or HttpResponse()


def leave_message(request):
    messages.info(request, "Kept for you")
    return HttpResponse()


def show_messages(request):
    return HttpResponse(", ".join(str(each) for each in messages.get_messages(request)))


@ensure_csrf_cookie
def form(request):
    page = Engine().from_string("<form>{% csrf_token %}</form>")
    from django.middleware.csrf import get_token

    return HttpResponse(page.render(Context({"csrf_token": get_token(request)})))


@csrf_exempt
def hook(request):
    return HttpResponse("taken")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("", whoami),
    path("a", awhoami),
    path("sign-in", sign_in),
    path("a/sign-in", asign_in),
    path("sign-out", sign_out),
    path("a/sign-out", asign_out),
    path("change-password", change_password),
    path("put", put),
    path("nested", nested),
    path("run", run),
    path("arun", arun),
    path("leave-message", leave_message),
    path("show-messages", show_messages),
    path("form", form),
    path("hook", hook),
]

_BODIES: dict[str, Any] = {}


def on_page(client: Client, body: Any) -> Any:
    """Run something as a view."""
    _BODIES["it"] = body
    return client.get("/run?body=it")


def signed_in(user: Any, **how: Any) -> Client:
    client = Client(**how)
    response = client.post("/sign-in", {"name": user.username, "password": "secret-1"})
    assert response.status_code == 200
    return client


def cookie(client: Client) -> str:
    """The session cookie's value."""
    return str(client.cookies[settings.SESSION_COOKIE_NAME].value)


# django.contrib.auth.


def test_login_starts_a_new_session_and_keeps_the_visitors_data(user):
    """Django keeps the data, and a planted cookie is worth nothing all the same (P10)."""
    client = Client()
    client.get("/put?cart=book")
    planted, before = cookie(client), client.get("/").json()["key"]
    client.post("/sign-in", {"name": user.username, "password": "secret-1"})
    now = client.get("/").json()
    assert (now["user"], now["subject"]) == (user.username, str(user.pk))
    assert now["data"] == {"cart": "book"}
    assert now["key"] != before
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = planted
    assert thief.get("/").json()["user"] == ""
    assert told(LoginSuccess)[0].subject == str(user.pk)


def test_login_as_the_same_user_again_starts_a_new_session_too(user):
    """Django keeps the key there; here the old cookie is dead (P10)."""
    client = signed_in(user)
    old, key = cookie(client), client.get("/put?a=1") and client.get("/").json()["key"]
    client.post("/sign-in", {"name": user.username, "password": "secret-1"})
    assert client.get("/").json()["key"] != key
    assert client.get("/").json()["data"] == {"a": "1"}
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = old
    assert thief.get("/").json()["user"] == ""


def test_login_of_another_user_shares_nothing(user):
    """Nobody finds what the one before left behind (P10)."""
    from django.contrib.auth.models import User

    other = User.objects.create_user(f"bob{next(_numbers)}", password="secret-1")
    client = signed_in(user)
    client.get("/put?diary=private")
    client.post("/sign-in", {"name": other.username, "password": "secret-1"})
    now = client.get("/").json()
    assert (now["user"], now["data"]) == (other.username, {})
    assert runtime.current().manager.sessions_of(str(user.pk)) == []


def test_logout_ends_the_session_on_the_server(user):
    """A copy of the cookie is worth nothing afterwards (P14)."""
    client = signed_in(user)
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = cookie(client)
    assert thief.get("/").json()["user"] == user.username
    response = client.post("/sign-out")
    assert response.headers["Clear-Site-Data"] == '"storage"'
    assert thief.get("/").json()["user"] == ""
    (ended,) = runtime.current().manager.sessions_of(str(user.pk), include_ended=True)
    assert ended.end_reason is EndReason.LOGOUT


def test_a_failed_login_is_an_event_and_a_failed_response_signs_nobody_in(user):
    """Wrong passwords are told; a response of 500 leaves no session (P14)."""
    client = Client()
    client.post("/sign-in", {"name": user.username, "password": "wrong"})
    assert len(told(LoginFailed)) == 1
    client.post("/sign-in", {"name": user.username, "password": "secret-1", "status": "500"})
    assert runtime.current().manager.sessions_of(str(user.pk)) == []


def test_a_changed_password_ends_the_others_and_rotates_this_one(user):
    """With nothing but Django's own calls (ASVS 7.4.3, P26)."""
    mine, other = signed_in(user), signed_in(user)
    old = cookie(mine)
    assert mine.post("/change-password", {"password": "secret-2"}).status_code == 200
    assert cookie(mine) != old
    assert mine.get("/").json()["user"] == user.username
    assert other.get("/").json()["user"] == ""
    reasons = [
        each.end_reason
        for each in runtime.current().manager.sessions_of(str(user.pk), include_ended=True)
        if each.end_reason is not None
    ]
    assert reasons == [EndReason.CREDENTIAL]
    assert told(CredentialsChanged)


def test_a_password_changed_by_somebody_else_ends_every_session(user):
    """As an administrator or a command does it (P26)."""
    client = signed_in(user)
    user.set_password("secret-3")
    user.save()
    assert runtime.current().manager.sessions_of(str(user.pk)) == []
    assert client.get("/").json()["user"] == ""


def test_saving_a_user_as_such_ends_nothing(user):
    """Another name is no other password."""
    client = signed_in(user)
    user.first_name = "Alice"
    user.save()
    assert client.get("/").json()["user"] == user.username


@pytest.mark.parametrize("how", ["deactivated", "deleted"])
def test_an_account_that_is_gone_has_no_sessions(user, how):
    """Disabled or deleted, everything ends at once (P26, ASVS 7.4.2)."""
    client, subject = signed_in(user), str(user.pk)
    if how == "deleted":
        user.delete()
    else:
        user.is_active = False
        user.save()
    assert runtime.current().manager.sessions_of(subject) == []
    assert client.get("/").json()["user"] == ""


def test_sign_out_everywhere_during_the_password_check_wins(user):
    """With our backend first, a login that began before it cannot complete after it (P15)."""

    def view(request):
        found = authenticate(request, username=user.username, password="secret-1")
        runtime.current().manager.end_all_of(str(user.pk))
        login(request, found)

    backends = [
        "strongroom.integrations.django.backends.AuthenticationOrder",
        "django.contrib.auth.backends.ModelBackend",
    ]
    with override_settings(AUTHENTICATION_BACKENDS=backends):
        client = Client()
        assert on_page(client, view).status_code == 409
    assert runtime.current().manager.sessions_of(str(user.pk)) == []
    assert client.get("/").json()["user"] == ""


# request.session.


def test_the_session_is_djangos_mapping(user):
    """Every method that Django documents answers as Django's does."""

    def view(request):
        session = request.session
        assert isinstance(session, SessionBase)
        assert session.is_empty()
        assert session.session_key is None
        assert session.get("cat", "dog") == "dog"
        session["cat"] = "purrs"
        assert session.modified
        assert session.accessed
        assert session.pop("cat") == "purrs"
        assert session.pop("cat", "gone") == "gone"
        assert session.pop("cat", default="gone") == "gone"
        with pytest.raises(KeyError):
            session.pop("cat")
        assert session.setdefault("foo", "bar") == "bar"
        assert session.setdefault("foo", "baz") == "bar"
        session.update({"x": 1, "y": [2]})
        assert session.has_key("x")
        assert "x" in session
        assert sorted(session.keys()) == ["foo", "x", "y"]
        assert sorted(map(str, session.values())) == ["1", "[2]", "bar"]
        assert dict(session.items()) == session.load()
        session.set_test_cookie()
        assert session.test_cookie_worked()
        session.delete_test_cookie()
        assert not session.test_cookie_worked()
        del session["x"]
        session.clear()
        assert not list(session.keys())

    assert on_page(Client(), view).status_code == 200


def test_the_asynchronous_variants_do_the_same(user):
    """For every Django, those of 5.1 and later too."""

    async def view(request):
        session = request.session
        await session.aset("a", 1)
        assert await session.aget("a") == 1
        assert await session.asetdefault("b", 2) == 2
        await session.aupdate({"c": 3})
        assert await session.ahas_key("c")
        assert sorted(await session.akeys()) == ["a", "b", "c"]
        assert sorted(await session.avalues()) == [1, 2, 3]
        assert dict(await session.aitems()) == await session.aload()
        assert await session.apop("a") == 1
        await session.aset_test_cookie()
        assert await session.atest_cookie_worked()
        await session.adelete_test_cookie()
        assert not await session.ahas_key("testcookie")
        await session.asave()
        key = session.session_key
        assert await session.aexists(key)
        await session.acycle_key()
        await session.aset_expiry(60)
        assert await session.aget_expiry_age() == 60
        assert (await session.aget_expiry_date()) > datetime.now(UTC)
        assert await session.aget_expire_at_browser_close()
        await session.aflush()
        assert session.is_empty()

    async def visit():
        _BODIES["it"] = view
        response = await AsyncClient().get("/arun?body=it")
        await runtime.current().async_manager().stop()
        return response

    assert asyncio.run(visit()).status_code == 200


@pytest.mark.skipif(
    not hasattr(auth, "alogin"), reason="allowed: Django has asynchronous logins since 5.0"
)
def test_async_login_and_logout(user):
    """On the event loop, without a synchronous call to the store (P10, P14)."""

    async def visit():
        client = AsyncClient()
        await client.post("/a/sign-in", {"name": user.username, "password": "secret-1"})
        within = (await client.get("/a")).json()
        await client.post("/a/sign-out")
        without = (await client.get("/a")).json()
        await runtime.current().async_manager().stop()
        return within, without

    within, without = asyncio.run(visit())
    assert within == {"user": user.username, "subject": str(user.pk)}
    assert without == {"user": "", "subject": None}


def test_a_synchronous_action_in_an_async_view_is_told():
    """It would hold up every other request, so it says what to write instead."""

    async def view(request):
        with pytest.raises(SynchronousOnlyOperation, match=r"await request\.session\.aflush\(\)"):
            request.session.flush()
        with pytest.raises(SynchronousOnlyOperation, match="alogin"):
            request.session["_auth_user_id"] = "1"

    async def visit():
        _BODIES["it"] = view
        response = await AsyncClient().get("/arun?body=it")
        await runtime.current().async_manager().stop()
        return response

    assert asyncio.run(visit()).status_code == 200


def test_a_change_inside_a_list_is_found():
    """Without `modified = True`, and it is no lost update either (P7)."""
    client = Client()
    client.get("/nested")
    client.get("/nested")
    assert client.get("/").json()["data"] == {"cart": {"books": [1, 1]}}


def test_cycle_key_keeps_the_data_and_kills_the_old_cookie():
    """A visitor's session gets another key; the old one is worth nothing."""
    client = Client()
    client.get("/put?a=1")
    old, key = cookie(client), client.get("/").json()["key"]
    on_page(client, lambda request: request.session.cycle_key())
    assert client.get("/").json()["data"] == {"a": "1"}
    assert client.get("/").json()["key"] != key
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = old
    assert thief.get("/").json()["data"] == {}


def test_cycle_key_of_a_user_rotates_the_token_and_keeps_the_public_key(user):
    """What opens the session is new; its name in lists stays (D2)."""
    client = signed_in(user)
    old, key = cookie(client), client.get("/").json()["key"]
    on_page(client, lambda request: request.session.cycle_key())
    assert cookie(client) != old
    assert client.get("/").json()["key"] == key
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = old
    assert thief.get("/").json()["user"] == ""


def test_create_gives_a_visitor_a_key_at_once():
    """The idiom for carts: `if not session.session_key: session.create()`."""
    client, keys = Client(), []

    def view(request):
        request.session.create()
        keys.append(request.session.session_key)

    on_page(client, view)
    assert client.get("/").json()["key"] == keys[0] is not None


def test_an_ended_session_cannot_be_saved(user):
    """A late write brings nothing back (P6)."""
    client = signed_in(user)

    def view(request):
        runtime.current().manager.end_all_of(str(user.pk))
        request.session["late"] = True
        with pytest.raises(UpdateError):
            request.session.save()

    assert on_page(client, view).status_code == 200
    assert client.get("/").json()["data"] == {}


def test_deleting_the_users_id_signs_the_user_out(user):
    """`session.clear()` leaves nobody signed in, as with Django, and the record ends."""
    client = signed_in(user)
    on_page(client, lambda request: request.session.clear())
    assert client.get("/").json()["subject"] is None
    assert runtime.current().manager.sessions_of(str(user.pk)) == []


def test_an_expiry_of_its_own_ends_a_session_early(user):
    """It may only shorten what the policy allows (P9)."""
    client = signed_in(user)
    past = datetime.now(UTC) + timedelta(milliseconds=300)
    on_page(client, lambda request: request.session.set_expiry(past))
    assert client.get("/").json()["user"] == user.username
    while datetime.now(UTC) <= past:
        pass
    assert client.get("/").json()["user"] == ""
    (ended,) = runtime.current().manager.sessions_of(str(user.pk), include_ended=True)
    assert ended.end_reason is EndReason.ABSOLUTE


def test_what_django_answers_about_expiry():
    """The policy's idle timeout without an expiry of its own, and never the server's default."""

    def view(request):
        session, idle = request.session, 1800
        assert session.get_session_cookie_age() == idle
        assert session.get_expiry_age() == idle
        session.set_expiry(10)
        assert session.get_expiry_age() == 10
        session.set_expiry(timedelta(seconds=10))
        assert session.get_expiry_age() in (9, 10)
        session.set_expiry(0)
        assert session.get_expiry_age() == idle
        session.set_expiry(None)
        assert session.get_expiry_age() == idle
        assert session.get_expire_at_browser_close() is True
        assert session.get_expiry_age(expiry=5) == 5

    assert on_page(Client(), view).status_code == 200


def test_there_is_no_text_form_of_a_session():
    """`encode` and `decode` say so instead of doing something that looks right."""

    def view(request):
        for call in (request.session.encode, request.session.decode):
            with pytest.raises(UsageError, match="no text form"):
                call({})

    assert on_page(Client(), view).status_code == 200


def test_messages_survive_a_redirect():
    """django.contrib.messages, kept in the session."""
    client = Client()
    client.get("/leave-message")
    assert client.get("/show-messages").content == b"Kept for you"
    assert client.get("/show-messages").content == b""


# Outside of requests.


def test_a_session_made_by_hand():
    """`SessionStore()` is a session of its own, which its key finds and ends, and never reads."""
    made = SessionStore()
    made["a"] = 1
    made.save()
    key = made.session_key
    assert made.exists(key)
    assert SessionStore().exists(key)
    SessionStore().delete(key)
    assert not made.exists(key)
    assert not made.exists("nonsense")


def test_a_session_is_not_read_by_its_public_key(user):
    """The key is public, the data is not (P4)."""
    client = signed_in(user)
    key = client.get("/").json()["key"]
    with pytest.raises(UsageError, match="cannot be read by its session_key"):
        SessionStore(key).get("a")


def test_clearsessions_sweeps():
    """`manage.py clearsessions` works."""
    call_command("clearsessions")


# The test client.


def test_the_test_client_logs_in(user):
    """`client.login`, `force_login`, `client.session` and `client.logout` work unchanged."""
    client = Client()
    assert client.login(username=user.username, password="secret-1")
    assert client.get("/").json()["user"] == user.username
    client.logout()
    assert client.get("/").json()["user"] == ""
    client.force_login(user)
    assert client.get("/").json()["subject"] == str(user.pk)


def test_the_test_client_reads_and_writes_the_session():
    """The idiom of every Django test: change `client.session`, save it, ask a page."""
    client = Client()
    session = client.session
    session["a"] = "by hand"
    session.save()
    assert client.get("/").json()["data"] == {"a": "by hand"}
    client.get("/put?b=page")
    assert client.session["b"] == "page"


# CSRF.


def test_djangos_form_tokens_work_and_are_bound_to_the_session(user):
    """`{% csrf_token %}`, `X-CSRFToken`, `csrf_exempt`; no browser header needed (P19)."""
    client = Client(enforce_csrf_checks=True)
    page = client.get("/form").content.decode()
    token = page.split('value="')[1].split('"')[0]
    assert client.post("/sign-out").status_code == 403
    assert client.post("/sign-out", {"csrfmiddlewaretoken": "x" * 64}).status_code == 403
    assert client.post("/sign-out", {"csrfmiddlewaretoken": token}).status_code == 200
    assert client.post("/sign-out", headers={"X-CSRFToken": token}).status_code == 200
    assert client.post("/hook").status_code == 200
    shown = client.cookies["csrftoken"].value
    assert client.post("/sign-out", headers={"X-CSRFToken": shown}).status_code == 200
    other = Client(enforce_csrf_checks=True)
    other.cookies["csrftoken"] = shown
    assert other.post("/sign-out", {"csrfmiddlewaretoken": token}).status_code == 403


def test_a_token_from_before_sign_in_is_worth_nothing_after(user):
    """The attacker's own token is not the victim's (G2)."""
    client = Client(enforce_csrf_checks=True)
    token = client.get("/form").content.decode().split('value="')[1].split('"')[0]
    form = {"name": user.username, "password": "secret-1", "csrfmiddlewaretoken": token}
    assert client.post("/sign-in", form).status_code == 200
    assert client.post("/sign-out", {"csrfmiddlewaretoken": token}).status_code == 403


# Checks.


def check(**changed: Any) -> set[str]:
    """The ids of what `manage.py check --deploy` says of us."""
    from strongroom.integrations.django.checks import check_deployment, check_settings

    with override_settings(**changed):
        return {each.id for each in (*check_settings(), *check_deployment())}


ENGINE = "strongroom.integrations.django"
OURS = f"{ENGINE}.middleware.SessionMiddleware"
SAFE = {
    "AUTHENTICATION_BACKENDS": [
        f"{ENGINE}.backends.AuthenticationOrder",
        "django.contrib.auth.backends.ModelBackend",
    ],
    "STRONGROOM": {"store": "sqlite:///never-opened.db", "keys": KEYS},
}


def test_a_safe_project_passes_the_checks():
    """Nothing to say."""
    assert check(**SAFE) == set()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"SESSION_ENGINE": "django.contrib.sessions.backends.db"}, "E001"),
        ({"MIDDLEWARE": []}, "E002"),
        ({"MIDDLEWARE": ["django.contrib.sessions.middleware.SessionMiddleware"]}, "E003"),
        (
            {"MIDDLEWARE": ["django.contrib.auth.middleware.AuthenticationMiddleware", OURS]},
            "E004",
        ),
        ({"SESSION_SERIALIZER": "some.PickleSerializer"}, "E005"),
        ({"STRONGROOM": {"store": "sqlite:///never-opened.db"}}, "E006"),
        ({"STRONGROOM": {"stroe": "memory://", "keys": KEYS}}, "E006"),
        ({"SESSION_COOKIE_DOMAIN": ".example.com"}, "E007"),
        ({"SESSION_COOKIE_SAMESITE": "None"}, "E007"),
        ({"STRONGROOM": STRONGROOM}, "W001"),
        ({"DEBUG": True}, "W002"),
        ({"SESSION_COOKIE_AGE": 60}, "W004"),
        ({"SESSION_EXPIRE_AT_BROWSER_CLOSE": False}, "W005"),
        ({"MIDDLEWARE": [OURS]}, "W006"),
        (
            {
                "MIDDLEWARE": [
                    OURS,
                    f"{ENGINE}.csrf.CsrfViewMiddleware",
                    "django.middleware.csrf.CsrfViewMiddleware",
                ]
            },
            "W007",
        ),
        ({"MIDDLEWARE": [OURS, "django.middleware.csrf.CsrfViewMiddleware"]}, "W008"),
        ({"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}, "W009"),
        ({"AUTHENTICATION_BACKENDS": ["django.contrib.auth.backends.ModelBackend"]}, "W010"),
    ],
)
def test_the_checks_name_what_is_wrong(changed, told):
    """Each in a sentence, with what to change (P18)."""
    assert f"strongroom.{told}" in check(**{**SAFE, **changed})


def test_the_first_mistake_is_told_when_the_server_starts():
    """Without keys there is no handler, and the sentence says how to make them."""
    from django.core.handlers.wsgi import WSGIHandler

    from strongroom import ConfigurationError

    with (
        override_settings(STRONGROOM={"store": "memory://"}),
        pytest.raises(ConfigurationError, match="strongroom keys generate"),
    ):
        WSGIHandler()


def test_a_missing_middleware_is_told_in_a_sentence():
    """`session_of` without ours says where it belongs."""
    from django.test import RequestFactory

    from strongroom import ConfigurationError

    with pytest.raises(ConfigurationError, match="MIDDLEWARE"):
        session_of(RequestFactory().get("/"))


# The admin, the command, and moving.


def in_admin(user: Any, *permissions: str) -> Client:
    """A client of somebody who may use the admin, signed in on its own page."""
    from django.contrib.auth.models import Permission

    user.is_staff = True
    user.save()
    for name in permissions:
        user.user_permissions.add(
            Permission.objects.get(codename=name, content_type__app_label="strongroom")
        )
    client = Client(enforce_csrf_checks=True)
    page = client.get("/admin/login/").content.decode()
    form = {
        "username": user.username,
        "password": "secret-1",
        "csrfmiddlewaretoken": token_in(page),
    }
    assert client.post("/admin/login/?next=/admin/", form).status_code == 302
    assert client.get("/admin/").status_code == 200
    return client


def token_in(page: str) -> str:
    return page.split('name="csrfmiddlewaretoken" value="')[1].split('"', maxsplit=1)[0]


def test_the_admin_lists_and_ends_sessions(user):
    """Of any account, by its name; the reason stands in the history (ASVS 7.4.5)."""
    from django.contrib.auth.models import User

    operator = User.objects.create_user(f"op{next(_numbers)}", password="secret-1")
    client = in_admin(operator, "view_session", "delete_session")
    victim, other = signed_in(user), signed_in(user)
    key = victim.get("/").json()["key"]
    where = f"/admin/strongroom/session/?user={user.username}"
    page = client.get(where).content.decode()
    assert key in page
    assert cookie(victim) not in page
    form = {"user": user.username, "session": key, "reason": "lost phone"}
    assert client.post(where, form).status_code == 403
    assert client.post(where, {**form, "csrfmiddlewaretoken": token_in(page)}).status_code == 302
    assert victim.get("/").json()["user"] == ""
    assert other.get("/").json()["user"] == user.username
    told = runtime.current().manager.history(str(user.pk))
    assert any("lost phone" in str(each.get("by")) for each in told)
    everything = {"user": user.username, "session": "", "csrfmiddlewaretoken": token_in(page)}
    client.post(where, everything)
    assert other.get("/").json()["user"] == ""
    assert "No account" in client.get("/admin/strongroom/session/?user=nobody").content.decode()


def test_the_admin_asks_for_permission(user):
    """Staff alone see no session, and who may look may not end one."""
    from django.contrib.auth.models import User

    staff = User.objects.create_user(f"staff{next(_numbers)}", password="secret-1")
    assert in_admin(staff).get("/admin/strongroom/session/").status_code == 403
    looker = User.objects.create_user(f"looker{next(_numbers)}", password="secret-1")
    client = in_admin(looker, "view_session")
    victim = signed_in(user)
    page = client.get(f"/admin/strongroom/session/?user={user.pk}").content.decode()
    assert victim.get("/").json()["key"] not in page.split("<button")[-1]
    form = {"user": user.username, "csrfmiddlewaretoken": token_in(page)}
    assert client.post("/admin/strongroom/session/", form).status_code == 403
    assert victim.get("/").json()["user"] == user.username


def test_manage_py_strongroom_is_the_command_line(tmp_path, capsys, monkeypatch):
    """On the project's own store, keys and policy."""
    from strongroom.keyfile import dumps

    for name in ("STRONGROOM_STORE", "STRONGROOM_KEYS_FILE", "STRONGROOM_POLICY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    keys = tmp_path / "strongroom.keys"
    keys.write_text(dumps(KEYS), encoding="utf-8")
    keys.chmod(0o600)
    told = {"store": f"sqlite:///{tmp_path}/s.db", "keys": str(keys)}
    with override_settings(STRONGROOM={**told, "policy": SessionPolicy(max_sessions=7)}):
        call_command("strongroom", "policy", "show")
        assert "7" in capsys.readouterr().out


def test_people_stay_signed_in_when_the_engine_changes(user):
    """The old session is read once, checked, deleted; the new one has another token (P10)."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore as OldStore

    def old_cookie() -> str:
        old = OldStore()
        old[SESSION_KEY] = str(user.pk)
        old[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        old[HASH_SESSION_KEY] = user.get_session_auth_hash()
        old["cart"] = ["book"]
        old.save()
        return str(old.session_key)

    first, stale = old_cookie(), old_cookie()
    moving = {
        **STRONGROOM,
        "adopt": "django.contrib.sessions.backends.db",
        "adopt_until": datetime.now(UTC) + timedelta(days=1),
    }
    with override_settings(STRONGROOM=moving):
        client = Client()
        client.cookies["sessionid"] = first
        now = client.get("/").json()
        assert (now["user"], now["subject"]) == (user.username, str(user.pk))
        assert now["data"] == {"cart": ["book"]}
        assert client.cookies["sessionid"]["max-age"] == "0"
        assert not OldStore().exists(first)
        thief = Client()
        thief.cookies["sessionid"] = first
        assert thief.get("/").json()["user"] == ""
        user.set_password("secret-2")
        user.save()
        late = Client()
        late.cookies["sessionid"] = stale
        assert late.get("/").json()["user"] == ""
        runtime.current().serving.stop()
