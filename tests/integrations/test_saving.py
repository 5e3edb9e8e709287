"""No write is lost, none is made for nothing, and none is too large (P7, P8, P13, P24)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from strongroom import DataSeal, SessionPolicy, WriteConflict
from strongroom.core.errors import SessionReadOnly, SessionTooLarge, UnserialisableValue
from tests.support.browser import Gate
from tests.support.site import MINUTE, Everything, MakeSite, Reply, Site

pytestmark = pytest.mark.anyio


def put_writer(site: Site, gate: Gate) -> None:
    """A page that reads the session, waits, and then writes what the query says."""

    @site.page("/write")
    async def write(call):
        before = dict(call.session)
        await gate.pass_through()
        for key, value in call.query.items():
            call.session[key] = value
        return before


# P7: no lost update.


async def test_two_overlapping_writers_of_different_keys_both_survive(site: Site):
    """Both began with the same data; neither undoes the other (P7)."""
    gate = Gate()
    put_writer(site, gate)
    alice = await site.signed_in()
    await alice.post("/set?theme=dark")
    both = [alice.begin("/write?cart=book"), alice.begin("/write?language=de")]
    await gate.reached(2)
    gate.open()
    for each in both:
        assert (await each.response()).json == {"theme": "dark"}
    assert await site.data(alice) == {"theme": "dark", "cart": "book", "language": "de"}


async def test_a_deletion_and_a_write_both_survive(site: Site):
    """A key that one request deletes stays deleted although another saved the rest (P7)."""
    gate = Gate()
    put_writer(site, gate)

    @site.page("/delete")
    async def delete(call):
        await gate.pass_through()
        del call.session["theme"]

    alice = await site.signed_in()
    await alice.post("/set?theme=dark&cart=book")
    both = [alice.begin("/write?language=de"), alice.begin("/delete")]
    await gate.reached(2)
    gate.open()
    for each in both:
        await each.response()
    assert await site.data(alice) == {"cart": "book", "language": "de"}


@pytest.mark.everywhere
async def test_twelve_writers_at_once_all_survive(site: Site):
    """Each of a page's dozen requests keeps its own key (P7)."""
    gate = Gate()
    put_writer(site, gate)
    alice = await site.signed_in()
    many = [alice.begin_fetch(f"/write?k{n}={n}") for n in range(12)]
    await gate.reached(12)
    gate.open()
    assert {(await each.response()).status for each in many} == {200}
    assert await site.data(alice) == {f"k{n}": str(n) for n in range(12)}


async def test_the_loser_of_a_conflict_can_be_told(new_site: MakeSite, everything: Everything):
    """Strict: the second writer of the same key gets 409, and nothing of it is saved (P7)."""
    site = await new_site(policy=SessionPolicy(conflicts="strict"))
    gate = Gate()

    @site.page("/write")
    async def write(call):
        call.session["cart"] = call.query["cart"]
        call.session[call.query["cart"]] = True
        await gate.pass_through()

    alice = await site.signed_in()
    first = alice.begin_fetch("/write?cart=book")
    await gate.reached()
    second = alice.begin_fetch("/write?cart=bike")
    await gate.reached()
    gate.open()
    answers = {(await each.response()).status: (await each.response()) for each in (first, second)}
    assert sorted(answers) == [200, 409]
    assert answers[409].json["code"] == "write_conflict"
    data = await site.data(alice)
    assert data in ({"cart": "book", "book": True}, {"cart": "bike", "bike": True})
    assert "Traceback" not in everything.text


async def test_a_conflict_can_be_solved_within_the_request(site: Site):
    """After WriteConflict the application reads again, decides, and saves again (P7)."""
    gate = Gate()

    @site.page("/add")
    async def add(call):
        for attempt in range(5):
            call.session["sum"] = call.session.get("sum", 0) + int(call.query["by"])
            if attempt == 0:
                await gate.pass_through()
            try:
                await call.session.save(strict=True)
            except WriteConflict:
                continue
            return attempt
        return None

    alice = await site.signed_in()
    await alice.post("/set?theme=dark")
    both = [alice.begin_fetch("/add?by=1"), alice.begin_fetch("/add?by=2")]
    await gate.reached(2)
    gate.open()
    told = [(await each.response()).json for each in both]
    assert sorted(told) == [0, 1]
    assert (await site.data(alice))["sum"] == 3


async def test_merging_lets_the_later_writer_win(site: Site):
    """Without strict, two writers of one key are ordered by their saves (P7)."""
    gate = Gate()
    put_writer(site, gate)
    alice = await site.signed_in()
    first = alice.begin("/write?cart=book")
    await gate.reached()
    await alice.post("/set?cart=bike")
    gate.open()
    await first.response()
    assert await site.data(alice) == {"cart": "book"}


