"""The managers of a Django project: one for synchronous code, one for each event loop.

They are made when the first request or command needs them, and made anew when a test overrides
settings. Both are on one store.
"""

from __future__ import annotations

# Django ships no types, so what comes out of its settings is told here, once.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
import asyncio
import threading
import weakref
from collections.abc import Callable

from django.conf import settings

from strongroom.core.exchange import RequestFacts
from strongroom.core.policy import SessionPolicy
from strongroom.integrations.exchange_sync import Serving
from strongroom.manager import AsyncSessionManager, SessionManager
from strongroom.setup import manager_pair

from .adoption import for_event_loop
from .options import Options, read_options, tell_cookie_name


class Runtime:
    """What serves a project's requests."""

    def __init__(
        self,
        options: Options,
        manager: SessionManager,
        for_loop: Callable[[], AsyncSessionManager],
    ) -> None:
        self.options = options
        self.manager = manager
        self.serving = Serving(manager)
        self._for_loop = for_loop
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncSessionManager] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def policy(self) -> SessionPolicy:
        """The limits in force."""
        return self.manager.policy

    def opened(self) -> SessionManager:
        """The synchronous manager, its store open: for what happens outside of a request."""
        self.serving.open(RequestFacts(method="GET", headers=[(b"host", b"localhost")]))
        return self.manager

    @property
    def cookie_name(self) -> str:
        """What the session cookie is called."""
        return self.manager.context.cookie.name

    def async_manager(self) -> AsyncSessionManager:
        """The manager of the running event loop: connections belong to the loop they are made in.

        A server has one loop; tests have many.
        """
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            found = self._loops[loop] = self._for_loop()
        return found


_making = threading.RLock()
_current: tuple[object, bool, Runtime] | None = None
_fixed: Runtime | None = None


def current() -> Runtime:
    """The runtime of the settings in force.

    Raises:
        ConfigurationError: STRONGROOM is missing, incomplete or contradictory.
    """
    global _current  # noqa: PLW0603 - a process has one project
    if _fixed is not None:
        return _fixed
    told: object = getattr(settings, "STRONGROOM", None)
    debug = bool(settings.DEBUG)
    known = _current
    if known is None or known[0] is not told or known[1] is not debug:
        with _making:
            options = read_options()
            manager, for_loop = manager_pair(
                options.store,
                options.keys,
                options.policy,
                options.sinks,
                adopt=(options.adopt, for_event_loop(options.adopt)),
            )
            _current = known = (told, debug, Runtime(options, manager, for_loop))
    tell_cookie_name(known[2].cookie_name)
    return known[2]


def fix(runtime: Runtime | None) -> None:
    """Serve with this one, whatever the settings say; None goes back to them. For tests."""
    global _fixed  # noqa: PLW0603 - as above
    _fixed = runtime
