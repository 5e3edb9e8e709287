"""Managers from plain settings: a store's URL, a key file's path, a policy."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable

from . import keyfile
from .core.adoption import Adoption
from .core.errors import ConfigurationError
from .core.events import EventSink
from .core.policy import SessionPolicy
from .manager import AsyncSessionManager, SessionManager
from .managing import KeySource
from .stores.bridge import AsyncBridge
from .stores.urls import open_async_store, open_store

KEYS_VARIABLE = "STRONGROOM_KEYS"
"""Where the keys may stand as JSON, for machines without files: `strongroom keys generate --print`
writes it."""


def async_manager(
    store: str | None,
    keys: KeySource | None,
    policy: SessionPolicy | None = None,
    sinks: Iterable[EventSink] | None = None,
    adopt: Adoption | None = None,
) -> AsyncSessionManager:
    """A manager for asynchronous code; nothing is opened yet.

    Raises:
        ConfigurationError: something is missing or cannot be used.
    """
    url, source = _both(store, keys)
    made = open_async_store(url)
    return AsyncSessionManager(made, keys=source, policy=policy, sinks=sinks, adopt=adopt)


def sync_manager(
    store: str | None,
    keys: KeySource | None,
    policy: SessionPolicy | None = None,
    sinks: Iterable[EventSink] | None = None,
    adopt: Adoption | None = None,
) -> SessionManager:
    """A manager for synchronous code; nothing is opened yet.

    Raises:
        ConfigurationError: something is missing or cannot be used.
    """
    url, source = _both(store, keys)
    made = open_store(url)
    return SessionManager(made, keys=source, policy=policy, sinks=sinks, adopt=adopt)


def manager_pair(
    store: str | None,
    keys: KeySource | None,
    policy: SessionPolicy | None = None,
    sinks: Iterable[EventSink] | None = None,
    adopt: tuple[Adoption | None, Adoption | None] = (None, None),
) -> tuple[SessionManager, Callable[[], AsyncSessionManager]]:
    """A manager for synchronous code, and a maker of those for event loops, on one store.

    For frameworks in which both kinds of code serve one application. `memory://` is one memory.
    `adopt` is said for either kind of code.

    Raises:
        ConfigurationError: something is missing or cannot be used.
    """
    url, source = _both(store, keys)
    shared = open_async_store(url) if url.startswith("memory:") else None
    inner = shared.store if isinstance(shared, AsyncBridge) else open_store(url)

    def for_loop() -> AsyncSessionManager:
        made = shared or open_async_store(url)
        return AsyncSessionManager(made, keys=source, policy=policy, sinks=sinks, adopt=adopt[1])

    return (
        SessionManager(inner, keys=source, policy=policy, sinks=sinks, adopt=adopt[0]),
        for_loop,
    )


def _warn_of_memory(url: str) -> None:
    if url.startswith("memory:"):
        logging.getLogger("strongroom").warning(
            "memory:// keeps sessions in this process alone, until it ends: two workers do not see "
            "each other's. For more than one, use store='sqlite:///var/sessions.db'."
        )


def _both(store: str | None, keys: KeySource | None) -> tuple[str, KeySource]:
    in_environment = os.environ.get(KEYS_VARIABLE)
    if keys is None and in_environment:
        keys = keyfile.loads(in_environment, f"${KEYS_VARIABLE}")
    if store is not None and keys is not None:
        _warn_of_memory(store)
        return store, keys
    raise ConfigurationError(
        f"Strongroom was given no {'store' if store is None else 'keys'}.",
        why="Sessions need keys to be issued under and a store to be kept in.",
        hint="Set store='sqlite:///var/sessions.db' and keys='var/strongroom.keys', and make the "
        "keys with: strongroom keys generate var/strongroom.keys",
    )
