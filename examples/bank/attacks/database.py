"""The stolen database: what a thief of the disk can read, and what comes of writing into it."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from strongroom.core.record import decode_header

from .scene import ALICE, MALLORY, Exhibit, Outcome, Person, Scene, Transcript
from .stage import Copy, Stage

_YEAR = timedelta(days=365) // timedelta(milliseconds=1)
_BEGINNING = 12
_WHAT = {
    "id": "The row’s number.",
    "session_id": "The session’s public name. It opens nothing.",
    "purge_slot": "When the row may be swept, coarsely.",
    "purge_at": "When the row may be swept.",
    "header": "Clocks, and keyed digests of the key: enough to check one, useless for making one.",
    "subject_key": "A keyed hash of whose it is: for finding a customer’s sessions, not for "
    "finding the customer.",
    "envelope": "Whose it is, since when, how long at most: sealed under the bank’s key.",
    "data": "What the bank keeps in the session: sealed under a key that needs Alice’s cookie.",
}


async def stolen_database(stage: Stage) -> Transcript:
    """Reading a session store, and writing to it."""
    async with stage.running() as scene:
        alice = await scene.account(ALICE)
        mallory = await scene.account(MALLORY)
        subject = await _subject(stage, alice)
        async with stage.copy() as copy:
            scene.tell(
                MALLORY,
                "Mallory gets a copy of the whole session database, from a lost backup. The row "
                "of Alice’s session stands above, as he finds it.",
                "The store holds nothing with which a request could be made.",
                "P3",
            )
            scene.transcript.exhibits += await asyncio.to_thread(_row, copy.sessions, alice)
            for what, held in await asyncio.to_thread(_search, copy.sessions, alice, subject):
                scene.check(what, held)
            digest = scene.call(await asyncio.to_thread(_digest, copy.sessions, alice), "a digest")
            async with copy.opened() as app:
                scene.move_to(app, copy.clock)
                await _looks(
                    scene,
                    mallory,
                    [digest],
                    "He sends the stored digest as a cookie.",
                    Outcome.OUT,
                    alice,
                    "A digest is what a key comes to. There is no way back, and it is no key.",
                    "P3",
                )
                await _looks(
                    scene,
                    alice,
                    None,
                    "For comparison, Alice’s own key opens that row, in a bank on the copy.",
                    Outcome.IN,
                    alice,
                    "The copy is complete: what it lacks is the key.",
                    None,
                )
        await _moved_envelope(scene, stage, alice, mallory)
        await _endless_session(scene, stage, mallory)
        return scene.transcript


async def _moved_envelope(scene: Scene, stage: Stage, alice: Person, mallory: Person) -> None:
    async with stage.copy() as copy:
        await asyncio.to_thread(_move_envelope, copy.sessions, alice, mallory)
        scene.tell(
            MALLORY,
            "Mallory can write into the database, too. He puts Alice’s sealed envelope, which says "
            "whose the session is, into the row of his own session.",
        )
        async with copy.opened() as app:
            scene.move_to(app, copy.clock)
            await _looks(
                scene,
                mallory,
                None,
                "He comes with his own, genuine key.",
                Outcome.UNREADABLE,
                alice,
                "The envelope is sealed for one session id, and this is another. The record "
                "cannot be read, so nobody is let in or signed out, and an alarm is raised.",
                "P3",
            )
    scene.check("A moved envelope lets nobody in.", scene.last.outcome is Outcome.UNREADABLE)
    alarm = any(event.name == "crypt_decrypt_fail" for event in scene.last.events)
    scene.check("It raises an alarm.", alarm)


async def _endless_session(scene: Scene, stage: Stage, mallory: Person) -> None:
    async with stage.copy() as copy:
        await asyncio.to_thread(_lengthen, copy, mallory)
        scene.tell(
            MALLORY,
            "Last, he gives his own session another year: the clocks in the header are clear text.",
        )
        async with copy.opened() as app:
            scene.move_to(app, copy.clock)
            await _looks(
                scene,
                mallory,
                None,
                "He comes with his own key.",
                Outcome.IN,
                mallory,
                "It is his own session, and not yet too old.",
                None,
            )
            scene.wait(timedelta(hours=8), "Eight hours pass (in the bank on the copy).")
            await _looks(
                scene,
                mallory,
                None,
                "He comes again.",
                Outcome.OUT,
                mallory,
                "How long a session may last at most is sealed in its envelope. What the clear "
                "clocks say can only shorten it.",
                "P9",
            )
    scene.check("No session lives longer because somebody wrote so.", _is_out(scene))


def _is_out(scene: Scene) -> bool:
    return scene.last.outcome is Outcome.OUT


async def _looks(
    scene: Scene,
    who: Person,
    cookies: list[str] | None,
    does: str,
    expect: Outcome,
    whose: Person,
    why: str,
    promise: str | None,
) -> None:
    await scene.request(
        who,
        "GET",
        "/account",
        does,
        cookies=cookies,
        expect=expect,
        why=why,
        promise=promise,
        whose=whose,
    )


async def _subject(stage: Stage, person: Person) -> str:
    account = await stage.accounts.named(person.username)
    return account.id if account else ""


def _row(path: Path, person: Person) -> list[Exhibit]:
    """The session's row, column by column."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        query = "SELECT * FROM session WHERE session_id = ?"
        row = db.execute(query, (bytes.fromhex(person.session_id),)).fetchone()
        return [_exhibit(column, row[column]) for column in row.keys()]  # noqa: SIM118


