"""The attacks that need nothing but a browser's cookies and a form. Each is one function."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta

from .scene import ALICE, MALLORY, Outcome, Person, Scene, Transcript
from .stage import Stage

MINUTE = timedelta(minutes=1)
EVIL = "https://evil.example"
_SESSION_ID = slice(7, 23)
"""Where the public session id stands in a key: the format is no secret."""
_BOTH = "Alice opens the account page. Of the two cookies, {} comes first."
_NOT_OURS = (
    "Every key ends in a tag that only the bank’s own secret can make. This tag is wrong, or "
    "there is none, so it is noise."
)


async def planted_token(stage: Stage) -> Transcript:
    """Session fixation."""
    async with stage.running() as scene:
        mallory = await scene.account(MALLORY)
        planted = mallory.key
        alice = await scene.account(ALICE)
        await _sign_out(scene, alice)
        alice.jar[scene.cookie_name] = planted
        scene.tell(
            MALLORY,
            "Mallory plants his own key in Alice’s browser, while she has the sign-in page open. "
            "If she signed in “on top of it”, he would hold her key.",
        )
        await scene.sign_in(
            alice,
            "Alice fills in the form. Her browser sends the planted key along.",
            "Signing in never promotes a session that is there: it starts a new one with a new "
            "id and a new key, and ends the one before.",
            "P10",
        )
        own = alice.key
        does = "Mallory opens the account page with the planted key."
        why = "The session that he planted ended when Alice signed in."
        await _goes_to(scene, mallory, [planted], Outcome.OUT, alice, why, "P10", does)
        await _goes_to(
            scene, alice, None, Outcome.IN, alice, "Her own key, which he never saw.", "P10"
        )
        made_up = scene.call("this-is-the-key-that-mallory-knows", "made up by Mallory")
        alice.jar = {scene.cookie_name: made_up}
        scene.tell(MALLORY, "He tries it with a key that he made up, as some libraries adopt it.")
        await scene.sign_in(
            alice,
            "Alice signs in once more, with the made-up key in her browser.",
            "A key that the bank did not issue is never adopted. She gets one of the bank’s own.",
            "P2",
        )
        does = "Mallory opens the account page with it."
        await _goes_to(scene, mallory, [made_up], Outcome.OUT, alice, _NOT_OURS, "P2", does)
        scene.check("Alice’s key is not the one that was planted.", own != planted)
        scene.check("Nor is it the one that was made up.", alice.key not in ("", made_up))
        scene.check("The planted key opens nothing.", _ended_out(scene, mallory))
        return scene.transcript


async def after_sign_out(stage: Stage) -> Transcript:
    """A stolen cookie, after its owner signed out."""
    async with stage.running() as scene:
        alice = await scene.account(ALICE)
        mallory, stolen = _thief(), alice.key
        scene.tell(MALLORY, "Mallory copies Alice’s cookie from her unlocked laptop.")
        await _goes_to(
            scene,
            mallory,
            [stolen],
            Outcome.IN,
            alice,
            "While the session lives, a copy of its key is as good as the key. That is what a "
            "cookie is; the clocks and the device list are there for it.",
            None,
        )
        await _sign_out(scene, alice)
        await _goes_to(
            scene,
            mallory,
            [stolen],
            Outcome.OUT,
            alice,
            "Signing out ended the session where it is kept, not only in her browser. The bank "
            "still knows the key, and that it opens nothing any more.",
            "P6",
        )
        scene.check("The copy worked before, so it was a real one.", _came_in(scene, mallory))
        scene.check("After the sign-out it opens nothing.", _ended_out(scene, mallory))
        return scene.transcript


async def after_renewal(stage: Stage) -> Transcript:
    """A stolen cookie, after the session's key was renewed."""
    async with stage.second() as scene:
        alice = await scene.account(ALICE)
        scene.wait(2 * MINUTE, "Two minutes pass.")
        await _looks(scene, alice, "Alice reads her account.")
        scene.wait(2 * MINUTE, "Two more.")
        await _looks(scene, alice, "And again: her browser holds the key for sure.")
        mallory, stolen = _thief(), alice.key
        scene.tell(MALLORY, "Mallory copies her cookie.")
        scene.wait(12 * MINUTE, "Twelve minutes pass. The key is older than a quarter of an hour.")
        await _looks(
            scene,
            alice,
            "Alice goes on.",
            "The key is renewed. The old one goes on working until the new one is known to have "
            "arrived, so that two tabs, or an answer that got lost, sign nobody out.",
            "P11",
        )
        renewed = alice.key
        scene.wait(MINUTE, "A minute.")
        await _looks(scene, alice, "Alice uses the new key.")
        scene.wait(2 * MINUTE, "Two minutes.")
        await _looks(scene, alice, "And again: now it is known to be in her browser.")
        scene.wait(MINUTE, "A minute. No honest request with the old key can be under way now.")
        await _goes_to(
            scene,
            mallory,
            [stolen],
            Outcome.OUT,
            alice,
            "A key that was replaced and comes back when no honest browser would send it: there "
            "are two copies, and nobody can know whose is Alice’s. The session ends for both.",
            "P12",
        )
        await _goes_to(
            scene,
            alice,
            None,
            Outcome.OUT,
            alice,
            "The session that was copied is over. She has to show her password; Mallory cannot.",
            "P12",
        )
        page = await scene.request(
            alice,
            "GET",
            "/sign-in",
            "Alice is on the sign-in page.",
            expect=Outcome.SHOWN,
            why="The page can tell why the session ended, and does.",
            promise="P17",
        )
        await scene.sign_in(
            alice, "Alice signs in.", "A new session, and Mallory has no copy of its key.", "P10"
        )
        history = await scene.request(
            alice,
            "GET",
            "/activity",
            "Alice looks at what happened.",
            expect=Outcome.SHOWN,
            why="Every end has its reason, and it stays in her history.",
            promise="P17",
        )
        heard = [event.name for step in scene.transcript.steps for event in step.events]
        scene.check("Her key had been renewed.", renewed not in ("", stolen))
        scene.check("The thief is signed out.", _ended_out(scene, mallory))
        scene.check("An alarm was raised.", "authn_token_reuse" in heard)
        scene.check("The sign-in page tells Alice why.", "old copy of" in page.text)
        told = "An old key of a session was used" in history.text
        scene.check("Her history tells her, and asks whether it was her.", told)
        return scene.transcript


