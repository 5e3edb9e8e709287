"""Key files: a keyring as JSON, mode 0600, read again when it changes.

    {"strongroom_keys": 1, "realm": "...", "store_secret": "<base64>",
     "keys": [{"id": 1, "secret": "<base64>", "created_at": ms, "issue_from": ms}, ...]}

A file is replaced, never edited in place, so a process that reads it sees one version or the next.
The same JSON may stand in an environment variable, where files are not at hand.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace as changed
from pathlib import Path
from typing import Any, cast

from .core.errors import ConfigurationError
from .core.sealing import SECRET_LENGTH, Key, Keyring

_VERSION = 1
_log = logging.getLogger("strongroom")


def generate(realm: str, now: int) -> Keyring:
    """A new keyring with one key that issues at once."""
    return Keyring(
        realm=realm,
        store_secret=secrets.token_bytes(SECRET_LENGTH),
        keys=(Key(1, secrets.token_bytes(SECRET_LENGTH), created_at=now, issue_from=now),),
    )


def dumps(ring: Keyring) -> str:
    """The keyring as JSON. This is the secret itself: keep it like one."""
    keys: list[dict[str, Any]] = []
    for key in ring.keys:
        entry: dict[str, Any] = {
            "id": key.id,
            "secret": _text(key.secret),
            "created_at": key.created_at,
            "issue_from": key.issue_from,
        }
        if key.retired_at is not None:
            entry["retired_at"] = key.retired_at
        keys.append(entry)
    document = {
        "strongroom_keys": _VERSION,
        "realm": ring.realm,
        "store_secret": _text(ring.store_secret),
        "keys": keys,
    }
    return json.dumps(document, indent=2) + "\n"


def loads(text: str, source: str = "the keys") -> Keyring:
    """The keyring in this JSON.

    Raises:
        ConfigurationError: it is not one. The message never repeats the text.
    """
    try:
        document: Any = json.loads(text)
        if document["strongroom_keys"] != _VERSION:
            raise _broken(source, "they are of a version that this release does not know")
        keys = tuple(
            Key(
                id=entry["id"],
                secret=_bytes(entry["secret"]),
                created_at=int(entry["created_at"]),
                issue_from=int(entry["issue_from"]),
                retired_at=cast("int | None", entry.get("retired_at")),
            )
            for entry in document["keys"]
        )
        return Keyring(document["realm"], _bytes(document["store_secret"]), keys)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        # Without the cause: a JSON error quotes the text, which is a secret.
        raise _broken(source, "they are not what 'strongroom keys generate' writes") from None


def read(path: str | Path) -> Keyring:
    """The keyring in a file.

    Raises:
        ConfigurationError: there is no such file, others may read it, or it is damaged.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no key file at {path}.",
            why="Sessions cannot be issued or read without keys." + _looked_for_in(path),
            hint=f"Make one with: strongroom keys generate {path}",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(str(path), f"they cannot be read ({type(error).__name__})") from None
    if os.name == "posix" and mode & 0o077:
        raise ConfigurationError(
            f"Other users of this machine may read {path} (its mode is {mode:o}).",
            why="Whoever has the keys can make sessions for anybody.",
            hint=f"If nobody did, run: chmod 600 {path}. Otherwise make new keys.",
        )
    return loads(text, str(path))


def _looked_for_in(path: Path) -> str:
    """Where a relative path begins, which is what is wrong when the file is there after all."""
    return "" if path.is_absolute() else f" It was looked for in {path.absolute().parent}."


