"""With a near cache whose view is old, nothing that matters is decided by it (P25, H2).

The store's channel is held in every scenario: what somebody else does is told to nobody, and the
bound is a minute, so a page goes on to show the session. That is what a bound means. Whatever acts
on a session's standing asks the store itself all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from fastapi import Depends, FastAPI

from strongroom import Routes, SessionPolicy
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.ops import End, Find
from strongroom.core.record import EndReason
from strongroom.integrations.fastapi import SessionMiddleware, require_recent_sign_in
from strongroom.stores.bridge import MAY_BE_INLINE, WatchableBridge
from strongroom.stores.near_cache import AsyncNearCache, Limits
from tests.support.browser import Browser
from tests.support.channels import FaultyStore
from tests.support.site import MakeSite, Site

pytestmark = [pytest.mark.anyio, pytest.mark.stores("memory")]

POLICY = SessionPolicy(max_staleness=timedelta(minutes=1), routes=Routes(sensitive=("/account/*",)))


class Shop:
    """A site with a near cache, and somebody signed in whose session the cache holds."""

    def __init__(self, site: Site, near: AsyncNearCache, faulty: FaultyStore) -> None:
        self.site = site
        self.near = near
        self.faulty = faulty
        self.alice: Browser

    async def begin(self) -> None:
        self.alice = await self.site.signed_in()
        while not self.near.stats().entries:
            await self.site.who(self.alice)
        self.faulty.hold()

    def end_elsewhere(self) -> None:
        """Another process ends the session, and its notice is stuck."""
        (record,) = self.faulty.snapshot().records.values()
        now = self.site.clock()
        ended = self.faulty.end(
            End(record.session_id, b"r" * 8, EndReason.REVOKED, now, now + 10**9)
        )
        assert ended.applied

    async def page_does(self, act: Callable[[Any], Any], path: str = "/act") -> Any:
        """What a page says that does this on a GET."""

        @self.site.page(path)
        async def page(call: Any) -> Any:
            try:
                done = act(call.session)
                if hasattr(done, "__await__"):
                    await done
            except StrongroomError as error:
                return {"error": error.code, "subject": call.session.subject}
            return {"error": None, "subject": call.session.subject}

        return (await self.alice.goto(path)).json


@pytest.fixture
async def shop(new_site: MakeSite) -> Shop:
    """Alice's session is in the near cache, which hears nothing from now on."""
    faulty = FaultyStore()
    near = AsyncNearCache(WatchableBridge(faulty, inline=MAY_BE_INLINE), Limits(max_staleness=60.0))
    site = await new_site(policy=POLICY, real_store=near)
    made = Shop(site, near, faulty)
    await made.begin()
    return made


async def test_a_page_costs_the_store_nothing(shop: Shop):
    """That is what the near cache is for (H3)."""
    asked = shop.faulty.finds
    for _ in range(10):
        assert await shop.site.who(shop.alice) == "alice"
    assert shop.faulty.finds == asked


async def test_the_view_of_a_page_may_be_as_old_as_the_bound(shop: Shop):
    """And no older: see tests/stores (H3)."""
    shop.end_elsewhere()
    assert await shop.site.who(shop.alice) == "alice"


async def test_a_request_that_may_change_something_asks_the_store(shop: Shop):
    """Every unsafe method, without anybody naming it (P25, H2)."""
    shop.end_elsewhere()
    response = await shop.alice.post("/", {})
    assert response.json["subject"] is None


async def test_a_route_named_sensitive_asks_the_store(shop: Shop):
    """Also on a GET (P25, H2)."""
    shop.end_elsewhere()
    told = await shop.page_does(lambda session: None, "/account/password")
    assert told["subject"] is None


@pytest.mark.needs("websockets")
async def test_a_handshake_asks_the_store(shop: Shop):
    """A socket lives long, so it begins with the truth (P16, H2)."""

    @shop.site.socket("/chat")
    async def chat(talk: Any) -> None:
        await talk.accept()
        await talk.say(str(talk.session.subject))

    shop.end_elsewhere()
    socket = shop.alice.socket("/chat")
    assert await socket.opened()
    assert (await socket.next())["text"] == "None"


ACTS: dict[str, Callable[[Any], Any]] = {
    "elevate": lambda session: session.elevate(amr="otp"),
    "credentials_changed": lambda session: session.credentials_changed(),
    "sign_out_others": lambda session: session.sign_out_others(),
    "sign_out_everywhere": lambda session: session.sign_out_everywhere(),
    "end_session": lambda session: session.end_session("00" * 16),
    "sessions": lambda session: session.sessions(),
    "history": lambda session: session.history(),
    "hand_over": lambda session: session.hand_over(),
}


