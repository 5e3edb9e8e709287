"""Sessions on Valkey or Redis: one server, a primary with Sentinel, or a cluster.

One key for each session, one index for each subject, and one script on one slot for every op:

- `settings.py`: where the servers are, and what is asked of them.
- `names.py`: what the keys are called; `layout.py`: what is in them.
- `scripts.py`: the ops as the server runs them.
- `body.py`: each op as the asks that carry it out; `routing.py`: whom to ask, and how often.
- `wire.py`: the connections; `store.py`: the two faces, sync and async.
- `faults.py`: what goes wrong; `fitness.py`: which servers are refused at start-up.

**Durability.** What a primary acknowledged is in its memory. A failover loses what had not reached
the replica that takes over, unless the store waits for replicas or for the append-only file
(`Settings.replicas`, `Settings.fsync`). docs/valkey.md says what that means, mode by mode.
"""

from __future__ import annotations

from .settings import Address, Login, Mode, Settings
from .store import AsyncValkeyStore, ValkeyStore

__all__ = ["Address", "AsyncValkeyStore", "Login", "Mode", "Settings", "ValkeyStore"]
