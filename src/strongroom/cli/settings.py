"""Where the keys are, which store and which policy: options first, then the environment, then
the usual place. A message never repeats a store's URL, which may carry a password.
"""

from __future__ import annotations

import argparse
import getpass
import importlib
import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from strongroom import keyfile
from strongroom.core.errors import ConfigurationError, StoreMismatch, StrongroomError
from strongroom.core.policy import PROFILES, SessionPolicy
from strongroom.core.sealing import Keyring

from .output import Output, printable

if TYPE_CHECKING:
    from strongroom.manager import SessionManager

KEYS_FILE_VARIABLE = "STRONGROOM_KEYS_FILE"
KEYS_VARIABLE = "STRONGROOM_KEYS"
STORE_VARIABLE = "STRONGROOM_STORE"
POLICY_VARIABLE = "STRONGROOM_POLICY"
DEFAULT_KEYS = Path("var/strongroom.keys")
DEFAULT_STORE = "sqlite:///var/sessions.db"


def add_keys(parser: argparse.ArgumentParser) -> None:
    """The option that says where the keys are."""
    parser.add_argument(
        "--keys",
        type=Path,
        metavar="PATH",
        help=f"the key file (else ${KEYS_FILE_VARIABLE}, else {DEFAULT_KEYS})",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """The options that every command on a store has."""
    parser.add_argument(
        "--store",
        metavar="URL",
        help=f"the store (else ${STORE_VARIABLE}, else {DEFAULT_STORE} if it exists)",
    )
    add_keys(parser)
    add_policy(parser)


def add_policy(parser: argparse.ArgumentParser) -> None:
    """The options that say which limits are in force."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--policy",
        metavar="MODULE:NAME",
        help=f"the application's SessionPolicy (else ${POLICY_VARIABLE}, else the defaults)",
    )
    group.add_argument(
        "--profile", type=_profile, metavar="NAME", help="one of 'strongroom policy profiles'"
    )


def _profile(name: str) -> str:
    if name not in PROFILES:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(PROFILES)}")
    return name


def add_operator(parser: argparse.ArgumentParser) -> None:
    """The option that says who did it."""
    parser.add_argument(
        "--by", metavar="NAME", help="who did it, for the history (default: your user name)"
    )


def operator(options: argparse.Namespace, out: Output) -> str:
    """Who is at the keyboard, as the histories will have it."""
    if options.by:
        return str(options.by)
    try:
        return out.world.env.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


def keys_path(named: Path | None, out: Output) -> Path:
    """The key file's path, whether it exists or not."""
    return named or Path(out.world.env.get(KEYS_FILE_VARIABLE) or DEFAULT_KEYS)


def keys_in_environment(options: argparse.Namespace, out: Output) -> bool:
    """Whether the keys themselves stand in the environment, and no file was named."""
    env = out.world.env
    return not options.keys and not env.get(KEYS_FILE_VARIABLE) and bool(env.get(KEYS_VARIABLE))


def keyring(options: argparse.Namespace, out: Output) -> tuple[Keyring, str]:
    """The keys, and where they are from.

    Raises:
        ConfigurationError: there are none, or they cannot be used.
    """
    if keys_in_environment(options, out):
        source = f"${KEYS_VARIABLE}"
        return keyfile.loads(out.world.env[KEYS_VARIABLE], source), source
    path = keys_path(options.keys, out)
    return keyfile.read(path), str(path)


def policy(options: argparse.Namespace, out: Output) -> SessionPolicy:
    """The policy in force.

    Raises:
        ConfigurationError: it was named and cannot be had.
    """
    if options.profile:
        chosen: SessionPolicy = getattr(SessionPolicy, options.profile)()
        return chosen
    named = options.policy or out.world.env.get(POLICY_VARIABLE)
    return _imported(named) if named else SessionPolicy()


def is_policy_named(options: argparse.Namespace, out: Output) -> bool:
    """Whether anybody said which policy."""
    return bool(options.profile or options.policy or out.world.env.get(POLICY_VARIABLE))


def _imported(name: str) -> SessionPolicy:
    """The policy at `module:attribute`, where the attribute may be something that has a policy."""
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigurationError(
            f"{name!r} does not say where the policy is.",
            hint="Name a module and what it calls the policy: --policy shop.settings:policy",
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except StrongroomError:
        raise
    except Exception as error:
        # Its type alone: the message of somebody's start-up code may hold a password.
        raise ConfigurationError(
            f"{name!r} could not be imported ({type(error).__name__}).",
            why="Without the application's own policy its limits cannot be told.",
            hint=f"See the whole story with: python -c 'import {printable(module_name)}'",
        ) from None
    found = getattr(found, "policy", found)
    if not isinstance(found, SessionPolicy):
        raise ConfigurationError(
            f"{name!r} is a {type(found).__name__}, not a SessionPolicy.",
            hint="Name a SessionPolicy, or a session manager that has one.",
        )
    return found


def store_url(options: argparse.Namespace, out: Output) -> str:
    """The store's URL.

    Raises:
        ConfigurationError: none is named.
    """
    url = options.store or out.world.env.get(STORE_VARIABLE)
    if not url and Path("var/sessions.db").exists():
        url = DEFAULT_STORE
    if not url:
        raise ConfigurationError(
            "No store is named, and there is no var/sessions.db here.",
            hint=f"Say which: --store {DEFAULT_STORE}, or set {STORE_VARIABLE}.",
        )
    return str(url)


def sqlite_path(url: str) -> Path | None:
    """The file that the URL names; None for any other store."""
    parts = urlsplit(url)
    return Path(unquote(parts.path[1:])) if parts.scheme == "sqlite" else None


@contextmanager
def manager(options: argparse.Namespace, out: Output) -> Generator[SessionManager, None, None]:
    """A session manager on the open store.

    Raises:
        ConfigurationError: keys, policy or store cannot be found.
        StoreError: the store does not answer, or belongs to other keys.
    """
    from strongroom.manager import SessionManager
    from strongroom.stores.urls import open_store

    url = store_url(options, out)
    store = open_store(url)
    check_others_see_it(url)
    keys, _source = keyring(options, out)
    limits = policy(options, out)
    with _plain_warnings(out):
        sessions = SessionManager(store, keys=keys, policy=limits, sinks=(), clock=out.world.clock)
        try:
            sessions.start()
        except StoreMismatch as error:
            raise _explained(error, sessions, keys) from None
        try:
            yield sessions
        finally:
            sessions.stop()


def check_others_see_it(url: str, *, may_be_made: bool = False) -> None:
    """An empty store of this command's own would look as if everybody had been signed out.

    Raises:
        ConfigurationError: nobody else sees the store, or there is none.
    """
    if urlsplit(url).scheme == "memory":
        raise ConfigurationError(
            "A memory store lives inside the application's process.",
            why="This command would see an empty one of its own.",
            hint="Ask the application, or give it a store that others can open: sqlite, for one.",
        )
    path = sqlite_path(url)
    if path is not None and not may_be_made and not path.exists():
        raise ConfigurationError(
            f"There is no session database at {path}.",
            why="The application makes it when it first starts; this command never does.",
            hint="Check the path, and the folder that you are in.",
        )


def _explained(error: StoreMismatch, sessions: SessionManager, keys: Keyring) -> StoreMismatch:
    """The nist profiles use other functions, under which the same keys name another store."""
    from strongroom.core.tokens import blake2b_mac, hmac_sha512

    approved = sessions.policy.approved_only
    other = keys.unlock(sessions.clock(), blake2b_mac if approved else hmac_sha512)
    try:
        sessions.store.open(other.store_identity)
    except StrongroomError:
        return error
    finally:
        sessions.store.close()
    return StoreMismatch(
        f"These are the store's keys, but its application has approved_only={not approved}.",
        why="Under another policy its sessions could not be found or ended.",
        hint="Name the application's own policy: --policy MODULE:NAME, or --profile.",
    )


class _Warnings(logging.Handler):
    """What the library logs, as one line each, without a traceback."""

    def __init__(self, out: Output) -> None:
        super().__init__(logging.WARNING)
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        """Print the line."""
        self._out.note(f"warning: {printable(record.getMessage())}")


@contextmanager
def _plain_warnings(out: Output) -> Generator[None, None, None]:
    logger, handler = logging.getLogger("strongroom"), _Warnings(out)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
