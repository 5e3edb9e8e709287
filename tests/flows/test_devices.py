"""Devices: known again by a cookie that they agreed to, and ended as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from strongroom import RequestFacts, Session, SessionManager, SessionPolicy
from strongroom.core.errors import ConfigurationError
from strongroom.core.events import DeviceDisowned, Event, SignalRaised
from strongroom.core.flows.devices import DeviceInfo
from strongroom.core.places import Place
from strongroom.keyfile import generate, rotated
from strongroom.manager import visit_of
from strongroom.stores.memory import MemoryStore
from strongroom.testing import FrozenClock

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) Version/18.5 Safari/604.1"
MINUTE = 60_000
HOUR = 60 * MINUTE
PLACES = {"192.0.2.7": Place("DE", "Berlin"), "198.51.100.9": Place("AU", "Sydney")}


@dataclass
class Site:
    """A site whose visitors agree to the device cookie, or do not."""

    policy: SessionPolicy = field(default_factory=SessionPolicy)
    consents: Callable[[RequestFacts], bool] | None = lambda facts: True
    clock: FrozenClock = field(default_factory=FrozenClock)
    events: list[Event] = field(default_factory=list[Event])

    def __post_init__(self) -> None:
        self.store = MemoryStore()
        self.keyring = generate("devices", self.clock())
        self.manager = self.made(self.policy)

    def made(self, policy: SessionPolicy) -> SessionManager:
        manager = SessionManager(
            self.store,
            keys=self.keyring,
            policy=policy,
            sinks=(self.events.append,),
            clock=self.clock,
            consents=self.consents,
            locate=lambda address: PLACES.get(address, Place()),
        )
        manager.start()
        return manager

    def signals(self) -> list[str]:
        return [each.signal for each in self.events if isinstance(each, SignalRaised)]


@dataclass
class Browser:
    """A jar, a User-Agent and an address."""

    site: Site
    agent: str = FIREFOX
    address: str = "192.0.2.7"
    jar: dict[str, str] = field(default_factory=dict[str, str])
    sent: list[str] = field(default_factory=list[str])

    def does(
        self,
        act: Callable[[Session], Any],
        *,
        status: int = 200,
        hints: Mapping[str, str] | None = None,
    ) -> Any:
        """A request in which `act` happens -> what it came to."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        said = {
            "sec-fetch-site": "same-origin",
            "user-agent": self.agent,
            "cookie": cookie,
            **(hints or {}),
        }
        facts = RequestFacts(
            method="POST",
            peer=self.address,
            headers=[(name.encode(), value.encode()) for name, value in said.items()],
        )
        manager = self.site.manager
        session = manager.open(facts)
        came_to = act(session)
        edits = manager.close(session, status)
        self.sent = [line.decode() for line in edits.cookies]
        for line in self.sent:
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.jar.pop(name, None)
            else:
                self.jar[name] = value
        manager.deliver(visit_of(session).take_events())
        return came_to

    def signs_in(self, **how: Any) -> None:
        self.does(lambda session: session.sign_in("alice", **how))

    def signs_out(self) -> None:
        self.does(lambda session: session.sign_out())

    def devices(self) -> list[DeviceInfo]:
        found = self.does(lambda session: session.devices().result())
        assert isinstance(found, list)
        return found

    def disowns(self, device_id: str) -> bool:
        return bool(self.does(lambda session: session.end_device(device_id).result()))

    def restarts(self) -> None:
        """The browser is closed, and with it goes what lasts for its session only."""
        self.jar = {name: value for name, value in self.jar.items() if "Host-id" not in name}

    def subject(self) -> str | None:
        return self.does(lambda session: session.subject)  # type: ignore[no-any-return]

    @property
    def device_cookie(self) -> str | None:
        return next((value for name, value in self.jar.items() if "device" in name), None)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.manager.stop()


