"""Flask-WTF forms that carry Strongroom's token in the place of their own.

    class Transfer(StrongroomForm):
        amount = IntegerField()

Flask-WTF's `FlaskForm` and `CSRFProtect` work unchanged beside us, and check a second time. This
form class leaves one check, ours, so that old browsers that say nothing of a request's origin pass
with `{{ form.hidden_tag() }}`, and a visitor who only looks at a form needs no stored session.
"""

from __future__ import annotations

from typing import Any

from flask_wtf import FlaskForm  # type: ignore[import-untyped]  # pyright: ignore
from wtforms.csrf.core import CSRF  # type: ignore[import-untyped]  # pyright: ignore

from .guards import find_session

__all__ = ["StrongroomCSRF", "StrongroomForm"]


class StrongroomCSRF(CSRF):  # type: ignore[misc]
    """The token of the session. Whether it is needed, and right, was decided before the view."""

    def generate_csrf_token(self, csrf_token_field: Any) -> str:
        """The token, another string in every form."""
        del csrf_token_field
        return find_session().csrf_token()

    def validate_csrf_token(self, form: Any, field: Any) -> None:
        """A request that another site may be behind has been refused by now (P19)."""


class StrongroomForm(FlaskForm):  # type: ignore[misc]
    """A `FlaskForm` with Strongroom's token."""

    class Meta(FlaskForm.Meta):  # type: ignore[misc]
        """How the form is protected."""

        csrf = True  # pyright: ignore
        csrf_class = StrongroomCSRF

        @property
        def csrf_field_name(self) -> str:
            """The name that the policy looks for."""
            return find_session().exchange.manager.policy.csrf.field