def _exhibit(column: str, value: object) -> Exhibit:
    if isinstance(value, bytes):
        more = "…" if len(value) > _BEGINNING else ""
        begins = value[:_BEGINNING].hex(" ", 2) + more
        return Exhibit(column, f"{len(value)} bytes", begins, _WHAT.get(column, ""))
    return Exhibit(column, "number", str(value), _WHAT.get(column, ""))


def _search(path: Path, person: Person, subject: str) -> list[tuple[str, bool]]:
    """Look for what must not be there, in every byte of the file -> what, and whether it is not."""
    stored = path.read_bytes()
    raw = base64.urlsafe_b64decode(person.key)
    needles = {
        "Alice’s key": (person.key.encode(), raw, raw[23:39], raw[39:55], raw[55:]),
        "who it belongs to": (subject.encode(),),
        "what the bank keeps in the session": (person.username.encode(), person.name.encode()),
    }
    told = [
        (f"Nowhere in the file: {what}.", bool(all(each)) and not any(n in stored for n in each))
        for what, each in needles.items()
    ]
    public = bytes.fromhex(person.session_id) in stored
    return [*told, ("The file is the right one: the session’s public id is in it.", public)]


def _digest(path: Path, person: Person) -> str:
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT header FROM session WHERE session_id = ?"
        found = db.execute(query, (bytes.fromhex(person.session_id),)).fetchone()
    header, _ = decode_header(found[0])
    return base64.urlsafe_b64encode(header.credential.current).decode()


def _move_envelope(path: Path, source: Person, target: Person) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "UPDATE session SET envelope = (SELECT envelope FROM session WHERE session_id = ?) "
            "WHERE session_id = ?",
            (bytes.fromhex(source.session_id), bytes.fromhex(target.session_id)),
        )


def _lengthen(copy: Copy, person: Person) -> None:
    """Write clocks into the header that are a year ahead."""
    session_id = bytes.fromhex(person.session_id)
    later = copy.clock() + _YEAR
    with closing(sqlite3.connect(copy.sessions)) as db, db:
        query = "SELECT header FROM session WHERE session_id = ?"
        raw = db.execute(query, (session_id,)).fetchone()[0]
        header, tail = decode_header(raw)
        endless = replace(header, last_seen=later, idle_deadline=later, purge_at=later)
        db.execute(
            "UPDATE session SET header = ?, purge_at = ? WHERE session_id = ?",
            (endless.encode(tail), later, session_id),
        )