@pytest.mark.everywhere
async def test_a_change_inside_a_list_or_dict_is_saved(site: Site):
    """Nobody has to set a flag (TRAPS 25)."""

    @site.page("/start")
    async def start(call):
        call.session["cart"] = {"items": [], "tags": ["new"]}

    @site.page("/add")
    async def add(call):
        call.session["cart"]["items"].append({"id": 7})
        del call.session["cart"]["tags"][0]

    alice = await site.signed_in()
    await alice.post("/start")
    await alice.post("/add")
    assert await site.data(alice) == {"cart": {"items": [{"id": 7}], "tags": []}}


async def test_save_in_the_middle_is_kept_although_the_response_fails(site: Site):
    """`save` writes now; what comes after it is another matter (E1)."""

    @site.page("/half")
    async def half(call):
        call.session["first"] = 1
        assert await call.session.save() is True
        assert await call.session.save() is False
        call.session["second"] = 2
        return Reply(status=500)

    alice = await site.signed_in()
    await alice.post("/half")
    assert await site.data(alice) == {"first": 1}


async def test_two_first_writes_without_a_cookie_make_two_sessions(site: Site):
    """Said plainly in the documentation: one of them is lost, but neither is mixed up (I)."""
    gate = Gate()
    put_writer(site, gate)
    browser = site.browser()
    both = [browser.begin("/write?a=1"), browser.begin("/write?b=2")]
    await gate.reached(2)
    gate.open()
    for each in both:
        await each.response()
    assert await site.data(browser) in ({"a": "1"}, {"b": "2"})


# P8, P13: reading costs a read.


@pytest.mark.everywhere
@pytest.mark.parametrize("path", ["/", "/nothing"])
async def test_a_read_only_request_costs_one_read_and_sets_no_cookie(site: Site, path: str):
    """Within the touch interval nothing is written (P8, P13)."""
    alice = await site.signed_in()
    await alice.post("/set?cart=book")
    site.clock.advance(MINUTE - 1)
    site.store.reset()
    for _ in range(3):
        response = await alice.goto(path)
        assert response.cookies == []
    assert site.store.asked == {"find": 3}


async def test_writing_what_is_there_already_writes_nothing(site: Site):
    """Assigning the same value, or changing it back, is no change (P8)."""
    alice = await site.signed_in()
    await alice.post("/set?cart=book")
    site.store.reset()

    @site.page("/same")
    async def same(call):
        call.session["cart"] = "bike"
        call.session["cart"] = "book"
        call.session["gone"] = 1
        del call.session["gone"]

    await alice.post("/same")
    assert site.store.written == {}


