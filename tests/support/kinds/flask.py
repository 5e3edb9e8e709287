"""Flask, with `flask.session`."""

from __future__ import annotations

from typing import Any, cast

from flask import Flask, Response, request, session

from strongroom import Session
from strongroom.integrations.flask import Strongroom
from tests.support.pages import METHODS, as_reply, call_of, in_thread
from tests.support.site import Site

from .transports import wsgi_as_asgi
from .wsgi import parts_of, quiet


def build(site: Site) -> Any:
    """The application, as ASGI."""
    app = native(site)
    # So that an error reaches the server, as it does from every other kind.
    app.config["PROPAGATE_EXCEPTIONS"] = True
    quiet(app.extensions["strongroom"].serving)
    return wsgi_as_asgi(app)


def native(site: Site) -> Flask:
    """The application, as a WSGI server gets it."""
    app = Flask("site", static_folder=None)
    Strongroom(app, manager=site.sync_manager)

    @app.route("/", defaults={"path": ""}, methods=METHODS, provide_automatic_options=False)
    @app.route("/<path:path>", methods=METHODS, provide_automatic_options=False)
    def endpoint(path: str) -> Response:
        own = cast(Session, session._get_current_object())  # type: ignore[attr-defined]
        query = request.query_string.decode("latin-1")
        call = call_of(own, request.method, request.path, query, request.get_data())
        reply = as_reply(in_thread(site.pages[request.path](call)))
        response = Response(parts_of(reply), reply.status)
        response.headers.clear()
        for name, value in reply.headers:
            response.headers.add(name, value)
        return response

    return app
