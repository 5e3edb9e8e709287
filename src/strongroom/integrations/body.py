"""The CSRF token in a form's body: read a bounded beginning, and give it all back.

The application still sees the whole body, as it came. A token that does not stand within the first
64 KiB is not found; `csrf_input` belongs at the beginning of a form.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from strongroom.core.csrf_forms import NeedMore, find_form_token
from strongroom.core.exchange import RequestFacts

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

MAX_PREFIX = 64 * 1024


class FormToken:
    """Looks for the token, remembers what it read, and replays it."""

    def __init__(self, facts: RequestFacts, receive: Receive, field: str) -> None:
        self._receive = receive
        self._field = field
        self._content_type = facts.header(b"content-type") or ""
        self._read: deque[Message] = deque()

    async def read(self) -> str | None:
        """The token, or None where the beginning of the body has none."""
        prefix = bytearray()
        searched = 0
        while True:
            message = await self._receive()
            chunk = message.get("body", b"")
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            if not chunk and not complete:
                continue  # Says nothing; keeping thousands of them would cost memory.
            self._read.append(message)
            prefix += chunk
            # Searching when it has doubled, a body in single bytes buys no quadratic work.
            if not complete and len(prefix) < min(2 * searched, MAX_PREFIX):
                continue
            searched = len(prefix)
            found = find_form_token(
                self._content_type, bytes(prefix[:MAX_PREFIX]), self._field, complete=complete
            )
            if not isinstance(found, NeedMore):
                return found
            if complete or len(prefix) >= MAX_PREFIX:
                return None

    async def replay(self) -> Message:
        """What was read, again, and then the rest of the body."""
        if self._read:
            return self._read.popleft()
        return await self._receive()
