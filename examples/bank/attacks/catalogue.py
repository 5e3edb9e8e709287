"""The seven attacks, in words, and which function plays which."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from . import plays
from .database import stolen_database
from .scene import Transcript
from .stage import Stage


@dataclass(frozen=True, slots=True)
class Attack:
    """A card on the attacker's desk.

    `ending` is told only where the play has shown it. `limit` is what the same attacker still can
    do. `elsewhere` says so of plays that do not happen in the running bank alone.
    """

    name: str
    title: str
    idea: str
    ending: str
    limit: str
    play: Callable[[Stage], Awaitable[Transcript]]
    elsewhere: str = ""


ATTACKS = {
    each.name: each
    for each in (
        Attack(
            "planted-token",
            "A planted token",
            "Mallory puts a session key that he knows into Alice’s browser and waits for her to "
            "sign in with it. Then his copy would be the key to her account.",
            "Alice got a key of her own. The planted one opens nothing.",
            "Until Alice signs in, a planted key shows her Mallory’s account, as long as his "
            "session lasts. The page says whose account it is.",
            plays.planted_token,
        ),
        Attack(
            "after-sign-out",
            "A stolen cookie, after sign-out",
            "Mallory copies Alice’s cookie. She signs out. Many sites now only delete the cookie "
            "in her browser, and his copy goes on working.",
            "The session ended on the server, and the copy with it.",
            "Until Alice signs out, or a clock runs out, a copied cookie works. She can see and "
            "end it under “Devices”.",
            plays.after_sign_out,
        ),
        Attack(
            "after-renewal",
            "A stolen cookie, after renewal",
            "Mallory copies Alice’s cookie and keeps it for later. Meanwhile she goes on working, "
            "and the bank replaces her key every quarter of an hour.",
            "The thief is signed out, and so is the session that was copied. Alice gets told.",
            "A thief who uses his copy before Alice does, at every renewal, looks like her. He is "
            "bounded by the clocks: eight hours at most, and thirty minutes without use.",
            plays.after_renewal,
            "This takes twenty minutes, so it is played in a second instance of the same bank, "
            "empty and with a clock that can be moved. The requests are as real as the others.",
        ),
        Attack(
            "forged-form",
            "A forged form from another site",
            "While Alice is signed in, she opens a page of Mallory’s. It holds a form for the "
            "bank that moves money to him, and sends it in her name.",
            "Every forged form was refused, and no money moved. Alice gets told.",
            "A script on one of the bank’s own pages could send anything. The bank’s pages allow "
            "no scripts at all.",
            plays.forged_form,
        ),
        Attack(
            "forged-token",
            "A forged token",
            "Mallory makes keys up, or changes his own, and hopes that one of them opens Alice’s "
            "session, or that so many questions bring the database down.",
            "Nobody was let in, and the store was never asked.",
            "Nothing, unless Mallory has the bank’s secret keys. Then: “strongroom keys rotate”, "
            "and “keys retire”.",
            plays.forged_token,
        ),
        Attack(
            "cookie-tossing",
            "Cookie tossing",
            "Mallory cannot read Alice’s cookie, but from a sibling host he can put a second one "
            "of the same name beside it: the key to his own account.",
            "Neither key was believed, the planted one was deleted, and an alarm was raised.",
            "He can sign Alice out this way, where browsers let him set the cookie at all.",
            plays.cookie_tossing,
        ),
        Attack(
            "stolen-database",
            "A stolen database",
            "Mallory has a copy of the session database. He looks for keys, names and data in it. "
            "Then he writes into it, to make his session into Alice’s.",
            "It held no key and no name, and what he wrote into it was refused.",
            "Whoever writes the database can delete sessions, or put back an older state of one. "
            "After a restore, “strongroom store restored” signs everybody out.",
            stolen_database,
            "The accounts are made in the running bank. What the thief does with its database, he "
            "does to a copy, in a second instance of the bank whose clock can be moved.",
        ),
    )
}

PROMISES = {
    "P2": "What the bank did not issue is refused before any store is asked, and never adopted.",
    "P3": "Whoever reads the store cannot sign in; whoever writes it cannot change whose a "
    "session is.",
    "P6": "Ended is terminal: nothing brings an ended session back.",
    "P9": "Both clocks are always on, and nothing moves the absolute one.",
    "P10": "Signing in always starts a new session with a new key.",
    "P11": "Renewal survives parallel requests and lost answers.",
    "P12": "A replaced key that comes back ends the session, and an event says so.",
    "P17": "Every end has a reason, kept for the owner.",
    "P18": "The cookie has every protection that browsers know.",
    "P19": "Requests from other sites change nothing.",
    "P21": "Two sessions in one request are an alarm, not a choice.",
}
"""The promises that the plays show, in one sentence each; docs/promises.md has them all."""
