"""`strongroom keys`: make, list, rotate and retire keys. No secret is shown, except on request.

Every change is made under the file's lock and replaces the file whole, so two commands at once
both count, and a running application reads one version or the next.
"""

from __future__ import annotations

import argparse
import json
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

from strongroom import keyfile
from strongroom.core.errors import ConfigurationError
from strongroom.core.policy import ms
from strongroom.core.sealing import Key, Keyring, KeyState

from . import settings
from .output import DONE, NOTHING, Output, rfc3339, span
from .parsing import Command, duration

DEPLOY_WINDOW = timedelta(minutes=15)
"""How long a new key waits before it issues, so that every process has read it by then. A process
on the same machine needs a second; copying a file to other machines is what takes longer."""

DEFAULT_REALM = "default"


def _generate_options(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "path",
        nargs="?",
        type=Path,
        metavar="PATH",
        help=f"where to (else ${settings.KEYS_FILE_VARIABLE}, else {settings.DEFAULT_KEYS})",
    )
    where.add_argument(
        "--print", action="store_true", help="print the keys instead, for an environment variable"
    )
    parser.add_argument(
        "--realm",
        default=DEFAULT_REALM,
        metavar="NAME",
        help="the application and environment, such as shop-production (default: %(default)s)",
    )


def generate(options: argparse.Namespace, out: Output) -> int:
    """Make a keyring with one key that issues at once."""
    ring = keyfile.generate(options.realm, out.world.clock())
    if options.print:
        # On one line, because an .env file has room for no more.
        out.world.out.write(json.dumps(json.loads(keyfile.dumps(ring))) + "\n")
        out.note(
            "This is the secret itself: whoever has it can make sessions for anybody.",
            f"Put it into {settings.KEYS_VARIABLE} of the application, and nowhere else.",
        )
        return DONE
    path = settings.keys_path(options.path, out)
    keyfile.write(path, ring)
    document = {"path": str(path), "realm": ring.realm, "key": ring.keys[0].id}
    lines = [
        f"Wrote {path}: key {ring.keys[0].id}, realm {ring.realm!r}, readable by you alone.",
        "",
        "Next:",
        "  Give the application this path. Keep the file out of version control, and keep a copy",
        "  apart from the database: without it, everybody is signed out and stored data is lost.",
        f"  See what is in it: strongroom keys list --keys {path}",
    ]
    out.answer(document, lines)
    return DONE


def _list_options(parser: argparse.ArgumentParser) -> None:
    settings.add_keys(parser)
    settings.add_policy(parser)


def listing(options: argparse.Namespace, out: Output) -> int:
    """Every key there is or was, and what it is used for now."""
    ring, source = settings.keyring(options, out)
    absolute = ms(settings.policy(options, out).absolute_timeout)
    now = out.world.clock()
    rows = [
        (
            key.id,
            ring.state(key, now).value,
            out.when(key.created_at),
            out.when(key.issue_from),
            out.when(key.retired_at),
            None if key.is_retired(now) else out.when(_free_at(ring, key, absolute)),
        )
        for key in ring.keys
    ]
    document = {
        "source": source,
        "realm": ring.realm,
        "keys": [_as_json(ring, key, absolute, now) for key in ring.keys],
    }
    headings = ("KEY", "STATE", "CREATED", "ISSUES FROM", "RETIRED", "IN USE UNTIL")
    lines = [f"Keys in {source}, realm {ring.realm!r}", "", *out.table(headings, rows)]
    out.answer(document, lines)
    return DONE


def _rotate_options(parser: argparse.ArgumentParser) -> None:
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--after",
        type=duration,
        default=DEPLOY_WINDOW,
        metavar="TIME",
        help="when the new key begins to issue, such as 90s, 10m or 2h (default: 15m)",
    )
    when.add_argument(
        "--now", action="store_true", help="it issues at once; for one machine, or in a hurry"
    )
    settings.add_keys(parser)
    settings.add_policy(parser)


def rotate(options: argparse.Namespace, out: Output) -> int:
    """Publish a key that issues after the deploy window."""
    path = _changeable(options, out)
    absolute = settings.policy(options, out).absolute_timeout
    now = out.world.clock()
    issue_from = now if options.now else now + ms(options.after)
    ring = keyfile.locked_update(path, lambda ring: keyfile.rotated(ring, now, issue_from))
    key = ring.keys[0]
    older = [each for each in ring.keys[1:] if each.secret]
    document = {"path": str(path), "key": _as_json(ring, key, ms(absolute), now)}
    out.answer(
        document, [*_published(key, path, out), *_farewell(ring, older, absolute, options, out)]
    )
    return DONE


def _published(key: Key, path: Path, out: Output) -> list[str]:
    now = out.world.clock()
    if key.issue_from <= now:
        return [
            f"Key {key.id} is in {path} and issues from now on.",
            "Until a process has read it, it takes sessions from under it for signed out; on this",
            "machine that lasts a second.",
        ]
    return [
        f"Key {key.id} is in {path}. It issues from {out.when(key.issue_from)} "
        f"({out.near(key.issue_from)}).",
        "Bring the file to every machine before that; processes read it by themselves.",
    ]


def _farewell(
    ring: Keyring, older: list[Key], absolute: timedelta, options: argparse.Namespace, out: Output
) -> list[str]:
    lines = [
        "",
        "Nobody is signed out: older keys go on being believed. Retire one when all sessions from",
        f"under it are over, which takes the absolute timeout ({span(absolute)}):",
    ]
    for key in older:
        free = _free_at(ring, key, ms(absolute))
        if free is not None:
            named = f" --keys {shlex.quote(str(options.keys))}" if options.keys else ""
            lines.append(f"  from {out.when(free)}: strongroom keys retire {key.id}{named}")
    return lines


