"""One reading process of `strongroom bench revocation`: it looks until it sees a session end.

It is spoken to in lines of JSON: the first says which store, each further one names a session. It
answers `ready` once it reads the session as live, and then two moments on the clock that all
processes of a machine share: when the last read began that still found it live, and when one had
found it ended. Between the two the process may only have waited for its turn.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import Find, Notice, Watch
from strongroom.stores.base import Store, Watchable
from strongroom.stores.near_cache import Limits, NearCache
from strongroom.stores.urls import open_store

_PAUSE = 0.0002
_WARM = 20
_PATIENCE = 60.0


class Muted:
    """A store whose channel can be made to swallow everything, as a broken network does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.muted = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def watch(self, op: Watch) -> None:
        """Push what the store pushes, unless muted."""

        def tell(notice: Notice) -> None:
            if not self.muted:
                op.tell(notice)

        store: Any = self._store
        if isinstance(store, Watchable):
            store.watch(Watch(tell, op.heartbeat, op.stopped))


def main() -> None:
    """Read sessions until the input ends."""
    settings = json.loads(sys.stdin.readline())
    plain = open_store(settings["url"])
    muted = Muted(plain)
    near: NearCache | None = None
    if settings["near"]:
        face: Any = muted
        near = NearCache(face, Limits(max_staleness=settings["max_staleness"]))
    store: Store = near or plain
    store.open(bytes.fromhex(settings["identity"]))
    for _ in range(settings["load"]):
        threading.Thread(target=_press, args=(store,), daemon=True).start()
    for line in sys.stdin:
        session_id = bytes.fromhex(json.loads(line))
        _until_live(store, near, session_id)
        muted.muted = bool(settings["cut"])
        _say("ready")
        _say(_until_ended(store, session_id))
        muted.muted = False
    store.close()


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _until_live(store: Store, near: NearCache | None, session_id: bytes) -> None:
    """Until it is read as live, and from memory where there is a near cache."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        answers = [store.find(Find(session_id)) for _ in range(_WARM)]
        if all(each is not None and each.record.is_live for each in answers) and (
            near is None or not any(each is not None and each.authoritative for each in answers)
        ):
            return
        time.sleep(_PAUSE)
    raise StoreUnavailable("The session cannot be read.")


def _until_ended(store: Store, session_id: bytes) -> tuple[float, float]:
    let_in = 0.0
    while True:
        began = time.monotonic()
        found = store.find(Find(session_id))
        if found is None or not found.record.is_live:
            return let_in, time.monotonic()
        let_in = began
        time.sleep(_PAUSE)


def _press(store: Store) -> None:
    """Load: reads of sessions that are not there, one after the other, for ever."""
    number = 0
    while True:
        number += 1
        try:
            store.find(Find(number.to_bytes(16, "big")))
        except StoreUnavailable:
            return


if __name__ == "__main__":
    main()
