"""`strongroom store copy`: another store, and nobody has to sign in again."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from strongroom.core.errors import StoreMismatch, StrongroomError, UsageError

from . import settings
from .output import DONE, NOTHING, Output
from .parsing import Command

if TYPE_CHECKING:
    from strongroom.stores.moving import Tally


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FROM", help="the store that the application has now")
    parser.add_argument("target", metavar="TO", help="the store that it is to have: an empty one")
    parser.add_argument(
        "--ahead",
        action="store_true",
        help="the application still runs: bring what there is, and hand nothing over",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    settings.add_keys(parser)
    settings.add_policy(parser)


def copy(options: argparse.Namespace, out: Output) -> int:
    """Move everything from one store to another, so that nobody has to sign in again."""
    from strongroom.stores.moving import Move

    options.store = options.source
    target = _movable(options.target, "TO")
    with settings.manager(options, out) as sessions:
        source = _movable_store(sessions.store, "FROM")
        explanation = [
            "What happens in FROM from now on, such as a sign-out, will not be in TO.",
            "So every process of the application has to be stopped, until it starts with TO.",
        ]
        if not options.ahead and not out.confirm("Is it stopped?", explanation, yes=options.yes):
            return NOTHING
        identity = sessions.context.keys.store_identity
        _open_to_fill(target, identity)
        try:
            move = Move(
                source, source.contents(), target, target.contents(), out.world.clock(), _bar(out)
            )
            done, last = (move.once(), None) if options.ahead else move.finish(identity)
        finally:
            out.progress("")
            target.close()
    return _copied(out, done, last)


def _movable(url: str, which: str) -> Any:
    from strongroom.stores.urls import open_store

    settings.check_others_see_it(url, may_be_made=which == "TO")
    return _movable_store(open_store(url), which)


def _movable_store(store: Any, which: str) -> Any:
    from strongroom.stores.base import Movable

    store = getattr(store, "store", store)  # a near cache keeps nothing of its own
    if not isinstance(store, Movable):
        raise UsageError(
            f"{which} is a store that nobody can read through.",
            hint="SQLite, Valkey and PostgreSQL can be moved between.",
        )
    return store


def _open_to_fill(store: Any, store_identity: bytes) -> None:
    """Open the store to be filled, or say what is in the way."""
    try:
        store.open_to_fill(store_identity)
    except StoreMismatch as error:
        try:
            store.open(store_identity)
        except StrongroomError:
            raise error from None
        store.close()
        raise StoreMismatch(
            "TO is an application's store already, under these keys.",
            why="What is in it may be newer than what is in FROM, and a session that ended there "
            "would come back.",
            hint="Name an empty one: another file, another schema=, another prefix=.",
        ) from None


def _bar(out: Output) -> Callable[[Tally, int], None]:
    began = shown = time.monotonic()

    def tell(tally: Tally, size: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < 0.1:
            return
        shown = now
        done = min(tally.looked_at / max(size, 1), 1)
        bar = ("#" * int(done * 30)).ljust(30, ".")
        speed = tally.looked_at / (now - began)
        out.progress(f"[{bar}] {done:4.0%}  {tally.looked_at:,} compared, {speed:,.0f} a second")

    return tell


def _copied(out: Output, done: Tally, last: Tally | None) -> int:
    """Say what was brought, what was left behind, and what comes next."""
    seen = last or done
    document = {
        "handed_over": last is not None,
        "sessions": seen.sessions,
        "epochs": seen.epochs,
        "histories": seen.histories,
        "written": done.written,
        "removed": done.removed,
        "over": seen.over,
        "unreadable": seen.unreadable,
    }
    rows: list[tuple[str, object]] = [
        ("sessions", f"{seen.sessions:,}, with those that ended and the persistent logins"),
        ("epochs", f"{seen.epochs:,}, of subjects that were signed out everywhere"),
        ("histories", f"{seen.histories:,}, one for each subject that has one"),
        ("written", f"{done.written:,}"),
        ("taken out of TO", f"{done.removed:,}, because FROM has them no more"),
        ("left behind", f"{seen.over:,} that are over, {seen.unreadable:,} that nobody can read"),
    ]
    if last is None:
        lines = [
            "What FROM had is in TO, which no application can open yet.",
            *out.pairs(rows),
            "Next: stop the application, and run the same without --ahead. It brings what changed.",
        ]
    else:
        lines = [
            "TO has everything that FROM has: a last pass compared all of it and found no"
            " difference.",
            *out.pairs(rows),
            "Next: start the application with TO. FROM was not changed; it must not be used again.",
        ]
    out.answer(document, lines)
    return DONE


COPY = Command(
    "store copy",
    "Move everything to another store, without signing anybody out.",
    """Sessions, persistent logins, epochs and histories: every record is brought as it is and
    compared afterwards. TO must be empty, or be what an earlier run of this left: a run that
    was cut short is simply run again. No application can open TO before everything is in it,
    and FROM is never changed.

    With --ahead it may run while the application does; the run after that brings only what
    changed, so the application need not stand still for long.""",
    (
        "strongroom store copy sqlite:///var/sessions.db valkey://db.internal/0 --ahead",
        "strongroom store copy sqlite:///var/sessions.db valkey://db.internal/0",
    ),
    _options,
    copy,
)
