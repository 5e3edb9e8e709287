"""Every kind of application that the scenarios run on, and what each one can do.

A kind is a module in this folder with one function, `build(site)`, which makes an application of
the site's pages (`site.pages`, by path) and sockets (`site.sockets`), and returns it as an ASGI
callable; `transports` has the ways to make one of something else, and `native(site)` then returns
what a real server gets (tests/support/served.py). To add a kind: write the module,
and add its row here. A synchronous framework gets `site.sync_manager` and runs pages `in_thread`.

A scenario that needs more than a request and its response says so, `@pytest.mark.needs("push")`,
and then runs on the kinds that can. What a kind cannot do stands in its row with the reason;
`tests/integrations/test_matrix.py` draws the table from here and holds every row to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.site import Site

CAPABILITIES = {
    "streams": "a response sent in parts; what is assigned meanwhile is saved",
    "push": "a response that stays open is cut when its session ends, also while it is quiet",
    "background": "work after the response",
    "websockets": "WebSockets",
    "cancel": "a request that the server cancels half-way",
    "lifespan": "the store is opened at start-up, before the first request",
    "bytes": "headers and addresses in bytes that no browser sends, and that servers refuse",
}
"""What a scenario may need beyond a request and its response."""


@dataclass(frozen=True)
class Kind:
    """One kind of application. `lacks` says of each capability that is missing, why it is."""

    name: str
    says: str
    """What it is, in a few words."""
    pages: str
    """Where pages run: `async def` on the event loop, or `def` in a thread."""
    lacks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def can(self, capability: str) -> bool:
        """Whether it can do this."""
        return capability not in self.lacks

    def build(self, site: Site) -> Any:
        """The application, as an ASGI callable. Its framework is imported only now."""
        return self._module().build(site)

    def native(self, site: Site) -> Any:
        """The application, as its own kind of server gets it."""
        module = self._module()
        return getattr(module, "native", module.build)(site)

    def _module(self) -> Any:
        return import_module(f"tests.support.kinds.{self.name.replace('-', '_')}")


_WSGI = MappingProxyType(
    {
        "push": "a thread that waits inside the application is not interrupted; a stream of events "
        "is cut with its next event",
        "background": "WSGI has no work after the response",
        "websockets": "WSGI has no WebSockets; a handshake that a server lets through is checked",
        "cancel": "a WSGI server does not cancel a request half-way",
        "lifespan": "WSGI has no start-up; the store is opened with the first request",
    }
)

_ROWS = (
    Kind("asgi", "the middleware around a bare ASGI application", "async def"),
    Kind("starlette", "Starlette", "async def"),
    Kind("fastapi", "FastAPI with `async def` endpoints", "async def"),
    Kind("fastapi-def", "FastAPI with plain `def` endpoints", "def"),
    Kind("wsgi", "the middleware around a bare WSGI application", "def", _WSGI),
    Kind("flask", "Flask", "def", _WSGI),
    Kind(
        "django-wsgi",
        "Django under WSGI with plain `def` views",
        "def",
        MappingProxyType(
            {
                "push": "WSGI waits for the next part, so a quiet stream ends with its next one",
                "background": "Django has no work after the response",
                "websockets": "Django speaks no WebSocket",
                "cancel": "a thread cannot be cancelled from outside",
                "lifespan": "WSGI servers tell nobody that they start",
            }
        ),
    ),
    Kind(
        "django-asgi",
        "Django under ASGI with `async def` views",
        "async def",
        MappingProxyType(
            {
                "background": "Django has no work after the response",
                "websockets": "Django speaks no WebSocket",
                "cancel": "Django goes on with a request that its server cancels, to its end",
                "lifespan": "Django refuses the start-up messages of ASGI servers",
            }
        ),
    ),
    Kind("litestar", "Litestar with its plugin", "async def"),
    Kind(
        "aiohttp",
        "aiohttp on its own server",
        "async def",
        MappingProxyType({"bytes": "aiohttp refuses them in its own words, with a 400"}),
    ),
    Kind(
        "quart",
        "Quart",
        "async def",
        MappingProxyType(
            {
                "background": "what Quart calls a background task runs beside the response",
                "bytes": "Quart reads headers and query before any code of ours, and answers line "
                "breaks, impossible hosts and queries that are not UTF-8 with a 500 of its own",
            }
        ),
    ),
)
KINDS = {kind.name: kind for kind in _ROWS}
