"""One row behind a server: the process that `served.py` starts, told in one line of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .rows import Places, all_rows
from .sites import AsgiSite


def application(told: dict[str, Any]) -> Any:
    """The row's application, which the server itself starts."""
    Path(told["folder"]).mkdir(parents=True, exist_ok=True)
    places = Places(told["folder"], None, told["valkey"], told["postgres"])
    row = next(row for row in all_rows() if row.name == told["row"] and _is_asgi(row.base))
    site = row.make(places)
    if not isinstance(site, AsgiSite):
        raise TypeError(f"{row.name} is no ASGI application")
    return site.app


def _is_asgi(base: str | None) -> bool:
    return base in (None, "Starlette")


def main() -> None:
    """Serve until the process is ended."""
    told = json.loads(sys.argv[1])
    if told["server"] == "uvicorn":
        import uvicorn

        quiet: dict[str, Any] = {"log_level": "critical", "access_log": False}
        uvicorn.run(application(told), host="127.0.0.1", port=told["port"], **quiet)
    else:
        import asyncio

        from granian.server.embed import Server

        server = Server(application(told), address="127.0.0.1", port=told["port"], interface="asgi")
        asyncio.run(server.serve())


if __name__ == "__main__":
    main()