@pytest.mark.parametrize("act", ACTS)
async def test_what_acts_on_standing_asks_the_store(shop: Shop, act: str):
    """An ended session ends nobody else, lists nothing and gains no privilege (P25, H2)."""
    shop.end_elsewhere()
    told = await shop.page_does(ACTS[act])
    assert told == {"error": "sign_in_required", "subject": None}


@pytest.mark.parametrize("act", ACTS)
async def test_what_acts_on_standing_works_where_the_session_stands(shop: Shop, act: str):
    """It costs one read of the store."""
    asked = shop.faulty.finds
    told = await shop.page_does(ACTS[act])
    assert told["error"] is None
    assert shop.faulty.finds > asked


async def test_signing_in_takes_over_what_the_store_has(shop: Shop):
    """Not what the cache had: the old session has ended, and its data with it (P10, H2)."""
    shop.end_elsewhere()
    told = await shop.page_does(lambda session: session.sign_in("bob"))
    assert told == {"error": None, "subject": "bob"}


async def test_verify_tells_the_end(shop: Shop):
    """Who asks for the truth gets it, and nobody is signed in any more (H2)."""
    told = await shop.page_does(lambda session: session.verify())
    assert told["subject"] == "alice"
    shop.end_elsewhere()
    told = await shop.page_does(lambda session: session.verify())
    assert told["subject"] is None


async def test_what_was_assigned_survives_a_verification(shop: Shop):
    """Only the record is read again; changes of this request are saved as ever (P7)."""

    @shop.site.page("/cart")
    async def cart(call: Any) -> Any:
        call.session["cart"] = ["book"]
        await call.session.verify()
        return dict(call.session)

    assert (await shop.alice.goto("/cart")).json == {"cart": ["book"]}
    found = shop.faulty.find(Find(next(iter(shop.faulty.snapshot().records))))
    assert found is not None
    assert found.record.data != b""


async def test_a_recent_sign_in_is_never_judged_by_the_cache(shop: Shop):
    """In `async def` the read has to be awaited, and the error says so; in `def` it is made."""
    ask = lambda session: session.require_recent_sign_in(max_age=timedelta(hours=1))  # noqa: E731
    told = await shop.page_does(ask)
    waits = shop.site.kind.pages == "async def"
    assert told["error"] == ("action_not_awaited" if waits else None)
    assert (await shop.page_does(ask, "/account/email"))["error"] is None
    shop.end_elsewhere()
    told = await shop.page_does(ask)
    assert told["error"] == ("action_not_awaited" if waits else "sign_in_required")
    assert (await shop.page_does(ask, "/account/email"))["error"] == "sign_in_required"


async def test_step_up_is_never_judged_by_the_cache(shop: Shop):
    """Not even as a question (P25)."""
    told = await shop.page_does(
        lambda session: session.step_up(max_age=timedelta(hours=1)) and None
    )
    assert told["error"] == ("action_not_awaited" if shop.site.kind.pages == "async def" else None)


async def test_fastapis_dependency_asks_the_store_by_itself(new_site: MakeSite, kind: str):
    """Nobody has to know that there is a near cache (P25, H2)."""
    if kind != "fastapi":
        pytest.skip("allowed: a dependency of FastAPI")
    faulty = FaultyStore()
    near = AsyncNearCache(WatchableBridge(faulty, inline=MAY_BE_INLINE), Limits(max_staleness=60.0))
    site = await new_site(policy=POLICY, real_store=near)
    app = FastAPI()
    recent = require_recent_sign_in(max_age=timedelta(hours=1))

    @app.get("/secret")
    async def secret(subject: str = Depends(recent)) -> dict[str, str]:
        return {"subject": subject}

    app.add_middleware(SessionMiddleware, manager=site.manager)
    shop = Shop(site, near, faulty)
    await shop.begin()
    shop.alice.app = cast("Any", app)
    assert (await shop.alice.goto("/secret")).json == {"subject": "alice"}
    shop.end_elsewhere()
    assert (await shop.alice.goto("/secret")).status == 303


def test_the_error_says_what_to_do():
    """It is a mistake in the page, so it is one of usage."""
    from strongroom.privilege import not_verified

    error = not_verified()
    assert isinstance(error, UsageError)
    assert "verify()" in error.hint
    assert "sensitive" in error.hint