def test_a_device_is_the_same_over_sign_outs(site: Site) -> None:
    """First seen, last seen and places go on counting, because the browser keeps its id."""
    laptop = Browser(site)
    laptop.signs_in()
    began = site.clock()
    laptop.signs_out()
    site.clock.advance(HOUR)
    laptop.address = "198.51.100.9"
    laptop.signs_in()
    (device,) = laptop.devices()
    assert device.has_id and device.current and device.device == "Firefox on Linux"
    assert device.last_seen.timestamp() * 1000 == began + HOUR
    assert device.first_seen.timestamp() * 1000 == began
    assert device.places == ("Sydney, AU", "Berlin, DE")
    assert len(device.sessions) == 1


def test_browsers_that_look_alike_are_told_apart(site: Site) -> None:
    """By their ids; the one in use comes first."""
    one, other = Browser(site), Browser(site)
    one.signs_in()
    other.signs_in()
    first, second = one.devices()
    assert first.current and not second.current
    assert first.device_id != second.device_id
    assert [each.device_id for each in other.devices()] == [second.device_id, first.device_id]


def test_this_was_not_me_ends_all_that_the_device_has(site: Site) -> None:
    """Its sessions, the persistent login, and a session that it handed over; nobody else's."""
    thief, phone = Browser(site), Browser(site, PHONE)
    owner = Browser(site, PHONE, "198.51.100.9")
    thief.signs_in(remember=True)
    code = thief.does(lambda session: session.hand_over().result())
    helper = Browser(site)
    helper.does(lambda session: session.accept_hand_over(code))
    phone.signs_in()
    owner.signs_in()
    wrong = next(each for each in owner.devices() if each.logins)
    assert owner.disowns(wrong.device_id)
    thief.restarts()
    assert thief.subject() is None, "the persistent login would have brought it back"
    assert helper.subject() is None
    assert phone.subject() == "alice" and owner.subject() == "alice"
    assert wrong.device_id not in [each.device_id for each in owner.devices()]
    (told,) = [each for each in site.events if isinstance(each, DeviceDisowned)]
    assert (told.subject, told.by, told.device_id) == ("alice", "alice", wrong.device_id)


def test_a_disowned_device_counts_as_new(site: Site) -> None:
    """Whoever has the password and the device's cookie is noticed again."""
    thief, owner = Browser(site), Browser(site, PHONE)
    thief.signs_in()
    owner.signs_in()
    site.events.clear()
    site.clock.advance(MINUTE)
    thief.signs_in()
    assert "new_device" not in site.signals(), "it was here before"
    site.clock.advance(MINUTE)
    assert owner.disowns(next(each for each in owner.devices() if not each.current).device_id)
    site.clock.advance(MINUTE)
    thief.signs_in()
    assert "new_device" in site.signals()
    assert [each.device for each in owner.devices()] == ["Safari on iPhone", "Firefox on Linux"]


def test_to_disown_the_own_device_signs_out(site: Site) -> None:
    """Nothing of it is left, in this browser neither."""
    laptop = Browser(site)
    laptop.signs_in(remember=True)
    (device,) = laptop.devices()
    assert laptop.disowns(device.device_id)
    assert laptop.subject() is None
    assert site.manager.devices_of("alice") == []


@pytest.mark.parametrize("consents", [None, lambda facts: True])
def test_to_disown_the_own_device_ends_what_it_handed_over(consents: Any) -> None:
    """The session is over by then, and what came from it is still found."""
    site = Site(consents=consents)
    laptop, helper = Browser(site), Browser(site, PHONE)
    laptop.signs_in()
    code = laptop.does(lambda session: session.hand_over().result())
    helper.does(lambda session: session.accept_hand_over(code))
    here, _ = laptop.devices()
    assert laptop.disowns(here.device_id)
    assert laptop.subject() is None and helper.subject() is None


def test_what_was_handed_over_before_a_sign_out_ends_too(site: Site) -> None:
    """A thief who signs out in time keeps nothing (P16)."""
    thief, helper, owner = Browser(site), Browser(site), Browser(site, PHONE)
    thief.signs_in()
    owner.signs_in()
    code = thief.does(lambda session: session.hand_over().result())
    helper.does(lambda session: session.accept_hand_over(code))
    wrong = thief.devices()[0]
    assert wrong.current
    thief.signs_out()
    assert helper.subject() == "alice", "signing out does not end it"
    assert owner.disowns(wrong.device_id)
    assert helper.subject() is None


