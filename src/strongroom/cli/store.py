"""`strongroom store`: whether the store works, and what to do after it was restored."""

from __future__ import annotations

import argparse
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import ReadEpoch
from strongroom.core.record import NO_SUBJECT

from . import settings
from .output import DONE, NOTHING, Output, rfc3339
from .parsing import Command
from .store_copy import COPY


def check(options: argparse.Namespace, out: Output) -> int:
    """Open the store, ask it something, and say what it is."""
    with settings.manager(options, out) as sessions:
        realm = sessions.context.keys.realm
        began = time.perf_counter()
        sessions.store.read_epoch(ReadEpoch(NO_SUBJECT))
        took = round((time.perf_counter() - began) * 1000, 2)
    url = settings.store_url(options, out)
    path = settings.sqlite_path(url)
    facts: dict[str, Any] = {"kind": url.partition(":")[0]}
    if path is not None:
        facts |= _about_sqlite(path)
    facts |= {"realm": realm, "answered_in_ms": took}
    lines = [
        "The store answers, can be written, and belongs to these keys.",
        *out.pairs((name.replace("_", " "), value) for name, value in facts.items()),
    ]
    out.answer({"ok": True, **facts}, lines)
    return DONE


def _about_sqlite(path: Path) -> dict[str, Any]:
    """What a session database tells for little: its records are counted in an index."""
    from strongroom.stores.sqlite.schema import MIGRATIONS

    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=2)) as connection:
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            (records,) = connection.execute("SELECT count(*) FROM session").fetchone()
            size = path.stat().st_size
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(
            f"{path} was opened, and could then not be read ({type(error).__name__})."
        ) from None
    return {
        "path": str(path),
        "schema": schema,
        "newest_schema": len(MIGRATIONS),
        "bytes": size,
        "records": records,
    }


def _migrate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", metavar="URL", help=f"the store (else ${settings.STORE_VARIABLE})"
    )


def migrate(options: argparse.Namespace, out: Output) -> int:
    """Make the store's tables, or bring them up to date; without keys."""
    from strongroom.stores.urls import open_store

    url = settings.store_url(options, out)
    kind = url.partition(":")[0]
    store: Any = open_store(url)
    store = getattr(store, "store", store)  # a near cache keeps no tables
    if not hasattr(store, "migrate"):
        out.answer(
            {"kind": kind, "migrated": False},
            [f"A {kind} store needs no migration: the application does it when it starts."],
        )
        return DONE
    before, now = store.migrate()
    line = f"The tables were made; their version is {now}."
    if before == now:
        line = f"The tables are at version {now}, the newest. Nothing was to be done."
    elif before:
        line = f"The tables were brought from version {before} to {now}."
    out.answer({"kind": kind, "migrated": before != now, "before": before, "now": now}, [line])
    return DONE


def _restored_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    settings.add_store(parser)
    settings.add_operator(parser)


def restored(options: argparse.Namespace, out: Output) -> int:
    """After a backup was restored: make every session in it worthless (PROTOCOL E3)."""
    explanation = [
        "A backup brings back sessions that have ended since it was made.",
        "Every session in this store ends at once, and everybody must sign in again.",
    ]
    with settings.manager(options, out) as sessions:
        if not out.confirm("Was it restored from a backup?", explanation, yes=options.yes):
            return NOTHING
        by = settings.operator(options, out)
        sessions.end_everybody(by=by)
    document = {"ended": "everybody", "by": by, "at": rfc3339(out.world.clock())}
    lines = [
        "No session of the backup is valid any more. Everybody signs in again.",
        "The application may be started now.",
    ]
    out.answer(document, lines)
    return DONE


COMMANDS = (
    Command(
        "store check",
        "Open the store and say whether it works with these keys.",
        """Finds a wrong path, keys of another application, a schema that is too new, a disk that
        cannot be written. It changes no session, and makes no store where there is none.""",
        (
            "strongroom store check",
            "strongroom store check --store sqlite:////var/lib/shop/sessions.db",
        ),
        settings.add_store,
        check,
    ),
    Command(
        "store migrate",
        "Make the store's tables, or bring them up to date.",
        """For PostgreSQL, as the owner of the schema, where the application's own user may not
        make tables (migrate=0 in its URL). It needs no keys, changes no session, and may run while
        applications do, of the release before too. Several at once do no harm.""",
        ("strongroom store migrate --store postgresql://owner@db.internal/shop",),
        _migrate_options,
        migrate,
    ),
    COPY,
    Command(
        "store restored",
        "After a backup was restored: end every session in it.",
        """A backup knows nothing of what happened after it was made: sessions that were ended since
        would be live again. Run this before the application is started on a restored store. It is
        one write, whatever the size.""",
        ("strongroom store restored --yes",),
        _restored_options,
        restored,
    ),
)