async def forged_form(stage: Stage) -> Transcript:
    """Cross-site request forgery."""
    async with stage.running() as scene:
        alice = await scene.account(ALICE)
        mallory = await scene.account(MALLORY)
        forged = {"to": mallory.username, "amount": "50"}
        scene.tell(
            MALLORY,
            f"Mallory’s page at {EVIL} holds a form that moves money to him, and sends it by "
            "itself. Alice visits it. To make it harder, her browser sends her cookie along, "
            "which SameSite=Lax would keep at home.",
        )
        from_afar = {"sec-fetch-site": "cross-site", "origin": EVIL}
        await _posts(scene, alice, forged, from_afar, "The form arrives from a browser of today.")
        await _posts(
            scene,
            alice,
            forged,
            {"sec-fetch-site": "same-site", "origin": "http://blog.localhost"},
            "It arrives from a sibling host that Mallory took over.",
        )
        await _posts(
            scene,
            alice,
            forged,
            {"sec-fetch-site": None, "origin": EVIL},
            "It arrives from a browser that knows no Sec-Fetch-Site.",
        )
        silent = {"sec-fetch-site": None, "origin": None}
        await _posts(scene, alice, forged, silent, "Mallory makes the browser say nothing at all.")
        page = await scene.request(
            mallory,
            "GET",
            "/move",
            "Mallory fetches a form token, from his own account.",
            expect=Outcome.SHOWN,
            why="It is a good token: for Mallory’s session.",
        )
        token = page.text.partition('name="csrf_token" value="')[2].partition('"')[0]
        await _posts(
            scene,
            alice,
            {**forged, "csrf_token": token},
            silent,
            "He puts his own token into the form that Alice sends.",
        )
        await scene.request(
            alice,
            "POST",
            "/move",
            "For comparison, Alice sends Mallory one euro herself, from the bank’s own page.",
            fields={"to": mallory.username, "amount": "1"},
            expect=Outcome.DONE,
            why="The browser says that a page of the bank sent it.",
            promise="P19",
        )
        last = await scene.request(
            alice,
            "GET",
            "/account",
            "Alice looks at her account.",
            expect=Outcome.IN,
            why="The one euro that she moved herself is gone, and nothing else.",
        )
        refused = [step for step in scene.transcript.steps if step.outcome is Outcome.REFUSED]
        scene.check("Every forged form was refused.", len(refused) == 5)
        scene.check("Of € 100.00 Alice has € 99.00.", "€\N{NO-BREAK SPACE}99.00" in last.text)
        history = await scene.request(
            alice,
            "GET",
            "/activity",
            "Alice looks at what happened.",
            expect=Outcome.SHOWN,
            why="What was tried in her name is told to her.",
            promise="P17",
        )
        scene.check("Her history tells her of it.", "Another site tried to act" in history.text)
        return scene.transcript


