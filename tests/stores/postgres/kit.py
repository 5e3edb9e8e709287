"""What the tests of the PostgreSQL store share."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from strongroom.core.ops import EndSubject, Find
from strongroom.core.record import EndReason, Record
from strongroom.stores.base import Store
from strongroom.stores.postgres import PostgresStore
from strongroom.stores.postgres.connections import AsyncLines, Lines
from strongroom.stores.urls import open_async_store, open_store
from strongroom.testing.clock import START
from strongroom.testing.contract.harness import Blocking
from strongroom.testing.records import KEEP, a_record, a_subject_key, an_insert

IDENTITY = b"identity of the tests' store"


def unopened(url: str) -> PostgresStore:
    """The URL's store."""
    store = open_store(url)
    assert isinstance(store, PostgresStore)
    return store


@contextmanager
def either(kind: str, url: str) -> Generator[Store, None, None]:
    """The URL's store, open: itself, or the asynchronous one behind a blocking face."""
    if kind == "sync":
        with opened(url) as store:
            yield store
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    blocking: Any = Blocking(open_async_store(url), loop)
    try:
        blocking.open(IDENTITY)
        yield blocking
    finally:
        blocking.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def lines_of(store: Any) -> Lines | AsyncLines:
    """The connections of either kind of store."""
    lines: Lines | AsyncLines | None = getattr(store, "inner", store)._lines
    assert lines is not None
    return lines


@contextmanager
def opened(url: str, identity: bytes = IDENTITY) -> Generator[PostgresStore, None, None]:
    """The URL's store, open until the `with` ends."""
    store = unopened(url)
    store.open(identity)
    try:
        yield store
    finally:
        store.close()


def inserted(store: Store, **fields: Any) -> Record:
    """A new session, as the store has it."""
    record = store.insert(an_insert(a_record(entropy=os.urandom, **fields))).record
    assert record is not None
    return record


def everywhere(subject: str = "alice", **fields: Any) -> EndSubject:
    """Sign the subject out everywhere."""
    return EndSubject(
        a_subject_key(subject),
        os.urandom(8),
        EndReason.EVERYWHERE,
        START,
        START + KEEP,
        os.urandom(8),
        **fields,
    )


def is_live(store: Store, record: Record) -> bool:
    """Whether somebody is in that session."""
    found = store.find(Find(record.session_id))
    return found is not None and found.record.is_live
