"""Records kept in the process, dropped when the store says so (PROTOCOL H3, docs/near-cache.md).

cache.py      what is kept, and when it may be used: pure
blocking.py   the face for synchronous code, with its thread
waiting.py    the face for asynchronous code, with its task
watcher.py    what both do about their channel

docs/decisions/0040-near-cache.md says why.
"""

from __future__ import annotations

from .blocking import NearCache
from .cache import Limits
from .waiting import AsyncNearCache

__all__ = ["AsyncNearCache", "Limits", "NearCache"]