async def forged_token(stage: Stage) -> Transcript:
    """Keys that the bank did not issue."""
    async with stage.running() as scene:
        alice = await scene.account(ALICE)
        mallory = await scene.account(MALLORY)
        own = bytearray(base64.urlsafe_b64decode(mallory.key))
        hers, older = bytearray(own), bytearray(own)
        hers[_SESSION_ID] = bytes.fromhex(alice.session_id)
        older[6] += 1
        scene.tell(
            MALLORY,
            "Mallory has a key of his own, knows how keys are built (the code is public) and "
            "knows the id of Alice’s session (ids stand in lists and URLs; they are no secret).",
        )
        forgeries = (
            (_text(hers), "with Alice’s id", "He writes Alice’s session id into his own key."),
            (_text(older), "one step ahead", "He counts his own key one renewal further."),
            ("A" * 84, "the right length", "He sends 84 characters of the right alphabet."),
            ("' OR 1=1 --", "SQL", "He tries the oldest trick there is."),
            (alice.session_id, "the bare id", "He sends the id alone, as if it were the key."),
        )
        reads = 0
        for value, label, does in forgeries:
            forged = scene.call(value, label)
            await _goes_to(scene, mallory, [forged], Outcome.OUT, alice, _NOT_OURS, "P2", does)
            reads += scene.last.reads
        await _goes_to(
            scene,
            alice,
            None,
            Outcome.IN,
            alice,
            "For comparison, a key that the bank did issue: now the store is asked.",
            "P2",
        )
        scene.check("No forged key asked the store anything.", reads == 0)
        scene.check("A genuine one did.", scene.last.reads > 0)
        scene.check("Nobody was let in with a forgery.", not _came_in(scene, mallory))
        return scene.transcript