async def test_a_touch_is_due_once_a_minute_and_carries_no_data(site: Site):
    """However many requests there are (P8)."""
    alice = await site.signed_in()
    site.store.reset()
    for _ in range(60):
        site.clock.advance(MINUTE // 10)
        await alice.goto("/")
    assert site.store.counts["touch"] == 6
    assert site.store.counts["replace"] == 0


async def test_a_touch_and_a_save_do_not_conflict(new_site: MakeSite):
    """One request touches while another saves: strict mode finds no conflict (P8)."""
    site = await new_site(policy=SessionPolicy(conflicts="strict"))
    gate = Gate()
    put_writer(site, gate)
    alice = await site.signed_in()
    pending = alice.begin_fetch("/write?cart=book")
    await gate.reached()
    site.clock.advance(2 * MINUTE)
    await alice.goto("/")
    gate.open()
    assert (await pending.response()).status == 200
    assert await site.data(alice) == {"cart": "book"}


# P24: what is stored at all.


async def test_visitors_who_do_nothing_leave_nothing(site: Site):
    """Reading, deleting and clearing store nothing (P24, TRAPS 14)."""

    @site.page("/look")
    async def look(call):
        call.session.clear()
        call.session.pop("nothing", None)
        call.session["gone"] = 1
        del call.session["gone"]
        return len(call.session), "x" in call.session, call.session.get("x")

    browser = site.browser()
    await browser.goto("/nothing")
    site.store.reset()
    response = await browser.goto("/look")
    assert response.json == [0, False, None]
    assert site.store.asked == {}
    assert response.cookies == []


@pytest.mark.parametrize("limit", ["anonymous", "signed in"])
async def test_too_much_data_is_refused_before_anything_is_written(site: Site, limit: str):
    """4 KiB before sign-in, 64 KiB after; what was there stays (P24)."""
    allowed = 4 * 1024 if limit == "anonymous" else 64 * 1024
    browser = site.browser() if limit == "anonymous" else await site.signed_in()
    await browser.post("/set?cart=book")

    @site.page("/fill")
    async def fill(call):
        call.session["much"] = "x" * int(call.query["size"])

    assert (await browser.post(f"/fill?size={allowed - 100}")).status == 200
    site.store.reset()
    response = await browser.post(f"/fill?size={allowed}")
    assert response.status == 500
    assert isinstance(response.error, SessionTooLarge)
    assert site.store.written == {}
    data = await site.data(browser)
    assert (data["cart"], len(data["much"])) == ("book", allowed - 100)


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        object(),
        3 + 4j,
        datetime(2026, 1, 1),
        float("nan"),
        2**64,
        "\ud800",
        {("a", "tuple"): 1},
        [[{"deep": {1, 2}}]],
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_cannot_be_kept_is_refused_at_assignment(site: Site, value: Any):
    """In the line that does it, and nothing is lost (P24)."""

    @site.page("/assign")
    async def assign(call):
        call.session["good"] = 1
        with pytest.raises(UnserialisableValue):
            call.session["bad"] = value
        with pytest.raises(UnserialisableValue):
            call.session["good"] = value
        assert call.session["good"] == 1

    alice = await site.signed_in()
    assert (await alice.post("/assign")).status == 200
    assert await site.data(alice) == {"good": 1}


@pytest.mark.parametrize("key", ["", "x" * 257, 7, None, b"bytes"], ids=repr)
async def test_keys_are_text(site: Site, key: Any):
    """Another key is refused at assignment (P24)."""

    @site.page("/assign")
    async def assign(call):
        with pytest.raises(UnserialisableValue):
            call.session[key] = 1

    assert (await site.browser().post("/assign")).status == 200


async def test_what_cannot_be_kept_inside_a_list_is_told_before_anything_is_lost(site: Site):
    """It can only be noticed at the commit, which then writes nothing at all (P24)."""

    @site.page("/nested")
    async def nested(call):
        call.session["other"] = "changed"
        call.session["cart"].append({1, 2})

    @site.page("/start")
    async def start(call):
        call.session["cart"] = ["book"]
        call.session["other"] = "first"

    alice = await site.signed_in()
    await alice.post("/start")
    response = await alice.post("/nested")
    assert response.status == 500
    assert isinstance(response.error, UnserialisableValue)
    assert "cart" in str(response.error)
    assert await site.data(alice) == {"cart": ["book"], "other": "first"}


async def test_a_sign_in_with_data_that_cannot_be_kept_signs_nobody_in(site: Site):
    """The commit fails, so the response does, so the sign-in is undone (P14)."""

    @site.page("/bad")
    async def bad(call):
        await call.session.sign_in("alice")
        call.session["cart"] = []
        call.session["cart"].append(object())

    browser = site.browser()
    assert (await browser.post("/bad")).status == 500
    assert await site.manager.sessions_of("alice") == []
    assert len(browser.jar) == 0


@pytest.mark.parametrize("seal", list(DataSeal))
async def test_data_survives_however_it_is_sealed(new_site: MakeSite, seal: DataSeal):
    """The three ways to keep data at rest behave alike (P4)."""
    site = await new_site(policy=SessionPolicy(seal_data=seal))
    alice = await site.signed_in()
    await alice.post("/set?cart=sealed-book")
    assert await site.data(alice) == {"cart": "sealed-book"}
    stored = site.stored()
    assert (b"sealed-book" in stored) is (seal is DataSeal.NONE)
    assert b"alice" not in stored


@pytest.mark.needs("background")
async def test_after_the_response_began_a_new_session_cannot_start(site: Site):
    """The cookie that would open it cannot be set any more, and that is said (E1)."""
    told: list[Exception] = []
    done = asyncio.Event()

    async def after(session) -> None:
        try:
            session["cart"] = "book"
        except SessionReadOnly as error:
            told.append(error)
        done.set()

    @site.page("/later")
    async def later(call):
        return Reply(b"ok", after=lambda: after(call.session))

    site.store.reset()
    await site.browser().goto("/later")
    await asyncio.wait_for(done.wait(), 5)
    assert len(told) == 1
    assert site.store.written == {}


async def test_a_session_is_used_as_a_dict_is(site: Site):
    """`|=`, `popitem` of the newest, `copy`: what people write of Starlette's and Flask's (P7)."""
    told: list[Any] = []

    @site.page("/as-a-dict")
    async def as_a_dict(call):
        session = call.session
        session |= {"a": 1, "b": 2}
        session |= [("c", 3)]
        told.append((session.popitem(), session.copy(), type(session.copy())))
        session.clear()
        with pytest.raises(KeyError):
            session.popitem()
        session["kept"] = session.setdefault("x", 5)

    browser = site.browser()
    assert (await browser.post("/as-a-dict")).status == 200
    assert told == [(("c", 3), {"a": 1, "b": 2}, dict)]
    assert await site.data(browser) == {"x": 5, "kept": 5}
