"""Flask: `Strongroom(app)`, and `flask.session` works as before, on a session that is safe.

    app = Flask(__name__)
    Strongroom(app, store="sqlite:///var/sessions.db", keys="var/strongroom.keys")

`current_session` is the same session with its type and all that it can do: `sign_in`, `sign_out`,
`elevate`, ... Flask-Login is followed where an application uses it (`login.py`), forms of
Flask-WTF may carry our token (`forms.py`), and `moving.py` takes sessions over from before.
"""

from __future__ import annotations

from .extension import Strongroom, manager_of
from .guards import current_session, require_recent_sign_in, require_sign_in
from .interface import FlaskSession

__all__ = [
    "FlaskSession",
    "Strongroom",
    "current_session",
    "manager_of",
    "require_recent_sign_in",
    "require_sign_in",
]