async def cookie_tossing(stage: Stage) -> Transcript:
    """Two cookies of one name."""
    async with stage.running() as scene:
        alice = await scene.account(ALICE)
        mallory = await scene.account(MALLORY)
        hers, his = alice.key, mallory.key
        scene.tell(
            MALLORY,
            "Mallory runs something on a sibling host, or on another port of this machine, and "
            "from there sets a cookie of the same name in Alice’s browser: his own session. "
            "Servers see two cookies and cannot see where each is from. Many take the first.",
            "On https the cookie’s name begins with __Host-, and browsers refuse this to begin "
            "with. Here, on http://localhost, they do not.",
            "P18",
        )
        why = (
            "Two valid sessions in one request. Which one is meant cannot be known, and a guess "
            "would let Mallory watch what Alice does in his account. So neither counts."
        )
        await _goes_to(
            scene, alice, [his, hers], Outcome.OUT, alice, why, "P21", _BOTH.format("his")
        )
        first = scene.last
        await _goes_to(
            scene,
            alice,
            [hers, his],
            Outcome.OUT,
            alice,
            "The order changes nothing, because no position is trusted.",
            "P21",
            _BOTH.format("hers"),
        )
        second = scene.last
        await scene.request(
            alice,
            "POST",
            "/move",
            "Alice tries to move money, with both cookies.",
            cookies=[his, hers],
            fields={"to": mallory.username, "amount": "50"},
            expect=Outcome.OUT,
            why="Nobody is signed in in this request, so nothing moves from anybody’s account.",
            promise="P21",
        )
        junk = scene.call("B" * 84, "made up")
        await _goes_to(
            scene,
            alice,
            [junk, hers],
            Outcome.IN,
            alice,
            "A made-up cookie beside hers is no session, so it is no contradiction: hers counts.",
            "P2",
            "Mallory tosses a made-up cookie instead.",
        )
        alice.jar.clear()
        await scene.sign_in(
            alice,
            "The name was deleted on this host and above it, so Alice’s browser is clean. She "
            "signs in.",
            "She is in her own session, and the bank’s operator knows what was tried.",
            "P21",
        )
        await _goes_to(scene, alice, None, Outcome.IN, alice, "One key, her own.", None)
        alarms = [
            any(event.name == "session_cookie_tossing" for event in step.events)
            for step in (first, second)
        ]
        scene.check(
            "Neither order let anybody in.", Outcome.IN not in (first.outcome, second.outcome)
        )
        scene.check("Both raised an alarm.", all(alarms))
        scene.check("The planted cookie was deleted.", first.jar is not None)
        return scene.transcript


def _thief() -> Person:
    """Somebody without an account: all that he has is a copy."""
    return Person(MALLORY, "")


async def _goes_to(
    scene: Scene,
    who: Person,
    cookies: list[str] | None,
    expect: Outcome,
    whose: Person,
    why: str,
    promise: str | None,
    does: str | None = None,
) -> None:
    """Somebody opens the account page, with the browser's own cookie or with these."""
    holds = "with the copy" if who.name == MALLORY else "with her cookie"
    await scene.request(
        who,
        "GET",
        "/account",
        does or f"{who.name} opens the account page {holds}.",
        cookies=cookies,
        expect=expect,
        why=why,
        promise=promise,
        whose=whose,
    )


async def _looks(
    scene: Scene, who: Person, does: str, why: str = "", promise: str | None = None
) -> None:
    await scene.request(who, "GET", "/account", does, expect=Outcome.IN, why=why, promise=promise)


async def _sign_out(scene: Scene, who: Person) -> None:
    await scene.request(
        who,
        "POST",
        "/sign-out",
        f"{who.name} signs out.",
        fields={},
        expect=Outcome.DONE,
        why="The session ends in the store, durably, before the answer leaves.",
        promise="P6",
    )


async def _posts(
    scene: Scene,
    who: Person,
    fields: dict[str, str],
    headers: Mapping[str, str | None],
    does: str,
) -> None:
    """A form that the bank's pages did not send."""
    await scene.request(
        who,
        "POST",
        "/move",
        does,
        fields=fields,
        headers=headers,
        expect=Outcome.REFUSED,
        why="The form is refused before the bank’s own code runs.",
        promise="P19",
    )


def _came_in(scene: Scene, who: Person) -> bool:
    return any(
        step.who == who.name and step.outcome is Outcome.IN for step in scene.transcript.steps
    )


def _ended_out(scene: Scene, who: Person) -> bool:
    """Whether the person's last request was one that let nobody in."""
    own = [step for step in scene.transcript.steps if step.who == who.name and step.status]
    return own[-1].outcome is Outcome.OUT


def _text(raw: bytes | bytearray) -> str:
    return base64.urlsafe_b64encode(raw).decode()