def test_without_an_id_each_session_is_its_own_device() -> None:
    """Two browsers that only look alike are never ended together."""
    site = Site(consents=None)
    one, other = Browser(site), Browser(site)
    one.signs_in()
    other.signs_in()
    mine, wrong = one.devices()
    assert not mine.has_id and one.device_cookie is None
    assert one.disowns(wrong.device_id)
    assert one.subject() == "alice" and other.subject() is None


def test_a_remembered_browser_without_an_id_is_one_device() -> None:
    """Its login and the session that came from it are ended together."""
    site = Site(consents=None)
    remembered, owner = Browser(site), Browser(site, PHONE)
    remembered.signs_in(remember=True)
    owner.signs_in()
    here, wrong = owner.devices()
    assert here.current and (len(wrong.sessions), len(wrong.logins)) == (1, 1)
    assert owner.disowns(wrong.device_id)
    remembered.restarts()
    assert remembered.subject() is None


def test_an_unknown_or_another_ones_device_is_a_no_op(site: Site) -> None:
    """P5, P13: ids of others do nothing, whatever they look like."""
    alice, bob = Browser(site), Browser(site)
    alice.signs_in()
    bob.does(lambda session: session.sign_in("bob"))
    bobs = site.manager.devices_of("bob")[0].device_id
    for wrong in (bobs, "", "ff" * 8, "no id at all", bobs.upper()):
        assert not alice.disowns(wrong)
    assert bob.subject() == "bob" and alice.subject() == "alice"


def test_two_accounts_in_one_browser_cannot_be_linked(site: Site) -> None:
    """Only a hash over id and subject is kept, and nothing that the cookie holds."""
    shared = Browser(site)
    shared.signs_in()
    kept = shared.device_cookie
    shared.does(lambda session: session.sign_in("bob"))
    (alices,), (bobs,) = site.manager.devices_of("alice"), site.manager.devices_of("bob")
    assert alices.device_id != bobs.device_id
    assert shared.device_cookie == kept


@pytest.mark.parametrize("asks", [None, lambda facts: False, lambda facts: 1 / 0])
def test_nobody_gets_an_id_who_did_not_agree(asks: Any) -> None:
    """Without a hook, with a No, and with a hook that fails."""
    site = Site(consents=asks)
    laptop = Browser(site)
    laptop.signs_in()
    assert laptop.device_cookie is None and laptop.subject() == "alice"


def test_whoever_takes_the_consent_back_loses_the_id(site: Site) -> None:
    """At the next sign-in the cookie is deleted, and nothing of it is kept."""
    laptop = Browser(site)
    laptop.signs_in()
    assert laptop.device_cookie is not None
    site.consents = lambda facts: False
    site.manager = site.made(site.policy)
    laptop.signs_in()
    assert laptop.device_cookie is None
    assert not laptop.devices()[0].has_id


def test_the_policy_can_do_without_consent_and_without_ids() -> None:
    """A cookie that only secures may need none; None switches it off whoever agrees."""
    site = Site(SessionPolicy(devices_need_consent=False), consents=None)
    laptop = Browser(site)
    laptop.signs_in()
    (line,) = [each for each in laptop.sent if "device" in each]
    assert line.startswith("__Host-device-") and f"Max-Age={180 * 24 * 3600}" in line
    assert "HttpOnly" in line and "Secure" in line and "SameSite=Lax" in line
    off = Site(SessionPolicy(know_devices_for=None))
    other = Browser(off)
    other.signs_in()
    assert other.device_cookie is None
    with pytest.raises(ConfigurationError, match="know_devices_for"):
        SessionPolicy(know_devices_for=timedelta(days=401))