def write(path: str | Path, ring: Keyring, *, replace: bool = False) -> None:
    """Write the keyring with mode 0600, whole or not at all.

    Raises:
        ConfigurationError: the file exists and `replace` is false, or cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(dumps(ring))
            file.flush()
            os.fsync(file.fileno())
        if replace:
            _keep_owner(temporary, path)
            temporary.replace(path)
        else:
            # A link fails where the name is taken, which renaming would not.
            os.link(temporary, path)
    except FileExistsError:
        raise ConfigurationError(
            f"{path} exists already, and was left as it is.",
            why="Writing over keys signs everybody out and makes stored data unreadable.",
            hint="Add a key with: strongroom keys rotate",
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{path} could not be written: {error.strerror}.",
            why="Without it nothing can be signed in.",
            hint="Choose a folder that this user may write.",
        ) from None
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def rotated(ring: Keyring, now: int, issue_from: int) -> Keyring:
    """The keyring with one key more, the newest first, which issues from that moment on (A1).

    Raises:
        ConfigurationError: all key ids were used.
    """
    key = Key(ring.next_id(), secrets.token_bytes(SECRET_LENGTH), now, issue_from)
    return changed(ring, keys=(key, *ring.keys))


def retired(ring: Keyring, key_id: int, now: int) -> Keyring:
    """The keyring without that key's secret, so that everything issued under it ends (A1).

    Retiring a key that has no secret any more, or that there never was, changes nothing.

    Raises:
        ConfigurationError: no other key may issue now, so nobody could sign in.
    """
    if not any(key.id == key_id and key.secret for key in ring.keys):
        return ring
    left = [key for key in ring.keys if key.id != key_id and not key.is_retired(now)]
    if not any(now >= key.issue_from for key in left):
        coming = min((key.issue_from for key in left), default=None)
        raise ConfigurationError(
            f"Key {key_id} is the only one that may issue sessions now.",
            why="Without it nobody could sign in."
            + ("" if coming is None else " The next one does not issue yet."),
            hint="Add one that issues at once in the same step, with --and-rotate.",
        )
    keys = (
        changed(key, secret=b"", retired_at=now) if key.id == key_id else key for key in ring.keys
    )
    return changed(ring, keys=tuple(keys))


def locked_update(path: str | Path, change: Callable[[Keyring], Keyring]) -> Keyring:
    """Replace the keyring in a file by what `change` makes of it, one process after the other.

    The file keeps its owner, and a symbolic link stays one. What `change` raises leaves the file
    as it was; so does returning the keyring that it was given.

    Raises:
        ConfigurationError: as `read` and `write`.
    """
    path = Path(path).resolve()
    with _locked(path):
        before = read(path)
        after = change(before)
        if after is not before:
            write(path, after, replace=True)
            _sync_folder(path.parent)
    return after


class KeyFile:
    """A key file, read again when it changes, so that a retired key ends sessions at once."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._stamp: tuple[int, int, int] | None = None
        self._ring: Keyring | None = None
        self._complained = False

    def current(self) -> Keyring:
        """The keyring as it is now.

        Raises:
            ConfigurationError: as `read`, the first time. Later a file that is missing or damaged
                leaves the keys in use as they were.
        """
        try:
            stat = self.path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if self._ring is None or stamp != self._stamp:
                self._ring = read(self.path)
                self._stamp = stamp
                self._complained = False
        except (OSError, ConfigurationError) as error:
            if self._ring is None:
                self._ring = read(self.path)
            elif not self._complained:
                self._complained = True
                _log.error("The keys stay as they were, because the file cannot be read: %s", error)
        assert self._ring is not None  # noqa: S101 - `read` returned or raised
        return self._ring


def development_keys(
    path: str | Path, now: int | None = None, realm: str = "development"
) -> tuple[KeyFile, bool]:
    """The key file at `path`, made if it is missing, and whether it was made now."""
    path = Path(path)
    made = False
    if not path.exists():
        with suppress(ConfigurationError):  # Another process made it in this moment.
            moment = time.time_ns() // 1_000_000 if now is None else now
            write(path, generate(realm, moment))
            made = True
    return KeyFile(path), made


@contextmanager
def _locked(path: Path) -> Generator[None, None, None]:
    """Hold the file's lock, on the version of it that is at the path.

    On Windows, which has no such lock, two changes at once can lose one: look at `keys list` there.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    while True:
        try:
            file = path.open("r+b")
        except OSError as error:
            read(path)
            raise ConfigurationError(
                f"{path} cannot be changed: {error.strerror}.",
                why="Only its owner may replace the keys.",
                hint="Run this as the user that the file belongs to.",
            ) from None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held the lock before may have put a new file in this one's place.
            if _is_still_at(path, file.fileno()):
                yield
                return


def _is_still_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _keep_owner(temporary: Path, path: Path) -> None:
    """Where root rotates the keys, the application's user must still be able to read them."""
    if os.name == "posix" and os.geteuid() == 0 and path.exists():
        stat = path.stat()
        os.chown(temporary, stat.st_uid, stat.st_gid)


def _sync_folder(folder: Path) -> None:
    """A retired key must not come back with the power."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _broken(source: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"The keys in {source} cannot be used: {what}.",
        why="Sessions are only as safe as the keys that they are issued under.",
        hint="Restore the file from its backup, or make new keys: strongroom keys generate",
    )