def _retire_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id", type=int, metavar="ID", help="the key, as 'strongroom keys list' has it"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--and-rotate",
        action="store_true",
        help="add a key that issues at once in the same step: for a key that leaked",
    )
    settings.add_keys(parser)
    settings.add_policy(parser)


def retire(options: argparse.Namespace, out: Output) -> int:
    """Delete a key's secret, and with it every session that was issued under it."""
    path = _changeable(options, out)
    absolute = settings.policy(options, out).absolute_timeout
    ring = keyfile.read(path)
    key = next((each for each in ring.keys if each.id == options.id), None)
    if key is None:
        return out.nothing(f"There is no key {options.id}.", hint="See which: strongroom keys list")
    if not key.secret:
        document = {"path": str(path), "retired": key.id, "changed": False, "added": None}
        out.answer(document, [f"Key {key.id} was retired already. Nothing was changed."])
        return DONE

    def change(ring: Keyring) -> Keyring:
        now = out.world.clock()
        if options.and_rotate:
            ring = keyfile.rotated(ring, now, now)
        return keyfile.retired(ring, options.id, now)

    change(ring)  # so that what cannot be is said before anything is asked
    explanation = _consequences(ring, key, absolute, out)
    if not out.confirm(f"Retire key {key.id}?", explanation, yes=options.yes):
        return NOTHING
    after = keyfile.locked_update(path, change)
    added = after.keys[0].id if options.and_rotate else None
    document = {"path": str(path), "retired": key.id, "changed": True, "added": added}
    lines = [f"Key {key.id} is retired. Sessions issued under it have ended."]
    if added is not None:
        lines.append(f"Key {added} issues from now on.")
    lines.append("If the file is copied to other machines, bring it there now.")
    out.answer(document, lines)
    return DONE


def _consequences(ring: Keyring, key: Key, absolute: timedelta, out: Output) -> list[str]:
    free = _free_at(ring, key, ms(absolute))
    if free is None:
        use = f"Key {key.id} issues sessions now: everybody who signed in under it is signed out."
        if ring.state(key, out.world.clock()) is KeyState.PUBLISHED:
            use = f"Key {key.id} has issued nothing yet."
    elif free <= out.world.clock():
        use = f"All sessions issued under key {key.id} are over since {out.when(free)}."
    else:
        use = (
            f"Sessions issued under key {key.id} may live until {out.when(free)} (absolute "
            f"timeout: {span(absolute)}). They end at once, everywhere."
        )
    return [use, "Its secret is deleted for good; histories written under it become unreadable."]


def _changeable(options: argparse.Namespace, out: Output) -> Path:
    if settings.keys_in_environment(options, out):
        raise ConfigurationError(
            f"The keys are in the environment variable {settings.KEYS_VARIABLE}.",
            why="A command cannot change the environment of others.",
            hint="Put its text into a file of mode 600, name that with --keys, and put the changed "
            "text back.",
        )
    return settings.keys_path(options.keys, out)


def _free_at(ring: Keyring, key: Key, absolute: int) -> int | None:
    """When the last session issued under the key is over; None while no other key follows it.

    A key stops issuing when the next one starts, and no session outlives its absolute timeout.
    """
    place = (key.issue_from, key.id)
    following = [
        each.issue_from for each in ring.keys if each.secret and (each.issue_from, each.id) > place
    ]
    return min(following) + absolute if following else None


def _as_json(ring: Keyring, key: Key, absolute: int, now: int) -> dict[str, Any]:
    """A key without its secret."""
    free = None if key.is_retired(now) else _free_at(ring, key, absolute)
    return {
        "id": key.id,
        "state": ring.state(key, now).value,
        "created_at": rfc3339(key.created_at),
        "issue_from": rfc3339(key.issue_from),
        "retired_at": rfc3339(key.retired_at),
        "in_use_until": rfc3339(free),
    }


COMMANDS = (
    Command(
        "keys generate",
        "Make a key file: once for each application and environment.",
        """Sessions are issued and read under these keys. The file is for its owner alone (mode
        600), and an existing one is never written over. The realm names the application and the
        environment, so that two of them can never take each other's sessions; it cannot be changed
        later.""",
        (
            "strongroom keys generate",
            "strongroom keys generate /etc/shop/strongroom.keys --realm shop-production",
            "strongroom keys generate --print",
        ),
        _generate_options,
        generate,
    ),
    Command(
        "keys list",
        "Show every key, and what it is used for now. Never a secret.",
        """published: known, but not used yet. issuing: new sessions are issued under it.
        verifying: still believed, no longer issuing. retired: all that was issued under it has
        ended. 'In use until' is when the last session from under a key is over.""",
        ("strongroom keys list", "strongroom keys list --json"),
        _list_options,
        listing,
    ),
    Command(
        "keys rotate",
        "Add a key that takes over after a while. Nobody is signed out.",
        """The new key is published first, so that every process knows it before the first session
        is issued under it. When it takes over, the older key goes on being believed. Sessions from
        under it are over after the policy's absolute timeout; retire it then.""",
        (
            "strongroom keys rotate",
            "strongroom keys rotate --after 2h",
            "strongroom keys rotate --now",
        ),
        _rotate_options,
        rotate,
    ),
    Command(
        "keys retire",
        "Delete a key: every session issued under it ends, everywhere.",
        """For an old key after a rotation, or for one that leaked. A running application notices
        within a second. The id stays in the file, because a key id is never used twice. The only
        key that may issue cannot be retired without another in its place: --and-rotate.""",
        ("strongroom keys retire 1", "strongroom keys retire 1 --and-rotate --yes"),
        _retire_options,
        retire,
    ),
)
