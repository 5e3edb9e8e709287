"""Starlette's own tests of its session middleware, run against ours.

    python -m pip download --no-deps --no-binary :all: starlette
    tar xzf starlette-*.tar.gz
    python tools/upstream_starlette.py starlette-1.10.0

Nothing of Starlette's is kept here. Their `SessionMiddleware(secret_key=...)` becomes ours, their
test client says that it comes from a page of our own over https, and their JSON takes a mapping for
a dict. What then differs is in docs/starlette.md, with the reason.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest


def _patch() -> None:
    """Before their test module is imported, so that it imports ours."""
    import starlette.middleware.sessions as theirs
    import starlette.responses
    import starlette.testclient

    from strongroom import open_async_store
    from strongroom.integrations.starlette import SessionMiddleware
    from strongroom.keyfile import generate
    from strongroom.manager import AsyncSessionManager

    keys = generate("upstream", int(time.time() * 1000) - 1000)

    def ours(app: Any, **their_settings: Any) -> Any:
        del their_settings
        manager = AsyncSessionManager(open_async_store("memory://"), keys=keys, sinks=[])
        return SessionMiddleware(app, manager=manager)

    client: Any = starlette.testclient.TestClient
    init = client.__init__

    def from_our_own_page(self: Any, app: Any, base_url: str = "", **how: Any) -> None:
        headers = {"sec-fetch-site": "same-origin", **(how.pop("headers", None) or {})}
        init(self, app, base_url=base_url or "https://testserver", headers=headers, **how)

    def render(self: Any, content: Any) -> bytes:
        del self
        return json.dumps(content, default=dict).encode()

    vars(theirs)["SessionMiddleware"] = ours
    client.__init__ = from_our_own_page
    starlette.responses.JSONResponse.render = render  # type: ignore[method-assign]


def main(folder: str) -> int:
    """Run them; the exit status is pytest's."""
    os.chdir(folder)
    sys.path.insert(0, str(Path.cwd()))  # their tests import `tests.types`
    _patch()
    quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=line", "-o", "addopts="]
    return int(pytest.main([*quiet, "-o", "filterwarnings=", "tests/middleware/test_session.py"]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