def test_only_a_sign_in_sets_the_cookie(site: Site) -> None:
    """P13: not a visit, not a first factor, not a sign-in whose response failed."""
    laptop = Browser(site)
    laptop.does(lambda session: session.update(cart=1))
    assert laptop.device_cookie is None
    laptop.signs_in(pending=True)
    assert laptop.device_cookie is None
    laptop.does(lambda session: session.sign_in("alice", amr="otp"), status=500)
    assert laptop.device_cookie is None
    laptop.signs_in()
    assert laptop.device_cookie is not None
    laptop.does(lambda session: session.update(cart=2))
    assert not [line for line in laptop.sent if "device" in line]


def test_a_cookie_that_we_did_not_make_is_no_id(site: Site) -> None:
    """Forged, cut, of another realm, or two of them: the browser gets an id of its own."""
    laptop, stranger = Browser(site), Browser(Site())
    laptop.signs_in()
    stranger.signs_in()
    good = laptop.device_cookie or ""
    name = next(name for name in laptop.jar if "device" in name)
    (known,) = laptop.devices()
    wrongs = [
        good[:-1],
        good + "A",
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        "B" + good[1:],
        "A" * 48,
        "=" * 48,
        "",
        stranger.device_cookie or "",
        f"{good}; {name}={'A' * 48}",
    ]
    for wrong in wrongs:
        site.clock.advance(MINUTE)
        other = Browser(site, jar={name: wrong})
        other.signs_in()
        assert other.device_cookie not in (good, wrong)
        assert other.devices()[0].device_id != known.device_id


def test_the_key_changes_and_the_device_stays(site: Site) -> None:
    """H3: at the next sign-in the cookie is made under the issuing key, with the same id."""
    laptop = Browser(site)
    laptop.signs_in()
    (before,), cookie = laptop.devices(), laptop.device_cookie
    site.keyring = rotated(site.keyring, site.clock(), site.clock())
    site.manager = site.made(site.policy)
    site.clock.advance(HOUR)
    laptop.signs_in()
    after = laptop.devices()[0]
    assert after.device_id == before.device_id and laptop.device_cookie != cookie


def test_a_first_id_is_no_new_device() -> None:
    """Switching the ids on raises no alarm for browsers that were used before."""
    site = Site(SessionPolicy(devices_need_consent=False))
    site.manager = site.made(SessionPolicy(know_devices_for=None))
    laptop = Browser(site)
    laptop.signs_in()
    site.manager = site.made(site.policy)
    site.clock.advance(MINUTE)
    laptop.signs_in()
    assert laptop.device_cookie is not None and "new_device" not in site.signals()
    site.clock.advance(MINUTE)
    Browser(site).signs_in()
    assert site.signals() == ["new_device"], "from now on, another browser of the kind is told"


@pytest.mark.parametrize(
    ("brands", "platform", "label"),
    [
        (
            '"Brave";v="130", "Chromium";v="130", "Not?A_Brand";v="99"',
            '"Android"',
            "Brave on Android",
        ),
        (
            '"Not A(Brand";v="8", "Chromium";v="132", "Google Chrome";v="132"',
            None,
            "Chrome on Linux",
        ),
        ('"Chromium";v="132", "Microsoft Edge";v="132"', '"Windows"', "Edge on Windows"),
        ('"<script>";v="1", "\x00";v=""', '"<b>"', "Firefox on Linux"),
        ('"' * 4000, '"' * 4000, "Firefox on Linux"),
        ("", "", "Firefox on Linux"),
    ],
)
def test_client_hints_name_the_device_and_never_split_it(
    site: Site, brands: str, platform: str | None, label: str
) -> None:
    """A label is made of our own words; the print does not change, so no signal is raised."""
    laptop = Browser(site)
    hints = {"sec-ch-ua": brands} | ({} if platform is None else {"sec-ch-ua-platform": platform})
    laptop.does(lambda session: session.sign_in("alice"), hints=hints)
    assert laptop.devices()[0].device == label
    site.clock.advance(2 * MINUTE)
    laptop.does(lambda session: session.update(cart=1))
    assert site.signals() == []
